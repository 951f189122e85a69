from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sdk.cli import reports
from sdk.cli.reports import Files, Outcome
from sdk.models.evaluations import Evaluation
from tests.sdk.fakes import evaluation_json
from vera.gating import Finding, Verdict

EVALUATION = Evaluation.from_json(evaluation_json())


def outcome(verdict: Verdict, sentence: str = "Because.") -> Outcome:
    return Outcome(EVALUATION, findings=(Finding("min accuracy>=0.8", verdict, sentence),), verdict=verdict)


@pytest.mark.parametrize(
    ("verdict", "strict", "counts"),
    [
        (Verdict.PASS, False, ("0", "0", "0")),
        (Verdict.FAIL, False, ("1", "0", "0")),
        (Verdict.INCONCLUSIVE, False, ("0", "0", "1")),
        (Verdict.INCONCLUSIVE, True, ("1", "0", "0")),
    ],
)
def test_junit_counts_what_a_ci_server_looks_at(verdict: Verdict, strict: bool, counts: tuple[str, str, str]) -> None:
    suite = ET.fromstring(reports.as_junit(outcome(verdict), strict=strict))

    assert suite.get("tests") == "1"
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == counts


def test_junit_of_a_hostile_sentence_is_still_xml() -> None:
    suite = ET.fromstring(reports.as_junit(outcome(Verdict.FAIL, "\x1b[2J</failure>\x00 & <x>\u202e"), strict=False))

    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "[2J</failure> & <x>"


def test_markdown_shows_what_a_stranger_wrote_and_renders_none_of_it() -> None:
    text = reports.as_markdown(outcome(Verdict.FAIL, "<img src=x> [a](javascript:1) | `x`\n# big"), strict=False)

    assert "&lt;img src=x> \\[a\\](javascript:1) \\| 'x' \\# big" in text
    assert "| `demo/a@v1` | 0.8000 | [0.7500, 0.8400] | 400 |" in text


def test_files_are_written_and_the_page_of_the_ci_job_is_added_to(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n")

    Files(tmp_path / "junit.xml", tmp_path / "summary.md", page).write(outcome(Verdict.PASS), strict=False)

    assert ET.parse(tmp_path / "junit.xml").getroot().tag == "testsuite"
    assert page.read_text() == "# Before\n" + (tmp_path / "summary.md").read_text() + "\n"


def test_an_error_is_reported_in_the_files_too(tmp_path: Path) -> None:
    files = Files(tmp_path / "junit.xml", tmp_path / "summary.md", None)

    with pytest.raises(RuntimeError), files.reporting_errors("demo/a on demo/topics"):
        raise RuntimeError("The hub is gone.")

    assert ET.parse(tmp_path / "junit.xml").getroot().get("errors") == "1"
    assert "The hub is gone." in (tmp_path / "summary.md").read_text()
