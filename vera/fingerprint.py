"""`vbf1:` — the identity of a base model: its weights, whatever files they are spread over.

    vbf1:<sha256 of the lines "name TAB dtype TAB shape TAB sha256(tensor bytes) LF", sorted by name>

Names, dtypes and shapes are those of the safetensors header; a shape is its sizes joined by
commas. Re-sharding leaves the fingerprint alone; any changed bit of any weight changes it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vera import tensorfile
from vera.errors import ArchiveError, BaseUnreadable

SCHEME = "vbf1"
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

Progress = Callable[[int, int], None]

_READ_BYTES = 1 << 22
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, order=True)
class TensorRecord:
    """One line of the table: a tensor of the checkpoint and the hash of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def line(self) -> str:
        return f"{self.name}\t{self.dtype}\t{','.join(map(str, self.shape))}\t{self.sha256}\n"

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith(("F", "BF"))


@dataclass(frozen=True)
class BaseFingerprint:
    """A base's identity and the table it is computed from."""

    value: str
    tensors: tuple[TensorRecord, ...]

    @classmethod
    def of_records(cls, records: Iterable[TensorRecord]) -> BaseFingerprint:
        table = tuple(sorted(records, key=lambda record: record.name.encode()))
        hasher = hashlib.sha256()
        for record in table:
            hasher.update(record.line.encode())
        return cls(f"{SCHEME}:{hasher.hexdigest()}", table)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[object]]) -> BaseFingerprint:
        """The fingerprint of a table as `to_rows` gives it. Raises BaseUnreadable for anything else."""
        try:
            records = [TensorRecord(str(n), str(d), tuple(int(i) for i in s), str(h)) for n, d, s, h in rows]  # type: ignore[attr-defined]  # checked by the except
        except (TypeError, ValueError) as error:
            raise BaseUnreadable(
                "The tensor table of the base is not rows of name, dtype, shape, sha256.", code="BASE_TABLE_INVALID"
            ) from error
        if len({record.name for record in records}) != len(records):
            raise BaseUnreadable("The tensor table of the base names a tensor twice.", code="BASE_TABLE_INVALID")
        return cls.of_records(records)

    def to_rows(self) -> list[list[object]]:
        return [[r.name, r.dtype, list(r.shape), r.sha256] for r in self.tensors]

    @property
    def by_name(self) -> Mapping[str, TensorRecord]:
        return {record.name: record for record in self.tensors}

    @property
    def dtype(self) -> str:
        """The dtype most weights are stored in, in torch's words ("float32", "bfloat16", …)."""
        counts: dict[str, int] = {}
        for record in self.tensors:
            if record.is_float:
                counts[record.dtype] = counts.get(record.dtype, 0) + 1
        common = max(counts, key=lambda dtype: counts[dtype], default="F32")
        return {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(common, common.lower())


def of_files(path: Path | str, *, progress: Progress | None = None) -> BaseFingerprint:
    """The fingerprint of the checkpoint at `path`: a folder of safetensors files, or one such file.

    Streams the files with several threads; `progress` is called with (bytes done, bytes in all).
    Raises BaseUnreadable.
    """
    files = checkpoint_files(Path(path))
    jobs = [(file, entry) for file in files for entry in _entries(file)]
    _check_unique(jobs)
    total, done = sum(entry.end - entry.start for _, (entry, _) in jobs), 0
    records = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for record, size in pool.map(lambda job: _record(job[0], *job[1]), jobs):
            records.append(record)
            done += size
            if progress:
                progress(done, total)
    return BaseFingerprint.of_records(records)


def checkpoint_files(path: Path) -> list[Path]:
    """The safetensors files that hold the checkpoint at `path`. Raises BaseUnreadable."""
    if path.is_file() and path.suffix == ".safetensors":
        return [path]
    if (path / INDEX_FILE).is_file():
        return _shards(path)
    if (path / SINGLE_FILE).is_file():
        return [path / SINGLE_FILE]
    found = (
        "only pickle files, which can run code when read" if any(path.glob("*.bin")) else "no safetensors checkpoint"
    )
    raise BaseUnreadable(
        f"{path} holds {found}: a base is a folder with {SINGLE_FILE} or {INDEX_FILE}.", path=str(path)
    )


def _shards(folder: Path) -> list[Path]:
    try:
        names = set(json.loads((folder / INDEX_FILE).read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise BaseUnreadable(f"{folder / INDEX_FILE} is not an index of shards.", path=str(folder)) from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise BaseUnreadable(
                f"{folder / INDEX_FILE} names the shard {name!r}, which is not there.", path=str(folder)
            )
    return sorted(folder / name for name in names)


def _entries(file: Path) -> list[tuple[tensorfile.TensorEntry, int]]:
    """The tensors of one file, each with the offset its data begins at."""
    limits, size = tensorfile.BASE_LIMITS, file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = tensorfile.header_length(stream.read(tensorfile.PREFIX_BYTES), size, limits)
            entries = tensorfile.parse_header(stream.read(length), size - length - tensorfile.PREFIX_BYTES, limits)
    except ArchiveError as error:
        raise BaseUnreadable(f"{file}: {error}", path=str(file)) from error
    body = tensorfile.PREFIX_BYTES + length
    return [(entry, body + entry.start) for entry in entries]


def _check_unique(jobs: Sequence[tuple[Path, tuple[tensorfile.TensorEntry, int]]]) -> None:
    holders: dict[str, Path] = {}
    for file, (entry, _) in jobs:
        if entry.name in holders:
            raise BaseUnreadable(
                f"{entry.name} stands in {holders[entry.name].name} and in {file.name}.", path=str(file)
            )
        holders[entry.name] = file


def _record(file: Path, entry: tensorfile.TensorEntry, offset: int) -> tuple[TensorRecord, int]:
    hasher, size = hashlib.sha256(), entry.end - entry.start
    with file.open("rb", buffering=0) as stream:
        stream.seek(offset)
        left = size
        while left:
            chunk = stream.read(min(left, _READ_BYTES))
            if not chunk:
                raise BaseUnreadable(
                    f"{file} ended while {entry.name} was read: is it still being written?", path=str(file)
                )
            hasher.update(chunk)
            left -= len(chunk)
    return TensorRecord(entry.name, entry.dtype, entry.shape, hasher.hexdigest()), size
