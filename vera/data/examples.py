"""What a training set and a held-out set are, for every kind of task.

task                  an item                        its target
text-classification   a text, or a text and a pair   an index into the labels
text-regression       a text, or a text and a pair   a finite float
text-generation       a prompt                       the completion, a str
image-classification  an encoded image               an index into the labels
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from vera import canonical_json
from vera.errors import DataError

TEXT_CLASSIFICATION = "text-classification"
TEXT_REGRESSION = "text-regression"
TEXT_GENERATION = "text-generation"
IMAGE_CLASSIFICATION = "image-classification"
TASKS = (TEXT_CLASSIFICATION, TEXT_REGRESSION, TEXT_GENERATION, IMAGE_CLASSIFICATION)

Target = int | float | str
_T = TypeVar("_T", int, float, str)

_IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
_VALIDATION_SHARE = 10  # one in so many training items, by hash


@dataclass(frozen=True)
class EncodedImage:
    """A PNG, JPEG or the like, not decoded: its bytes, or the file it lies in. Equal when its bytes are."""

    sha256: str
    content: bytes | Path = field(repr=False, compare=False)

    @classmethod
    def of(cls, content: bytes | Path) -> EncodedImage:
        """The image of these bytes or in this file, which is read once.

        Raises DataError when it cannot be read or does not begin like an image.
        """
        data = content if isinstance(content, bytes) else _read_file(content)
        if not data.startswith(_IMAGE_SIGNATURES):
            what = "Bytes that are" if isinstance(content, bytes) else f"{content} is"
            raise DataError(
                f"{what} no PNG, JPEG, GIF, WebP or BMP image, as {data[:12]!r} shows: convert or remove it."
            )
        return cls(_sha256(data), content)

    def read(self) -> bytes:
        """Its bytes. Raises DataError when the file is gone or is not what it was when the set was loaded."""
        if isinstance(self.content, bytes):
            return self.content
        data = _read_file(self.content)
        if _sha256(data) != self.sha256:
            raise DataError(
                f"{self.content} changed while it was in use: its sha256 was {self.sha256} and is {_sha256(data)}. "
                f"Load the data again."
            )
        return data


@dataclass(frozen=True)
class Examples:
    """Items and the target of each. Texts, with or without a second text each (`pairs`), or `images`.

    Raises DataError when the columns are not of one length.
    """

    texts: tuple[str, ...]
    targets: tuple[Target, ...]
    pairs: tuple[str, ...] | None = None
    images: tuple[EncodedImage, ...] | None = None

    def __post_init__(self) -> None:
        if self.images is not None and (self.texts or self.pairs is not None):
            raise DataError("An item is a text or an image, not both: leave `texts` empty and `pairs` out.")
        columns = {"inputs": self.inputs, "targets": self.targets, "pairs": self.pairs}
        lengths = {name: len(column) for name, column in columns.items() if column is not None}
        if len(set(lengths.values())) != 1:
            raise DataError(f"Every item needs all of its columns, but their lengths are {lengths}.")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def inputs(self) -> tuple[str, ...] | tuple[EncodedImage, ...]:
        """The texts (prompts, for generation), or the images."""
        return self.texts if self.images is None else self.images

    @property
    def classes(self) -> tuple[int, ...]:
        """The targets of a classification task. Raises DataError for those of another task."""
        return tuple(_typed(target, int) for target in self.targets)

    @property
    def values(self) -> tuple[float, ...]:
        """The targets of a regression task. Raises DataError for those of another task."""
        return tuple(_typed(target, float) for target in self.targets)

    @property
    def completions(self) -> tuple[str, ...]:
        """The targets of a generation task. Raises DataError for those of another task."""
        return tuple(_typed(target, str) for target in self.targets)

    def identity(self, row: int) -> str:
        """The `identity_of` item `row`."""
        return identity_of(self.inputs[row], None if self.pairs is None else self.pairs[row], self.targets[row])

    def take(self, rows: Sequence[int]) -> Examples:
        """The items at `rows`, in that order."""
        return Examples(
            tuple(self.texts[row] for row in rows) if self.images is None else (),
            tuple(self.targets[row] for row in rows),
            None if self.pairs is None else tuple(self.pairs[row] for row in rows),
            None if self.images is None else tuple(self.images[row] for row in rows),
        )


@dataclass(frozen=True)
class Source:
    """Where a set came from, exactly enough to get the same one again.

    `files` gives the sha256 of each file by its name (of a folder of images: of the list of them).
    A set of Hugging Face has the commit its revision stood for, a set inside a package that
    package's version. `options` are the columns, the limit and the like it was read with.
    """

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None
    revision: str | None = None
    config: str | None = None
    package: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without what is not said."""
        stated = {
            "name": self.name,
            "dataset": self.dataset,
            "revision": self.revision,
            "config": self.config,
            "package": self.package,
            "files": dict(sorted(self.files.items())),
            "options": dict(sorted(self.options.items())),
        }
        return {key: value for key, value in stated.items() if value}


@dataclass(frozen=True)
class Baseline:
    """What an answer that ignores the item scores on the held-out set."""

    answer: str
    metric: str
    value: float


@dataclass(frozen=True)
class Split:
    """A set divided once and for all. `notes` says what was left out and why.

    `heldout` is never trained on and chooses nothing; `validation`, where there is one, chooses the
    checkpoint. `labels` is empty for regression and generation. Raises DataError when a part is
    empty or a target is not of the task.
    """

    name: str
    task: str
    labels: tuple[str, ...]
    train: Examples
    heldout: Examples
    notes: tuple[str, ...] = ()
    source: Source | None = None
    validation: Examples | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise DataError(f"{self.task!r} is not a task: it is one of {', '.join(TASKS)}.")
        for part, examples in self.parts.items():
            if not len(examples):
                raise DataError(
                    f"{self.name} has no items in its {part} set: give more of them, or a file for each set."
                )
            _check_inputs(self.name, self.task, examples)
            _check_targets(self.name, self.task, self.labels, examples)

    @property
    def parts(self) -> dict[str, Examples]:
        """The sets there are, by name: training, validation, held-out."""
        named = {"training": self.train, "validation": self.validation, "held-out": self.heldout}
        return {name: examples for name, examples in named.items() if examples is not None}

    @property
    def has_labels(self) -> bool:
        return self.task in (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION)

    @property
    def majority(self) -> float:
        """Held-out accuracy of always answering the most common label of the training set."""
        answer = Counter(self.train.classes).most_common(1)[0][0]
        return self.heldout.classes.count(answer) / len(self.heldout)

    @property
    def baseline(self) -> Baseline | None:
        """What the best answer that ignores the item scores; None for generation, which has no such answer."""
        if self.has_labels:
            return Baseline("always the most common label", "accuracy", self.majority)
        if self.task == TEXT_REGRESSION:
            mean = math.fsum(self.train.values) / len(self.train)
            error = math.fsum((value - mean) ** 2 for value in self.heldout.values) / len(self.heldout)
            return Baseline("always the mean", "mean_squared_error", error)
        return None

    @property
    def heldout_digest(self) -> str:
        """`sha256:…` over the held-out items in canonical JSON: what a score was measured on.

        An item is the list of its text (of an image: its sha256), its pair if it has one, and its
        label, value or completion.
        """
        return items_digest(self.heldout, self.labels)

    @property
    def digest(self) -> str:
        """`sha256:…` over every part, in the order of its items: what a training was made from."""
        parts = {name: _canonical(examples, self.labels) for name, examples in self.parts.items()}
        return (
            f"sha256:{_sha256(canonical_json.dumps({'task': self.task, 'labels': list(self.labels), 'parts': parts}))}"
        )

    def with_validation(self) -> Split:
        """The same with about a tenth of the training items, by their hash, set aside as `validation`.

        A set that has one is given back as it is. Raises DataError when too few items are left.
        """
        if self.validation is not None:
            return self
        rows = range(len(self.train))
        aside = [row for row in rows if validates(self.train.identity(row))]
        rest = [row for row in rows if not validates(self.train.identity(row))]
        return replace(self, train=self.train.take(rest), validation=self.train.take(aside))


def identity_of(first: str | EncodedImage, second: str | None, target: Target) -> str:
    """What makes an item the item it is: where it stands in a division, and what equals it.

    Its target plays no part, save for a text to generate without a prompt. Texts that differ in
    white space alone are the same.
    """
    if isinstance(first, EncodedImage):
        return first.sha256
    if not first and second is None and isinstance(target, str):
        first = target
    text = " ".join(first.split())
    return text if second is None else f"{text}\0{' '.join(second.split())}"


def items_digest(examples: Examples, labels: Sequence[str]) -> str:
    """`sha256:…` over items in canonical JSON, each as in `Split.heldout_digest`."""
    return f"sha256:{_sha256(canonical_json.dumps(_canonical(examples, labels)))}"


def is_heldout(identity: str) -> bool:
    """Whether the item of this identity is in the fifth that is held out: it depends on nothing else."""
    return hashlib.sha256(identity.encode()).digest()[0] % 5 == 0


def validates(identity: str) -> bool:
    """Whether the item of this identity is in the tenth that chooses a checkpoint. Independent of `is_heldout`."""
    return hashlib.sha256(identity.encode()).digest()[1] % _VALIDATION_SHARE == 0


def _canonical(examples: Examples, labels: Sequence[str]) -> list[list[Any]]:
    return [_canonical_item(examples, row, labels) for row in range(len(examples))]


def _canonical_item(examples: Examples, row: int, labels: Sequence[str]) -> list[Any]:
    first = examples.texts[row] if examples.images is None else examples.images[row].sha256
    second = [] if examples.pairs is None else [examples.pairs[row]]
    target = examples.targets[row]
    return [first, *second, labels[_typed(target, int)] if labels else target]


def _check_inputs(name: str, task: str, examples: Examples) -> None:
    if (examples.images is not None) != (task == IMAGE_CLASSIFICATION):
        got = "texts" if examples.images is None else "images"
        raise DataError(f"{name} has {got}, which is not what {task} is about: choose another task.")
    if task == TEXT_GENERATION and examples.pairs is not None:
        raise DataError(f"{name} has second texts, and {task} has none: make them part of the prompt.")


def _check_targets(name: str, task: str, labels: tuple[str, ...], examples: Examples) -> None:
    if task == TEXT_GENERATION:
        examples.completions  # noqa: B018  # raises
    elif task == TEXT_REGRESSION:
        bad = next((value for value in examples.values if not math.isfinite(value)), None)
        if bad is not None:
            raise DataError(f"{name} has the value {bad}, and a value must be finite: leave such rows out.")
    elif outside := {index for index in examples.classes if not 0 <= index < len(labels)}:
        raise DataError(f"{name} has {len(labels)} labels, and targets that point at none of them: {sorted(outside)}.")


def _typed(target: Target, kind: type[_T]) -> _T:
    if not isinstance(target, kind) or isinstance(target, bool):
        raise DataError(f"The target {target!r} is not a {kind.__name__}: it belongs to another task.")
    return target


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Put it back, or load the data again.") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
