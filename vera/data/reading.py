"""One split of a set, read: what its rows say, and which bytes said it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vera.data import places
from vera.data.columns import Columns, Wanted, find_columns
from vera.data.examples import IMAGE_CLASSIFICATION, EncodedImage
from vera.data.layouts import Layout, image_class, is_image, is_nested_class
from vera.data.places import Place
from vera.data.records import Record, hides_labels, read_records
from vera.data.tables import Table, open_table
from vera.errors import DataError

_MAX_BYTES = 2 << 30  # of texts and images in memory
_IN_FOLDERS = Columns(IMAGE_CLASSIFICATION, (), None)  # each image's label is its folder's name


@dataclass(frozen=True)
class Part:
    """One split as it stands in its files.

    `names` says what the numbers of labels stand for, and is empty where nothing does. `files` gives each
    file's `sha256:…`.
    """

    split: str
    columns: Columns
    records: tuple[Record, ...]
    names: tuple[str, ...]
    files: dict[str, str]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return self.split or "the data"

    @property
    def targets(self) -> tuple[object, ...]:
        return tuple(record.target for record in self.records)

    @property
    def hides_labels(self) -> bool:
        return hides_labels(self.targets)


def read_part(place: Place, layout: Layout, split: str, wanted: Wanted, limit: int | None) -> Part:
    """The records of `split`, at most `limit` of them. Raises DataError when there are none."""
    paths = layout.splits[split]
    if is_image(paths[0]):
        return _read_folders(place, split, paths, limit)
    part = _read_tables(place, split, paths, wanted, limit)
    if not part.records:
        raise DataError(f"{place.name} has nothing to read in {part.title}: {'; '.join(part.notes) or 'no rows'}.")
    return part if part.names else replace(part, names=layout.label_names.get(part.columns.target or "", ()))


def _read_tables(place: Place, split: str, paths: Sequence[str], wanted: Wanted, limit: int | None) -> Part:
    tables = _Tables(place.name, wanted)
    records: list[Record] = []
    skipped = size = 0
    for record in tables.records(_brought(place, paths, one_by_one=limit is not None)):
        if record is None:
            skipped += 1
            continue
        records.append(record)
        size = _within_memory(size + record.size_bytes, place.name)
        if len(records) == limit:
            break
    part = Part(split, tables.columns, tuple(records), tables.names, tables.files, ())
    inputs = " or ".join(tables.columns.inputs)
    notes = [f"{skipped} rows without {inputs} left out of {part.title}"] if skipped else []
    if len(records) == limit:
        notes.append(f"the first {limit} rows of {part.title} read")
    return replace(part, notes=tuple(notes))


class _Tables:
    """Files of the same columns, read one after the other; remembers what they were."""

    def __init__(self, name: str, wanted: Wanted) -> None:
        self.columns = _IN_FOLDERS
        self.names: tuple[str, ...] = ()
        self.files: dict[str, str] = {}
        self._name, self._wanted = name, wanted

    def records(self, files: Iterator[tuple[str, Path]]) -> Iterator[Record | None]:
        for path, file in files:
            table = open_table(file)
            self._remember(path, table)
            yield from read_records(table, self.columns)

    def _remember(self, path: str, table: Table) -> None:
        columns = find_columns(table, self._wanted)
        if self.files and columns != self.columns:
            raise DataError(
                f"{self._name}: {path} has other columns than the files before it: {', '.join(table.columns)}."
            )
        self.columns, self.names = columns, table.label_names.get(columns.target or "", ())
        self.files[path] = places.digest_of_file(table.path)


def _brought(place: Place, paths: Sequence[str], *, one_by_one: bool) -> Iterator[tuple[str, Path]]:
    """The files, all fetched first; or each when it is its turn, so that those after the last are never fetched."""
    for group in [[path] for path in paths] if one_by_one else [list(paths)]:
        yield from place.obtain(group).items()


def _within_memory(size_bytes: int, name: str) -> int:
    if size_bytes > _MAX_BYTES:
        raise DataError(f"{name} is more than {_MAX_BYTES >> 30} GiB of texts and images: give a limit of rows.")
    return size_bytes


def _read_folders(place: Place, split: str, paths: Sequence[str], limit: int | None) -> Part:
    kept = sorted(paths, key=_spread)[:limit] if limit is not None else list(paths)
    images = {path: EncodedImage.of(file) for path, file in place.obtain(kept).items()}
    records = tuple(Record(image, None, image_class(path)) for path, image in images.items())
    listing = places.digest_of_list((path, image.sha256) for path, image in images.items())
    notes = (f"{limit} of {len(paths)} images of {split or 'the data'} read",) if len(kept) < len(paths) else ()
    return Part(split, _IN_FOLDERS, records, (), {f"{split or '.'}/": listing}, (*notes, *_nested(kept)))


def _nested(paths: Iterable[str]) -> tuple[str, ...]:
    """What there is to say when classes lie in further folders: two of one name are one label."""
    deep = next((path for path in paths if is_nested_class(path)), None)
    if deep is None:
        return ()
    return (f"a label is the folder an image itself lies in, such as {image_class(deep)!r} of {deep}",)


def _spread(path: str) -> str:
    """An order in which the first few are of every folder."""
    return hashlib.sha256(path.encode()).hexdigest()
