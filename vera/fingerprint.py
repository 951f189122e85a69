"""`vbf1:` — the identity of a base model: its weights, whatever files they are spread over.

    vbf1:<sha256 of the lines "name TAB dtype TAB shape TAB sha256(tensor bytes) LF", sorted by name>

Names, dtypes and shapes are those of the safetensors header; a shape is its sizes joined by
commas. Re-sharding leaves the fingerprint alone; any changed bit of any weight changes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vera import tensorfile
from vera.errors import ArchiveError, BaseUnreadable

SCHEME = "vbf1"
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_FILE = "pytorch_model.bin"
PICKLE_INDEX_FILE = "pytorch_model.bin.index.json"

Progress = Callable[[int, int], None]

_LIMITS = tensorfile.BASE_LIMITS
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Read into one buffer a thread: on one core 1.62 GB/s from the page cache, where SHA-256 alone does 1.80.
_READ_BYTES = 1 << 20
_THREADS = min(16, os.cpu_count() or 1)


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
        """The fingerprint of a table as `to_rows` gives it. Raises BaseUnreadable for anything else.

        The rows may come from a stranger: a name with a line end in it, for one, would let two
        different tables have one fingerprint.
        """
        records = [_record_of(row) for row in rows]
        if not records or len({record.name for record in records}) != len(records):
            raise BaseUnreadable(
                "The tensor table of the base is empty or names a tensor twice.", code="BASE_TABLE_INVALID"
            )
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
    if not jobs:
        raise BaseUnreadable(f"{path} holds no tensors: it is no base.", path=str(path))
    total, done = sum(entry.end - entry.start for _, (entry, _) in jobs), 0
    records = []
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs.sort(key=lambda job: job[1][0].start - job[1][0].end)  # the largest first evens out the threads
        for record, size in pool.map(lambda job: _record(job[0], *job[1]), jobs):
            records.append(record)
            done += size
            if progress:
                progress(done, total)
    return BaseFingerprint.of_records(records)


def checkpoint_files(path: Path) -> list[Path]:
    """The safetensors files that hold the checkpoint at `path`. Raises BaseUnreadable.

    Where a single file and an index stand side by side, the single file is the checkpoint: it is
    what transformers loads.
    """
    if path.is_file() and path.suffix == ".safetensors":
        return [path]
    if (path / SINGLE_FILE).is_file():
        return [path / SINGLE_FILE]
    if (path / INDEX_FILE).is_file():
        return _shards(path / INDEX_FILE)
    if not path.exists():
        raise BaseUnreadable(f"There is nothing at {path}: give the folder of a base checkpoint.", path=str(path))
    has_pickles = any(file for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for file in path.glob(pattern))
    found = "only pickle files, which can run code when read" if has_pickles else "no safetensors checkpoint"
    raise BaseUnreadable(
        f"{path} holds {found}: a base is a folder with {SINGLE_FILE} or {INDEX_FILE}.", path=str(path)
    )


def pickle_files(path: Path) -> list[Path]:
    """The pickles that hold the checkpoint in the folder `path` where no safetensors file does; none of any other path.

    They are found here and read by `vera.nn.pickled`. Raises BaseUnreadable for an index that is none.
    """
    if (path / SINGLE_FILE).is_file() or (path / INDEX_FILE).is_file():
        return []
    if (path / PICKLE_FILE).is_file():
        return [path / PICKLE_FILE]
    return _shards(path / PICKLE_INDEX_FILE) if (path / PICKLE_INDEX_FILE).is_file() else []


def _shards(index: Path) -> list[Path]:
    folder = index.parent
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BaseUnreadable(f"{index} is not an index of shards.", path=str(folder)) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise BaseUnreadable(f"{index} names the shard {name!r}, which is not there.", path=str(folder))
    return sorted(folder / name for name in names)


def _record_of(row: object) -> TensorRecord:
    match row:
        case [str(name), str(dtype), list(shape), str(sha256)] if _is_record(name, dtype, shape, sha256):
            return TensorRecord(name, dtype, tuple(shape), sha256)
    raise BaseUnreadable(
        f"{repr(row)[:120]} in the tensor table of the base is not a row of name, dtype, shape, sha256.",
        code="BASE_TABLE_INVALID",
    )


def _is_record(name: str, dtype: str, shape: list[object], sha256: str) -> bool:
    return bool(
        tensorfile.is_name(name, _LIMITS)
        and dtype in _LIMITS.dtypes
        and tensorfile.is_shape(shape, _LIMITS)
        and 0 not in shape
        and _SHA256.fullmatch(sha256)
    )


def _entries(file: Path) -> list[tuple[tensorfile.TensorEntry, int]]:
    """The tensors of one file, each with the offset its data begins at."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = tensorfile.header_length(stream.read(tensorfile.PREFIX_BYTES), size, _LIMITS)
            entries = tensorfile.parse_header(stream.read(length), size - length - tensorfile.PREFIX_BYTES, _LIMITS)
    except (ArchiveError, OSError) as error:
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
    buffer = memoryview(bytearray(min(size, _READ_BYTES)))
    with file.open("rb", buffering=0) as stream:
        stream.seek(offset)
        left = size
        while left:
            count = stream.readinto(buffer[:left])
            if not count:
                raise BaseUnreadable(
                    f"{file} ended while {entry.name} was read: is it still being written?", path=str(file)
                )
            hasher.update(buffer[:count])
            left -= count
    return TensorRecord(entry.name, entry.dtype, entry.shape, hasher.hexdigest()), size
