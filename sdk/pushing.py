"""From a folder to a version on a hub. Everything that can be wrong with the folder fails at home first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.cache import Cache, Resolution
from sdk.config import Config
from sdk.errors import DigestMismatch, Unauthorized
from sdk.folders import read_adapter
from vera.archive import Archive
from vera.errors import RefError
from vera.projection import DEFAULT_BUDGET_BYTES, bytes_of_pair, check_file, missing_pair, prove
from vera.ref import AdapterRef, check_adapter_id

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.models.versions import Pushed, Said, Version

_HAS_OTHER_LETTERS = re.compile(r"[^\W\x00-\x7f]")
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9._-]+")


def push(
    path: Path | str,
    name: str | None = None,
    *,
    message: str | None = None,
    visibility: str | None = None,
    prerelease: bool | None = None,
    parent: str | None = None,
    config: Config | None = None,
) -> Version:
    """Publishes the adapter in the folder `path` as the next version of `name`.

    `name` is `owner/name`, or `name` alone under the user whose token it is, or None for the name
    of the folder. A new adapter is seen by everybody unless `visibility` is "private". A `prerelease` is
    never `latest`; `parent` is the version it was made from, `v2` or a reference, and otherwise the one
    before it. The same content again gives the same version. Raises VeraError for what is wrong with the
    folder, before anything is sent, and HubError.
    """
    from sdk.client import Hub
    from sdk.models.versions import Said

    said = Said(message=message, visibility=visibility, prerelease=prerelease, parent=parent)
    with Hub(config) as hub:
        return push_folder(hub, Path(path), name, said).version


def push_folder(hub: Hub, folder: Path, name: str | None = None, said: Said | None = None) -> Pushed:
    """`push` on a hub that is open already; says also whether the version is new."""
    return push_archive(hub, *ready_to_push(hub, folder, name), said)


def ready_to_push(hub: Hub, folder: Path, name: str | None = None) -> tuple[Archive, AdapterRef]:
    """The adapter in `folder`, checked, and what it is to be pushed to. Nothing of it is sent yet."""
    adapter = read_adapter(folder)
    _prove_projection(adapter)
    if hub.config.token is None:
        raise Unauthorized(
            f"There is no token for {hub.config.url}, and nothing is pushed without one: run `vera-hub login`, "
            "or set VERA_HUB_TOKEN.",
            code="TOKEN_MISSING",
        )
    return adapter, _choose_ref(hub, folder, name)


def push_archive(hub: Hub, adapter: Archive, ref: AdapterRef, said: Said | None = None) -> Pushed:
    """Sends a checked adapter in one request, after its stored pair, and makes sure that the hub has kept exactly it."""
    _send_pair(hub, adapter)
    pushed = hub.push_version(ref, adapter.files, said)
    version, digest = pushed.version, adapter.manifest.digest
    if version.digest != digest:
        raise DigestMismatch(
            f"{digest} was pushed and {hub.config.url} says it keeps {version.digest}: do not rely on that version, "
            "and tell the hub's operator.",
            facts={"expected": digest, "got": version.digest},
        )
    memory = Cache(hub.config.cache)
    is_latest = pushed.is_new and not version.prerelease  # of any other push it is the hub's to say
    known = ref if is_latest else replace(ref, selector=f"v{version.version}")
    memory.remember(hub.config.url, known, Resolution(version.version, version.commit, version.digest))
    return pushed


def _prove_projection(adapter: Archive) -> None:
    """Raises ProjectionMismatch for a recipe that was changed after training: nobody could load the adapter.

    Matrices beyond what a load allows by default are left for the loader, who can raise the budget.
    A stored pair that is not at hand may be on the hub.
    """
    manifest = adapter.manifest
    if manifest.recipe.is_stored:
        if isinstance(adapter.projection, Path):
            check_file(manifest.recipe, manifest.projection_digest, adapter.projection)
        return
    if manifest.recipe.size_bytes <= DEFAULT_BUDGET_BYTES:
        prove(manifest.recipe, manifest.projection_digest)


def _send_pair(hub: Hub, adapter: Archive) -> None:
    """Sends the stored pair of `adapter`, when it has one that the hub does not keep yet.

    Raises ProjectionMissing when it is neither there nor at hand.
    """
    recipe, digest, pair = adapter.manifest.recipe, adapter.manifest.projection_digest, adapter.projection
    if not recipe.is_stored or hub.has_projection(digest):
        return
    if pair is None:
        raise missing_pair(recipe, digest)
    hub.put_projection(digest, lambda: bytes_of_pair(pair), size_bytes=recipe.size_bytes)


def _choose_ref(hub: Hub, folder: Path, name: str | None) -> AdapterRef:
    """The adapter to push to. A name that was given is taken as it is; one from the folder is made valid."""
    if name is None:
        name = name_of_folder(folder)
    if "@" in name or ":" in name:
        raise RefError(
            f"{name!r} is more than a name: a push makes the next version of owner/name, and the hub numbers it.",
            code="NAME_INVALID",
            name=name,
        )
    owner = None if "/" in name else hub.whoami().name
    return AdapterRef.parse(name, default_namespace=owner)


def name_of_folder(folder: Path) -> str:
    """The name of `folder` as an adapter may have it: `My Adapter` gives `my-adapter`.

    Raises RefError when no name is left, or letters would be: nobody means `7` by `модель 7`.
    """
    plain = folder.resolve().name
    name = _NOT_OF_A_NAME.sub("-", plain.lower()).strip("-._")[:64].rstrip("-._")
    try:
        check_adapter_id("owner", "" if _HAS_OTHER_LETTERS.search(plain) else name)
    except RefError as error:
        raise RefError(
            f"No name for the adapter can be made from the folder's, {plain!r}: give one with --name.",
            code="NAME_INVALID",
            name=plain,
        ) from error
    return name
