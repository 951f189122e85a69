"""Pull-through: what is asked for in another hub's namespace is fetched from there, proven, kept and given from here.

Every door asks `Mirror.look` before it reads. Most of the time that is a look into a dictionary; who asks for
something that is not here, or for what may have moved, waits for one question to the other hub, and everybody who
asks for the same meanwhile waits for the same one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import BoundedSemaphore
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hub.auth.policy import unknown_adapter
from hub.db.session import Database
from hub.domain import bases, blobs, mirroring, projections, uploads
from hub.domain.claiming import Quota
from hub.domain.mirroring import Copy
from hub.domain.uploads import Upload
from hub.domain.views.adapters import AdapterDetail
from hub.domain.views.bases import BaseDetail
from hub.domain.views.versions import VersionDetail
from hub.errors import Forbidden, HubError, Moved, Unavailable
from hub.sending.exchange import mismatch, silent
from hub.sending.places import PLACES, Places
from hub.sending.upstream import Reply, Upstream
from hub.settings import Settings
from hub.storage.blobs import BlobStore
from vera.archive import MAX_BYTES
from vera.errors import VeraError
from vera.ref import check_adapter_id

Answer = TypeVar("Answer")
_API = "/api/v1"
_MAX_DETAIL_BYTES = 16 << 20
# As many versions are fetched from the other hub at the same time, whose files are in memory.
_AT_ONCE = 4
# As many look at what is here, however many wait for the other hub.
_LOOKING = 4
# A hub that did not answer is not asked again for so long, about the same.
_ASK_AGAIN_S = 5.0
_MOST_REMEMBERED = 10_000
_READERS: dict[type, TypeAdapter[Any]] = {}

log = logging.getLogger("hub.mirror")


@dataclass(frozen=True)
class Note:
    """What is told beside an answer: whose copy it is, and when that hub last said what moves. `is_stale` when it has
    not answered since, though it was asked."""

    origin: str
    as_of: datetime
    is_stale: bool = False

    @property
    def headers(self) -> dict[str, str]:
        as_of = self.as_of.astimezone(UTC).isoformat(timespec="seconds")
        stale = {"Vera-Mirror-Stale": "the upstream does not answer"} if self.is_stale else {}
        return {"Vera-Mirrored-From": self.origin, "Vera-Mirrored-As-Of": as_of, **stale}


@dataclass(frozen=True)
class _Asked:
    """What an address is about. `is_unseen` where it is asked for by somebody who does not see the copy."""

    namespace: str
    name: str
    selector: str
    is_unseen: bool = False

    @property
    def path(self) -> str:
        return f"{_API}/adapters/{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Found:
    """What came of a look, and until when that holds: a note, why there is none, or neither for what is not there.

    A copy that is given though the other hub did not answer has both. `is_private` where only our token sees the
    adapter there: who does not see it here is told what they would be of one that is not there.
    """

    asked: _Asked
    until: float = 0.0
    note: Note | None = None
    refusal: HubError | None = None
    is_private: bool = False

    def told(self, *, is_seen: bool) -> Note | None:
        """The note for who sees the adapter, or does not. Raises the refusal, and NotFound for one that says more."""
        if self.note is not None and is_seen:
            return self.note
        if self.refusal is None:
            return None
        if is_seen or self.refusal.code in ("UPSTREAM_SILENT", "UPSTREAM_BUSY"):
            raise self.refusal
        raise unknown_adapter(self.asked.namespace, self.asked.name)


class Mirror:
    """A hub's copy of the hub that its settings name."""

    def __init__(self, settings: Settings, upstream: Upstream, database: Database, objects: BlobStore | None) -> None:
        self._settings, self._upstream, self._database, self._objects = settings, upstream, database, objects
        # What was found a moment ago, and until when that holds.
        self._found: OrderedDict[_Asked, Found] = OrderedDict()
        self._being_asked: dict[_Asked, asyncio.Future[Found]] = {}
        self._places, self._fetching = Places(upstream.origin), BoundedSemaphore(_AT_ONCE)
        self._workers = ThreadPoolExecutor(PLACES + _LOOKING, "mirror")

    def close(self) -> None:
        self._workers.shutdown(cancel_futures=True)

    async def look(self, address: Mapping[str, Any]) -> Found | None:
        """Sees to it that what these parts of an address ask for is here, where it is the other hub's; None for an
        address that asks for no adapter. What cannot be fetched, is gated or has another name there is in what was
        found: whether it is told depends on who asks."""
        asked = _asked_in(address)
        return None if asked is None else await self._once(asked, self._find)

    async def look_unseen(self, found: Found) -> Found:
        """What there is to tell of `found` to who does not see it. The other hub is asked, as it would be were no copy here:
        while it is down, a fresh copy is to be told apart from nothing by nobody."""
        if not found.is_private or found.note is None or found.refusal is not None:
            return found
        return await self._once(replace(found.asked, is_unseen=True), self._ask_unseen)

    async def _once(self, asked: _Asked, find: Callable[[_Asked], Found]) -> Found:
        """What was found a moment ago, or is being looked for, or what `find` finds."""
        found = self._found.get(asked)
        if found is not None and time.monotonic() < found.until:
            return found
        running = self._being_asked.get(asked)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._workers, find, asked)
            self._being_asked[asked] = running
            running.add_done_callback(lambda done: self._end(asked, done))
        # One who goes away takes the answer from nobody else.
        return await asyncio.shield(running)

    def _end(self, asked: _Asked, done: asyncio.Future[Found]) -> None:
        del self._being_asked[asked]
        if done.cancelled() or done.exception() is not None:
            return
        self._found[asked] = done.result()
        while len(self._found) > _MOST_REMEMBERED:
            self._found.popitem(last=False)

    def _find(self, asked: _Asked) -> Found:
        fresh_s = self._settings.upstream_fresh_s
        with self._database.reading() as session:
            if mirroring.is_taken(session, asked.namespace, self._upstream.origin):
                return Found(asked, time.monotonic() + fresh_s)
            here = mirroring.find(session, asked.namespace, asked.name, asked.selector)
        if here is not None and here.is_here and here.age.total_seconds() < fresh_s:
            until = time.monotonic() + fresh_s - here.age.total_seconds()
            return Found(asked, until, Note(self._upstream.origin, here.checked_at), is_private=here.is_private)
        is_private = here is not None and here.is_private
        try:
            with self._places.one():
                reply, detail = self._ask(asked, here)
                is_private = detail.visibility == "private" if detail else is_private
                self._take(asked, here, reply, detail)
        except Moved as moved:
            return Found(asked, refusal=moved, is_private=self._is_hidden(str(moved.facts["new"])))
        except HubError as error:
            return self._despite(error, asked, here, is_private=is_private)
        note = Note(self._upstream.origin, datetime.now(UTC)) if reply is not None else None
        return Found(asked, time.monotonic() + fresh_s, note, is_private=is_private)

    def _ask_unseen(self, asked: _Asked) -> Found:
        try:
            with self._places.one():
                self._ask(asked, None)
        except Unavailable as error:
            return Found(asked, refusal=error, is_private=True)
        except HubError:
            pass  # whatever it says of the adapter is not told
        return Found(asked, time.monotonic() + self._settings.upstream_fresh_s, is_private=True)

    def _despite(self, error: HubError, asked: _Asked, here: Copy | None, *, is_private: bool) -> Found:
        """What is given though nothing new came: the copy, where there is one and the other hub is to blame."""
        is_given = isinstance(error, Unavailable) and not (error.code == "UPSTREAM_MISMATCH" and _moves(asked))
        if here is None or not here.is_here or not is_given:
            return Found(asked, refusal=error, is_private=is_private)
        log.warning("%s is given as it was: %s", asked, error)
        until = time.monotonic() + min(_ASK_AGAIN_S, self._settings.upstream_fresh_s)
        return Found(asked, until, Note(self._upstream.origin, here.checked_at, True), error, is_private)

    def _ask(self, asked: _Asked, here: Copy | None) -> tuple[Reply | None, AdapterDetail | None]:
        """What the other hub says of the adapter: no reply when it has none, and no detail when it is as it was."""
        etag = here.etag if here is not None and here.is_here else None
        reply = self._upstream.get(asked.path, max_bytes=_MAX_DETAIL_BYTES, etag=etag)
        if reply is None or reply.body is None:
            return reply, None
        detail = self._read(AdapterDetail, reply.body)
        if (detail.namespace, detail.name) != (asked.namespace, asked.name):
            raise mismatch(
                self._upstream.origin, f"it answers {detail.id} when asked for {asked.namespace}/{asked.name}"
            )
        return reply, detail

    def _is_hidden(self, name: str) -> bool:
        """Whether only our token sees the adapter of this name there, as far as can be told."""
        if self._settings.upstream_token_file is None:
            return False
        try:
            with self._places.one():
                detail = self._read(AdapterDetail, self._get(f"{_API}/adapters/{name}", _MAX_DETAIL_BYTES))
        except HubError:
            return True
        return detail.visibility == "private"

    def _take(self, asked: _Asked, here: Copy | None, reply: Reply | None, detail: AdapterDetail | None) -> None:
        """Makes the copy what the other hub has said, and keeps what is new. Raises Forbidden for a gated adapter."""
        with self._database.writing() as session:
            if reply is None:
                mirroring.withdraw_all(session, asked.namespace, asked.name, "it is not to be had there any more")
            elif detail is None:
                mirroring.note_unchanged(session, asked.namespace, asked.name)
            elif detail.gated is not None:
                mirroring.withdraw_all(session, asked.namespace, asked.name, "it is gated there")
            else:
                mirroring.lay_over(session, detail, etag=None)
        if reply is None or detail is None:
            return
        if detail.gated is not None:
            raise self._gated(detail)
        numbers = here.numbers if here else frozenset()
        wanted = [each for each in mirroring.wanted_of(detail, asked.selector) if each not in numbers]
        for number in wanted:
            self._fetch_version(asked, detail, number)
        is_whole = mirroring.head_of(detail) <= numbers | set(wanted)
        with self._database.writing() as session:
            mirroring.lay_over(session, detail, etag=reply.etag if is_whole else None)

    def _gated(self, detail: AdapterDetail) -> Forbidden:
        return Forbidden(
            f"{detail.id} is given at {self._upstream.origin} to whom its owners let in, so no copy of it is given "
            "here: fetch it there.",
            code="ADAPTER_GATED",
            adapter=detail.id,
        )

    def _fetch_version(self, asked: _Asked, detail: AdapterDetail, number: int) -> None:
        told = self._read(VersionDetail, self._get(f"{asked.path}/versions/v{number}", _MAX_DETAIL_BYTES))
        listed = next(each for each in detail.versions if each.version == number)
        if (told.version, told.digest) != (number, listed.digest) or told.id != detail.id:
            raise mismatch(self._upstream.origin, f"v{number} of {detail.id} is {told.digest} and was {listed.digest}")
        try:
            with self._fetching:
                self._keep_version(asked, detail, told)
        except VeraError as error:
            raise mismatch(self._upstream.origin, f"v{number} of {detail.id}: {error}") from error

    def _keep_version(self, asked: _Asked, detail: AdapterDetail, told: VersionDetail) -> None:
        upload = self._fetch_upload(asked, told)
        self._keep_base(upload)
        self._keep_pair(upload, detail)
        upload = uploads.put_large_files(self._objects, upload)
        quota = Quota(self._settings.max_account_adapters, self._settings.max_account_bytes)
        with self._database.writing() as session:
            mirroring.keep_version(session, self._upstream.origin, upload, told, detail, quota=quota)

    def _fetch_upload(self, asked: _Asked, told: VersionDetail) -> Upload:
        files = {}
        for file in told.files:
            if file.path not in MAX_BYTES:
                raise mismatch(self._upstream.origin, f"it names a file {file.path[:100]!r}")
            data = self._get(f"{asked.path}/blobs/{file.sha256}", MAX_BYTES[file.path])
            got = hashlib.sha256(data).hexdigest()
            if got != file.sha256:
                raise mismatch(self._upstream.origin, f"{file.path} of {told.ref} is {got} and should be {file.sha256}")
            files[file.path] = data
        upload = uploads.check_upload(files, mirroring.said_of(told))
        if upload.manifest.digest != told.digest:
            raise mismatch(self._upstream.origin, f"{told.ref} is {upload.manifest.digest} and should be {told.digest}")
        return upload

    def _keep_base(self, upload: Upload) -> None:
        wanted = upload.manifest.base.fingerprint
        with self._database.reading() as session:
            if bases.is_known(session, wanted):
                return
        told = self._read(BaseDetail, self._get(f"{_API}/bases/{wanted}", self._settings.max_table_bytes))
        rows = [[name, dtype, list(shape), sha256] for name, dtype, shape, sha256 in told.tensors]
        with self._database.writing() as session:
            view, _ = bases.register_base(session, None, told.name, told.revision, rows)
            if view.fingerprint != wanted:
                raise mismatch(self._upstream.origin, f"the table of {wanted} is that of {view.fingerprint}")

    def _keep_pair(self, upload: Upload, detail: AdapterDetail) -> None:
        """The stored pair that the version needs, proven to be it."""
        if not upload.manifest.recipe.is_stored:
            return
        digest, size_bytes = upload.manifest.projection_digest, upload.manifest.recipe.size_bytes
        with self._database.writing() as session:
            if mirroring.keep_pair_again(session, detail.namespace, digest):
                return
        limit = min(size_bytes, self._settings.max_projection_bytes)
        with tempfile.TemporaryFile(prefix="vera-hub-") as file:
            self._upstream.copy(f"{_API}/projections/{digest}", file, max_bytes=limit)
            file.seek(0)
            got = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if got != digest:
                raise mismatch(self._upstream.origin, f"the pair {digest} is {got}")
            found = projections.pieces(file)
            projections.check_pieces(found)
            outside = blobs.put_large(self._objects, projections.pieces(file))
            with self._database.writing() as session:
                principal = mirroring.principal_in(session, detail.namespace, self._upstream.origin)
                found = projections.pieces(file)
                projections.keep(session, principal, digest, found, size_bytes=size_bytes, outside=outside)

    def _get(self, path: str, max_bytes: int) -> bytes:
        reply = self._upstream.get(path, max_bytes=max_bytes)
        if reply is None or reply.body is None:
            raise silent(self._upstream.origin, "it has just stopped giving it out")
        return reply.body

    def _read(self, kind: type[Answer], body: bytes) -> Answer:
        reader = _READERS.setdefault(kind, TypeAdapter(kind))
        try:
            found: Answer = reader.validate_json(body)
        except ValidationError as error:
            raise mismatch(self._upstream.origin, f"its answer is no {kind.__name__}") from error
        return found


def _asked_in(address: Mapping[str, Any]) -> _Asked | None:
    """The adapter and the selector in the parts of an address; None where they are about none."""
    namespace, name = address.get("namespace"), address.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str):
        return None
    name, _, pinned = name.partition("@")
    try:
        check_adapter_id(namespace, name)
        selector = _selector_in(address) or pinned
        if len(selector) > 200:
            return None
    except (VeraError, HubError):
        return None
    return _Asked(namespace, name, selector)


def _selector_in(address: Mapping[str, Any]) -> str:
    if "sha256" in address:
        return f"sha256:{address['sha256']}"
    if "number" in address:
        return f"v{address['number']}"
    found = (address[each] for each in ("selector", "revision", "commit", "alias") if each in address)
    return str(next(found, ""))


def _moves(asked: _Asked) -> bool:
    return mirroring.is_moving(asked.selector)
