"""Feeds: Atom that a reader accepts, of what whoever asks may see."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit
from xml.etree import ElementTree

from tests.builders import make_archive
from tests.hub.harness import Hub, code_of

ATOM = "{http://www.w3.org/2005/Atom}"


def read(hub: Hub, path: str, headers: dict[str, str] | None = None) -> list[ElementTree.Element]:
    """The entries of a feed that has all that RFC 4287 asks for."""
    answer = hub.get(path, headers=headers or {})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/atom+xml; charset=utf-8"
    feed = ElementTree.fromstring(answer.content)
    assert feed.tag == f"{ATOM}feed"
    entries = feed.findall(f"{ATOM}entry")
    for element in (feed, *entries):
        for name in ("id", "title", "updated"):
            assert len(element.findall(f"{ATOM}{name}")) == 1, name
        assert element.findtext(f"{ATOM}author/{ATOM}name")
        assert datetime.fromisoformat(element.findtext(f"{ATOM}updated") or "").tzinfo is not None
        assert urlsplit(element.findtext(f"{ATOM}id") or "").scheme == "http"
        relations = [link.attrib["rel"] for link in element.findall(f"{ATOM}link")]
        assert relations == (["self", "alternate"] if element is feed else ["alternate"])
    assert all(entry.findtext(f"{ATOM}content") for entry in entries)
    ids = [entry.findtext(f"{ATOM}id") for entry in entries]
    assert len(ids) == len(set(ids))
    return entries


def titles(hub: Hub, path: str, headers: dict[str, str] | None = None) -> list[str | None]:
    return [entry.findtext(f"{ATOM}title") for entry in read(hub, path, headers)]


def test_a_feed_tells_what_became_of_the_versions(hub: Hub) -> None:
    hub.register_base()
    for seed in (1, 2):
        assert hub.push(make_archive(seed=seed)).status_code == 201
    body = {"reason": "Worse than <b>v1</b> & wrong"}
    yanked = hub.client.put("/api/v1/adapters/demo/tiny/versions/v2/yank", json=body, headers=hub.headers("demo"))
    assert yanked.status_code == 200, yanked.text

    entries = read(hub, "/adapters/demo/tiny/feed")

    assert [entry.findtext(f"{ATOM}title") for entry in entries] == [
        "demo/tiny@v2 yanked by demo",
        "demo/tiny@v2 pushed by demo",
        "demo/tiny@v1 pushed by demo",
    ]
    assert entries[0].findtext(f"{ATOM}content") == "Worse than <b>v1</b> & wrong"


def test_a_feed_says_which_alias_was_set_to_which_version(hub: Hub) -> None:
    hub.register_base()
    assert hub.push(make_archive()).status_code == 201
    path, headers = "/api/v1/adapters/demo/tiny/aliases/prod", hub.headers("demo")
    assert hub.client.put(path, json={"version": "v1"}, headers=headers).is_success
    assert hub.client.delete(path, headers=headers).is_success

    assert titles(hub, "/adapters/demo/tiny/feed")[:2] == [
        "demo/tiny@prod removed by demo",
        "demo/tiny@prod set to v1 by demo",
    ]


def test_the_feed_of_a_namespace_is_of_what_one_may_see(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive(seed=1), "open")
    hub.push(make_archive(seed=2), "closed", visibility="private")
    hub.post("/tokens", {"name": "t", "scopes": ["repo:read"]}, hub.headers("demo"))

    assert titles(hub, "/namespaces/demo/feed") == ["demo/open@v1 pushed by demo"]
    assert len(titles(hub, "/namespaces/demo/feed", hub.headers("demo"))) == 2
    assert code_of(hub.get("/adapters/demo/closed/feed")) == (404, "ADAPTER_UNKNOWN")
    assert titles(hub, "/namespaces/nobody/feed") == []


def test_a_feed_that_is_known_is_not_sent_again(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive())
    etag = hub.get("/adapters/demo/tiny/feed").headers["etag"]
    assert hub.get("/adapters/demo/tiny/feed", headers={"If-None-Match": etag}).status_code == 304
    hub.push(make_archive(seed=2))
    assert hub.get("/adapters/demo/tiny/feed", headers={"If-None-Match": etag}).status_code == 200


def test_an_adapters_page_names_its_feed(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())
    assert 'type="application/atom+xml"' in sqlite_hub.client.get("/demo/tiny").text
