"""Examples and splits are valid by construction, and what a score was measured on has one name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vera.data import EncodedImage, Examples, Source, Split
from vera.data.dividing import Item, divide_as_given, divide_by_hash
from vera.data.examples import is_heldout
from vera.errors import DataError

REGRESSION = Split("pairs", "text-regression", (), Examples(("a", "b"), (1.0, 3.0)), Examples(("c",), (5.0,)))
GENERATION = Split("says", "text-generation", (), Examples(("a",), ("b",)), Examples(("c",), ("d",)))
PNG = b"\x89PNG\r\n\x1a\n"
CHOICES = [Item(f"text {i}", "ab"[i % 2]) for i in range(200)]


def image(content: bytes) -> EncodedImage:
    return EncodedImage.of(PNG + content)


def test_every_item_has_all_of_its_columns() -> None:
    with pytest.raises(DataError, match=r"'inputs': 2, 'targets': 1"):
        Examples(("a", "b"), (0,))
    with pytest.raises(DataError, match="pairs"):
        Examples(("a",), (0,), pairs=())
    with pytest.raises(DataError, match="not both"):
        Examples(("a",), (0,), images=(image(b"x"),))


@pytest.mark.parametrize(("task", "labels", "targets", "sentence"), [
    ("text-classification", ("x", "y"), (2,), r"point at none of them: \[2\]"),
    ("text-classification", ("x", "y"), (1.0,), "not a int"),
    ("text-classification", ("x", "y"), (True,), "not a int"),
    ("text-regression", (), (1,), "not a float"),
    ("text-regression", (), (float("nan"),), "finite"),
    ("text-generation", (), (1,), "not a str"),
    ("image-classification", ("x", "y"), (0,), "has texts"),
    ("text-clasification", ("x", "y"), (0,), "is not a task"),
])  # fmt: skip
def test_a_split_holds_targets_of_its_task(
    task: str, labels: tuple[str, ...], targets: tuple[float, ...], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        Split("s", task, labels, Examples(("a",), targets), Examples(("b",), targets))


def test_a_split_without_held_out_items_is_refused() -> None:
    with pytest.raises(DataError, match="no items in its held-out set"):
        replace(GENERATION, heldout=Examples((), ()))


def test_the_baseline_is_of_the_task() -> None:
    split = divide_as_given(
        "s", "text-classification", [Item("a", "x"), Item("b", "x"), Item("c", "y")], [Item("d", "x"), Item("e", "y")]
    )
    assert split.baseline is not None
    assert (split.baseline.metric, split.baseline.value) == ("accuracy", 0.5)
    assert REGRESSION.baseline is not None
    assert (REGRESSION.baseline.metric, REGRESSION.baseline.value) == ("mean_squared_error", 9.0)
    assert GENERATION.baseline is None


def test_the_digest_is_over_everything_an_item_is() -> None:
    pairs = Split(
        "p", "text-regression", (), Examples(("a",), (1.0,), pairs=("b",)), Examples(("c",), (2.0,), pairs=("d",))
    )
    other_pair = replace(pairs, heldout=Examples(("c",), (2.0,), pairs=("e",)))
    without = replace(pairs, heldout=Examples(("c",), (2.0,)))
    images = (
        Split("i", "image-classification", ("x", "y"), *(Examples((), (0,), images=(image(name),)) for name in held))
        for held in ((b"1", b"2"), (b"1", b"3"))
    )
    splits = [REGRESSION, GENERATION, pairs, other_pair, without, *images]
    assert len({split.heldout_digest for split in splits}) == len(splits)


def test_the_digest_of_an_image_does_not_care_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(PNG + b"1")
    assert EncodedImage.of(tmp_path / "one.png") == image(b"1")


def test_an_image_that_changed_after_loading_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(PNG + b"1")
    found = EncodedImage.of(path)
    assert found.read() == PNG + b"1"
    path.write_bytes(PNG + b"2")
    with pytest.raises(DataError, match="changed while it was in use"):
        found.read()
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        found.read()


def test_validation_is_a_part_of_training_by_hash_and_not_of_the_held_out() -> None:
    split = divide_by_hash("s", "text-classification", CHOICES)
    chosen = split.with_validation()
    assert chosen.validation is not None
    assert chosen.heldout == split.heldout
    assert sorted((*chosen.train.texts, *chosen.validation.texts)) == sorted(split.train.texts)
    assert 5 <= len(chosen.validation) <= 30  # a tenth of about 160
    assert chosen.with_validation() is chosen


def test_equal_prompts_stand_on_one_side() -> None:
    items = [Item(f"say {i % 50}", f"words {i}") for i in range(200)]
    split = divide_by_hash("s", "text-generation", items)
    assert len(split.train) + len(split.heldout) == 200
    assert not set(split.train.texts) & set(split.heldout.texts)


def test_a_label_that_falls_to_the_held_out_part_alone_is_said() -> None:
    texts = [f"text {i}" for i in range(40)]
    rare = [text for text in texts if is_heldout(text)][:2]
    items = [Item(text, "rare" if text in rare else "ab"[i % 2]) for i, text in enumerate(texts)]
    split = divide_by_hash("s", "text-classification", items)
    assert split.labels == ("a", "b", "rare")
    assert split.notes == ("labels that are held out and never trained on: rare",)


def test_a_pair_is_one_item() -> None:
    items = [Item("the same", "ab"[i % 2], pair=f"other {i}") for i in range(100)]
    split = divide_by_hash("s", "text-classification", items)
    assert len(split.train) + len(split.heldout) == 100
    assert split.train.pairs is not None


def test_given_parts_keep_their_order_and_repetitions_but_never_share_an_item() -> None:
    train = [Item("b", "x"), Item("a", "y"), Item("a", "y"), Item("held  out", "x")]
    split = divide_as_given("s", "text-classification", train, [Item("held out", "y")])
    assert split.train.texts == ("b", "a", "a")
    assert split.notes == ("1 items for training that are held out too left out of training",)


def test_nothing_that_is_held_out_chooses_the_checkpoint() -> None:
    train, heldout = [Item("a", "x"), Item("b", "y")], [Item("held  out", "y")]
    split = divide_as_given("s", "text-classification", train, heldout, [Item("c", "x"), Item("held out", "y")])
    assert split.validation is not None
    assert split.validation.texts == ("c",)
    assert split.notes == ("1 items for validation that are held out too left out of it",)
    assert divide_as_given("s", "text-classification", train, heldout, heldout).validation is None


def test_labels_are_ordered_as_stated_or_by_number_or_by_name() -> None:
    def labels(*names: str, order: tuple[str, ...] = ()) -> tuple[str, ...]:
        items = [Item(f"{name} {i}", name) for name in names for i in range(20)]
        return divide_by_hash("s", "text-classification", items, label_order=order).labels

    assert labels("10", "9") == ("9", "10")
    assert labels("b", "a") == ("a", "b")
    assert labels("bad", "good", order=("good", "poor", "bad")) == ("good", "bad")


def test_a_source_says_only_what_it_knows() -> None:
    assert Source("x.csv", files={"x.csv": "sha256:1"}).to_dict() == {"name": "x.csv", "files": {"x.csv": "sha256:1"}}
