"""The set a wheel carries, and division by hash: the same everywhere."""

from __future__ import annotations

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


def test_a_built_in_set_takes_no_options() -> None:
    assert data.load("demo/topics", task="text-classification") == data.load("demo/topics")
    for options in ({"text": "text"}, {"limit": 5}, {"task": "text-generation"}):
        with pytest.raises(DataError, match="a set as it is"):
            data.load("demo/topics", **options)


def test_topics_says_which_package_it_is_from() -> None:
    source = data.load("demo/topics").source
    assert source is not None
    assert source.to_dict() == {"name": "demo/topics", "package": "chatterbot-corpus==1.3.3"}
