"""Files of rows: `.csv`, `.tsv`, `.json`, `.jsonl`, `.parquet`, and `.txt` with one text a line.

A table says its columns first and gives its rows one by one, so that a file may be larger than memory.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vera.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

Row = Mapping[str, object]

# In the order they are preferred when a folder has the same data twice.
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")

TEXT_LINE = "text"  # the one column of a .txt file
_PEEK_ROWS = 100  # JSON objects that are looked at to learn the columns
_BATCH_ROWS = 1024
_MAX_ARRAY_BYTES = 1 << 30  # a .json array is parsed as a whole


@dataclass(frozen=True)
class Table:
    """The columns of a file, the names its whole-number labels stand for, and `read(columns)`, which gives its rows.

    `read` raises DataError where the file turns out to be broken.
    """

    path: Path
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Row]] = field(repr=False)
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def open_table(path: Path) -> Table:
    """The table in `path`, known by its suffix. Raises DataError when it is not one, or has no rows."""
    if path.suffix.lower() == ".parquet":
        return _open_parquet(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name} is not a file of rows: give {', '.join(SUFFIXES)}, or a folder of images.")
    columns: dict[str, None] = {}
    for row in islice(_rows_of_text(path, reader), _PEEK_ROWS):
        columns |= dict.fromkeys(row)
    if not columns:
        raise DataError(f"{path.name} has no rows: give a file that has some.")
    return Table(path, tuple(columns), lambda _columns: _rows_of_text(path, reader))


def _rows_of_text(path: Path, reader: Callable[[Path], Iterator[Row]]) -> Iterator[Row]:
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: save it as UTF-8.") from error
    except (csv.Error, RecursionError) as error:
        raise DataError(f"{path.name} cannot be read: {error}. Correct its quotes, or save it as .jsonl.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _comma_separated(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        # strict: a quote that never closes is an error instead of one huge text
        yield from _whole_rows(path, csv.DictReader(file, strict=True))


def _tab_separated(path: Path) -> Iterator[Row]:
    """A tab ends a field and nothing else does: a quote is a quote, as in GLUE's files."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from _whole_rows(path, csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _whole_rows(path: Path, rows: csv.DictReader[str]) -> Iterator[Row]:
    twice = [name for name, n in Counter(rows.fieldnames or ()).items() if n > 1]
    if twice:
        raise DataError(f"{path.name} has more than one column {twice[0]!r}: rename the others.")
    for row in rows:
        if None in row:
            raise DataError(
                f"Line {rows.line_num} of {path.name} has more fields than the {len(rows.fieldnames or ())} of the header: "
                f"put quotes around texts that contain the separator."
            )
        yield row


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _json_object(line, f"Line {number} of {path.name}")


def _json_object(text: str, where: str) -> Row:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object: one object a line, such as {{"
                        f'"text": "…", "label": "…"}}.')  # fmt: skip
    return row


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, or objects line by line under the wrong name."""
    with path.open(encoding="utf-8-sig") as file:
        is_array = file.read(1024).lstrip().startswith("[")
    if not is_array:
        yield from _json_lines(path)
        return
    if path.stat().st_size > _MAX_ARRAY_BYTES:
        raise DataError(f"{path.name} is a JSON list of more than {_MAX_ARRAY_BYTES >> 20} MiB: save it as .jsonl.")
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path.name} is not JSON: {error}.") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"Item {number} of {path.name} is not a JSON object: make it one.")
        yield row


def _text_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield {TEXT_LINE: line.rstrip("\r\n")}


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".txt": _text_lines,
}


def _open_parquet(path: Path) -> Table:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f"{path.name} is read by pyarrow, which is not installed: pip install 'vera-hub[torch]'."
        ) from error
    try:
        file = ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is not a whole Parquet file: {_first_line(error)}") from error
    if not file.metadata.num_rows:
        raise DataError(f"{path.name} has no rows: give a file that has some.")
    names = _names_in_schema(file.schema_arrow.metadata or {})

    def read(columns: Sequence[str]) -> Iterator[Row]:
        try:
            yield from _parquet_rows(path, columns)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path.name} is damaged: {_first_line(error)} Download it again.") from error

    columns = tuple(file.schema_arrow.names)
    file.close()
    return Table(path, columns, read, names)


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    from pyarrow.parquet import ParquetFile

    file: ParquetFile
    with ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
            yield from batch.to_pylist()


def _names_in_schema(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names of labels that Hugging Face's `datasets` writes into a schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        labels = {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: tuple(map(str, names)) for name, names in _named(labels) if isinstance(names, list)}


def _named(features: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, object]]:
    for name, feature in features.items():
        if feature.get("_type") == "ClassLabel":
            yield name, feature.get("names")


def _first_line(error: Exception) -> str:
    return f"{(str(error).splitlines() or [type(error).__name__])[0][:200].rstrip('.')}."
