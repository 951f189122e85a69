"""What `eval` found, for a person, for a program, for JUnit and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from sdk.cli.terminal import clean, interval, score_beside
from sdk.models.evaluations import Comparison, Evaluation, TaskScore
from vera.gating import Finding, Verdict

_MARKS = {Verdict.PASS: "✅", Verdict.INCONCLUSIVE: "⚠️", Verdict.FAIL: "❌"}


@dataclass(frozen=True)
class Promotion:
    """What an alias meant before and means after the gates, by number; None is "not set"."""

    alias: str
    before: int | None
    after: int | None

    @property
    def sentence(self) -> str:
        if self.before == self.after:
            return f"{clean(self.alias)} {'stays ' + f'v{self.after}' if self.after else 'stays unset'}"
        return f"{clean(self.alias)}: {f'v{self.before}' if self.before else 'unset'} → v{self.after}"


@dataclass(frozen=True)
class Outcome:
    """One run of `eval`: the evaluation, the incumbent's if there is one, what the gates found, and of a group its tasks."""

    evaluation: Evaluation
    incumbent: Evaluation | None = None
    comparison: Comparison | None = None
    findings: tuple[Finding, ...] = ()
    verdict: Verdict = Verdict.PASS
    promotion: Promotion | None = None
    tasks: tuple[TaskScore, ...] = ()

    @property
    def title(self) -> str:
        return f"{clean(self.evaluation.ref)} on {clean(self.evaluation.suite)}"


@dataclass(frozen=True)
class Files:
    """Where reports go. `github` is the page of the CI job, which is added to."""

    junit: Path | None
    summary: Path | None
    github: Path | None

    def write(self, outcome: Outcome, *, strict: bool) -> None:
        self._write(as_junit(outcome, strict=strict), as_markdown(outcome, strict=strict))

    @contextmanager
    def reporting_errors(self, title: str) -> Iterator[None]:
        """Whatever ends the block early is reported in the files too, and goes on."""
        try:
            yield
        except Exception as error:
            self._write(junit_of_error(clean(title), clean(error)), f"### {_md(title)}\n\n❌ {_md(error)}\n")
            raise

    def _write(self, junit: bytes, markdown: str) -> None:
        if self.junit:
            self.junit.write_bytes(junit)
        if self.summary:
            self.summary.write_text(markdown, encoding="utf-8")
        if self.github:
            with self.github.open("a", encoding="utf-8") as page:
                page.write(f"{markdown}\n")


def as_text(outcome: Outcome, *, strict: bool) -> str:
    lines = [outcome.title, f"  {_score_line(outcome.evaluation)}", *_task_lines(outcome.tasks)]
    if outcome.incumbent:
        lines.append(f"  {clean(outcome.incumbent.ref)}: {_score_line(outcome.incumbent)}")
    lines += [f"  {finding.verdict.upper():<12} {finding.gate}: {finding.sentence}" for finding in outcome.findings]
    if outcome.findings:
        lines.append(f"Verdict: {_verdict_line(outcome.verdict, strict=strict)}")
    if outcome.promotion:
        lines.append(f"Alias {outcome.promotion.sentence}")
    return "\n".join(lines)


def as_json(outcome: Outcome, exit_status: int) -> dict[str, Any]:
    return {
        "ref": outcome.evaluation.ref,
        "suite": outcome.evaluation.suite,
        "verdict": outcome.verdict if outcome.findings else None,
        "exit_status": exit_status,
        "gates": [asdict(finding) for finding in outcome.findings],
        "evaluation": asdict(outcome.evaluation),
        "incumbent": outcome.incumbent and asdict(outcome.incumbent),
        "comparison": outcome.comparison and asdict(outcome.comparison),
        "promotion": outcome.promotion and asdict(outcome.promotion),
        "tasks": [asdict(each) for each in outcome.tasks],
    }


def as_markdown(outcome: Outcome, *, strict: bool) -> str:
    lines = [f"### {_md(outcome.title)}", "", "| version | score | 95% interval | items |", "|---|---|---|---|"]
    for evaluation in filter(None, (outcome.evaluation, outcome.incumbent)):
        lines.append(
            f"| `{_md(evaluation.ref)}` | {_number(evaluation.score)} | {interval(evaluation.interval)} | {evaluation.items:,} |"
        )
    lines += _task_rows(outcome.tasks)
    lines += ["", *(f"- {_MARKS[f.verdict]} **{_md(f.gate)}**: {_md(f.sentence)}" for f in outcome.findings)]
    if outcome.findings:
        lines += ["", f"Verdict: **{_verdict_line(outcome.verdict, strict=strict)}**"]
    if outcome.promotion:
        lines += ["", f"Alias {_md(outcome.promotion.sentence)}"]
    return "\n".join(lines) + "\n"


def as_junit(outcome: Outcome, *, strict: bool) -> bytes:
    """One test case per gate; without gates, one for the evaluation itself. Inconclusive is skipped, or failed if strict."""
    suite = ET.Element("testsuite", name=f"vera-hub eval {outcome.title}")
    cases = outcome.findings or (Finding("evaluated", Verdict.PASS, _score_line(outcome.evaluation)),)
    for finding in cases:
        case = ET.SubElement(suite, "testcase", classname=outcome.title, name=clean(finding.gate))
        is_failure = finding.verdict is Verdict.FAIL or (strict and finding.verdict is Verdict.INCONCLUSIVE)
        if is_failure:
            ET.SubElement(case, "failure", message=clean(finding.sentence))
        elif finding.verdict is Verdict.INCONCLUSIVE:
            ET.SubElement(case, "skipped", message=clean(finding.sentence))
        else:
            ET.SubElement(case, "system-out").text = clean(finding.sentence)
    return _xml(suite)


def junit_of_error(title: str, sentence: str) -> bytes:
    suite = ET.Element("testsuite", name=f"vera-hub eval {title}")
    case = ET.SubElement(suite, "testcase", classname=title, name="evaluated")
    ET.SubElement(case, "error", message=sentence)
    return _xml(suite)


def _xml(suite: ET.Element) -> bytes:
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    for kind, name in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(kind, str(sum(case.find(name) is not None for case in cases)))
    ET.indent(suite)
    data: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return data


def _score_line(evaluation: Evaluation) -> str:
    if evaluation.score is None:
        return f"{clean(evaluation.state)}; `vera-hub eval {clean(evaluation.ref)} --suite {clean(evaluation.suite)} --wait` waits for it"
    return f"{clean(evaluation.metric)} {evaluation.score:.4f}, 95% interval {interval(evaluation.interval)}, {evaluation.items:,} items{_beside(evaluation)}"


def _beside(evaluation: Evaluation) -> str:
    return "".join(f"; {clean(metric)} {score_beside(found)}" for metric, found in evaluation.beside.items())


def _task_lines(tasks: Sequence[TaskScore]) -> list[str]:
    width = max((len(clean(each.task)) for each in tasks), default=0)
    return [f"    {clean(each.task):<{width}}  {_task_scores(each)}, {each.items:,} items" for each in tasks]


def _task_scores(task: TaskScore) -> str:
    shown = [f"{clean(name)} {each.score:.4f} {interval(each.interval)}" for name, each in task.scores.items()]
    return "; ".join(shown) or "not shown: so few items would tell what each is worth"


def _task_rows(tasks: Sequence[TaskScore]) -> list[str]:
    if not tasks:
        return []
    rows = [f"| {_md(each.task)} | {_md(_task_scores(each))} | {each.items:,} |" for each in tasks]
    return ["", "| task | score, 95% interval | items |", "|---|---|---|", *rows]


def _verdict_line(verdict: Verdict, *, strict: bool) -> str:
    if verdict is Verdict.INCONCLUSIVE:
        return (
            "inconclusive, which is not a pass under --strict" if strict else "inconclusive (only --strict stops at it)"
        )
    return verdict.value


def _number(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"


def _md(text: object) -> str:
    """`text` as Markdown that shows it and does nothing else."""
    escaped = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
    return "".join(f"\\{char}" if char in "\\*_[]|#!" else char for char in escaped)
