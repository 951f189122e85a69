"""The base models of this machine: where each one lies, and which one it is.

    <config>/bases.json                       name → path, fingerprint, revision
    <cache>/fingerprints/12/1234….json        the state of a checkpoint's files → its fingerprint
    <cache>/tables/ab/abcd….json              fingerprint → the table of its tensors
    <cache>/digests.json                      what this machine hashed of models on its GPUs (`DigestBook`)

Hashing a checkpoint reads all of it, so it is done once per state of its files: device, inode, size
and times of write and change. A table vouches for itself, because its hash is the fingerprint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.config import Config
from sdk.endpoints import download_options
from sdk.errors import HubWarning, Misconfigured, Offline
from sdk.files import read_bounded, write_atomically
from vera import fingerprint as hashing
from vera.errors import BaseUnreadable, VeraError
from vera.fingerprint import SCHEME, BaseFingerprint, Progress
from vera.locks import alone_with
from vera.parallel_digest import DigestBook

if TYPE_CHECKING:
    from sdk.client import Hub

BASES_FILE = "bases.json"
DIGESTS_FILE = "digests.json"

# Weights, and what it takes to build the model and its tokenizer: never pickles, never code.
DOWNLOADED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.spm",
    "spiece.model",
    "sentencepiece*.model",
)

_MAX_TABLE_BYTES = 64 << 20
# Those of a few hundred bases: 30 MB.
_MAX_DIGESTS = 1 << 18
# A file that was written less than this ago may be written again within the same tick of its clock.
_SETTLED_S = 2.0
_HUGGING_FACE_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})$")


@dataclass(frozen=True)
class KnownBase:
    """A base on this machine."""

    name: str
    path: Path
    fingerprint: str
    revision: str | None = None

    @property
    def is_here(self) -> bool:
        return self.path.exists()


def list_known(config: Config) -> tuple[KnownBase, ...]:
    """The bases that were remembered, by name, those whose files are gone included. Raises Misconfigured."""
    path = config.folder / BASES_FILE
    data = read_bounded(path, _MAX_TABLE_BYTES)
    if data is None:
        return ()
    try:
        rows = json.loads(data)["bases"]
        known = [KnownBase(r["name"], Path(r["path"]), r["fingerprint"], r.get("revision")) for r in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Misconfigured(
            f"{path} is not a table of bases: remove it and run `vera-hub base add` again.", facts={"path": str(path)}
        ) from error
    return tuple(sorted(known, key=lambda base: base.name))


def known_as(fingerprint: str, typed: str, *, config: Config) -> KnownBase | None:
    """The remembered base with that fingerprint; of several names the one that is `typed`. Raises Misconfigured."""
    known = [base for base in list_known(config) if base.fingerprint == fingerprint]
    return min(known, key=lambda base: (not base.is_here, base.name != typed), default=None)


def remember(base: KnownBase, *, config: Config) -> None:
    """Keeps where `base` lies. Another base of that name is forgotten. Several processes may do so at once."""
    path = config.folder / BASES_FILE
    with alone_with(path):
        others = [known for known in list_known(config) if known.name != base.name]
        rows = [
            {"name": b.name, "path": str(b.path), "fingerprint": b.fingerprint, "revision": b.revision}
            for b in sorted([*others, base], key=lambda known: known.name)
        ]
        write_atomically(path, f"{json.dumps({'bases': rows}, indent=2)}\n".encode())


def fingerprints_here(config: Config) -> list[str]:
    """The fingerprints of the remembered bases whose files are still there."""
    return sorted({base.fingerprint for base in list_known(config) if base.is_here})


def locate(base: str | Path, *, config: Config, revision: str | None = None, may_download: bool = True) -> Path:
    """Where the checkpoint of `base` lies: a remembered name, a fingerprint, a path, or a Hugging Face id.

    A Hugging Face id that was not remembered is downloaded, unless `may_download` says no. Raises
    BaseUnreadable when it is none of them, and Offline.
    """
    wanted = str(base)
    known = [b for b in list_known(config) if wanted in (b.name, b.fingerprint)]
    for candidate in known:
        if candidate.is_here:
            return candidate.path
    path = Path(base).expanduser()
    if path.exists():
        return path
    if known:
        raise BaseUnreadable(
            f"The base {wanted} was at {known[0].path} and is not there any more: "
            f"run `vera-hub base add PATH --name {known[0].name}` with where it is now.",
            code="BASE_NOT_HERE",
            base=wanted,
        )
    if not may_download or not is_hugging_face_id(wanted):
        raise _not_here(wanted)
    return obtain(base, config=config, revision=revision)


def obtain(path_or_id: str | Path, *, config: Config, revision: str | None = None) -> Path:
    """The checkpoint at this path or, where there is none, the model of this id from Hugging Face.

    What this machine remembers is not asked. Raises BaseUnreadable when it is neither, and Offline.
    """
    wanted, path = str(path_or_id), Path(path_or_id).expanduser()
    if path.exists():
        return path
    if is_hugging_face_id(wanted):
        return download(wanted, config=config, revision=revision)
    raise BaseUnreadable(
        f"There is nothing at {wanted}, and it is no id of Hugging Face (owner/name): give the folder of a checkpoint, or an id.",
        code="BASE_NOT_HERE",
        base=wanted,
    )


def is_hugging_face_id(name: str) -> bool:
    """Whether `name` could be the id of a model there. Nobody is asked."""
    return _HUGGING_FACE_ID.fullmatch(name) is not None


def _not_here(wanted: str) -> BaseUnreadable:
    is_fingerprint = wanted.startswith(f"{SCHEME}:")
    hint = "a fingerprint says which base it is, not where" if is_fingerprint else "there is no such path"
    return BaseUnreadable(
        f"The base {wanted} is not known on this machine, and {hint}: run `vera-hub base add PATH`, or give its folder.",
        code="BASE_NOT_HERE",
        base=wanted,
    )


def download(model_id: str, *, config: Config, revision: str | None = None) -> Path:
    """The folder of the model `model_id` from Hugging Face, with its weights, configuration and tokenizer.

    Uses Hugging Face's own cache and settings, but for where it is fetched from (`sdk.endpoints`). Raises BaseUnreadable and Offline.
    """
    if config.offline:
        raise Offline(
            f"VERA_HUB_OFFLINE is set and the base {model_id} is not known on this machine: "
            f"run `vera-hub base add {model_id}` once with the network."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        options = download_options(model_id, config=config)
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=list(DOWNLOADED), **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BaseUnreadable(
            f"The base {model_id} is not known on this machine and cannot be downloaded from Hugging Face: "
            f"{reason[:300]}. Check its name (`vera-hub base list` shows those known here) and the network, or give the "
            "folder of a copy you have.",
            code="BASE_NOT_HERE",
            base=model_id,
        ) from error


def name_of(path: Path) -> tuple[str, str | None]:
    """The name and revision that a checkpoint's own path suggests.

    Hugging Face's cache spells out the id and the commit; any other folder gives its own name.
    """
    plain = path.resolve()
    snapshot = _SNAPSHOT.search(plain.as_posix())
    if snapshot:
        return f"{snapshot[1]}/{snapshot[2]}", snapshot[3]
    return plain.stem if plain.is_file() else plain.name, None


def labels_of(path: Path) -> tuple[str, ...]:
    """What the configuration of the checkpoint at `path` calls the outputs of its classifier; none when it does not."""
    try:
        labels = config_of(path)["id2label"]
        return tuple(str(labels[str(i)]) for i in range(len(labels)))
    except (TypeError, KeyError):
        return ()


def config_of(path: Path) -> dict[str, Any]:
    """What the config.json of the checkpoint at `path` spells out; nothing where there is none that can be read."""
    try:
        fields = json.loads(read_bounded(path / "config.json", _MAX_TABLE_BYTES) or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


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


def digests_of(config: Config) -> Path:
    """The file of the `digest_book` of this machine."""
    return config.cache / DIGESTS_FILE


@contextlib.contextmanager
def digest_book(path: Path) -> Iterator[DigestBook]:
    """What this machine knows of the bytes on its GPUs, kept at `path` at the end of the block when it knows more by then.

    Readable by its owner alone: whoever knows its secret can make a model that passes for another on this machine.
    """
    book = _book_at(path)
    before = len(book.known)
    yield book
    if len(book.known) > before:
        rows = [[size, digest, sha256] for (size, digest), sha256 in book.known.items()]
        data = json.dumps({"gamma": f"{book.gamma:016x}", "known": rows[-_MAX_DIGESTS:]})
        with contextlib.suppress(OSError):  # what cannot be kept is hashed again
            write_atomically(path, data.encode(), mode=0o600)


def _book_at(path: Path) -> DigestBook:
    """A new book where there is none, or a damaged one."""
    with contextlib.suppress(OSError):
        data = read_bounded(path, _MAX_TABLE_BYTES)
        book = _book_in(data) if data else None
        if book is not None:
            return book
    return DigestBook()


@lru_cache(maxsize=2)
def _book_in(data: bytes) -> DigestBook | None:
    """The book that `data` spells, None when it spells none. Read once in a process while the file stays the same."""
    try:
        book = json.loads(data)
        known = {(int(size), str(digest)): str(sha256) for size, digest, sha256 in book["known"]}
        return DigestBook(int(book["gamma"], 16) | 1, known)
    except (ValueError, TypeError, KeyError, RecursionError):
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
