"""Suites that are built in, over a copy of their data as it is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.worker import instructions, suites
from hub.worker.errors import NotComputed
from tests.worker.test_instructions import needs_packages

ROWS = [
    {"key": 1, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]},
    {
        "key": 2,
        "prompt": "Write more.",
        "instruction_id_list": ["length_constraints:number_words", "startend:quotation"],
        "kwargs": [{"num_words": 3, "relation": "at least"}, {}],
    },
]


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    folder = tmp_path / "instruct" / "ifeval"
    folder.mkdir(parents=True)
    (folder / "ifeval_input_data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


@needs_packages
def test_ifeval_is_read_as_it_is_published(datasets: Path) -> None:
    (suite,) = suites.named(["instruct/ifeval"], datasets=datasets).values()
    assert suite.request(datasets)["texts"] == ["Write.", "Write more."]
    assert suite.request(datasets)["chat"] is True
    assert suite.grade(["Fine.", '"one two three"']) == [1, 1]
    assert suite.grade(["So, fine.", "one"]) == [0, 0]
    assert "instruct/ifeval" in suites.available(datasets).suites


def test_without_its_packages_ifeval_is_not_among_the_suites(datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(instructions._PACKAGES, "no_such_module", "no-such-package")
    assert "instruct/ifeval" not in suites.available(datasets).suites
    with pytest.raises(NotComputed, match=r"pip install 'vera-hub\[ifeval\]'"):
        suites.named(["instruct/ifeval"], datasets=datasets)
