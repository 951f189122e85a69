"""A stored pair on its way from a folder to a hub and back: sent once, fetched once, hashed on every read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from hub.auth.tokens import TokenKind
from hub.domain import accounts
from hub.settings import Settings
from sdk import housekeeping
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import DigestMismatch, Misconfigured, NotFound, Offline
from sdk.fetching import fetch, pull, with_pair
from sdk.pushing import push_archive, push_folder
from sdk.verifying import verify
from tests.builders import BASE_NAME, make_base, make_stored
from tests.hub.harness import start
from vera import archive as archives
from vera.errors import AdapterTooLarge, ProjectionMismatch, ProjectionMissing
from vera.manifest import CONFIG_FILE
from vera.projection import bytes_of_pair, prove
from vera.ref import AdapterRef
from vera.stored import PROJECTION_FILE

URL = "http://127.0.0.1"
FIRST, SECOND = make_stored(seed=1), make_stored(seed=2)  # two adapters of one pair
RECIPE, DIGEST = FIRST.manifest.recipe, FIRST.manifest.projection_digest
assert FIRST.projection is not None
PAIR = b"".join(bytes_of_pair(FIRST.projection))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A client with a token of `demo`, of a hub that knows the base."""
    app = start(Settings(data_dir=tmp_path / "hub")).app
    with app.state.services.database.writing() as session:
        token = accounts.issue_token(session, accounts.ensure_user(session, "demo"), TokenKind.PERSONAL)
    with TestClient(app, base_url=URL) as http:
        hub = Hub(Config(URL, tmp_path / "config", tmp_path / "cache", token), http=http)
        hub.register_base(BASE_NAME, make_base().to_rows())
        yield hub


@pytest.fixture
def sent(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of the pairs that the client has sent."""
    found: list[str] = []
    put = Hub.put_projection

    def noted(self: Hub, digest: str, *args: object, **options: object) -> None:
        found.append(digest)
        put(self, digest, *args, **options)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(Hub, "put_projection", noted)
    return found


def cached(hub: Hub) -> Path:
    sha256 = DIGEST.removeprefix("sha256:")
    return hub.config.cache / "blobs" / sha256[:2] / sha256


def test_the_pair_is_sent_once_for_all_who_use_it(hub: Hub, sent: list[str], tmp_path: Path) -> None:
    archives.write_folder(FIRST, tmp_path / "first")

    first = push_folder(hub, tmp_path / "first").version
    second = push_archive(hub, SECOND, AdapterRef("demo", "second")).version

    assert sent == [DIGEST]
    assert first.stored_projection is not None
    assert second.stored_projection is not None
    assert (second.stored_projection.size_bytes, second.stored_projection.adapter_count) == (len(PAIR), 2)


def test_a_folder_without_the_pair_is_pushed_where_the_hub_has_it(hub: Hub, tmp_path: Path) -> None:
    archives.write_folder(SECOND, tmp_path / "second")
    (tmp_path / "second" / PROJECTION_FILE).unlink()

    with pytest.raises(ProjectionMissing):
        push_folder(hub, tmp_path / "second")
    push_archive(hub, FIRST, AdapterRef("demo", "first"))

    assert push_folder(hub, tmp_path / "second").is_new


def test_a_folder_with_another_pair_is_refused_before_anything_is_sent(
    hub: Hub, sent: list[str], tmp_path: Path
) -> None:
    archives.write_folder(FIRST, tmp_path / "first")
    (tmp_path / "first" / PROJECTION_FILE).write_bytes(bytes(len(PAIR)))

    with pytest.raises(ProjectionMismatch):
        push_folder(hub, tmp_path / "first")

    assert sent == []
    with pytest.raises(NotFound):
        hub.get_adapter(AdapterRef("demo", "first"))


def test_what_is_fetched_is_what_was_pushed_and_the_second_time_from_the_cache(hub: Hub) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))

    first = with_pair(fetch("demo/a", hub=hub), hub=hub)
    again = with_pair(fetch("demo/a", hub=hub), hub=hub)

    assert first.archive == FIRST
    pair = prove(RECIPE, DIGEST, source=first.archive.projection)
    assert pair.A.tobytes() + pair.B.tobytes() == PAIR
    assert first.downloaded_bytes >= len(PAIR)
    assert again.downloaded_bytes == 0
    assert "stored pair" in str(verify(None, "demo/a", hub=hub))


def test_pull_writes_the_pair_beside_the_adapter(hub: Hub, tmp_path: Path) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))

    pull("demo/a", to=tmp_path / "a", hub=hub)

    assert (tmp_path / "a" / PROJECTION_FILE).read_bytes() == PAIR
    assert archives.read_folder(tmp_path / "a") == FIRST


def test_a_damaged_cache_is_mended(hub: Hub) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))
    with_pair(fetch("demo/a", hub=hub), hub=hub)
    cached(hub).write_bytes(PAIR[:-1] + b"\x01")

    with_pair(fetch("demo/a", hub=hub), hub=hub)

    assert cached(hub).read_bytes() == PAIR


def test_housekeeping_knows_the_pair(hub: Hub) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))
    with_pair(fetch("demo/a", hub=hub), hub=hub)

    housekeeping.prune(hub.config.cache)
    [version] = housekeeping.list_versions(hub.config.cache)
    assert cached(hub).exists()
    assert version.is_complete
    assert version.size_bytes == FIRST.size_bytes - len(FIRST.files[CONFIG_FILE]) + len(PAIR)

    cached(hub).write_bytes(PAIR[:-1] + b"\x01")
    assert housekeeping.verify(hub.config.cache).damaged == (DIGEST.removeprefix("sha256:"),)
    assert not cached(hub).exists()


def test_offline_the_cache_is_enough_and_without_it_the_error_says_so(hub: Hub) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))
    with_pair(fetch("demo/a@v1", hub=hub), hub=hub)
    offline = Hub(replace(hub.config, offline=True))

    assert with_pair(fetch("demo/a@v1", hub=offline), hub=offline).archive == FIRST
    cached(hub).unlink()
    with pytest.raises(Offline, match="stored pair"):
        with_pair(fetch("demo/a@v1", hub=offline), hub=offline)


def test_a_cache_that_cannot_be_written_is_named(hub: Hub) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))
    fetched = fetch("demo/a", hub=hub)
    cached(hub).parent.parent.mkdir(parents=True, exist_ok=True)
    cached(hub).parent.write_bytes(b"in the way")

    with pytest.raises(Misconfigured) as error:
        with_pair(fetched, hub=hub)

    assert error.value.code == "CACHE_UNWRITABLE"
    assert "VERA_HUB_CACHE" in str(error.value)


def test_a_hub_that_gives_other_bytes_is_found_out_and_nothing_is_kept(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))
    fetched = fetch("demo/a", hub=hub)
    monkeypatch.setattr(Hub, "download_projection", lambda *_, **__: None)  # an answer without a body

    with pytest.raises(DigestMismatch):
        with_pair(fetched, hub=hub)

    assert not cached(hub).exists()


def test_a_pair_beyond_the_budget_is_not_even_fetched(hub: Hub) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "a"))
    with pytest.raises(AdapterTooLarge):
        verify(None, "demo/a", hub=hub, budget_bytes=len(PAIR) - 1)
    assert not cached(hub).exists()
