"""Which column is which, and what a row says: from a table to items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vera.data.dividing import Item
from vera.data.examples import (
    IMAGE_CLASSIFICATION,
    TASKS,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    TEXT_REGRESSION,
    EncodedImage,
)
from vera.data.tables import TEXT_LINE, Row, Table
from vera.errors import DataError

_LABELLED = "labelled text"  # classification or regression: their columns have the same names

# What columns are called in public data sets; the first that are all there are taken.
_INPUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    _LABELLED: (
        ("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("question", "sentence"),
        ("text1", "text2"), ("text",), ("sentence",), ("content",), ("review",),
    ),
    TEXT_GENERATION: (
        ("prompt",), ("instruction", "input"), ("instruction",), ("mr",), ("meaning_representation",),
        ("question",), ("input",),
    ),
    IMAGE_CLASSIFICATION: (("image",), ("img",), ("jpeg",), ("jpg",), ("png",)),
}  # fmt: skip
_TARGETS: dict[str, tuple[str, ...]] = {
    _LABELLED: ("label", "labels", "class", "target", "score"),
    TEXT_GENERATION: ("completion", "response", "output", "ref", "human_reference", "answer"),
    IMAGE_CLASSIFICATION: ("label", "labels", "class", "target", "fine_label"),
}
_KINDS = {TEXT_CLASSIFICATION: _LABELLED, TEXT_REGRESSION: _LABELLED}

HIDDEN = -1  # the label of items whose labels are kept secret, in GLUE and many others


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; None is for us to find out. Raises DataError for an unknown task."""

    task: str | None = None
    text: str | None = None
    label: str | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        if self.task is not None and self.task not in TASKS:
            raise DataError(f"{self.task!r} is not a task: it is one of {', '.join(TASKS)}.")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The ways the columns may be read, by what was asked for."""
        if self.task is not None:
            return (_KINDS.get(self.task, self.task),)
        if self.image is not None:
            return (IMAGE_CLASSIFICATION,)
        if self.label in _TARGETS[TEXT_GENERATION]:
            return (TEXT_GENERATION,)
        if self.text is not None and self.label is not None:
            return (_LABELLED,)
        texts = (_LABELLED, TEXT_GENERATION)
        return texts if self.text is not None else (*texts, IMAGE_CLASSIFICATION)


@dataclass(frozen=True)
class Columns:
    """The columns of a task. Without a `target`, the input is what is to be generated."""

    kind: str
    inputs: tuple[str, ...]
    target: str | None

    @property
    def names(self) -> tuple[str, ...]:
        return self.inputs if self.target is None else (*self.inputs, self.target)


def find_columns(table: Table, wanted: Wanted) -> Columns:
    """The columns to read: those asked for, and for the rest those with a well-known name.

    Raises DataError, with the columns there are, when one is missing or there is more than one way.
    """
    missing = [name for name in _asked(wanted) if name not in table.columns]
    if missing:
        raise DataError(f"{table.path.name} has no column {missing[0]!r}: {_there_are(table)}.")
    ways = [columns for kind in wanted.kinds if (columns := _by_name(table, kind, wanted))]
    if not ways and (columns := _text_alone(table, wanted)):
        return columns
    if len(ways) != 1:
        found = "more than one way to read" if ways else "no way to tell"
        raise DataError(
            f"{table.path.name}: {found} what its columns are. {_there_are(table)}. "
            f"Name the texts (one column or two, or an image) and the label, and the task: {', '.join(TASKS)}."
        )
    return ways[0]


def _asked(wanted: Wanted) -> list[str]:
    return [name for name in (*_listed(wanted.text), wanted.image, wanted.label) if name is not None]


def _listed(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _there_are(table: Table) -> str:
    return f"Its columns are {', '.join(table.columns)}"


def _by_name(table: Table, kind: str, wanted: Wanted) -> Columns | None:
    asked = _listed(wanted.image if kind == IMAGE_CLASSIFICATION else wanted.text)
    inputs = asked or next((names for names in _INPUTS[kind] if set(names) <= set(table.columns)), ())
    target = wanted.label or next((name for name in _TARGETS[kind] if name in table.columns), None)
    at_most = 1 if kind == IMAGE_CLASSIFICATION else 2 if kind == _LABELLED else len(inputs)
    if not 1 <= len(inputs) <= at_most or target is None or target in inputs:
        return None
    return Columns(kind, inputs, target)


def _text_alone(table: Table, wanted: Wanted) -> Columns | None:
    """Text to go on writing: asked for as such, or all there is."""
    if TEXT_GENERATION not in wanted.kinds or wanted.label is not None:
        return None
    if wanted.task == TEXT_GENERATION and wanted.text is not None:
        return Columns(TEXT_GENERATION, _listed(wanted.text), None)
    return Columns(TEXT_GENERATION, (TEXT_LINE,), None) if table.columns == (TEXT_LINE,) else None


@dataclass(frozen=True)
class Record:
    """What a row says: an input, perhaps a second, and the target as it stands in the file (None when it does not)."""

    input: str | EncodedImage
    pair: str | None
    target: object

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        content = self.input.content if isinstance(self.input, EncodedImage) else self.input
        texts = (content, self.pair, self.target)
        return sum(len(text) for text in texts if isinstance(text, str | bytes))


def read_records(table: Table, columns: Columns) -> Iterator[Record | None]:
    """The rows of `table`, None for one whose input is missing. Raises DataError for one that is not what it should be."""
    for number, row in enumerate(table.read(columns.names), 1):
        where = f"Row {number} of {table.path.name}"
        if columns.kind == IMAGE_CLASSIFICATION:
            yield _image_record(row, columns, where)
        elif columns.kind == TEXT_GENERATION:
            yield _generation_record(row, columns, where)
        else:
            yield _labelled_record(row, columns, where)


def _labelled_record(row: Row, columns: Columns, where: str) -> Record | None:
    assert columns.target is not None
    first, *second = [_text(row.get(name), name, where) for name in columns.inputs]
    if not first.strip() or (second and not second[0].strip()):
        return None
    return Record(first, second[0] if second else None, _scalar(row.get(columns.target), columns.target, where))


def _generation_record(row: Row, columns: Columns, where: str) -> Record | None:
    texts = [_text(row.get(name), name, where) for name in columns.inputs]
    joined = "\n\n".join(text for text in texts if text.strip())
    if columns.target is None:
        return Record("", None, joined or None)
    return Record(joined, None, _text(row.get(columns.target), columns.target, where) or None) if joined else None


def _image_record(row: Row, columns: Columns, where: str) -> Record | None:
    assert columns.target is not None
    value = row.get(columns.inputs[0])
    if isinstance(value, Mapping):  # as `datasets` writes them: {"bytes": …, "path": …}
        value = value.get("bytes")
    if value is None:
        return None
    if not isinstance(value, bytes):
        raise DataError(f"{where} has {type(value).__name__} and no encoded image in {columns.inputs[0]!r}.")
    return Record(EncodedImage.of(value), None, _scalar(row.get(columns.target), columns.target, where))


def _text(value: object, column: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise DataError(f"{where} has a {type(value).__name__} and no text in {column!r}: name another column.")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has half a character (a lone surrogate) in {column!r}: correct it.") from error
    return text


def _scalar(value: object, column: str, where: str) -> object:
    if isinstance(value, str):
        return _text(value.strip(), column, where) or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, bool | int | float):
        raise DataError(f"{where} has a {type(value).__name__} and no label in {column!r}: name another column.")
    return value


def hides_labels(targets: Sequence[object]) -> bool:
    """Whether every label is missing, or -1, as in the test sets of benchmarks."""
    return all(target is None or _is_hidden(target) for target in targets)


def without_hidden(targets: Sequence[object], names: Sequence[str]) -> list[object]:
    """-1 as missing where labels have names, since it then stands for none; elsewhere it may be a label like another."""
    return [None if names and _is_hidden(target) else target for target in targets]


def _is_hidden(target: object) -> bool:
    return not isinstance(target, bool) and target in (HIDDEN, str(HIDDEN))


def task_of(columns: Columns, wanted: Wanted, targets: Iterable[object], where: str) -> str:
    """The task: as asked for, or as the columns say. Raises DataError when labels are fractions and nobody said why."""
    if wanted.task is not None:
        return wanted.task
    if columns.kind != _LABELLED:
        return columns.kind
    numbers = [_number(target) for target in targets if target is not None]
    if (
        numbers
        and all(number is not None for number in numbers)
        and any(not float(n or 0).is_integer() for n in numbers)
    ):
        raise DataError(
            f"The labels of {where} are numbers such as {next(n for n in numbers if n is not None and not n.is_integer())}: "
            f"ask for the task {TEXT_REGRESSION} (or {TEXT_CLASSIFICATION}, if each of them is a class)."
        )
    return TEXT_CLASSIFICATION


def target_of(target: object, task: str, names: Sequence[str], where: str) -> str | float:
    """The target of an Item of `task`: a completion, a float, or a label, by its name where there are names."""
    if task == TEXT_REGRESSION:
        number = _number(target)
        if number is None or not math.isfinite(number):
            raise DataError(
                f"{where} has the value {target!r}, which is not a number: {TEXT_REGRESSION} needs numbers."
            )
        return number
    if isinstance(target, float) and target.is_integer():
        target = int(target)  # whole numbers that shared a column with missing ones
    if names and isinstance(target, int) and not isinstance(target, bool):
        if not 0 <= target < len(names):
            raise DataError(f"{where} has the label {target}, and there are names for 0 to {len(names) - 1} only.")
        return names[target]
    return str(target).lower() if isinstance(target, bool) else str(target)


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def to_items(
    records: Sequence[Record], targets: Sequence[object], task: str, names: Sequence[str], where: str
) -> list[Item]:
    """Items of the records that have a target."""
    return [
        Item(record.input, target_of(target, task, names, where), record.pair)
        for record, target in zip(records, targets, strict=True)
        if target is not None
    ]
