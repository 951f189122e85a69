"""`eval`: asks for an evaluation, waits for it if told to, and decides by its gates.

Exit status: 0 pass, 1 a gate failed, 2 inconclusive under --strict, 3 the hub or the evaluation did
not get there (or not in time), 4 the command itself is wrong.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdk.cli import reports, terminal
from sdk.cli.suggesting import with_suggestion
from sdk.cli.terminal import App, Failure, clean, missing_package, pass_app
from sdk.cli.waiting import wait_for
from sdk.errors import DigestMismatch, Forbidden, HubError, Misconfigured, NotFound, Refused, Unauthorized
from vera.errors import VeraError
from vera.gating import (
    Finding,
    Minimum,
    Verdict,
    check_margin,
    judge_minimum,
    judge_regression,
    overall,
    require_decisive,
)
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.cli.reports import Outcome
    from sdk.client import Hub
    from sdk.models.aliases import Alias
    from sdk.models.evaluations import Comparison, Evaluation

GATE_FAILED, INCONCLUSIVE, INFRASTRUCTURE, USAGE = 1, 2, 3, 4
DEFAULT_TIMEOUT_S = 1800.0


class EvalCommand(click.Command):
    """A command whose exit status 1 says that a gate failed, and nothing else. `eval verify …` is another one: no
    reference is a bare word."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        given = args[1] if len(args) > 1 else kwargs["args"]
        if given[:1] == ["verify"]:
            from sdk.cli.signatures import verify

            return verify.make_context("verify", given[1:], **{k: v for k, v in kwargs.items() if k != "args"})
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            error.exit_code = USAGE  # type: ignore[misc]  # click reads it from the instance
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            raise Failure(with_suggestion(error, ctx.obj), _status_of(error)) from error


@dataclass(frozen=True)
class Gates:
    """What is asked of the result. `against` is the incumbent: a reference, or with --local a folder."""

    minimum: Minimum | None
    against: str | None
    margin: float

    @property
    def are_set(self) -> bool:
        return self.minimum is not None or self.against is not None


@click.command(name="eval", cls=EvalCommand)
@click.argument("ref", required=False)
@click.option(
    "--suite",
    required=True,
    metavar="FAMILY/TASK",
    help="`vera-hub suites` lists them. With --local also a suite file.",
)
@click.option("--local", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER",
    help="Evaluate the adapter in FOLDER on this machine, without a hub; the incumbent is a folder too.",
)  # fmt: skip
@click.option("--base", help="With --local: the base, a folder or a name. The one that the adapter names, otherwise.")
@click.option(
    "--datasets", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="VERA_HUB_DATASETS",
    help="With --local: folder with copies of data sets, as for `vera-hub worker`.",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait for the result. A gate waits by itself.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=DEFAULT_TIMEOUT_S, show_default=True,
    metavar="SECONDS", help="How long to wait at most.",
)  # fmt: skip
@click.option(
    "--min",
    "minimum",
    metavar="METRIC>=X",
    help="Gate: the score is at least X; at most, 'perplexity<=X', where less is better.",
)
@click.option(
    "--no-regression-vs", "against", metavar="REF", help="Gate: not worse than REF; @v1 is of the same adapter."
)
@click.option(
    "--margin", type=float, help="The loss that --no-regression-vs allows, in the units of the metric. Default: 0."
)
@click.option("--promote", metavar="ALIAS", help="When every gate passes, let ALIAS (prod) mean this version.")
@click.option("--cancel", is_flag=True, help="End the evaluation, which waits or runs, instead of asking for it.")
@click.option("--strict", is_flag=True, help="Inconclusive is exit status 2 and not 0.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML here.")
@click.option("--summary", type=click.Path(path_type=Path, dir_okay=False), help="Write a Markdown summary here.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
@click.pass_context
def evaluate(
    context: click.Context, app: App, /, ref: str | None, *,
    suite: str, local: Path | None, base: str | None, datasets: Path | None, wait: bool, timeout_s: float,
    minimum: str | None, against: str | None, margin: float | None, promote: str | None, cancel: bool, strict: bool,
    junit: Path | None, summary: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate an adapter on a suite and, if asked, gate on the result.

    The same version on the same suite is evaluated once: asking again costs nothing. An incumbent
    without a result is evaluated too, and means the version it is now. `vera-hub eval verify ID` checks who has signed a score.

    \b
    Exit status: 0 pass, 1 a gate failed, 2 inconclusive under --strict,
    3 infrastructure or timeout, 4 usage.
    """
    gates = _parse_gates(minimum, against, margin)
    _check_which(ref, local)
    if cancel:
        if ref is None or gates.are_set:
            raise _usage(
                "--cancel ends the evaluation of a reference, and decides nothing: leave --local and the gates out."
            )
        _cancel(app, AdapterRef.parse(ref), suite)
        return
    if promote is not None and not gates.are_set:
        raise _usage("--promote moves an alias when a gate passes: add --min or --no-regression-vs.")
    if not math.isfinite(timeout_s):
        raise _usage("--timeout is a number of seconds.")
    files = reports.Files(junit, summary, _path(os.environ.get("GITHUB_STEP_SUMMARY")))
    _check_folders(junit, summary)
    with files.reporting_errors(f"{local or ref} on {suite}"):
        if local is not None:
            if promote is not None:
                raise _usage("--promote moves an alias at the hub, to what the hub has evaluated: push first.")
            outcome = _run_here(context, local, suite, gates, base=base, datasets=datasets)
        else:
            if base is not None:
                raise _usage("--base is for --local: at the hub, an adapter is evaluated on the base that it names.")
            assert ref is not None
            within_s = timeout_s if wait or gates.are_set else None
            with app.hub() as hub:
                outcome = _run_at_hub(hub, AdapterRef.parse(ref), suite, gates, promote=promote, timeout_s=within_s)
    status = _exit_status(outcome.verdict, strict=strict)
    files.write(outcome, strict=strict)
    if as_json:
        terminal.say_json(reports.as_json(outcome, status))
    else:
        terminal.say(reports.as_text(outcome, strict=strict))
    if status:
        raise click.exceptions.Exit(status)


def _check_which(ref: str | None, local: Path | None) -> None:
    from sdk import finding

    if (ref is None) == (local is None):
        raise _usage("Give the reference of one adapter, or with --local its folder.")
    if ref is not None and isinstance(finding.parse(ref), Path):
        raise _usage(f"{ref} is a folder: evaluate it on this machine with --local {ref}, or push it first.")


def _cancel(app: App, ref: AdapterRef, suite: str) -> None:
    with app.hub() as hub:
        version = hub.resolve_version(ref)
        found = [each for each in version.evaluations if each.suite == suite and not each.is_over]
        if not found:
            raise _usage(f"No evaluation of {clean(version.ref)} on {clean(suite)} waits or runs: none was cancelled.")
        for each in found:
            hub.cancel_evaluation(each.id)
    terminal.say(f"The evaluation of {clean(version.ref)} on {clean(suite)} is cancelled.")


def _check_folders(*reports_to_write: Path | None) -> None:
    """Before anything is waited for: a report that cannot be written must not cost the verdict."""
    for path in reports_to_write:
        if path is not None and not path.absolute().parent.is_dir():
            raise _usage(f"{path} cannot be written: there is no folder {path.absolute().parent}.")


def _parse_gates(minimum: str | None, against: str | None, margin: float | None) -> Gates:
    if margin is not None and not 0 <= margin < math.inf:
        raise _usage(f"--margin is a difference of the metric, 0 or more (0.02 is two points), and not {margin:g}.")
    if margin is not None and against is None:
        raise _usage("--margin says how much worse than the incumbent is allowed: add --no-regression-vs.")
    try:
        return Gates(Minimum.parse(minimum) if minimum is not None else None, against, margin or 0.0)
    except ValueError as error:
        raise _usage(f"{error}.") from error


def _run_here(
    context: click.Context, folder: Path, suite: str, gates: Gates, *, base: str | None, datasets: Path | None
) -> Outcome:
    """What the gates find of a folder, and of the incumbent's, on this machine."""
    from sdk.cli.evaluating_here import evaluate_here

    if gates.against is not None and not Path(gates.against).is_dir():
        raise _usage(
            f"With --local the incumbent is a folder, and there is none at {clean(gates.against)}: `vera-hub pull` makes one."
        )
    folders = [folder, *([Path(gates.against)] if gates.against is not None else [])]
    try:
        (evaluation, *others), comparison, tasks = evaluate_here(
            context, folders, suite=suite, base=base, datasets=datasets
        )
    except ModuleNotFoundError as error:
        raise Failure(missing_package(error), INFRASTRUCTURE) from error
    _check_metric(evaluation, gates)
    return replace(_judge(evaluation, others[0] if others else None, comparison, gates), tasks=tasks)


def _run_at_hub(
    hub: Hub, candidate: AdapterRef, suite: str, gates: Gates, *, promote: str | None, timeout_s: float | None
) -> Outcome:
    target = _Target.of(hub, candidate, promote) if promote is not None else None
    outcome = _run(hub, candidate, suite, gates, timeout_s=timeout_s)
    if outcome.evaluation.tasks and outcome.evaluation.state == "done":
        outcome = replace(outcome, tasks=hub.get_tasks(outcome.evaluation.id).tasks)
    return outcome if target is None else replace(outcome, promotion=_promote(hub, target, outcome, gates))


def _run(hub: Hub, candidate: AdapterRef, suite: str, gates: Gates, *, timeout_s: float | None) -> Outcome:
    """Asks for everything first, so that it runs at the same time; then waits, unless `timeout_s` is None."""
    evaluation = _request(hub, candidate, suite)
    incumbent = _request(hub, _incumbent(candidate, gates.against), suite) if gates.against is not None else None
    _check_metric(evaluation, gates)
    if timeout_s is None:
        return reports.Outcome(evaluation)
    deadline = time.monotonic() + timeout_s
    evaluation = wait_for(hub, evaluation, deadline)
    if incumbent is None:
        return _judge(evaluation, None, None, gates)
    incumbent = wait_for(hub, incumbent, deadline)
    return _judge(evaluation, incumbent, hub.compare_evaluations(evaluation.id, incumbent.id), gates)


def _incumbent(candidate: AdapterRef, typed: str) -> AdapterRef:
    return AdapterRef.parse(f"{candidate.adapter_id}{typed}" if typed.startswith("@") else typed)


def _check_metric(evaluation: Evaluation, gates: Gates) -> None:
    """Before anything is waited for: the gates must be about what the suite measures."""
    if gates.minimum and gates.minimum.metric != evaluation.metric:
        raise _usage(f"{clean(evaluation.suite)} measures {clean(evaluation.metric)}, not {gates.minimum.metric}.")
    try:
        if gates.minimum is not None or gates.against is not None:
            require_decisive(evaluation.metric)
        check_margin(evaluation.metric, gates.margin)
    except ValueError as error:
        raise _usage(f"{clean(error)}.") from error


@dataclass(frozen=True)
class _Target:
    """The alias that a green gate moves, and what it meant before anything was asked: nobody's move since is undone."""

    ref: AdapterRef
    name: str
    before: Alias | None

    @classmethod
    def of(cls, hub: Hub, candidate: AdapterRef, name: str) -> _Target:
        ref = AdapterRef(candidate.namespace, candidate.name)
        return cls(ref, name, next((each for each in hub.list_aliases(ref) if each.name == name), None))


def _promote(hub: Hub, target: _Target, outcome: Outcome, gates: Gates) -> reports.Promotion:
    """What became of the alias: moved by a green gate, and by nothing else. The hub judges the gates once more."""
    before = target.before.version if target.before else None
    if outcome.verdict is not Verdict.PASS:
        return reports.Promotion(target.name, before, before)
    now = hub.promote(
        target.ref,
        target.name,
        outcome.evaluation.id,
        minimum=str(gates.minimum) if gates.minimum else None,
        against_id=outcome.incumbent.id if outcome.incumbent else None,
        margin=gates.margin,
        revision=target.before.revision if target.before else None,
        must_be_new=target.before is None,
    )
    return reports.Promotion(target.name, before, now.version)


def _request(hub: Hub, ref: AdapterRef, suite: str) -> Evaluation:
    """The evaluation of the version that `ref` means now: whatever moves later, it stays that one."""
    from sdk.resolving import resolve

    resolved = resolve(ref, hub=hub)
    evaluation = hub.request_evaluation(resolved.version_ref, suite)
    if evaluation.version_digest != resolved.digest:
        raise DigestMismatch(
            f"{resolved.version_ref} is {resolved.digest}, and the hub would evaluate {evaluation.version_digest} for it: "
            "nothing is decided on that. Was the hub set up anew? Then remove what the cache remembers.",
            facts={"expected": resolved.digest, "got": evaluation.version_digest},
        )
    return evaluation


def _judge(
    evaluation: Evaluation, incumbent: Evaluation | None, comparison: Comparison | None, gates: Gates
) -> Outcome:
    findings: list[Finding] = []
    if gates.minimum:
        findings.append(judge_minimum(evaluation, gates.minimum))
    if incumbent and comparison:
        findings.append(judge_regression(comparison, gates.margin, against=incumbent.ref))
    return reports.Outcome(evaluation, incumbent, comparison, tuple(findings), overall(findings))


def _exit_status(verdict: Verdict, *, strict: bool) -> int:
    if verdict is Verdict.FAIL:
        return GATE_FAILED
    return INCONCLUSIVE if verdict is Verdict.INCONCLUSIVE and strict else 0


def _status_of(error: Exception) -> int:
    """Whose fault it is: the command's (4), or something else's (3)."""
    is_usage = isinstance(error, VeraError | NotFound | Refused | Unauthorized | Forbidden | Misconfigured)
    is_usage = is_usage or (isinstance(error, HubError) and error.code == "SPEC_MISMATCH")
    return USAGE if is_usage else INFRASTRUCTURE


def _usage(message: str) -> Failure:
    return Failure(message, USAGE)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
