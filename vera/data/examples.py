"""What a training set and a held-out set are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import rfc8785

from vera.errors import DataError


@dataclass(frozen=True)
class Examples:
    """Texts and the index of each one's label."""

    texts: tuple[str, ...]
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Split:
    """A labelled set, divided once and for all. `notes` says what was left out and why."""

    name: str
    labels: tuple[str, ...]
    train: Examples
    heldout: Examples
    notes: tuple[str, ...] = ()

    @property
    def majority(self) -> float:
        """Held-out accuracy of always answering the most common label of the training set."""
        answer = Counter(self.train.targets).most_common(1)[0][0]
        return self.heldout.targets.count(answer) / len(self.heldout)

    @property
    def heldout_digest(self) -> str:
        """`sha256:…` over the held-out items in canonical JSON: what a score was measured on."""
        items = [
            [text, self.labels[target]] for text, target in zip(self.heldout.texts, self.heldout.targets, strict=True)
        ]
        return f"sha256:{hashlib.sha256(rfc8785.dumps(items)).hexdigest()}"


def split_by_hash(name: str, rows: Sequence[tuple[str, str]], *, min_per_label: int, heldout_fifth: int = 0) -> Split:
    """`rows` of (text, label) as a Split: an item's place depends on its own text alone.

    Equal texts are kept once, texts with two labels and labels with fewer than `min_per_label`
    texts are left out, and the notes say so. About a fifth is held out. Raises DataError when
    fewer than two labels remain.
    """
    labels_of: dict[str, set[str]] = {}
    for text, label in rows:
        labels_of.setdefault(" ".join(text.split()), set()).add(label)
    clear = {text: next(iter(labels)) for text, labels in labels_of.items() if text and len(labels) == 1}
    counts = Counter(clear.values())
    labels = tuple(sorted(label for label, n in counts.items() if n >= min_per_label))
    if len(labels) < 2:
        raise DataError(
            f"{name} has {len(labels)} labels with at least {min_per_label} texts: training needs two or more."
        )
    index = {label: i for i, label in enumerate(labels)}
    kept = sorted((text, index[label]) for text, label in clear.items() if label in index)
    held = [item for item in kept if _fifth(item[0]) == heldout_fifth]
    rest = [item for item in kept if _fifth(item[0]) != heldout_fifth]
    small = ", ".join(f"{label} ({counts[label]})" for label in sorted(counts) if label not in index)
    notes = [f"labels with fewer than {min_per_label} texts left out: {small}"] if small else []
    ambiguous = sum(len(found) > 1 for found in labels_of.values())
    if ambiguous:
        notes.append(f"{ambiguous} texts that stand under two labels left out")
    return Split(name, labels, _examples(rest), _examples(held), tuple(notes))


def _fifth(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0] % 5


def _examples(items: Sequence[tuple[str, int]]) -> Examples:
    return Examples(tuple(text for text, _ in items), tuple(target for _, target in items))
