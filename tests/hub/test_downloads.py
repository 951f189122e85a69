"""Downloads: counted once for everybody and day, beside the requests, and never lost by an orderly end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.auth.tokens import TokenKind
from hub.db.models.adapters import Adapter
from hub.db.models.record import DownloadDay, Downloader
from hub.db.models.versions import Version
from hub.db.session import Database
from hub.domain.downloads import DownloadCounter
from hub.errors import StorageFull
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, start
from vera.bundle import MEDIA_TYPE, unbundle
from vera.manifest import CARD_FILE, WEIGHTS_FILE


def weights_of(hub: Hub, version: int = 1, path: str = WEIGHTS_FILE) -> str:
    files = hub.get(f"/adapters/demo/tiny/versions/v{version}", headers=hub.headers("demo")).json()["files"]
    return next(file["sha256"] for file in files if file["path"] == path)


def fetch(hub: Hub, sha256: str, headers: dict[str, str] | None = None) -> int:
    return hub.get(f"/adapters/demo/tiny/blobs/{sha256}", headers=headers or {}).status_code


def counts(hub: Hub) -> dict[int, int]:
    hub.app.state.services.downloads.flush()
    found = hub.get("/adapters/demo/tiny/downloads", headers=hub.headers("demo")).json()
    by_version: dict[int, int] = {}
    for each in found["days"]:
        by_version[each["version"]] = by_version.get(each["version"], 0) + each["count"]
    assert found["total"] == sum(by_version.values())
    return by_version


@pytest.fixture
def pushed(hub: Hub) -> Hub:
    hub.register_base()
    for seed in (1, 2):
        assert hub.push(make_archive(seed=seed)).status_code == 201
    return hub


@pytest.mark.one_process
def test_everybody_counts_once_for_a_version_and_a_day(pushed: Hub) -> None:
    first, second = weights_of(pushed, 1), weights_of(pushed, 2)
    ann, bob = pushed.headers("ann"), pushed.headers("bob")
    for headers in (ann, ann, bob, {}, {}):
        assert fetch(pushed, first, headers) == 200
    assert fetch(pushed, second, ann) == 200

    assert counts(pushed) == {1: 3, 2: 1}

    fetch(pushed, first, pushed.headers("ann"))  # another token of hers, after a flush
    fetch(pushed, first)
    assert counts(pushed) == {1: 3, 2: 1}


@pytest.mark.one_process
@pytest.mark.parametrize("accept", ["application/json", MEDIA_TYPE])
def test_files_that_somebody_has_with_their_version_are_not_fetched(pushed: Hub, accept: str) -> None:
    path, ann = "/adapters/demo/tiny/versions/v1?with_files=true", {**pushed.headers("ann"), "Accept": accept}
    etag = pushed.get(path, headers=ann).headers["etag"]
    assert counts(pushed) == {1: 1}

    bob = {**pushed.headers("bob"), "Accept": accept, "If-None-Match": etag}
    assert pushed.get(path, headers=bob).status_code == 304

    assert counts(pushed) == {1: 1}


@pytest.mark.one_process
def test_files_that_come_with_a_version_count_as_fetched(pushed: Hub) -> None:
    ann = pushed.headers("ann")
    path = "/adapters/demo/tiny/versions/v1?with_files=true"
    for headers in (ann, ann):
        assert pushed.get(path, headers=headers).json()["content"]
    assert unbundle(pushed.get(path, headers={"Accept": MEDIA_TYPE}).content)
    assert fetch(pushed, weights_of(pushed, 1), ann) == 200

    assert counts(pushed) == {1: 2}
    with pushed.database.reading() as session:
        fetched = session.scalars(select(Version.fetched_at).order_by(Version.number)).all()
    assert [each is not None for each in fetched] == [True, False]


def test_what_is_no_download_does_not_count(pushed: Hub) -> None:
    weights = weights_of(pushed)
    fetch(pushed, weights_of(pushed, path=CARD_FILE))
    fetch(pushed, weights, {"If-None-Match": f'"{weights}"'})
    fetch(pushed, weights, pushed.headers("bench", TokenKind.WORKER))
    fetch(pushed, "0" * 64)

    assert counts(pushed) == {}


def test_the_weights_of_two_versions_count_for_the_newer(hub: Hub) -> None:
    hub.register_base()
    for card in ("One.", "Two."):
        assert hub.push(make_archive(card=card)).status_code == 201
    assert weights_of(hub, 1) == weights_of(hub, 2)
    fetch(hub, weights_of(hub))

    assert counts(hub) == {2: 1}


def test_a_new_day_counts_anew_and_addresses_are_forgotten(pushed: Hub) -> None:
    sha256, today = weights_of(pushed), date(2026, 3, 1)
    with pushed.database.reading() as session:
        adapter_id = session.scalars(select(Adapter.id)).one()
    counter = DownloadCounter(pushed.database, today=lambda: today)
    for day in (1, 2, 3):
        today = date(2026, 3, day)
        counter.note(None, "203.0.113.7", adapter_id, sha256)
        counter.flush()

    with pushed.database.reading() as session:
        assert set(session.scalars(select(DownloadDay.day))) == {date(2026, 3, 2), date(2026, 3, 3)}
        kept = list(session.scalars(select(Downloader.who)))
    assert len(kept) == len(set(kept)) == 2  # the same address, and nobody can tell


class FullOnce:
    """A database whose disk is full at first."""

    def __init__(self, database: Database) -> None:
        self._database, self._is_full = database, True

    @contextmanager
    def writing(self) -> Iterator[Session]:
        if self._is_full:
            self._is_full = False
            raise StorageFull("full")
        with self._database.writing() as session:
            yield session


def test_a_flush_that_fails_loses_nothing(pushed: Hub) -> None:
    with pushed.database.reading() as session:
        adapter_id = session.scalars(select(Adapter.id)).one()
    counter = DownloadCounter(FullOnce(pushed.database))  # type: ignore[arg-type]  # as much of one as is used
    counter.note(None, "203.0.113.7", adapter_id, weights_of(pushed))

    with pytest.raises(StorageFull):
        counter.flush()
    counter.flush()

    assert counts(pushed) == {1: 1}


def test_a_server_that_is_stopped_has_written_what_it_counted(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    hub = start(settings)
    with hub.client:
        hub.register_base()
        hub.push(make_archive())
        fetch(hub, weights_of(hub))

    again = start(settings)
    assert counts(again) == {1: 1}
    again.database.close()


def test_downloads_of_what_is_hidden_are_hidden(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive(), visibility="private")
    assert hub.get("/adapters/demo/tiny/downloads").status_code == 404
