"""What is in the cache, what of it can go, and whether it is whole.

The cache heals by itself: every read is hashed, and what is damaged is fetched again. This is for
people who want to know, or who need the room.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sdk.cache import Cache, Remembered
from vera.errors import VeraError
from vera.manifest import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE, Manifest

_DAY_S = 86_400.0
# A file that is being written is younger than this.
_LEFTOVER_S = 3600.0


@dataclass(frozen=True)
class CachedVersion:
    """A version that was fetched from `hub`. It is complete when every file of it is here."""

    ref: str
    hub: str
    digest: str
    size_bytes: int
    is_complete: bool
    fetched_at_s: float


@dataclass(frozen=True)
class Pruned:
    """What was removed."""

    files: int
    size_bytes: int


@dataclass(frozen=True)
class Checked:
    """The files that were hashed; the damaged ones are gone, and are fetched again when they are needed."""

    files: int
    size_bytes: int
    damaged: tuple[str, ...]


def list_versions(folder: Path) -> list[CachedVersion]:
    """The versions in the cache `folder`, by name."""
    cache = Cache(folder)
    sizes = {sha256: path.stat().st_size for sha256, path in cache.blobs()}
    versions = {}
    for record in cache.remembered():
        if record.selector == f"v{record.resolution.version}":
            versions[record.hub, record.adapter, record.resolution.version] = _describe(cache, record, sizes)
    return [versions[key] for key in sorted(versions)]


def verify(folder: Path) -> Checked:
    """Hashes every file in the cache `folder`, and removes the damaged ones."""
    cache, files, size_bytes, damaged = Cache(folder), 0, 0, []
    for sha256, path in cache.blobs():
        files, size_bytes = files + 1, size_bytes + path.stat().st_size
        if not cache.is_whole(sha256):
            damaged.append(sha256)
    return Checked(files, size_bytes, tuple(damaged))


def prune(folder: Path, *, older_than_days: float | None = None, everything: bool = False) -> Pruned:
    """Removes from the cache `folder` what nothing refers to and what killed processes have left.

    With `older_than_days` also versions that were fetched earlier than that, and with `everything` all
    of it. A process that loads meanwhile fetches again what it misses.
    """
    cache, now = Cache(folder), time.time()
    records = list(cache.remembered())
    if everything:
        dropped = records
    elif older_than_days is not None:
        dropped = [r for r in records if now - r.path.stat().st_mtime > older_than_days * _DAY_S]
    else:
        dropped = []
    kept = {sha256 for record in records if record not in dropped for sha256 in _named_by(cache, record)}
    orphans = [path for sha256, path in cache.blobs() if sha256 not in kept]
    leftovers = [path for path in cache.leftovers() if everything or now - path.stat().st_mtime > _LEFTOVER_S]
    return _remove([*(record.path for record in dropped), *orphans, *leftovers])


def _describe(cache: Cache, record: Remembered, sizes: dict[str, int]) -> CachedVersion:
    named = list(_named_by(cache, record))
    return CachedVersion(
        ref=f"{record.adapter}@v{record.resolution.version}",
        hub=record.hub,
        digest=record.resolution.digest,
        size_bytes=sum(sizes.get(sha256, 0) for sha256 in named),
        is_complete=len(named) > 1 and all(sha256 in sizes for sha256 in named),
        fetched_at_s=record.path.stat().st_mtime,
    )


def _named_by(cache: Cache, record: Remembered) -> Iterator[str]:
    """The hashes of the files of a version that are kept: of its manifest, and of all that the manifest names when it is
    here, but for what follows from it."""
    digest = record.resolution.digest.removeprefix("sha256:")
    yield digest
    data = cache.get_blob(digest)
    if data is None:
        return
    with contextlib.suppress(VeraError):
        manifest = Manifest.from_bytes(data)
        promised = {WEIGHTS_FILE: manifest.weights.sha256, **{path: f.sha256 for path, f in manifest.files.items()}}
        yield from (sha256 for path, sha256 in promised.items() if path not in (MANIFEST_FILE, CONFIG_FILE))
        if manifest.recipe.is_stored:
            yield manifest.projection_digest.removeprefix("sha256:")


def _remove(paths: Iterable[Path]) -> Pruned:
    files, size_bytes = 0, 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            size = path.stat().st_size
            path.unlink()
            files, size_bytes = files + 1, size_bytes + size
    return Pruned(files, size_bytes)
