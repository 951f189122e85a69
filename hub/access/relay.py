"""Base models of another hub, passed on to clients that ask this one: proven, kept by their digests, given from here.

What a model is at a commit never changes and is kept; what a branch means is asked for anew when it is older than
`upstream_fresh_s`. Everybody who wants a file that is on its way reads along. What is kept is copies, of which those
used least make way: files and notes may be gone at any time, and are fetched again.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool

from hub.access.coming import Coming, read_along
from hub.access.copies import FILES, Copies, key_of
from hub.access.notes import Notes
from hub.domain.relayed import RelayedFile, RelayedModel, is_allowed, is_commit, read_model
from hub.errors import HubError, StorageFull, TooLarge, Unavailable
from hub.sending.exchange import mismatch, silent
from hub.sending.models import ModelHub
from hub.sending.places import Places, busy
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.storage.shelf import Shelf

_MAX_MODEL_BYTES = 16 << 20
# As many files are fetched from the other hub at the same time; further ones wait.
_AT_ONCE = 4
# So many are fetched or wait: each has a file open, and a place in the room for copies.
MOST_COMING = 64
# A hub that did not answer is not asked again for so long.
_ASK_AGAIN_S = 5.0
_MOST_REMEMBERED = 1000

log = logging.getLogger("hub.relay")


class Relay:
    """The models that the settings name, of the hub that they name."""

    def __init__(self, settings: Settings, source: ModelHub, shelf: Shelf) -> None:
        self.origin = source.origin
        self._settings, self._source, self._shelf = settings, source, shelf
        # What was found a moment ago, and until when that holds.
        self._found: OrderedDict[tuple[str, str], tuple[float, RelayedModel]] = OrderedDict()
        self._copies, self._notes = Copies(shelf, source.origin), Notes(shelf)
        self._places = Places(source.origin)
        self._coming: dict[str, Coming] = {}
        # When each file was used last, since this process began.
        self._used: dict[str, datetime] = {}
        self._lock = Lock()
        self._workers = ThreadPoolExecutor(_AT_ONCE, "relay")
        self._is_closing = False

    def close(self) -> None:
        self._is_closing = True
        self._workers.shutdown(cancel_futures=True)

    def passes_on(self, name: str) -> bool:
        """True for a model that the operator has named."""
        return is_allowed(name, self._settings.bases)

    def find(self, name: str, revision: str) -> RelayedModel:
        """The model at a branch, a tag or a commit. Reads the network.

        Raises NotFound, Forbidden for a model that is not everybody's, and Unavailable when it is not here and
        cannot be fetched.
        """
        asked = (name.lower(), revision)
        until, found = self._found.get(asked, (0.0, None))
        if found is not None and time.monotonic() < until:
            return found
        if is_commit(revision):
            found = self._kept(name, revision) or self._ask(name, revision)
            return self._remember(asked, found, float("inf"))
        try:
            found = self._ask(name, revision)
        except Unavailable as error:
            found = self._last_known(name, revision)
            if found is None:
                raise
            log.warning("%s at %s is given as it was: %s", name, revision, error)
            return self._remember(asked, found, _ASK_AGAIN_S)
        self._notes.keep(name, revision, found.commit.encode())
        return self._remember(asked, found, self._settings.upstream_fresh_s)

    async def open(self, model: RelayedModel, file: RelayedFile, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`, of which the first are here: what is wrong before that is raised here."""
        given = self._pieces(model, file, first, last)
        begun = await anext(given, b"")
        return _with_first(begun, given)

    async def _pieces(self, model: RelayedModel, file: RelayedFile, first: int, last: int) -> AsyncIterator[bytes]:
        is_here = await run_in_threadpool(self._is_here, file)
        if not is_here:
            coming, copy = await run_in_threadpool(self._fetch, model, file)
            async for piece in read_along(coming, copy, first, last):
                yield piece
            return
        async for piece in self._copies.read(file, first, last):
            yield piece

    def _is_here(self, file: RelayedFile) -> bool:
        if self._shelf.size_bytes(key_of(file)) != file.size_bytes:
            return False
        self._used[key_of(file)] = datetime.now(UTC)
        return True

    def _fetch(self, model: RelayedModel, file: RelayedFile) -> tuple[Coming, FileIO]:
        """The file on its way, and its copy to read along. Raises TooLarge, and Unavailable when there is no room, or so many
        files are on their way."""
        with self._lock:
            running = self._coming.get(file.digest)
            copy = running.reader() if running is not None else None
            if running is not None and copy is not None:
                return running, copy
            if len(self._coming) >= MOST_COMING:
                raise busy(self.origin)
            self._make_room(file)
            coming = Coming(file, self._settings.bases_folder / "coming")
            copy = coming.reader()
            assert copy is not None, "nothing has ended it yet"
            self._coming[file.digest] = coming
        self._workers.submit(self._receive, model, coming)
        return coming, copy

    def _receive(self, model: RelayedModel, coming: Coming) -> None:
        file, error = coming.file, None
        path = f"/{_in_path(model.id)}/resolve/{model.commit}/{quote(file.path)}"
        try:
            with self._source.stream(path, max_bytes=file.size_bytes) as pieces:
                if not coming.receive(self._while_open(pieces)):
                    raise mismatch(self.origin, f"{file.path} of {model.id} has another hash")
            coming.copy.seek(0)
            self._shelf.put(key_of(file), coming.copy)
            self._used[key_of(file)] = datetime.now(UTC)
        except HubError as refused:
            error = refused
        except OSError as failed:
            error = StorageFull(f"There is no room for a copy of {file.path} here ({failed.strerror}).")
        finally:
            with self._lock:
                self._coming.pop(file.digest, None)
            coming.end(error)
        if error is not None:
            log.warning("%s of %s did not come: %s", file.path, model.id, error)

    def _while_open(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._is_closing:
                raise silent(self.origin, "this hub is stopping")
            yield piece

    def _make_room(self, file: RelayedFile) -> None:
        """Clears away what was used least, until there is room for the file and all that is on its way."""
        limit = self._settings.max_bases_bytes
        if file.size_bytes > limit:
            raise TooLarge(
                f"{file.path} has {file.size_bytes:,} bytes, and copies of base models may take {limit:,} here: fetch "
                f"it from {self.origin}, or have the operator raise VERA_HUB_MAX_BASES_BYTES.",
                limit=limit,
            )
        kept = sorted(self._shelf.all_below(FILES), key=lambda each: self._used.get(each.name, each.modified_at))
        taken = sum(each.size_bytes for each in kept) + sum(each.file.size_bytes for each in self._coming.values())
        for each in kept:
            if taken + file.size_bytes <= limit:
                return
            self._shelf.remove(each.name)
            self._copies.forget(each.name)
            self._used.pop(each.name, None)
            taken -= each.size_bytes
        if taken + file.size_bytes > limit:
            raise Unavailable("Other base models are just being fetched and take all the room: try again later.")

    def _ask(self, name: str, revision: str) -> RelayedModel:
        path = f"/api/models/{_in_path(name)}/revision/{quote(revision, safe='')}?blobs=true"
        with self._places.one():
            data = self._source.read(path, max_bytes=_MAX_MODEL_BYTES)
        try:
            found = read_model(data, self.origin)
        except ValueError as error:
            raise mismatch(self.origin, f"its answer describes no model: {error}") from error
        if is_commit(revision) and found.commit != revision:
            raise mismatch(self.origin, f"it answers {found.commit} when asked for {revision}")
        self._notes.keep(name, found.commit, data)
        return found

    def _kept(self, name: str, commit: str) -> RelayedModel | None:
        data = self._notes.read(name, commit)
        with suppress(ValueError):
            return read_model(data, self.origin) if data else None
        return None

    def _last_known(self, name: str, revision: str) -> RelayedModel | None:
        data = self._notes.read(name, revision)
        commit = data.decode("ascii", "replace") if data else ""
        return self._kept(name, commit) if is_commit(commit) else None

    def _remember(self, asked: tuple[str, str], found: RelayedModel, for_s: float) -> RelayedModel:
        with self._lock:
            self._found[asked] = (time.monotonic() + for_s, found)
            self._found.move_to_end(asked)
            while len(self._found) > _MOST_REMEMBERED:
                self._found.popitem(last=False)
        return found


async def _with_first(begun: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for piece in rest:
        yield piece


def _in_path(name: str) -> str:
    return quote(name, safe="/")
