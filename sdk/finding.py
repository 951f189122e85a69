"""The adapter that somebody names: on a hub, by its reference, or in a folder of this machine. It is proven either way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdk import fetching
from sdk.errors import HubError, LockMismatch
from sdk.folders import read_adapter
from sdk.parallel import in_parallel
from vera.errors import RefError
from vera.projection import check_budget
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.config import Config
    from sdk.fetching import Fetched
    from sdk.locking import Lock
    from vera.archive import Archive

# What an adapter is named by: text, or what `parse` makes of it.
Named = str | Path | AdapterRef
Wanted = AdapterRef | Path

# No reference begins like this.
_PATHS_BEGIN = (".", "/", "~", "\\")


@dataclass(frozen=True)
class Found:
    """A checked adapter: what was asked for, its files and, for one of a hub, how it was fetched."""

    asked: Wanted
    archive: Archive
    fetched: Fetched | None = None

    @property
    def title(self) -> str:
        """`org/adapter@v3`, or the folder."""
        return str(self.asked) if self.fetched is None else self.fetched.version_ref


def parse(adapter: Named) -> Wanted:
    """What `adapter` names. A folder is a Path, text that begins with `.`, `/` or `~`, or the name of one that can be no reference.

    `org/adapter` is always a reference, whatever lies here. A folder comes absolute, so that it has one name however it
    was written. Raises RefError.
    """
    if isinstance(adapter, AdapterRef):
        return adapter
    if not isinstance(adapter, str | Path):
        raise RefError(f"{repr(adapter)[:60]} names no adapter: write owner/name@v3, or the path of a folder with one.")
    if isinstance(adapter, Path) or adapter.startswith(_PATHS_BEGIN):
        return _absolute(adapter)
    try:
        return AdapterRef.parse(adapter)
    except RefError:
        if os.path.isdir(adapter):
            return _absolute(adapter)
        raise


def find(
    adapter: Named,
    *,
    config: Config | None = None,
    hub: Hub | None = None,
    lock: Lock | None = None,
    allow_yanked: bool = False,
) -> Found:
    """The adapter that `adapter` names, checked. Its stored pair is left where it is.

    Of a folder nobody is asked; what is on a hub is `fetching.fetch`ed. Raises HubError and VeraError, LockMismatch for a
    folder with `lock`.
    """
    wanted = parse(adapter)
    if isinstance(wanted, Path):
        if lock is not None:
            raise _unlocked(wanted, lock)
        return Found(wanted, read_adapter(wanted))
    try:
        fetched = fetching.fetch(wanted, config=config, hub=hub, lock=lock, allow_yanked=allow_yanked)
    except HubError as error:
        _point_to_folder(wanted, error)
        raise
    return Found(wanted, fetched.archive, fetched)


def find_many(wanted: Sequence[Wanted], *, hub: Hub, lock: Lock | None = None, budget_bytes: int) -> list[Found]:
    """`find` of each of `wanted`, in their order, several at a time, with the stored pair at hand.

    None of them has matrices beyond `budget_bytes`, which is checked before a pair is fetched. Raises what the first that
    fails raises.
    """
    found = in_parallel(lambda each: find(each, hub=hub, lock=lock), wanted, at_once=fetching.FETCHES_AT_ONCE)
    for each in found:
        check_budget(each.archive.manifest.recipe, budget_bytes)
    return [_with_pair(each, hub) for each in found]


def _with_pair(found: Found, hub: Hub) -> Found:
    if found.fetched is None:
        return found
    fetched = fetching.with_pair(found.fetched, hub=hub)
    return replace(found, archive=fetched.archive, fetched=fetched)


def _absolute(folder: str | Path) -> Path:
    return Path(os.path.abspath(Path(folder).expanduser()))


def _unlocked(folder: Path, lock: Lock) -> LockMismatch:
    return LockMismatch(
        f"{lock.where} pins versions on a hub, and {folder} is a folder, which may be another tomorrow: leave the lock out, "
        "or push the folder and lock what it became.",
        code="LOCK_MISSING",
        facts={"ref": str(folder)},
    )


def _point_to_folder(ref: AdapterRef, error: HubError) -> None:
    """Adds to `error` that a folder has the name of the reference, when one has."""
    if os.path.isdir(str(ref)):
        error.args = (f"{error} There is a folder {ref} here: write ./{ref} for it.",)
