"""Where a labelled set comes from: a name that is built in, or a file of the user's."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from vera.data import topics
from vera.data.dividing import split_by_hash
from vera.data.examples import Split
from vera.errors import DataError

BUILT_IN: dict[str, Callable[[], Split]] = {topics.NAME: topics.load_topics}


def load(source: str, *, text_column: str = "text", label_column: str = "label", min_per_label: int = 2) -> Split:
    """The set that `source` names: `demo/topics`, or a `.csv` or `.jsonl` file with a text and a label column.

    A file is divided by the hash of each text, so the same file always gives the same held-out
    fifth. Raises DataError.
    """
    if source in BUILT_IN:
        return BUILT_IN[source]()
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"{source!r} is neither a file nor a built-in set ({', '.join(sorted(BUILT_IN))}): give a .csv or .jsonl file."
        )
    try:
        rows = [(row.get(text_column), row.get(label_column)) for row in _rows(path)]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8.") from error
    if not rows:
        raise DataError(f"{path} has no rows.")
    bad = next((number for number, row in enumerate(rows, 1) if None in row), None)
    if bad is not None:
        raise DataError(
            f"Row {bad} of {path} has no {text_column!r} or no {label_column!r}: name the columns with --text and --label."
        )
    return split_by_hash(path.name, [(str(text), str(label)) for text, label in rows], min_per_label=min_per_label)


def _rows(path: Path) -> Iterator[dict[str, object]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file)
    elif path.suffix in (".jsonl", ".ndjson"):
        yield from _json_lines(path)
    else:
        raise DataError(f"{path} is not a .csv or .jsonl file: convert it first.")


def _json_lines(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"Line {number} of {path} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise DataError(f"Line {number} of {path} is not a JSON object.")
            yield row
