"""What was fetched before: files by their sha256, and what references meant.

    <cache>/blobs/ab/abcd…          a file; its name is its hash, and it is hashed on every read
    <cache>/refs/12/1234….json      what one reference meant on one hub

No name in here comes from a hub: every one is a hash computed on this machine. Files are made in
one step, so any number of processes may share a cache, and one that is killed leaves nothing that
is ever read. The whole folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sdk.errors import HubWarning
from sdk.files import opened, read_bounded, write_new, write_under_names
from vera.ref import AdapterRef

_MAX_BLOB_BYTES = 64 << 20
_MAX_RECORD_BYTES = 16 << 10
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Resolution:
    """What a reference meant: one version, by everything that names it. `yanked` is the reason, when it was taken back."""

    version: int
    commit: str
    digest: str
    yanked: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless each is what its name says."""
        is_digest = self.digest.startswith("sha256:") and _SHA256.fullmatch(self.digest.removeprefix("sha256:"))
        is_reason = self.yanked is None or isinstance(self.yanked, str)
        if (
            not is_reason
            or type(self.version) is not int
            or self.version < 1
            or not _COMMIT.fullmatch(self.commit)
            or not is_digest
        ):
            raise ValueError(f"{self} names no version")

    @property
    def selectors(self) -> tuple[str, str, str]:
        """The immutable names of the version."""
        return f"v{self.version}", self.commit, self.digest


@dataclass(frozen=True)
class Remembered:
    """What `selector` of `adapter` meant when `hub` was last asked, and the file that says so."""

    hub: str
    adapter: str
    selector: str
    resolution: Resolution
    path: Path

    def to_dict(self) -> dict[str, object]:
        asked = {"hub": self.hub, "adapter": self.adapter, "selector": self.selector}
        return {**asked, "resolution": asdict(self.resolution)}


class Cache:
    """The cache in `folder`, which is made when something is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # -- Files by hash ----------------------------------------------------------------------------

    def get_blob(self, sha256: str) -> bytes | None:
        """The bytes with this hash, None when they are not here. Damaged ones are removed."""
        path = self._blob_path(sha256)
        try:
            data = read_bounded(path, _MAX_BLOB_BYTES)
        except OSError:
            return None
        if data is not None and hashlib.sha256(data).hexdigest() == sha256:
            return data
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def is_whole(self, sha256: str) -> bool:
        """Whether the bytes with this hash are here, however many they are. Damaged ones are removed."""
        path = self._blob_path(sha256)
        try:
            with opened(path) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return True
        except OSError:
            return False
        with contextlib.suppress(OSError):
            path.unlink()
        return False

    def keep_blob(self, data: bytes) -> None:
        """Keeps `data` under its hash. A cache that cannot be written costs a warning and nothing else."""
        self.keep_proven(hashlib.sha256(data).hexdigest(), data)

    def keep_proven(self, sha256: str, data: bytes) -> None:
        """`keep_blob` for whoever has just hashed `data`."""
        self._write(self._blob_path(sha256), data, write=write_new)

    def blobs(self) -> Iterator[tuple[str, Path]]:
        """(sha256 by its name, where it lies) of every file that is kept. Its bytes are anybody's guess."""
        for path in sorted(self.blobs_folder.glob("??/*")):
            if _SHA256.fullmatch(path.name) and path.is_file():
                yield path.name, path

    def leftovers(self) -> Iterator[Path]:
        """What processes that were killed while they wrote have left: nobody reads it."""
        yield from self._folder.glob("*/??/.tmp-*")

    @property
    def blobs_folder(self) -> Path:
        return self._folder / "blobs"

    def blob_file(self, sha256: str) -> Path:
        """Where the bytes with this hash are, or would be: for those too large to hold, whose reader hashes them."""
        return self._blob_path(sha256)

    def _blob_path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256[:80]!r} is not a sha256 in hex")
        return self.blobs_folder / sha256[:2] / sha256

    # -- What references meant --------------------------------------------------------------------

    @property
    def refs_folder(self) -> Path:
        return self._folder / "refs"

    def recall(self, url: str, ref: AdapterRef) -> Resolution | None:
        """What `ref` meant when the hub at `url` was last asked, None when it never was."""
        record = _read_record(self._ref_path(url, ref.adapter_id, selector_of(ref)))
        return record.resolution if record else None

    def remember(self, url: str, ref: AdapterRef, resolution: Resolution) -> None:
        """Keeps what `ref` means, and with it the names of that version which can never mean another: one file has all three."""
        asked, number = selector_of(ref), resolution.selectors[0]
        if asked not in resolution.selectors:
            self._remember(url, ref.adapter_id, asked, resolution, under=[asked])
        self._remember(url, ref.adapter_id, number, resolution, under=resolution.selectors)

    def _remember(self, url: str, adapter: str, selector: str, resolution: Resolution, *, under: Sequence[str]) -> None:
        paths = [self._ref_path(url, adapter, each) for each in under]
        record = Remembered(url, adapter, selector, resolution, paths[0])
        old = [path for path in paths if _read_record(path) != replace(record, path=path)]
        if old:
            self._write(old, json.dumps(record.to_dict()).encode(), write=write_under_names)

    def remembered(self) -> Iterator[Remembered]:
        """Everything that references meant, one after the other; what is damaged is left out."""
        for path in sorted(self.refs_folder.glob("??/*.json")):
            record = _read_record(path)
            if record is not None:
                yield record

    def _ref_path(self, url: str, adapter_id: str, selector: str) -> Path:
        key = hashlib.sha256(f"{url}\n{adapter_id}\n{selector}".encode()).hexdigest()
        return self.refs_folder / key[:2] / f"{key}.json"

    def _write(self, path: Path | Sequence[Path], data: bytes, *, write: Callable[..., None]) -> None:
        try:
            write(path, data, mode=0o644, lasting=False)  # whoever reads checks, and fetches what is damaged again
        except OSError as error:
            warnings.warn(
                f"The cache {self._folder} cannot be written ({error.strerror}): what was fetched is not kept. "
                "Make room there, or set VERA_HUB_CACHE.",
                HubWarning,
                stacklevel=2,
            )


def _read_record(path: Path) -> Remembered | None:
    """What the file remembers, None when there is none; a damaged one is mended by asking again."""
    try:
        data = read_bounded(path, _MAX_RECORD_BYTES)
        if data is None:
            return None
        fields = json.loads(data)
        hub, adapter, selector = (str(fields[key]) for key in ("hub", "adapter", "selector"))
        return Remembered(hub, adapter, selector, Resolution(**fields["resolution"]), path)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def selector_of(ref: AdapterRef) -> str:
    """The selector of `ref`, written out: a digest alone selects by digest, and nothing at all `latest`."""
    return ref.selector or ref.digest or "latest"
