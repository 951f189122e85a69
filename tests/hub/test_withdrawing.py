"""Versions that are taken back: what is still given out, to whom, and what `latest` means then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from hub.care.checking import check
from hub.db.models.accounts import Account
from hub.db.models.record import AuditEvent
from hub.db.models.versions import Version
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of
from vera.manifest import WEIGHTS_FILE

TINY = "/adapters/demo/tiny"
WORSE = {"reason": "It is worse than v1."}


@pytest.fixture
def three(hub: Hub) -> Hub:
    """demo/tiny with three versions."""
    hub.register_base()
    for seed in (1, 2, 3):
        assert hub.push(make_archive(seed=seed)).status_code == 201
    return hub


def admin_of(hub: Hub) -> dict[str, str]:
    headers = hub.headers("ada")
    with hub.database.writing() as session:
        session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))
    return headers


def latest(hub: Hub) -> str:
    answer = hub.get(f"{TINY}/versions/latest")
    return str(answer.json()["ref"] if answer.status_code == 200 else answer.json()["code"])


def weights_of(hub: Hub, number: int) -> str:
    files = hub.get(f"{TINY}/versions/v{number}").json()["files"]
    return next(file["sha256"] for file in files if file["path"] == WEIGHTS_FILE)


# -- Yank -----------------------------------------------------------------------------------------


def test_a_yanked_version_is_never_the_latest_and_is_given_to_who_names_it(three: Hub) -> None:
    yanked = three.put(f"{TINY}/versions/v3/yank", WORSE, three.headers())

    assert (yanked.status_code, yanked.json()["yanked"]) == (200, "It is worse than v1.")
    assert latest(three) == "demo/tiny@v2"
    assert three.get(TINY).json()["latest"] == 2
    for name in ("v3", yanked.json()["commit"], yanked.json()["digest"]):
        assert three.get(f"{TINY}/versions/{name}").json()["yanked"] == "It is worse than v1."
    assert three.get(f"{TINY}/blobs/{weights_of(three, 3)}").status_code == 200
    assert [each["yanked"] for each in three.get(TINY).json()["versions"]] == ["It is worse than v1.", None, None]


def test_unyanking_makes_it_the_latest_again(three: Hub) -> None:
    three.put(f"{TINY}/versions/v3/yank", WORSE, three.headers())

    answer = three.delete(f"{TINY}/versions/v3/yank", three.headers())

    assert (answer.status_code, answer.json()["yanked"]) == (200, None)
    assert latest(three) == "demo/tiny@v3"


def test_an_adapter_of_which_all_is_yanked_has_no_latest_version_and_still_a_page(three: Hub) -> None:
    for number in (1, 2, 3):
        three.put(f"{TINY}/versions/v{number}/yank", WORSE, three.headers())

    assert latest(three) == "VERSION_UNKNOWN"
    assert three.get(TINY).json()["latest"] is None
    page = three.client.get("/demo/tiny")
    assert page.status_code == 200
    assert "was yanked" in page.text
    assert three.client.get("/").status_code == 200


def test_base_and_task_of_an_adapter_are_those_of_what_is_latest_now(three: Hub) -> None:
    three.push(make_archive(seed=4, labels=("x", "y")))
    assert three.get(TINY).json()["task"]["labels"] == ["x", "y"]

    three.put(f"{TINY}/versions/v4/yank", WORSE, three.headers())

    assert three.get(TINY).json()["task"]["labels"] == ["a", "b"]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "bell\a"])
def test_a_yank_needs_a_reason_that_can_be_shown(sqlite_hub: Hub, reason: str) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())

    answer = sqlite_hub.put(f"{TINY}/versions/v1/yank", {"reason": reason}, sqlite_hub.headers())

    assert code_of(answer) == (422, "REASON_INVALID")


@pytest.mark.parametrize("selector", ["latest", "prod"])
def test_what_moves_is_not_what_is_taken_back(sqlite_hub: Hub, selector: str) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())

    answer = sqlite_hub.put(f"{TINY}/versions/{selector}/yank", WORSE, sqlite_hub.headers())

    assert code_of(answer) == (422, "SELECTOR_MOVES")


def test_a_yanked_version_leaves_the_leaderboard_and_comes_back(three: Hub) -> None:
    worker = three.worker()
    for _ in range(3):
        worker.finish(worker.must_claim())

    def board() -> list[str]:
        return [row["ref"] for row in three.get("/leaderboards/demo/topics").json()["rows"]]

    assert "demo/tiny@v2" in board()
    three.put(f"{TINY}/versions/v2/yank", WORSE, three.headers())
    assert board() == ["demo/tiny@v1", "demo/tiny@v3"]
    three.delete(f"{TINY}/versions/v2/yank", three.headers())
    assert "demo/tiny@v2" in board()


def test_a_version_that_is_given_again_is_evaluated_by_what_came_meanwhile(three: Hub) -> None:
    three.put(f"{TINY}/versions/v3/yank", WORSE, three.headers())
    worker = three.worker()
    assert [worker.must_claim()["ref"], worker.must_claim()["ref"]] == ["demo/tiny@v1", "demo/tiny@v2"]
    assert worker.claim() is None

    three.delete(f"{TINY}/versions/v3/yank", three.headers())

    assert worker.must_claim()["ref"] == "demo/tiny@v3"


def test_every_change_is_in_the_record(three: Hub) -> None:
    headers, admin = three.headers(), admin_of(three)
    three.put(f"{TINY}/aliases/prod", {"version": "v1"}, headers)
    three.delete(f"{TINY}/aliases/prod", headers)
    three.put(f"{TINY}/versions/v3/yank", WORSE, headers)
    three.delete(f"{TINY}/versions/v3/yank", headers)
    three.put(f"{TINY}/versions/v3/deprecation", {"message": "Old."}, headers)
    three.delete(f"{TINY}/versions/v3/deprecation", headers)
    three.put(f"{TINY}/versions/v3/quarantine", WORSE, admin)
    three.delete(f"{TINY}/versions/v3/quarantine", admin)
    delete(three, 3)

    with three.database.reading() as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.chain == "demo").order_by(AuditEvent.number)).all()
        assert [(event.action, event.actor) for event in events[3:]] == [
            ("alias.set", "demo"),
            ("alias.removed", "demo"),
            ("version.yanked", "demo"),
            ("version.unyanked", "demo"),
            ("version.deprecated", "demo"),
            ("version.undeprecated", "demo"),
            ("version.quarantined", "ada"),
            ("version.released", "ada"),
            ("version.deleted", "demo"),
        ]
        assert events[3].facts == {"alias": "prod", "before": None, "after": 1, "protected": False}
        assert (events[5].subject, events[5].facts) == ("demo/tiny@v3", {"reason": "It is worse than v1."})


# -- Deprecate ------------------------------------------------------------------------------------


def test_a_deprecated_version_says_what_to_use_instead(three: Hub) -> None:
    body = {"message": "Trained on too little.", "replacement": "demo/better@v1"}

    answer = three.put(f"{TINY}/versions/v3/deprecation", body, three.headers())

    assert answer.json()["deprecated"] == body
    assert latest(three) == "demo/tiny@v3"  # it is given out as before
    assert three.delete(f"{TINY}/versions/v3/deprecation", three.headers()).json()["deprecated"] is None


def test_a_replacement_that_is_no_reference_is_refused(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())

    body = {"message": "Old.", "replacement": "not a reference"}
    answer = sqlite_hub.put(f"{TINY}/versions/v1/deprecation", body, sqlite_hub.headers())

    assert answer.status_code == 422
    assert sqlite_hub.get(f"{TINY}/versions/v1").json()["deprecated"] is None


# -- Pre-releases ---------------------------------------------------------------------------------


def test_a_prerelease_is_never_the_latest(three: Hub) -> None:
    pushed = three.push(make_archive(seed=4, labels=("x", "y")), prerelease="true")

    assert pushed.json()["prerelease"] is True
    assert latest(three) == "demo/tiny@v3"
    assert three.get(TINY).json()["task"]["labels"] == ["a", "b"]
    three.push(make_archive(seed=5))
    assert latest(three) == "demo/tiny@v5"


def test_the_same_content_does_not_become_a_release_by_being_pushed_again(three: Hub) -> None:
    three.push(make_archive(seed=4), prerelease="true")

    assert three.push(make_archive(seed=4)).status_code == 200
    assert code_of(three.push(make_archive(seed=4), prerelease="false")) == (409, "PRERELEASE_DIFFERS")
    assert code_of(three.push(make_archive(seed=3), prerelease="true")) == (409, "PRERELEASE_DIFFERS")


# -- Quarantine -----------------------------------------------------------------------------------


def test_a_version_in_quarantine_is_given_to_nobody_until_it_is_released(three: Hub) -> None:
    worker, admin, sha256 = three.worker(), admin_of(three), weights_of(three, 3)
    three.put(f"{TINY}/aliases/prod", {"version": "v3"}, three.headers())

    answer = three.put(f"{TINY}/versions/v3/quarantine", {"reason": "Not its author's data."}, admin)

    assert (answer.status_code, answer.json()["quarantined"]) == (200, "Not its author's data.")
    for name in ("v3", "prod", answer.json()["commit"], answer.json()["digest"]):
        refused = three.get(f"{TINY}/versions/{name}", headers=three.headers())
        assert code_of(refused) == (403, "VERSION_QUARANTINED")
        assert "Not its author's data." in refused.json()["detail"]
    assert code_of(three.get(f"{TINY}/blobs/{sha256}")) == (404, "BLOB_UNKNOWN")
    assert three.client.get("/demo/tiny/v3", headers={"Accept": "text/html"}).status_code == 403
    assert latest(three) == "demo/tiny@v2"
    assert [worker.must_claim()["ref"] for _ in range(2)] == ["demo/tiny@v1", "demo/tiny@v2"]
    assert worker.claim() is None
    assert code_of(three.push(make_archive(seed=3))) == (403, "VERSION_QUARANTINED")

    assert three.delete(f"{TINY}/versions/v3/quarantine", admin).status_code == 200
    assert latest(three) == "demo/tiny@v3"
    assert three.get(f"{TINY}/blobs/{sha256}").status_code == 200


def test_a_file_that_another_version_has_too_is_still_given_out(three: Hub) -> None:
    three.push(make_archive(seed=3, card="# Said better\n"))
    sha256 = weights_of(three, 3)

    three.put(f"{TINY}/versions/v4/quarantine", WORSE, admin_of(three))

    assert three.get(f"{TINY}/blobs/{sha256}").status_code == 200


def test_only_an_admin_puts_into_quarantine(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())

    answer = sqlite_hub.put(f"{TINY}/versions/v1/quarantine", WORSE, sqlite_hub.headers())

    assert code_of(answer) == (403, "ADMIN_ONLY")


# -- Delete ---------------------------------------------------------------------------------------


def delete(hub: Hub, number: int, headers: dict[str, str] | None = None) -> Any:
    return hub.delete(f"{TINY}/versions/v{number}?reason=Pushed+by+mistake.", headers or hub.headers())


def test_a_deleted_version_leaves_a_tombstone_and_its_number_and_digest_are_never_given_again(three: Hub) -> None:
    sha256 = weights_of(three, 3)

    assert delete(three, 3).status_code == 204

    refused = three.get(f"{TINY}/versions/v3")
    assert code_of(refused) == (410, "VERSION_DELETED")
    assert "Pushed by mistake." in refused.json()["detail"]
    assert latest(three) == "demo/tiny@v2"
    assert code_of(three.get(f"{TINY}/blobs/{sha256}")) == (404, "BLOB_UNKNOWN")
    assert three.get(TINY).json()["versions"][0]["deleted"] == "Pushed by mistake."
    assert code_of(three.push(make_archive(seed=3))) == (410, "VERSION_DELETED")
    assert three.push(make_archive(seed=4)).json()["ref"] == "demo/tiny@v4"
    assert delete(three, 3).status_code == 204
    for change in ("yank", "deprecation"):
        assert code_of(three.delete(f"{TINY}/versions/v3/{change}", three.headers())) == (410, "VERSION_DELETED")


def test_nothing_is_missing_after_a_deletion_and_the_bytes_are_garbage(three: Hub) -> None:
    delete(three, 3)

    services = three.app.state.services
    found = list(check(services.database, services.objects))

    assert {finding.kind for finding in found} == {"orphan"}
    assert len(found) == 2  # the manifest and the weights: the others have its card and its configuration


def test_what_somebody_else_has_fetched_is_not_the_authors_to_delete(three: Hub) -> None:
    worker = three.worker()
    for reader in (three.headers(), worker.headers):
        three.get(f"{TINY}/blobs/{weights_of(three, 2)}", headers=reader)
    assert delete(three, 2).status_code == 204  # its author and a worker are nobody else

    three.get(f"{TINY}/blobs/{weights_of(three, 3)}")

    assert code_of(delete(three, 3)) == (403, "DELETE_TOO_LATE")
    assert delete(three, 3, admin_of(three)).status_code == 204


def test_after_a_day_a_version_stays(three: Hub) -> None:
    yesterday = datetime.now(UTC) - timedelta(hours=25)
    with three.database.writing() as session:
        session.execute(update(Version).values(created_at=yesterday))

    assert code_of(delete(three, 3)) == (403, "DELETE_TOO_LATE")


def test_an_author_does_not_delete_what_an_alias_means_and_an_admin_takes_the_alias_away(three: Hub) -> None:
    three.put(f"{TINY}/aliases/prod", {"version": "v3"}, three.headers())

    assert code_of(delete(three, 3)) == (409, "VERSION_IN_USE")
    assert delete(three, 3, admin_of(three)).status_code == 204
    assert code_of(three.get(f"{TINY}/aliases/prod")) == (404, "ALIAS_UNKNOWN")
    moves = three.get(f"{TINY}/aliases/prod/history").json()["items"]
    assert [(move["before"], move["after"], move["by"]) for move in moves] == [(3, None, "ada"), (None, 3, "demo")]


# -- Where a version comes from -------------------------------------------------------------------

COMMIT = "1234567890abcdef1234567890abcdef12345678"
RUN = "https://ci.example/acme/topics/runs/7"


def test_a_version_says_where_it_was_made(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()

    pushed = sqlite_hub.push(make_archive(), source_commit=COMMIT, source_run=RUN).json()

    assert pushed["source"] == {"commit": COMMIT, "run": RUN}
    page = sqlite_hub.client.get("/demo/tiny").text
    assert COMMIT in page
    assert f'href="{RUN}"' in page


@pytest.mark.parametrize(
    "said",
    [
        {"source_commit": "1234567"},
        {"source_commit": "HEAD"},
        {"source_run": "javascript:alert(1)"},
        {"source_run": "https://user:secret@ci.example/7"},
        {"source_run": "https://"},
        {"source_run": "https://[x/"},
        {"source_run": 'https://ci.example/"onclick'.replace('"', " ")},
    ],
)
def test_a_source_that_is_none_is_refused(sqlite_hub: Hub, said: dict[str, str]) -> None:
    sqlite_hub.register_base()

    assert code_of(sqlite_hub.push(make_archive(), **said)) == (422, "SOURCE_INVALID")


def test_a_version_is_made_from_the_one_before_it_unless_the_push_says_from_which(three: Hub) -> None:
    three.push(make_archive(seed=4), parent="v1")
    fork = three.push(make_archive(seed=1), "fork", user="ann", parent="demo/tiny@v2").json()

    parents = [three.get(f"{TINY}/versions/v{number}").json()["parent"] for number in (1, 2, 4)]
    assert parents == [None, "demo/tiny@v1", "demo/tiny@v1"]
    assert fork["parent"] == "demo/tiny@v2"


def test_a_parent_that_is_not_there_is_refused_and_a_hidden_one_is_not_shown(three: Hub) -> None:
    three.push(make_archive(seed=9), "hidden", user="ann", visibility="private")
    made = three.push(make_archive(seed=8), "open", user="ann", parent="ann/hidden@v1")
    assert made.json()["parent"] == "ann/hidden@v1"

    assert three.get("/adapters/ann/open/versions/v1").json()["parent"] is None
    assert code_of(three.push(make_archive(seed=7), parent="v9")) == (404, "VERSION_UNKNOWN")
    assert code_of(three.push(make_archive(seed=7), parent="ann/hidden@v1")) == (404, "ADAPTER_UNKNOWN")
