"""What the rows of a table say, and what their labels mean: from a table to items."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vera.data.columns import LABELLED, Columns, Wanted
from vera.data.dividing import Item
from vera.data.examples import (
    IMAGE_CLASSIFICATION,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    TEXT_REGRESSION,
    EncodedImage,
)
from vera.data.tables import Row, Table
from vera.errors import DataError

HIDDEN = -1  # the label of items whose labels are kept secret, in GLUE and many others


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
    texts = [_text(_first(row.get(name), columns), name, where) for name in columns.inputs]
    joined = "\n\n".join(text for text in texts if text.strip())
    if columns.fields:
        return Record(joined, None, _json([row.get(name) for name in columns.fields], where)) if joined else None
    if columns.target is None:
        return Record("", None, joined or None)
    return Record(joined, None, _text(row.get(columns.target), columns.target, where) or None) if joined else None


def _first(value: object, columns: Columns) -> object:
    """Of several turns that are also among the fields, what is said first."""
    return value[0] if columns.fields and isinstance(value, list) and value else value


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
    if value is None or _is_nan(value):  # by which pandas writes that there is nothing
        return ""
    if not isinstance(value, str | int | float):
        raise DataError(f"{where} has a {type(value).__name__} and no text in {column!r}: name another column.")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has half a character (a lone surrogate) in {column!r}: correct it.") from error
    return text


def _json(values: list[object], where: str) -> str:
    """What several columns say, as they say it."""
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} has what JSON cannot say ({error}): name other columns.") from error


def _scalar(value: object, column: str, where: str) -> object:
    if isinstance(value, str):
        return _text(value.strip(), column, where) or None
    if value is None or _is_nan(value):
        return None
    if not isinstance(value, bool | int | float):
        raise DataError(f"{where} has a {type(value).__name__} and no label in {column!r}: name another column.")
    return value


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


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
    if columns.kind != LABELLED:
        return columns.kind
    fraction = _fraction_among([target for target in targets if target is not None])
    if fraction is not None:
        raise DataError(
            f"The labels of {where} are numbers such as {fraction}: "
            f"ask for the task {TEXT_REGRESSION} (or {TEXT_CLASSIFICATION}, if each of them is a class)."
        )
    return TEXT_CLASSIFICATION


def _fraction_among(targets: Sequence[object]) -> float | None:
    """The first that is no whole number, where all are numbers."""
    numbers = [number for target in targets if (number := _number(target)) is not None]
    if len(numbers) < len(targets):
        return None
    return next((number for number in numbers if not number.is_integer()), None)


def target_of(target: object, task: str, names: Sequence[str], where: str) -> str | float:
    """The target of an Item of `task`: a completion, a float, or a label, by its name where there are names."""
    if task == TEXT_REGRESSION:
        number = _number(target)
        if number is None or not math.isfinite(number):
            raise DataError(
                f"{where} has the value {target!r}, which is not a number: {TEXT_REGRESSION} needs numbers."
            )
        return number
    return _name_of(target, names, where) if names and not isinstance(target, bool) else spelled(target)


def spelled(label: object) -> str:
    """A label as it is written where labels have no other names."""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))  # whole numbers that shared a column with missing ones
    return str(label).lower() if isinstance(label, bool) else str(label)


def _name_of(label: object, names: Sequence[str], where: str) -> str:
    """The name of a label that stands there as a number, or as a name already. A name may look like a number: "1" of 1 to 5."""
    text = spelled(label)
    place = int(text) if text.isdecimal() else len(names)
    is_name = isinstance(label, str) and text in names
    if place >= len(names):
        if is_name:
            return text
        raise DataError(f"{where} has the label {text}, and there are names for 0 to {len(names) - 1} only.")
    if is_name and names[place] != text:
        raise DataError(
            f"{where} has the label {text}, which is the name of one label and the number of another, {names[place]!r}: write the "
            "labels as numbers (in .jsonl or .parquet), or give them other names."
        )
    return names[place]


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
