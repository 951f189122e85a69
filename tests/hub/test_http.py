"""What holds for every request, whatever it asks."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from hub.access.permission import require_declared_actions
from hub.auth.policy import Scope
from hub.db.migrating import migrate
from hub.db.session import Database
from hub.errors import Unavailable
from hub.settings import Settings
from tests.builders import make_archive, make_base
from tests.hub.harness import Hub, code_of, start
from tests.hub.openapi import GOLDEN, described


def test_the_hub_says_that_it_is_there(sqlite_hub: Hub) -> None:
    assert sqlite_hub.client.get("/healthz").json() == {"status": "ok", "version": "0.1.0"}


def test_a_hub_without_its_database_is_there_and_not_ready(
    tmp_path: Path, postgres: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres()
    database = Database(url)
    migrate(database)
    database.close()
    hub = start(Settings(data_dir=tmp_path, database_url=url))
    with hub.client:
        before = hub.client.get("/healthz?ready=true").status_code
        let_nobody_in(url, postgres())
        there, ready = hub.client.get("/healthz"), hub.client.get("/healthz?ready=true")
    hub.database.close()

    assert (before, there.status_code) == (200, 200)
    assert code_of(ready) == (503, "DB_UNAVAILABLE")
    said = [each.said for each in caplog.records if each.name == "hub.db.session"]  # type: ignore[attr-defined]  # as extra
    assert said
    assert "connect" in said[0]


def let_nobody_in(url: str, beside: str) -> None:
    name = make_url(url).database
    other = Database(beside)
    with other.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
        )
    other.close()


def test_a_hub_that_was_closed_is_not_kept(embedded: Settings) -> None:
    hub = start(embedded)
    with hub.client:
        assert hub.client.get("/docs").status_code == 200
    kept = {"app": weakref.ref(hub.app), "engine": weakref.ref(hub.database.engine)}

    del hub
    gc.collect()

    assert [name for name, each in kept.items() if each() is not None] == []


def test_a_token_says_whose_it_is(hub: Hub) -> None:
    answer = hub.get("/whoami", headers=hub.headers("ann"))

    assert answer.json() == {
        "name": "ann",
        "kind": "user",
        "scopes": sorted(scope for scope in Scope if scope != "eval:lease"),
        "organisations": [],
        "restricted_to": None,
        "is_admin": False,
    }


def test_without_a_token_the_hub_does_not_know_who_asks(sqlite_hub: Hub) -> None:
    assert code_of(sqlite_hub.get("/whoami")) == (401, "TOKEN_MISSING")


def test_a_revoked_token_is_refused_from_the_next_request_on(hub: Hub) -> None:
    headers = hub.headers()
    assert hub.get("/whoami", headers=headers).status_code == 200

    hub.change_tokens(revoked_at=datetime.now(UTC))

    assert code_of(hub.get("/whoami", headers=headers)) == (401, "TOKEN_INVALID")


def test_an_expired_token_is_refused(hub: Hub) -> None:
    headers = hub.headers()

    hub.change_tokens(expires_at=datetime.now(UTC) - timedelta(seconds=1))

    assert code_of(hub.get("/whoami", headers=headers)) == (401, "TOKEN_INVALID")


@pytest.mark.parametrize("header", ["Basic ZGVtbzpkZW1v", "Bearer", "Bearer ", "vhp_x"])
def test_a_bad_token_is_refused_even_where_none_is_needed(sqlite_hub: Hub, header: str) -> None:
    assert code_of(sqlite_hub.get("/adapters", headers={"Authorization": header})) == (401, "TOKEN_INVALID")


def test_the_use_of_a_token_is_remembered(hub: Hub) -> None:
    headers = hub.headers()
    hub.get("/whoami", headers=headers)

    with hub.database.reading() as session:
        used = session.connection().exec_driver_sql("SELECT last_used_at FROM tokens").scalar()
    assert used is not None


def test_an_address_that_is_not_there_is_a_problem_too(sqlite_hub: Hub) -> None:
    assert code_of(sqlite_hub.get("/nothing")) == (404, "ROUTE_UNKNOWN")


def test_a_parameter_that_an_address_does_not_read_is_refused_and_named(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())
    sqlite_hub.put("/adapters/demo/tiny/aliases/production", {"version": "v1"}, sqlite_hub.headers())

    history = sqlite_hub.get("/adapters/demo/tiny/aliases/production/history?limit=1&since=v1")
    now = sqlite_hub.get("/adapters/demo/tiny/aliases/production?at=2020-01-01")

    assert code_of(history) == code_of(now) == (422, "PARAMETER_UNKNOWN")
    assert history.json()["facts"] == {"name": "since", "known": ["cursor", "limit"]}
    assert "'since': those that it has are cursor, limit." in history.json()["detail"]
    assert "'at': it has none." in now.json()["detail"]


def test_no_operation_reads_over_a_parameter_that_it_does_not_know(sqlite_hub: Hub) -> None:
    """Nor does any, with a token or without."""
    operations = [(m, p) for p, known in sqlite_hub.app.openapi()["paths"].items() for m in known if "/api/v1" in p]

    for method, path in operations:
        address = re.sub(r"\{.*?\}", "x", path)
        answer = sqlite_hub.client.request(method.upper(), f"{address}?no_such=1")
        assert answer.status_code == 422, (method, path)
        assert method == "head" or answer.json()["code"] == "PARAMETER_UNKNOWN", (method, path)
    assert len(operations) > 80


def test_a_parameter_that_comes_twice_is_refused_unless_there_may_be_several(sqlite_hub: Hub) -> None:
    answer = sqlite_hub.get("/adapters?tag=a&tag=b&limit=1&limit=2")

    assert code_of(answer) == (422, "PARAMETER_REPEATED")
    assert answer.json()["facts"] == {"name": "limit"}
    assert sqlite_hub.get("/adapters?tag=a&tag=b&limit=2").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/", "/leaderboards", "/docs"])
def test_pages_read_over_what_they_do_not_know(sqlite_hub: Hub, path: str) -> None:
    assert sqlite_hub.client.get(f"{path}?utm_source=x&utm_source=y").status_code == 200


def test_a_method_that_is_not_there_is_a_problem_too(sqlite_hub: Hub) -> None:
    answer = sqlite_hub.client.delete("/api/v1/bases")

    assert code_of(answer) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"]


def test_a_request_keeps_its_own_id_when_that_is_harmless(sqlite_hub: Hub) -> None:
    given = sqlite_hub.get("/adapters", headers={"X-Request-Id": "my-request-17"})
    made = sqlite_hub.get("/adapters", headers={"X-Request-Id": "evil\\nline"})

    assert given.headers["x-request-id"] == "my-request-17"
    assert made.headers["x-request-id"] != "evil\\nline"


def test_every_answer_may_neither_run_nor_be_framed(sqlite_hub: Hub) -> None:
    for path in ("/healthz", "/api/v1/adapters", "/api/v1/none", "/openapi.json", "/docs", "/"):
        headers = sqlite_hub.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.test", "127.0.0.1.evil.test", "", "hub.example.org:80", "192.0.2.7",
        "localhost:80@evil.test", "localhost:x", "[::1", "[::1]@evil.test", "localhost:80/x", "localhost:123456",
    ],
)  # fmt: skip
def test_a_name_that_is_not_the_hubs_is_not_answered(sqlite_hub: Hub, host: str) -> None:
    answer = sqlite_hub.client.get("/api/v1/adapters", headers={"Host": host})

    assert code_of(answer) == (400, "HOST_INVALID")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_loopback_names_are_answered(sqlite_hub: Hub, host: str) -> None:
    assert sqlite_hub.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_the_public_name_is_answered(embedded: Settings) -> None:
    settings = embedded.model_copy(
        update={"public_url": "https://hub.example.org", "allowed_hosts": ("hub",), "host": "0.0.0.0"}
    )
    hub = start(settings)

    def status(host: str) -> int:
        return hub.client.get("/healthz", headers={"Host": host}).status_code

    assert [status(host) for host in ("hub.example.org", "hub:8000", "192.0.2.7:8000", "evil.test")] == [
        200,
        200,
        200,
        400,
    ]
    hub.database.close()


@pytest.mark.parametrize("address", ["/adapters/a%00b/c", "/adapters?search=%00", "/bases/%00"])
def test_nul_is_refused_wherever_it_stands(hub: Hub, address: str) -> None:
    assert code_of(hub.get(address)) == (400, "ADDRESS_INVALID")


def test_a_compressed_body_is_refused(sqlite_hub: Hub) -> None:
    headers = {**sqlite_hub.headers(), "Content-Encoding": "gzip"}

    assert code_of(sqlite_hub.push(make_archive(), headers=headers)) == (415, "UNSUPPORTED_FORMAT")
    assert code_of(sqlite_hub.post("/bases", {}, headers)) == (415, "UNSUPPORTED_FORMAT")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/mixed; boundary=x", ""])
def test_a_push_that_is_not_multipart_is_refused(sqlite_hub: Hub, content_type: str) -> None:
    headers = {**sqlite_hub.headers(), "Content-Type": content_type}

    answer = sqlite_hub.client.post("/api/v1/adapters/demo/tiny/versions", content=b"{}", headers=headers)

    assert code_of(answer) == (415, "UNSUPPORTED_FORMAT")


def test_a_json_body_of_another_type_is_refused(sqlite_hub: Hub) -> None:
    headers = {**sqlite_hub.headers(), "Content-Type": "text/plain"}

    answer = sqlite_hub.client.post("/api/v1/bases", content=b"{}", headers=headers)

    assert code_of(answer) == (415, "UNSUPPORTED_FORMAT")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "JSON_INVALID"),
        (b"{", 400, "JSON_INVALID"),
        (b'{"ref": NaN}', 400, "JSON_INVALID"),
        (b'{"ref": 1e999}', 400, "JSON_INVALID"),
        (b'{"ref": "a", "ref": "b"}', 400, "JSON_INVALID"),
        (b'{"ref": ' + b"9" * 5000 + b"}", 400, "JSON_INVALID"),
        (b"[" * 100_000, 400, "JSON_INVALID"),
        (b"\xff\xfe", 400, "JSON_INVALID"),
        (b'{"ref": "\\u0000", "suite": "x"}', 400, "JSON_INVALID"),
        (b'{"ref": "\\ud800", "suite": "x"}', 400, "JSON_INVALID"),
        (b"[]", 422, "BODY_INVALID"),
        (b'{"ref": "a/b"}', 422, "BODY_INVALID"),
        (b'{"ref": 1, "suite": "a/b"}', 422, "BODY_INVALID"),
        (b'{"ref": "a/b", "suite": "a/b", "admin": true}', 422, "BODY_INVALID"),
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_refused(sqlite_hub: Hub, body: bytes, status: int, code: str) -> None:
    headers = {**sqlite_hub.headers(), "Content-Type": "application/json"}

    assert code_of(sqlite_hub.client.post("/api/v1/evaluations", content=body, headers=headers)) == (status, code)


def test_a_body_beyond_its_size_is_refused_by_what_it_says_and_by_what_it_is(embedded: Settings) -> None:
    hub = start(embedded.model_copy(update={"max_json_bytes": 1000, "max_push_bytes": 2000}))
    headers = {**hub.headers(), "Content-Type": "application/json"}

    def chunks() -> Iterator[bytes]:
        yield from [b" " * 100] * 100

    said = hub.client.post("/api/v1/evaluations", content=b" " * 1001, headers=headers)
    counted = hub.client.post("/api/v1/evaluations", content=chunks(), headers=headers)
    pushed = hub.push(make_archive())

    for answer in (said, counted, pushed):
        assert code_of(answer) == (413, "BODY_TOO_LARGE")
    hub.database.close()


def test_nobody_sends_a_body_before_showing_a_token(sqlite_hub: Hub) -> None:
    """The push is refused though its body never comes."""
    sent = []

    def body() -> Iterator[bytes]:
        sent.append(True)
        yield b""

    for path in ("adapters/demo/tiny/versions", "bases", "evaluations", "worker/claims"):
        answer = _answer_without_body(sqlite_hub.app, f"/api/v1/{path}")
        assert answer == 401


def _answer_without_body(app: FastAPI, path: str) -> int:
    """The status of a POST whose body must not be asked for."""
    import asyncio

    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"1000000")],
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "root_path": "",
    }
    asyncio.run(app(scope, receive, send))
    return statuses[0]


def test_an_answer_leaves_after_the_commit_and_not_before(sqlite_hub: Hub) -> None:
    headers, table = sqlite_hub.headers(), make_base().to_rows()

    def fail(_: Session) -> None:
        raise Unavailable("The commit failed.", code="DB_UNAVAILABLE")

    event.listen(Session, "before_commit", fail)
    try:
        answers = [
            sqlite_hub.post("/bases", {"name": "x", "tensors": table}, headers),
            sqlite_hub.push(make_archive(), headers=headers),
        ]
    finally:
        event.remove(Session, "before_commit", fail)

    assert code_of(answers[0]) == (503, "DB_UNAVAILABLE")
    assert answers[0].headers["retry-after"] == "1"
    assert not answers[1].is_success
    assert sqlite_hub.get("/bases").json()["items"] == []


def test_a_mistake_of_ours_is_a_plain_500_with_the_id_that_the_log_has(embedded: Settings) -> None:
    hub = start(embedded)

    @hub.app.get("/broken")
    def broken() -> None:
        raise ValueError("secret detail")

    answer = hub.client.get("/broken")
    page = hub.client.get("/broken", headers={"Accept": "text/html"})
    hub.database.close()
    last = hub.client.get("/broken", headers={"Accept": "text/html"})

    assert code_of(answer) == (500, "INTERNAL")
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert page.headers["x-request-id"] in page.text
    assert last.status_code == 500  # even where a page cannot be made
    assert "secret" not in answer.text + page.text + last.text


def test_a_browser_gets_a_page_where_a_program_gets_a_problem(sqlite_hub: Hub) -> None:
    page = sqlite_hub.client.get("/demo/none", headers={"Accept": "text/html"})

    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert code_of(sqlite_hub.client.get("/demo/none")) == (404, "ADAPTER_UNKNOWN")


def test_the_hub_does_not_start_with_a_route_that_declares_no_action() -> None:
    app, router = FastAPI(), APIRouter()

    @router.get("/open-door")
    def open_door() -> None: ...

    app.include_router(router)

    with pytest.raises(RuntimeError, match="/open-door"):
        require_declared_actions(app)


def test_the_description_covers_every_operation_and_body(sqlite_hub: Hub) -> None:
    description = sqlite_hub.client.get("/openapi.json").json()

    push = description["paths"]["/api/v1/adapters/{namespace}/{name}/versions"]["post"]
    parts = push["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(parts) == {
        "vera.json",
        "adapter_model.safetensors",
        "adapter_config.json",
        "README.md",
        "message",
        "visibility",
        "prerelease",
        "parent",
        "source_commit",
        "source_run",
    }
    assert push["security"] == [{"token": []}]
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert operation["responses"]["default"]["content"].keys() == {"application/problem+json"}
            has_body = method in ("post", "put", "patch") and not path.endswith(
                ("/accept", "/decline", "/codes", "/replay", "/cancel", "/secret")
            )
            assert has_body == ("requestBody" in operation), path
    references = str(description).split("#/components/schemas/")[1:]
    for reference in references:
        assert reference.partition("'")[0] in description["components"]["schemas"]


def test_the_api_is_what_it_was(embedded: Settings) -> None:
    """Programs are written against it: what changes here is for `git diff` to show, and for a reviewer to want."""
    assert described(embedded) == GOLDEN.read_text(), (
        "If it is meant to: python -m tests.hub.openapi, and look at the diff."
    )


def test_the_reference_page_says_which_operations_need_a_token(sqlite_hub: Hub) -> None:
    rows = sqlite_hub.client.get("/docs").text.split("<tr>")
    operation = "{} /api/v1/adapters/{{namespace}}/{{name}}/aliases/{{alias}}</code>"
    reading, pushing = (next(row for row in rows if operation.format(method) in row) for method in ("GET", "PUT"))

    assert "token" not in reading.partition('<span class="sub">')[0]
    assert "token" in pushing.partition('<span class="sub">')[0]


def test_the_reference_page_lists_the_operations_and_loads_nothing_from_elsewhere(sqlite_hub: Hub) -> None:
    page = sqlite_hub.client.get("/docs").text

    assert "POST /api/v1/adapters/{namespace}/{name}/versions" in page
    assert "<script" not in page
    assert "://" not in page


def test_what_a_stranger_writes_does_not_become_markup(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base(make_base(), "<img src=x onerror=alert(1)>")

    assert "<img src=x" not in sqlite_hub.client.get("/bases", headers={"Accept": "text/html"}).text


@pytest.mark.parametrize("address", ["/api", "/api/models", "/api/models/", "/api/datasets"])
def test_a_method_that_an_address_of_the_other_wire_does_not_have_is_refused(sqlite_hub: Hub, address: str) -> None:
    for method in ("HEAD", "PUT"):
        assert sqlite_hub.client.request(method, address).status_code in (404, 405)
