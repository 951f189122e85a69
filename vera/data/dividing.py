"""From items to a Split: as their files divide them, or by the hash of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vera.data.examples import (
    IMAGE_CLASSIFICATION,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    EncodedImage,
    Examples,
    Source,
    Split,
    Target,
    identity_of,
    is_heldout,
)
from vera.errors import DataError

_ANY_LABELS = 20  # so many are never too many; more should not be more than half of the items
_CLASSIFICATION = (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION)


@dataclass(frozen=True)
class Item:
    """One row, before the labels have numbers: `target` is a label, a completion, or a float."""

    input: str | EncodedImage
    target: str | float
    pair: str | None = None

    @property
    def identity(self) -> str:
        return identity_of(self.input, self.pair, self.target)

    @property
    def is_blank(self) -> bool:
        """Whether there is no input: there are texts to generate without one, and nothing else."""
        return isinstance(self.input, str) and self.pair is None and not self.input.strip()


def split_by_hash(name: str, rows: Iterable[tuple[str, str]], *, min_per_label: int) -> Split:
    """`rows` of (text, label) as a Split: see `divide_by_hash`."""
    items = [Item(text, label) for text, label in rows]
    return divide_by_hash(name, TEXT_CLASSIFICATION, items, min_per_label=min_per_label)


def divide_by_hash(
    name: str,
    task: str,
    items: Sequence[Item],
    *,
    label_order: Sequence[str] = (),
    min_per_label: int = 2,
    source: Source | None = None,
    notes: Sequence[str] = (),
) -> Split:
    """`items` as a Split in which an item's place depends on its own input alone: about a fifth is held out.

    Equal items are kept once and in a canonical order. For classification, inputs with two labels
    and labels with fewer than `min_per_label` inputs are left out, and the notes say so. Raises
    DataError when fewer than two labels remain, no item is held out, or none of the held-out labels is trained on.
    """
    usable = [item for item in items if task == TEXT_GENERATION or not item.is_blank]
    kept, said = _distinct(usable), list(notes)
    labels: tuple[str, ...] = ()
    if task in _CLASSIFICATION:
        kept, ambiguous = _unambiguous(kept)
        counts = Counter(str(item.target) for item in kept.values())
        labels = ordered_labels((label for label, n in counts.items() if n >= min_per_label), label_order)
        _require_two(name, labels, min_per_label)
        kept = {key: item for key, item in kept.items() if item.target in labels}
        said += _left_out(counts, labels, min_per_label, ambiguous)
    sides: dict[bool, list[Item]] = {False: [], True: []}
    for key in sorted(kept):
        sides[is_heldout(key[0])].append(kept[key])
    if labels:
        said += _unseen_labels(name, sides[False], sides[True])
    train, heldout = (numbered(sides[held], labels) for held in (False, True))
    return Split(name, task, labels, train, heldout, tuple(said), source)


def divide_as_given(
    name: str,
    task: str,
    train: Sequence[Item],
    heldout: Sequence[Item],
    validation: Sequence[Item] | None = None,
    *,
    label_order: Sequence[str] = (),
    source: Source | None = None,
    notes: Sequence[str] = (),
) -> Split:
    """The parts as they come, in their order and with their repetitions, as a Split.

    An item whose input is held out too is left out of the other parts, and so is one for training that validates; the notes say
    how many. Raises DataError when there are fewer than two labels, none of the held-out
    labels is trained on, or a part is empty.
    """
    said = list(notes)
    if validation is not None:
        validation = _without(heldout, validation, "items for validation that are held out too left out of it", said)
    others = [*heldout, *(validation or ())]
    unseen = _without(others, train, "items for training that are held out too left out of training", said)
    labels: tuple[str, ...] = ()
    if task in _CLASSIFICATION:
        present = (str(item.target) for item in [*unseen, *heldout, *(validation or ())])
        labels = ordered_labels(present, label_order)
        _require_two(name, labels, 1)
        require_repetition(name, labels, len(train))
        said += _unseen_labels(name, unseen, heldout)
    parts = [None if part is None else numbered(part, labels) for part in (unseen, heldout, validation or None)]
    assert parts[0] is not None
    assert parts[1] is not None
    return Split(name, task, labels, parts[0], parts[1], tuple(said), source, parts[2])


def _without(others: Iterable[Item], items: Sequence[Item], why: str, notes: list[str]) -> list[Item]:
    """`items` that are none of `others`. Adds to `notes` how many those were, if any."""
    known = {item.identity for item in others}
    left = [item for item in items if item.identity not in known]
    if len(left) < len(items):
        notes.append(f"{len(items) - len(left)} {why}")
    return left


def ordered_labels(labels: Iterable[str], order: Sequence[str] = ()) -> tuple[str, ...]:
    """Each label once: as in `order`, which a data set may state; else by value when all are whole numbers; else by name."""
    present = set(labels)
    if present <= set(order):
        return tuple(label for label in order if label in present)
    if all(label.removeprefix("-").isdecimal() for label in present):
        return tuple(sorted(present, key=lambda label: (int(label), label)))
    return tuple(sorted(present))


_Key = tuple[str, str, float]  # the input's identity and the target: what makes two items equal


def _distinct(items: Iterable[Item]) -> dict[_Key, Item]:
    found: dict[_Key, Item] = {}
    for item in items:
        target = (item.target, 0.0) if isinstance(item.target, str) else ("", item.target)
        found.setdefault((item.identity, *target), item)
    return found


def _unambiguous(items: dict[_Key, Item]) -> tuple[dict[_Key, Item], int]:
    """The items whose input has one target, and how many inputs have more."""
    targets = Counter(key[0] for key in items)
    kept = {key: item for key, item in items.items() if targets[key[0]] == 1}
    return kept, sum(n > 1 for n in targets.values())


def _require_two(name: str, labels: Sequence[str], at_least: int) -> None:
    if len(labels) < 2:
        raise DataError(
            f"{name} has {len(labels)} labels with at least {at_least} items: training needs two or more. "
            f"Is it the right column of labels?"
        )


def require_repetition(name: str, labels: Sequence[str], items: int) -> None:
    """Raises DataError where nearly every item has a label of its own, as an identifier is."""
    if len(labels) > max(_ANY_LABELS, items // 2):
        raise DataError(
            f"{name} has {len(labels)} labels for {items} items, such as {labels[0]!r}: "
            f"is it the right column of labels?"
        )


def _unseen_labels(name: str, train: Sequence[Item], heldout: Sequence[Item]) -> list[str]:
    seen = {item.target for item in train}
    unseen = sorted({str(item.target) for item in heldout} - seen)
    if heldout and all(item.target not in seen for item in heldout):
        raise DataError(
            f"{name} holds out labels such as {unseen[0]!r}, none of which is among those to train on: "
            f"is it the right column of labels?"
        )
    listed = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
    return [f"labels that are held out and never trained on: {listed}"] if unseen else []


def _left_out(counts: Counter[str], labels: Sequence[str], min_per_label: int, ambiguous: int) -> list[str]:
    small = ", ".join(f"{label} ({counts[label]})" for label in sorted(counts) if label not in labels)
    notes = [f"labels with fewer than {min_per_label} texts left out: {small}"] if small else []
    if ambiguous:
        notes.append(f"{ambiguous} texts that stand under two labels left out")
    return notes


def numbered(items: Sequence[Item], labels: Sequence[str]) -> Examples:
    """`items` as Examples, each label as its place in `labels` where there are labels."""
    index = {label: i for i, label in enumerate(labels)}
    return _examples(items, [index[str(item.target)] if labels else item.target for item in items])


def _examples(items: Sequence[Item], targets: Sequence[Target]) -> Examples:
    images = tuple(item.input for item in items if isinstance(item.input, EncodedImage))
    texts = tuple(item.input for item in items if isinstance(item.input, str))
    pairs = tuple(item.pair for item in items if item.pair is not None)
    return Examples(texts, tuple(targets), pairs or None, images or None)
