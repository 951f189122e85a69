"""Labelled sets: the same split everywhere, and a sentence for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from vera import data
from vera.data.dividing import split_by_hash
from vera.errors import DataError


def test_topics_is_the_same_set_on_every_machine() -> None:
    split = data.load("demo/topics")
    assert (len(split.train), len(split.heldout), len(split.labels)) == (1367, 309, 12)
    assert split.heldout_digest == "sha256:affa8b509f7999da8c8fc78943fe82339c54b05310bd16649318995f7e715b49"
    assert "left out" in split.notes[0]


def test_no_text_is_on_both_sides() -> None:
    split = data.load("demo/topics")
    assert not set(split.train.texts) & set(split.heldout.texts)


def test_the_side_of_a_text_depends_on_that_text_alone() -> None:
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(100)]
    whole, half = split_by_hash("x", rows, min_per_label=1), split_by_hash("x", rows[:50], min_per_label=1)
    assert set(half.heldout.texts) <= set(whole.heldout.texts)
    assert set(half.train.texts) <= set(whole.train.texts)


def test_texts_with_two_labels_and_small_labels_are_left_out_and_said() -> None:
    rows = [(f"{label} {i}", label) for label in "ab" for i in range(10)]
    split = split_by_hash("x", [*rows, ("both", "a"), ("both", "b"), ("rare", "c")], min_per_label=2)
    assert split.labels == ("a", "b")
    assert "both" not in (*split.train.texts, *split.heldout.texts)
    assert split.notes == (
        "labels with fewer than 2 texts left out: c (1)",
        "1 texts that stand under two labels left out",
    )


@pytest.mark.parametrize(("name", "text"), [
    ("rows.csv", "text,label\n" + "".join(f"one {i},a\ntwo {i},b\n" for i in range(20))),
    ("rows.jsonl", "".join(f'{{"text": "one {i}", "label": "a"}}\n{{"text": "two {i}", "label": "b"}}\n' for i in range(20))),
])  # fmt: skip
def test_a_file_of_texts_and_labels_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    split = data.load(str(tmp_path / name))
    assert split.labels == ("a", "b")
    assert len(split.train) + len(split.heldout) == 40


@pytest.mark.parametrize(("name", "text", "sentence"), [
    ("rows.csv", "words,label\nhello,a\n", "no 'text'"),
    ("rows.jsonl", '{"text": "hello"}\n', "no 'text' or no 'label'"),
    ("rows.jsonl", "hello\n", "Line 1"),
    ("rows.jsonl", "[1]\n", "not a JSON object"),
    ("rows.txt", "hello\n", "not a .csv or .jsonl"),
    ("rows.csv", "", "no rows"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_a_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=sentence):
        data.load(str(tmp_path / name))


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    rows = "".join(f"one {i},a\ntwo {i},b\n" for i in range(20))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}", encoding="utf-8-sig")
    assert data.load(str(tmp_path / "rows.csv")).labels == ("a", "b")


def test_bytes_that_are_not_utf8_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"text,label\ncaf\xe9,a\n")
    with pytest.raises(DataError, match="UTF-8"):
        data.load(str(tmp_path / "rows.csv"))


def test_an_unknown_source_names_the_built_in_ones() -> None:
    with pytest.raises(DataError, match="demo/topics"):
        data.load("no/such")
