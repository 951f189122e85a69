"""Which base a checkpoint is: the table of its tensors, computed once, or asked of a hub.

    <cache>/fingerprints/12/1234….json        the state of a checkpoint's files → its fingerprint
    <cache>/tables/ab/abcd….json              fingerprint → the table of its tensors

Hashing a checkpoint reads all of it, so it is done once per state of its files: device, inode, size
and times of write and change. A table vouches for itself, because its hash is the fingerprint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.bases import list_known
from sdk.config import Config
from sdk.errors import HubWarning
from sdk.files import read_bounded, write_atomically
from vera import fingerprint as hashing
from vera.errors import BaseUnreadable, VeraError
from vera.fingerprint import BaseFingerprint, Progress

if TYPE_CHECKING:
    from sdk.client import Hub

_MAX_TABLE_BYTES = 64 << 20
# A file that was written less than this ago may be written again within the same tick of its clock.
_SETTLED_S = 2.0


def fingerprint_of(path: Path | str, *, config: Config, progress: Progress | None = None) -> BaseFingerprint:
    """The fingerprint of the checkpoint at `path`; at once when its files are as they were the last time.

    A checkpoint that has no safetensors files is read from its pickles, with a HubWarning. `progress` is called with (bytes done, bytes in all) while it reads. Raises BaseUnreadable.
    """
    tables = _Tables(config.cache)
    state = _FileState.of(Path(path))
    table = tables.of_state(state)
    if table is not None:
        return table
    table = (
        _of_pickles(pickles, progress)
        if (pickles := hashing.pickle_files(Path(path)))
        else hashing.of_files(path, progress=progress)
    )
    is_settled = state.is_settled and state == _FileState.of(Path(path))
    tables.keep(table, state if is_settled else None)
    return table


def _of_pickles(files: Sequence[Path], progress: Progress | None) -> BaseFingerprint:
    try:
        from vera.nn.pickled import of_pickles
    except ImportError as error:
        raise BaseUnreadable(
            f"{files[0]} is a pickle, and reading one safely needs torch: pip install 'vera-hub[torch]', or convert it.",
            code="TORCH_MISSING",
        ) from error
    table = of_pickles(files, progress=progress)
    warnings.warn(
        f"{files[0]} is a pickle. Its tensors were read without running anything in it; whatever else opens it may not be "
        "as careful. Keep safetensors files instead: `save_pretrained` of the loaded model writes them.",
        HubWarning,
        stacklevel=3,
    )
    return table


def table_of(value: str, *, hub: Hub) -> BaseFingerprint:
    """The table of the base with the fingerprint `value`: kept here, or asked of the hub and verified.

    Raises NotFound when the hub does not know the base, BaseUnreadable when its table is another one.
    """
    tables = _Tables(hub.config.cache)
    table = tables.get(value)
    if table is not None:
        return table
    table = hub.get_base(value).table
    if table.value != value:
        raise BaseUnreadable(
            f"{hub.config.url} answers with the table of {table.value} when asked for {value}: do not trust it.",
            code="BASE_TABLE_INVALID",
            expected=value,
            got=table.value,
        )
    tables.keep(table)
    return table


def table_here(value: str, *, config: Config) -> BaseFingerprint | None:
    """The table of the base `value` as this machine has it: kept, or in the files of a base that is remembered."""
    table = _Tables(config.cache).get(value)
    if table is not None:
        return table
    for known in list_known(config):
        if known.fingerprint == value and known.is_here:
            found = fingerprint_of(known.path, config=config)
            if found.value == value:  # else its files were changed since
                return found
    return None


@dataclass(frozen=True)
class _FileState:
    """What the files of a checkpoint look like from outside; any change of their bytes shows in it."""

    key: str
    newest_s: float

    @classmethod
    def of(cls, path: Path) -> _FileState:
        stats = [file.stat() for file in hashing.pickle_files(path) or hashing.checkpoint_files(path)]
        # The time of change, too: that of the last write can be set back, as a copy onto the file does.
        identity = json.dumps([(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats])
        return cls(hashlib.sha256(identity.encode()).hexdigest(), max(s.st_mtime for s in stats))

    @property
    def is_settled(self) -> bool:
        return time.time() - self.newest_s > _SETTLED_S


class _Tables:
    """Tables of tensors in the cache. What is damaged is not there, and what cannot be kept is computed again."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def of_state(self, state: _FileState) -> BaseFingerprint | None:
        data = self._read(self._path("fingerprints", state.key))
        return self.get(data.decode(errors="replace")) if data else None

    def get(self, value: str) -> BaseFingerprint | None:
        data = self._read(self._path("tables", hashlib.sha256(value.encode()).hexdigest()))
        table = _table_in(data) if data is not None else None
        return table if table is not None and table.value == value else None

    def keep(self, table: BaseFingerprint, state: _FileState | None = None) -> None:
        with contextlib.suppress(OSError):
            rows = json.dumps(table.to_rows()).encode()
            write_atomically(self._path("tables", hashlib.sha256(table.value.encode()).hexdigest()), rows)
            if state is not None:
                write_atomically(self._path("fingerprints", state.key), table.value.encode())

    def _read(self, path: Path) -> bytes | None:
        try:
            return read_bounded(path, _MAX_TABLE_BYTES)
        except OSError:
            return None

    def _path(self, kind: str, key: str) -> Path:
        return self._cache / kind / key[:2] / f"{key}.json"


@lru_cache(maxsize=4)
def _table_in(data: bytes) -> BaseFingerprint | None:
    """The table that `data` spells, None when it spells none. The same bytes, which every load of one base reads, are
    parsed and hashed once."""
    try:
        return BaseFingerprint.from_rows(json.loads(data))
    except (VeraError, ValueError, TypeError, RecursionError):
        return None
