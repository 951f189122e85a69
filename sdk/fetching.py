"""From a reference to a checked adapter: what it means (`sdk.resolving`), fetched by digest, and nothing believed.

The digest of a version is the hash of its manifest, and the manifest holds the hash of every other
file. So once a reference has become a digest, it does not matter who delivers the bytes.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.cache import Cache
from sdk.config import Config
from sdk.errors import DigestMismatch, Misconfigured, NotFound, Offline
from sdk.files import writing_atomically
from sdk.parallel import in_parallel
from sdk.resolving import (
    Resolved,
    ask_what_became_of,
    check_yanked,
    hub_of,
    resolve_at,
    resolve_pin,
    warn_of_deprecation,
)
from vera import archive, canonical_json, peft_format
from vera.archive import Archive
from vera.errors import ArchiveError, ProjectionMismatch
from vera.folders import check_replaceable, check_writable
from vera.manifest import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE, Manifest
from vera.projection import check_file
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.locking import Lock
    from sdk.models.versions import BundledVersion, Version

# References that are fetched at the same time: a round trip is waited for, and a hub is not flooded.
FETCHES_AT_ONCE = 8


@dataclass(frozen=True)
class Fetched:
    """A checked adapter and where it came from.

    `downloaded_bytes` is 0 when all of it was in the cache; `folder` is where `pull` has put it.
    """

    resolved: Resolved
    archive: Archive
    downloaded_bytes: int
    folder: Path | None = None

    @property
    def version_ref(self) -> str:
        return self.resolved.version_ref


def pull(
    ref: str | AdapterRef,
    *,
    to: Path | str | None = None,
    locked: bool | str | Path = False,
    config: Config | None = None,
    hub: Hub | None = None,
) -> Fetched:
    """Fetches the adapter `ref` and writes it as the folder `to`; its name, here, when `to` is None.

    `locked` is that of `sdk.load`. The folder is written whole or not at all, and only over another
    adapter. Raises HubError and VeraError.
    """
    from sdk.locking import lock_for

    parsed = ref if isinstance(ref, AdapterRef) else AdapterRef.parse(ref)
    folder = Path(to) if to is not None else Path(parsed.name)
    check_replaceable(folder, ())  # before anything is fetched, not after
    check_writable(folder)
    fetched = fetch(parsed, config=config, hub=hub, lock=lock_for(locked))
    fetched = with_pair(fetched, config=config, hub=hub)
    try:
        archive.write_folder(fetched.archive, folder)
    except OSError as error:
        raise ArchiveError(
            f"{folder} could not be written ({error.strerror}): make room there, or choose another place. Nothing was left of it.",
            code="FOLDER_UNWRITABLE",
            path=str(folder),
        ) from error
    return replace(fetched, folder=folder)


def fetch(
    ref: str | AdapterRef,
    *,
    config: Config | None = None,
    hub: Hub | None = None,
    lock: Lock | None = None,
    allow_yanked: bool = False,
) -> Fetched:
    """The adapter that `ref` means, checked: its digest, every file's hash, and `vera.archive.inspect`.

    A stored pair is left where it is: `with_pair` fetches it. Asks the hub only for what is not in the
    cache: nothing at all for an immutable reference that was fetched before. With `lock`, `ref` means
    what the lock pins and nothing else. A version that was yanked is a warning with a lock, for a
    reference that names it exactly, or with `allow_yanked`, and Yanked otherwise; one that is deprecated is a warning. `hub` is used when given, instead of one made from `config`.
    Raises HubError and VeraError.
    """
    parsed = ref if isinstance(ref, AdapterRef) else AdapterRef.parse(ref)
    pin = lock.find(parsed) if lock is not None else None
    with hub_of(parsed, config, hub) as door:
        resolved = resolve_at(parsed, door, with_files=True) if pin is None else resolve_pin(parsed, pin, door)
        check_yanked(resolved, is_allowed=allow_yanked or pin is not None or parsed.is_immutable)
        warn_of_deprecation(resolved)
        try:
            fetched_archive, downloaded_bytes = _fetch_archive(resolved, door)
        except NotFound:
            ask_what_became_of(resolved, door)
            raise
    fetched = Fetched(resolved, fetched_archive, downloaded_bytes)
    if pin is not None:
        pin.check(fetched.archive.manifest)
    return fetched


def with_pair(fetched: Fetched, *, config: Config | None = None, hub: Hub | None = None) -> Fetched:
    """`fetched` with its stored pair at hand, from the cache or from the hub; as it is when a recipe gives the pair.

    The pair is hashed here, and again by whoever uses it. Raises HubError, DigestMismatch for other bytes.
    """
    if not fetched.archive.manifest.recipe.is_stored:
        return fetched
    with hub_of(fetched.resolved.ref, config, hub) as door:
        path, downloaded_bytes = _pair_file(fetched.archive.manifest, fetched.resolved.ref, door)
    at_hand = replace(fetched.archive, projection=path)
    return replace(fetched, archive=at_hand, downloaded_bytes=fetched.downloaded_bytes + downloaded_bytes)


def fetch_many(refs: Sequence[str | AdapterRef], *, hub: Hub, lock: Lock | None = None) -> list[Fetched]:
    """`fetch` of each of `refs`, in their order, several at a time. Raises what the first that fails raises."""
    return in_parallel(lambda ref: fetch(ref, hub=hub, lock=lock), refs, at_once=FETCHES_AT_ONCE)


def _fetch_archive(resolved: Resolved, hub: Hub) -> tuple[Archive, int]:
    """The version, checked, and how many bytes of it were downloaded."""
    came = _come_with(resolved.answer)
    source = _Files(resolved.ref, hub, came)
    digest = resolved.digest.removeprefix("sha256:")
    manifest_bytes = source.get(MANIFEST_FILE, digest, at_hand=came.get(MANIFEST_FILE))
    manifest = Manifest.from_bytes(manifest_bytes)
    promised = {WEIGHTS_FILE: manifest.weights.sha256, **{path: f.sha256 for path, f in manifest.files.items()}}
    files = source.get_all(promised, derived={CONFIG_FILE: peft_format.config_of(manifest)})
    checked = archive.inspect({MANIFEST_FILE: manifest_bytes, **files}, manifest=manifest)
    return checked, source.downloaded_bytes


def _come_with(answer: Version | BundledVersion | None) -> Mapping[str, bytes]:
    """The files that the hub's answer holds, by path: their hashes decide whether they are it."""
    if answer is None:
        return {}
    from sdk.models.versions import BundledVersion

    return answer.files if isinstance(answer, BundledVersion) else _spelled_in(answer)


def _spelled_in(answer: Version) -> Mapping[str, bytes]:
    """The files in an answer of JSON. Of the manifest, canonical JSON has one form, so that its hash decides there too."""
    came = {}
    with suppress(ValueError, RecursionError):
        came[MANIFEST_FILE] = canonical_json.dumps(dict(answer.manifest))
    for path, text in (answer.content or {}).items():
        with suppress(ValueError):
            came[path] = b64decode(text)
    return came


def _pair_file(manifest: Manifest, ref: AdapterRef, hub: Hub) -> tuple[Path, int]:
    """Where the stored pair lies in the cache, proven, and how many bytes were downloaded for it."""
    path = Cache(hub.config.cache).blob_file(manifest.projection_digest.removeprefix("sha256:"))
    if path.exists():
        try:
            check_file(manifest.recipe, manifest.projection_digest, path)
        except ProjectionMismatch:
            path.unlink(missing_ok=True)  # damaged: it is fetched anew
        else:
            return path, 0
    if hub.config.offline:
        raise _not_here_offline("the stored pair", ref)
    try:
        _download_pair(manifest, hub, path)
    except OSError as error:
        raise Misconfigured(
            f"The stored pair of {ref} has {manifest.recipe.size_bytes:,} bytes and cannot be written to {path.parent} "
            f"({error.strerror}): make room there, or set VERA_HUB_CACHE.",
            code="CACHE_UNWRITABLE",
        ) from error
    return path, manifest.recipe.size_bytes


def _download_pair(manifest: Manifest, hub: Hub, path: Path) -> None:
    recipe, digest = manifest.recipe, manifest.projection_digest
    with writing_atomically(path, mode=0o644) as file:
        hub.download_projection(digest, file, size_bytes=recipe.size_bytes)
        file.flush()
        try:
            check_file(recipe, digest, Path(file.name))
        except ProjectionMismatch as error:
            raise DigestMismatch(
                f"The stored pair {digest} arrived as something else: it was damaged on the way or by the hub. "
                "Try again, and tell the hub's operator if it stays so.",
                facts={"expected": digest, **error.facts},
            ) from error


def _not_here_offline(what: str, ref: AdapterRef) -> Offline:
    return Offline(
        f"VERA_HUB_OFFLINE is set and {what} of {ref} is not in the cache: fetch it once with the network, "
        f"`vera-hub pull {ref}`.",
        facts={"ref": str(ref)},
    )


class _Files:
    """Files of one adapter by hash, from the cache or from the hub, verified either way.

    What came with the version is `sent` or `at_hand`, and what follows from something that was fetched already is
    `derived`, and is kept nowhere: each is taken when its hash is the promised one, which saves the request.
    """

    def __init__(self, ref: AdapterRef, hub: Hub, sent: Mapping[str, bytes]) -> None:
        self._ref, self._hub, self._sent, self._cache = ref, hub, sent, Cache(hub.config.cache)
        self.downloaded_bytes = 0

    def get(self, path: str, sha256: str, *, at_hand: bytes | None = None) -> bytes:
        data = self._near(sha256, at_hand)
        return data if data is not None else self._count(self._download(path, sha256))

    def get_all(self, promised: Mapping[str, str], *, derived: Mapping[str, bytes]) -> dict[str, bytes]:
        """The files `promised` (path → sha256); what has to be downloaded is downloaded at the same time."""
        follow = {path: data for path, data in derived.items() if _sha256_of(data) == promised.get(path)}
        near = {path: self._found(path, sha256) for path, sha256 in promised.items() if path not in follow}
        missing = [path for path, data in near.items() if data is None]
        files = follow | {path: data for path, data in near.items() if data is not None}
        downloads = in_parallel(lambda path: self._download(path, promised[path]), missing, at_once=len(promised))
        return files | {path: self._count(data) for path, data in zip(missing, downloads, strict=True)}

    def _near(self, sha256: str, at_hand: bytes | None) -> bytes | None:
        data = self._cache.get_blob(sha256)
        return data if data is not None else self._kept(at_hand, sha256)

    def _found(self, path: str, sha256: str) -> bytes | None:
        data = self._cache.get_blob(sha256)
        if data is not None:
            return data
        came = self._kept(self._sent.get(path), sha256)
        return None if came is None else self._count(came)

    def _kept(self, data: bytes | None, sha256: str) -> bytes | None:
        """`data`, from now on in the cache, when it has this hash."""
        if data is None or _sha256_of(data) != sha256:
            return None
        self._cache.keep_proven(sha256, data)
        return data

    def _count(self, data: bytes) -> bytes:
        self.downloaded_bytes += len(data)
        return data

    def _download(self, path: str, sha256: str) -> bytes:
        if self._hub.config.offline:
            raise _not_here_offline(path, self._ref)
        data = self._hub.download_blob(self._ref, sha256, max_bytes=archive.MAX_BYTES[path])
        got = _sha256_of(data)
        if got != sha256:
            raise DigestMismatch(
                f"{path} of {self._ref} arrived as {got} and must be {sha256}: it was damaged on the way or by the hub. "
                "Try again, and tell the hub's operator if it stays so.",
                facts={"path": path, "expected": sha256, "got": got},
            )
        self._cache.keep_proven(sha256, data)
        return data


def _sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
