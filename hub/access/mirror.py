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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hub.db.session import Database
from hub.domain import bases, blobs, mirroring, projections, uploads
from hub.domain.claiming import Quota
from hub.domain.mirroring import Copy
from hub.domain.uploads import Upload
from hub.domain.views.adapters import AdapterDetail
from hub.domain.views.bases import BaseDetail
from hub.domain.views.versions import VersionDetail
from hub.errors import Forbidden, HubError, Unavailable
from hub.sending.exchange import mismatch, silent
from hub.sending.upstream import Upstream
from hub.settings import Settings
from hub.storage.blobs import BlobStore
from vera.archive import MAX_BYTES
from vera.errors import VeraError
from vera.ref import check_adapter_id

Answer = TypeVar("Answer")
_API = "/api/v1"
_MAX_DETAIL_BYTES = 16 << 20
# As many as are fetched from the other hub at the same time.
_AT_ONCE = 4
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
    """What an address is about."""

    namespace: str
    name: str
    selector: str

    @property
    def path(self) -> str:
        return f"{_API}/adapters/{self.namespace}/{self.name}"


class Mirror:
    """A hub's copy of the hub that its settings name."""

    def __init__(
        self,
        settings: Settings,
        upstream: Upstream,
        database: Database,
        objects: BlobStore | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._upstream, self._database, self._objects = settings, upstream, database, objects
        self._clock = clock
        # What was found a moment ago, and until when that holds.
        self._found: OrderedDict[_Asked, tuple[float, Note | None]] = OrderedDict()
        self._being_asked: dict[_Asked, asyncio.Future[tuple[float, Note | None]]] = {}
        self._workers = ThreadPoolExecutor(_AT_ONCE, "mirror")

    def close(self) -> None:
        self._workers.shutdown(cancel_futures=True)

    async def look(self, address: Mapping[str, Any]) -> Note | None:
        """Sees to it that what these parts of an address ask for is here, where it is the other hub's; None for what
        is not. Raises Unavailable when it is not here and cannot be fetched, and Forbidden for a gated adapter."""
        asked = _asked_in(address)
        if asked is None:
            return None
        until, note = self._found.get(asked, (0.0, None))
        if self._clock() < until:
            return note
        running = self._being_asked.get(asked)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._workers, self._find, asked)
            self._being_asked[asked] = running
            running.add_done_callback(lambda done: self._end(asked, done))
        # One who goes away takes the answer from nobody else.
        return (await asyncio.shield(running))[1]

    def _end(self, asked: _Asked, done: asyncio.Future[tuple[float, Note | None]]) -> None:
        del self._being_asked[asked]
        if done.cancelled() or done.exception() is not None:
            return
        self._found[asked] = done.result()
        while len(self._found) > _MOST_REMEMBERED:
            self._found.popitem(last=False)

    def _find(self, asked: _Asked) -> tuple[float, Note | None]:
        """Until when it holds, and what is to be told."""
        fresh_s = self._settings.upstream_fresh_s
        with self._database.reading() as session:
            if mirroring.is_taken(session, asked.namespace, self._upstream.origin):
                return self._clock() + fresh_s, None
            here = mirroring.find(session, asked.namespace, asked.name, asked.selector)
        if here is not None and here.is_here and here.age.total_seconds() < fresh_s:
            return self._clock() + fresh_s - here.age.total_seconds(), Note(self._upstream.origin, here.checked_at)
        try:
            is_there = self._refresh(asked, here)
        except Unavailable as error:
            if here is None or not here.is_here or (error.code == "UPSTREAM_MISMATCH" and _moves(asked)):
                raise
            log.warning("%s is given as it was: %s", asked, error)
            return self._clock() + min(_ASK_AGAIN_S, fresh_s), Note(self._upstream.origin, here.checked_at, True)
        note = Note(self._upstream.origin, datetime.now(UTC)) if is_there else None
        return self._clock() + fresh_s, note

    def _refresh(self, asked: _Asked, here: Copy | None) -> bool:
        """Asks the other hub, and keeps what is new. False when it has no such adapter."""
        etag = here.etag if here is not None and here.is_here else None
        reply = self._upstream.get(asked.path, max_bytes=_MAX_DETAIL_BYTES, etag=etag)
        if reply is None:
            with self._database.writing() as session:
                mirroring.withdraw_all(session, asked.namespace, asked.name)
            return False
        if reply.body is None:
            with self._database.writing() as session:
                mirroring.note_unchanged(session, asked.namespace, asked.name)
            return True
        detail = self._read(AdapterDetail, reply.body)
        self._require_same(asked, detail)
        with self._database.writing() as session:
            mirroring.lay_over(session, detail, etag=None)
        numbers = here.numbers if here else frozenset()
        wanted = [each for each in mirroring.wanted_of(detail, asked.selector) if each not in numbers]
        for number in wanted:
            self._fetch_version(asked, detail, number)
        is_whole = mirroring.head_of(detail) <= numbers | set(wanted)
        with self._database.writing() as session:
            mirroring.lay_over(session, detail, etag=reply.etag if is_whole else None)
        return True

    def _require_same(self, asked: _Asked, detail: AdapterDetail) -> None:
        if (detail.namespace, detail.name) != (asked.namespace, asked.name):
            raise mismatch(
                self._upstream.origin, f"it answers {detail.id} when asked for {asked.namespace}/{asked.name}"
            )
        if detail.gated is not None:
            raise Forbidden(
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
            upload = self._fetch_upload(asked, told)
            self._keep_base(upload)
            self._keep_pair(upload, detail)
            upload = uploads.put_large_files(self._objects, upload)
            quota = Quota(self._settings.max_account_adapters, self._settings.max_account_bytes)
            with self._database.writing() as session:
                mirroring.keep_version(session, self._upstream.origin, upload, told, detail, quota=quota)
        except VeraError as error:
            raise mismatch(self._upstream.origin, f"v{number} of {detail.id}: {error}") from error

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
