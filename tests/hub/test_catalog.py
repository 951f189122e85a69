"""Finding adapters, resolving references, downloading files."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from sqlalchemy import update

from hub.db.models.accounts import Account
from hub.db.models.objects import Blob
from tests.builders import make_archive, make_base
from tests.hub.harness import Hub, code_of, statements_given_to
from vera.bundle import MEDIA_TYPE, unbundle
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE

BUNDLE = {"Accept": MEDIA_TYPE}


def _ids(hub: Hub, query: str = "") -> list[str]:
    return [item["id"] for item in hub.get(f"/adapters{query}").json()["items"]]


def _all_pages(hub: Hub, path: str, key: str) -> list[list[Any]]:
    pages, cursor = [], ""
    while True:
        page = hub.get(f"{path}{cursor}").json()
        pages.append([item[key] for item in page["items"]])
        if page["next"] is None:
            return pages
        cursor = f"&cursor={page['next']}"


@pytest.fixture
def stocked(hub: Hub) -> Hub:
    """Five adapters of two owners on two bases, pushed in this order."""
    other = make_base(salt="other")
    hub.register_base(name="acme/encoder")
    hub.register_base(other, "acme/other")
    hub.push(make_archive(seed=1), "news", user="ann")
    hub.push(make_archive(seed=2, labels=()), "topics", user="ann")
    hub.push(make_archive(seed=3, base=other), "topics", user="bob")
    hub.push(make_archive(seed=4), "zebra", user="bob")
    hub.push(make_archive(seed=5), "alpha", user="bob")
    return hub


def test_an_empty_hub_lists_nothing(hub: Hub) -> None:
    assert hub.get("/adapters").json() == {"items": [], "next": None}
    assert hub.get("/bases").json() == {"items": [], "next": None}
    assert hub.get("/suites").json() == {"items": [], "next": None}


def test_adapters_are_listed_last_updated_first_or_by_name(stocked: Hub) -> None:
    stocked.push(make_archive(seed=6), "news", user="ann")

    assert _ids(stocked) == ["ann/news", "bob/alpha", "bob/zebra", "bob/topics", "ann/topics"]
    assert _ids(stocked, "?sort=name") == ["ann/news", "ann/topics", "bob/alpha", "bob/topics", "bob/zebra"]


@pytest.mark.parametrize("sort", ["updated", "name"])
def test_pages_of_a_list_hold_everything_once(stocked: Hub, sort: str) -> None:
    pages = _all_pages(stocked, f"/adapters?limit=2&sort={sort}", "id")

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [each for page in pages for each in page] == _ids(stocked, f"?sort={sort}")


def test_adapters_are_found_by_name_owner_base_and_task(stocked: Hub) -> None:
    assert _ids(stocked, "?search=TOPIC") == ["bob/topics", "ann/topics"]
    assert _ids(stocked, "?search=ann/n") == ["ann/news"]
    assert _ids(stocked, "?owner=ann&sort=name") == ["ann/news", "ann/topics"]
    assert _ids(stocked, "?base=acme/other") == ["bob/topics"]
    assert _ids(stocked, f"?base={make_base().value}&owner=bob") == ["bob/alpha", "bob/zebra"]
    assert _ids(stocked, "?task=text-classification&owner=ann") == ["ann/news"]


@pytest.mark.parametrize("search", ["%", "_", "\\", "'", "%25%25"])
def test_what_is_searched_for_is_only_text(stocked: Hub, search: str) -> None:
    assert _ids(stocked, f"?search={search}") == []


@pytest.mark.parametrize("cursor", ["x", "e30", "WyJ1cGRhdGVkIl0", "WyJ1cGRhdGVkIiwibm93IiwxXQ", "é", "A" * 600])
def test_a_cursor_that_no_list_gave_is_refused(sqlite_hub: Hub, cursor: str) -> None:
    assert code_of(sqlite_hub.get("/adapters", params={"cursor": cursor})) == (422, "CURSOR_INVALID")
    assert code_of(sqlite_hub.get("/bases", params={"cursor": cursor})) == (422, "CURSOR_INVALID")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "sort=random"])
def test_a_parameter_out_of_range_is_refused(sqlite_hub: Hub, query: str) -> None:
    assert code_of(sqlite_hub.get(f"/adapters?{query}")) == (422, "PARAMETER_INVALID")


def test_an_adapter_shows_its_latest_version_and_all_others(hub: Hub) -> None:
    fingerprint = hub.register_base(name="acme/encoder")
    hub.push(make_archive(seed=1), message="one")
    hub.push(make_archive(seed=2, labels=("x", "y")), message="two")

    adapter = hub.get("/adapters/demo/tiny").json()

    assert adapter["base"] == {"name": "acme/encoder", "fingerprint": fingerprint}
    assert adapter["task"] == {"kind": "text-classification", "labels": ["x", "y"]}
    assert adapter["latest"] == 2
    assert adapter["updated_at"] > adapter["created_at"]
    assert [(each["ref"], each["message"]) for each in adapter["versions"]] == [
        ("demo/tiny@v2", "two"),
        ("demo/tiny@v1", "one"),
    ]


def test_a_version_is_found_by_each_of_its_names(hub: Hub) -> None:
    hub.register_base()
    first = hub.push(make_archive(seed=1)).json()
    hub.push(make_archive(seed=2))

    def resolve(selector: str) -> str:
        return str(hub.get(f"/adapters/demo/tiny/versions/{selector}").json()["ref"])

    assert resolve("v1") == resolve(first["commit"]) == resolve(first["digest"]) == "demo/tiny@v1"
    assert resolve(first["digest"].replace(":", "-")) == "demo/tiny@v1"
    assert resolve("v2") == resolve("latest") == "demo/tiny@v2"


def test_a_version_that_is_not_the_pinned_one_is_refused_with_both(hub: Hub) -> None:
    hub.register_base()
    first = hub.push(make_archive(seed=1)).json()
    second = hub.push(make_archive(seed=2)).json()
    path = "/adapters/demo/tiny/versions"

    assert hub.get(f"{path}/v1?digest={first['digest']}").json()["ref"] == "demo/tiny@v1"
    answer = hub.get(f"{path}/v1?digest={second['digest']}")
    assert code_of(answer) == (409, "DIGEST_MISMATCH")
    assert answer.json()["facts"] == {"expected": second["digest"], "got": first["digest"]}
    crossed = hub.get(f"{path}/{first['digest']}?digest={second['digest']}")
    assert code_of(crossed) == (409, "DIGEST_MISMATCH")


def carried(hub: Hub, headers: dict[str, str] | None = None) -> dict[str, bytes] | None:
    """The files that come with the version."""
    answer = hub.get("/adapters/demo/tiny/versions/v1?with_files=true", headers=headers or {})
    assert answer.status_code == 200, answer.text
    content = answer.json()["content"]
    return None if content is None else {path: b64decode(text) for path, text in content.items()}


def test_a_version_brings_its_files_for_whoever_asks_for_them(hub: Hub) -> None:
    hub.register_base()
    archive = make_archive()
    hub.push(archive)

    assert carried(hub) == {path: archive.files[path] for path in (WEIGHTS_FILE, CARD_FILE)}
    assert hub.get("/adapters/demo/tiny/versions/v1").json()["content"] is None


@pytest.mark.parametrize("selector", ["v1", "latest", "prod", "commit", "digest"])
def test_a_version_comes_with_its_files_as_one_body_for_who_accepts_that(hub: Hub, selector: str) -> None:
    hub.register_base()
    archive = make_archive()
    version = hub.push(archive).json()
    assert hub.put("/adapters/demo/tiny/aliases/prod", {"version": "v1"}, hub.headers()).status_code == 201
    path = f"/adapters/demo/tiny/versions/{version.get(selector, selector)}?with_files=true"

    answer = hub.get(path, headers=BUNDLE)

    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPE)
    assert answer.headers["vary"] == "Accept, Authorization"
    said, files = unbundle(answer.content)
    assert said == {key: version[key] for key in ("version", "commit", "digest", "yanked", "deprecated")}
    assert files == {path: data for path, data in archive.files.items() if path != CONFIG_FILE}
    again = hub.get(path, headers=BUNDLE | {"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert hub.get(path).json()["content"].keys() == files.keys() - {MANIFEST_FILE}


def test_a_body_of_files_says_what_became_of_the_version(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive())
    path = "/adapters/demo/tiny/versions/v1"
    hub.put(f"{path}/yank", {"reason": "Wrong data."}, hub.headers())
    hub.put(f"{path}/deprecation", {"message": "Old.", "replacement": None}, hub.headers())

    said, _ = unbundle(hub.get(f"{path}?with_files=true", headers=BUNDLE).content)

    assert (said["yanked"], said["deprecated"]) == ("Wrong data.", {"message": "Old.", "replacement": None})


def test_a_body_of_files_is_given_to_those_alone_who_see_the_version(hub: Hub) -> None:
    hub.register_base()
    first, second = (hub.push(make_archive(seed=seed), visibility="private").json() for seed in (1, 2))
    path = "/adapters/demo/tiny/versions/v1?with_files=true"
    admin = hub.headers("ada")
    with hub.database.writing() as session:
        session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))

    assert hub.get(path, headers=BUNDLE | hub.headers()).status_code == 200
    for stranger in ({}, hub.headers("sam")):
        assert code_of(hub.get(path, headers=BUNDLE | stranger)) == (404, "ADAPTER_UNKNOWN")
    pinned = hub.get(f"{path}&digest={second['digest']}", headers=BUNDLE | hub.headers())
    assert (code_of(pinned), pinned.json()["facts"]["got"]) == ((409, "DIGEST_MISMATCH"), first["digest"])
    hub.client.patch("/api/v1/adapters/demo/tiny", json={"visibility": "public"}, headers=hub.headers())
    assert hub.get(path, headers=BUNDLE).status_code == 200
    assert hub.put("/adapters/demo/tiny/versions/v1/quarantine", {"reason": "No."}, admin).status_code == 200
    assert code_of(hub.get(path, headers=BUNDLE)) == (403, "VERSION_QUARANTINED")
    missing = hub.get(path.replace("v1", "v9"), headers=BUNDLE)
    assert code_of(missing) == (404, "VERSION_UNKNOWN")


def test_files_that_are_too_much_for_an_answer_are_asked_for_one_by_one(sqlite_hub: Hub) -> None:
    modules = tuple((f"layer.{number}", 4096, 4096) for number in range(16))
    sqlite_hub.register_base(make_base(modules))
    assert sqlite_hub.push(make_archive(modules=modules, labels=())).status_code == 201

    assert carried(sqlite_hub) is None
    answer = sqlite_hub.get("/adapters/demo/tiny/versions/v1?with_files=true", headers=BUNDLE)
    assert (answer.headers["content-type"], answer.json()["content"]) == ("application/json", None)


def test_of_an_alias_that_is_not_there_it_is_said_how_it_is_made(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())

    def said(selector: str) -> str:
        return str(sqlite_hub.get(f"/adapters/demo/tiny/versions/{selector}").json()["detail"])

    assert "`vera-hub alias set demo/tiny@v1 prod` makes it" in said("prod")
    assert "alias set" not in said("v2")


@pytest.mark.parametrize("selector", ["v2", "v999999999", "prod", "0" * 40, "sha256:" + "0" * 64])
def test_a_version_that_is_not_there_is_not_found(sqlite_hub: Hub, selector: str) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())

    assert code_of(sqlite_hub.get(f"/adapters/demo/tiny/versions/{selector}")) == (404, "VERSION_UNKNOWN")


@pytest.mark.parametrize("selector", ["v0", "main", "sha256:12", "V1", "v1;", "v1%2fx"])
def test_a_selector_that_selects_nothing_is_refused(sqlite_hub: Hub, selector: str) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())

    assert sqlite_hub.get(f"/adapters/demo/tiny/versions/{selector}").status_code in (404, 422)


def test_an_adapter_that_is_not_there_is_not_found(sqlite_hub: Hub) -> None:
    for path in ("demo/none", "demo/none/versions/v1", f"demo/none/blobs/{'0' * 64}", "UPPER/x", "demo/%2e%2e"):
        assert code_of(sqlite_hub.get(f"/adapters/{path}")) == (404, "ADAPTER_UNKNOWN")


def test_every_file_of_a_version_comes_back_byte_for_byte(hub: Hub) -> None:
    hub.register_base()
    archive = make_archive()
    version = hub.push(archive).json()

    for file in version["files"]:
        answer = hub.get(f"/adapters/demo/tiny/blobs/{file['sha256']}")
        assert answer.content == archive.files[file["path"]]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_blob_is_reached_through_its_own_adapter_alone(hub: Hub) -> None:
    hub.register_base()
    ours = hub.push(make_archive(seed=1), "ours").json()
    theirs = hub.push(make_archive(seed=2), "theirs").json()
    of_theirs = next(file["sha256"] for file in theirs["files"] if file["path"] == MANIFEST_FILE)

    assert code_of(hub.get(f"/adapters/{ours['id']}/blobs/{of_theirs}")) == (404, "BLOB_UNKNOWN")
    assert code_of(hub.get(f"/adapters/{ours['id']}/blobs/{'0' * 64}")) == (404, "BLOB_UNKNOWN")


def test_a_blob_that_rotted_is_not_served(hub: Hub) -> None:
    hub.register_base()
    version = hub.push(make_archive()).json()
    sha256 = next(file["sha256"] for file in version["files"] if file["path"] == WEIGHTS_FILE)
    with hub.database.writing() as session:
        data = bytes(make_archive().files[WEIGHTS_FILE])
        session.execute(update(Blob).where(Blob.sha256 == sha256).values(data=data[:-1] + b"\xff"))

    answer = hub.get(f"/adapters/demo/tiny/blobs/{sha256}")

    assert code_of(answer) == (503, "BLOB_CORRUPT")
    assert answer.json()["retryable"] is False


def test_what_the_client_has_already_is_not_sent_again(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    version = sqlite_hub.push(make_archive()).json()
    blob = f"/adapters/demo/tiny/blobs/{version['files'][0]['sha256']}"

    for path in ("/adapters", "/adapters/demo/tiny", "/adapters/demo/tiny/versions/v1", "/bases", blob):
        first = sqlite_hub.get(path)
        again = sqlite_hub.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = sqlite_hub.get(path, headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)


def test_what_changes_is_asked_for_again(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive(seed=1))
    before = sqlite_hub.get("/adapters/demo/tiny")

    sqlite_hub.push(make_archive(seed=2))

    after = sqlite_hub.get("/adapters/demo/tiny", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["latest"]) == (200, 2)
    assert before.headers["cache-control"] == "no-cache"


def test_a_pull_makes_entities_of_the_adapter_and_the_version_alone(sqlite_hub: Hub) -> None:
    """What else is read takes several times as long that way."""
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())
    author = sqlite_hub.headers()
    assert sqlite_hub.get("/whoami", headers=author).is_success  # a token's first use of a minute is noted

    with statements_given_to(sqlite_hub.database) as given:
        assert sqlite_hub.get("/adapters/demo/tiny/versions/v1?with_files=true", headers=author).json()["content"]

    assert len([each for each in given if each.is_orm_statement]) == 2
