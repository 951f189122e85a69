"""What a reference means: resolved once, remembered, and held to what was seen before.

A version never changes, so what an immutable reference means is remembered for good (`sdk.cache`), and what a hub says
is compared with what it said.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sdk.cache import Cache, Resolution, selector_of
from sdk.config import Config
from sdk.errors import BadAnswer, DigestMismatch, HubWarning, LockMismatch, Offline, Yanked
from vera.ref import AdapterRef, SelectorKind

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.locking import Locked
    from sdk.models.versions import BundledVersion, Version


@dataclass(frozen=True)
class Resolved:
    """What a reference means: a version that can never change, and the hub it is on.

    `answer` is what the hub says of it, with its files where they were asked for; None when the reference was known here
    already.
    """

    ref: AdapterRef
    url: str
    resolution: Resolution
    answer: Version | BundledVersion | None = None

    @property
    def details(self) -> Version | None:
        """All that the hub says of the version, where it has just said it."""
        from sdk.models.versions import Version

        return self.answer if isinstance(self.answer, Version) else None

    @property
    def version_ref(self) -> str:
        """The version by its number: `org/adapter@v3`."""
        return f"{self.ref.adapter_id}@v{self.resolution.version}"

    @property
    def digest(self) -> str:
        return self.resolution.digest

    @property
    def commit(self) -> str:
        return self.resolution.commit


def resolve(ref: str | AdapterRef, *, config: Config | None = None, hub: Hub | None = None) -> Resolved:
    """The version that `ref` means.

    An immutable reference that was resolved before needs no network; a moving one (`latest`, an
    alias) always asks the hub, and offline means what it last meant, with a warning that says so.
    Raises HubError, DigestMismatch when `ref` pins a digest and means another.
    """
    parsed = ref if isinstance(ref, AdapterRef) else AdapterRef.parse(ref)
    with hub_of(parsed, config, hub) as door:
        return resolve_at(parsed, door)


def ask(ref: str | AdapterRef, *, hub: Hub) -> Resolution:
    """What the hub says now that `ref` means, whatever is remembered here. Raises HubError."""
    parsed = ref if isinstance(ref, AdapterRef) else AdapterRef.parse(ref)
    with hub_of(parsed, None, hub) as door:
        return _resolution_of(door.resolve_version(parsed))


@contextmanager
def hub_of(ref: AdapterRef, config: Config | None, hub: Hub | None) -> Iterator[Hub]:
    """The hub that `ref` is on: `hub` itself, unless the reference names another host."""
    if hub is not None and hub.config.at_host(ref.host).url == hub.config.url:
        yield hub
        return
    from sdk.client import Hub as HubClient

    base = hub.config if hub is not None else config or Config.resolve()
    with HubClient(base.at_host(ref.host)) as opened:
        yield opened


def resolve_at(ref: AdapterRef, hub: Hub, *, with_files: bool = False) -> Resolved:
    """What `ref` means; `with_files`, one that was never fetched here comes with what is to be fetched next."""
    url, memory = hub.config.url, Cache(hub.config.cache)
    known = memory.recall(url, ref)
    if known is not None and (not _is_moving(ref) or hub.config.offline):
        _check_pin(ref, known)
        if _is_moving(ref):
            _warn_of_memory(ref, known)
        return Resolved(ref, url, known)
    if hub.config.offline:
        raise Offline(
            f"VERA_HUB_OFFLINE is set and {ref} was never fetched here: fetch it once with the network, "
            f"`vera-hub pull {ref}`.",
            facts={"ref": str(ref)},
        )
    answer = hub.fetch_version(ref) if with_files and known is None else hub.resolve_version(ref)
    resolution = _resolution_of(answer)
    _check_pin(ref, resolution)
    _check_memory(ref, resolution, memory, url)
    memory.remember(url, ref, resolution)
    return Resolved(ref, url, resolution, answer)


def resolve_pin(ref: AdapterRef, pin: Locked, hub: Hub) -> Resolved:
    """What a lock says that `ref` means. The hub is asked about it once, before the first download."""
    url, memory, pinned = hub.config.url, Cache(hub.config.cache), pin.resolution
    exact = AdapterRef(ref.namespace, ref.name, f"v{pinned.version}", pinned.digest, ref.host)
    known = memory.recall(url, exact)
    if known is not None and known.digest == pinned.digest:
        return Resolved(ref, url, replace(pinned, yanked=known.yanked))
    if hub.config.offline:
        return Resolved(ref, url, pinned)
    try:
        answer = hub.fetch_version(exact)
    except Yanked as error:
        return Resolved(ref, url, replace(pinned, yanked=str(error)))
    resolution = _resolution_of(answer)
    if resolution.digest != pinned.digest:
        raise LockMismatch(
            f"The lock pins {exact}, and {url} says that {exact.adapter_id}@v{pinned.version} is {resolution.digest}: "
            "versions do not change, so it is another hub, or one that was set up anew.",
            facts={"ref": str(ref), "expected": pinned.digest, "got": resolution.digest},
        )
    memory.remember(url, exact, resolution)
    return Resolved(ref, url, resolution, answer)


def check_yanked(resolved: Resolved, *, is_allowed: bool) -> None:
    reason = resolved.resolution.yanked
    if reason is None:
        return
    if not is_allowed:
        raise Yanked(
            f"{resolved.version_ref} was yanked ({reason}): use another version. What is locked in vera.lock still loads, and so "
            "does what is named exactly.",
            facts={"ref": str(resolved.ref), "reason": reason},
        )
    warnings.warn(
        f"{resolved.version_ref} was yanked ({reason}): move to another version when you can.", HubWarning, stacklevel=4
    )


def ask_what_became_of(resolved: Resolved, hub: Hub) -> None:
    """Raises what the hub says now of a version that was known from memory and whose files it does not give."""
    if resolved.answer is None:
        hub.resolve_version(AdapterRef.parse(resolved.version_ref))


def warn_of_deprecation(resolved: Resolved) -> None:
    deprecated = resolved.answer.deprecated if resolved.answer else None
    if deprecated is None:
        return
    instead = f" Use {deprecated.replacement} instead." if deprecated.replacement else ""
    warnings.warn(f"{resolved.version_ref} is deprecated: {deprecated.message}{instead}", HubWarning, stacklevel=4)


def _is_moving(ref: AdapterRef) -> bool:
    """True when the hub has to be asked, also for `prod@sha256:…`: it fails once `prod` is another version."""
    return ref.selector_kind in (SelectorKind.LATEST, SelectorKind.ALIAS)


def _resolution_of(answer: Version | BundledVersion) -> Resolution:
    try:
        return Resolution(answer.version, answer.commit, answer.digest, answer.yank_reason)
    except ValueError as error:
        raise BadAnswer(f"The hub's answer cannot be used: {error}.") from error


def _check_pin(ref: AdapterRef, resolution: Resolution) -> None:
    """A reference that names a version exactly must get exactly that one."""
    if ref.digest is not None and ref.digest != resolution.digest:
        raise DigestMismatch(
            f"{ref.adapter_id}@{selector_of(ref)} is {resolution.digest}, and {ref.digest} is asked for: "
            "it is another version than the one that was pinned. Find out which of the two you want.",
            facts={"ref": str(ref), "expected": ref.digest, "got": resolution.digest},
        )
    if not _is_moving(ref) and selector_of(ref) not in resolution.selectors:
        raise BadAnswer(f"The hub answers v{resolution.version} ({resolution.digest}) when asked for {ref}.")


def _check_memory(ref: AdapterRef, resolution: Resolution, memory: Cache, url: str) -> None:
    """A version never changes; a hub that says otherwise has lost its data, or lies."""
    number = AdapterRef(ref.namespace, ref.name, f"v{resolution.version}")
    before = memory.recall(url, number)
    if before is not None and before.digest != resolution.digest:
        raise DigestMismatch(
            f"{url} says that {number} is {resolution.digest}; it was {before.digest} when it was first seen here, "
            "and versions do not change. If the hub was set up anew, forget the old one by removing "
            f"the folder {memory.refs_folder}.",
            facts={"ref": str(number), "expected": before.digest, "got": resolution.digest},
        )


def _warn_of_memory(ref: AdapterRef, known: Resolution) -> None:
    warnings.warn(
        f"VERA_HUB_OFFLINE is set: {ref} is taken to mean v{known.version}, as when the hub was last asked.",
        HubWarning,
        stacklevel=4,
    )
