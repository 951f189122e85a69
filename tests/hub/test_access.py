"""Who reaches what, on every route there is: generated from the routes, so that a new one is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction, isfunction
from pathlib import Path

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext

from hub.access.permission import declared_action, routes_of
from hub.auth.policy import RULES, Action, Role, Scope
from hub.auth.tokens import TokenKind
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, start

MEMBERS = {"rita": "reader", "pia": "publisher", "max": "maintainer"}
ROLES: dict[str, Role | None] = {
    "sam": None,
    **{user: Role(role) for user, role in MEMBERS.items()},
    "olga": Role.OWNER,
}
PEOPLE = ["nobody", *ROLES, "bench"]

# What the domain asks for beyond the route's own action: taking out somebody else.
BEYOND = {("DELETE", "/api/v1/orgs/{namespace}/members/{user}"): Action.MANAGE_ORGANISATION}
# What is well formed, by the end of the path: who may not do something is told so all the same.
BODIES: dict[str, dict[str, object]] = {
    "yank": {"reason": "worse"},
    "quarantine": {"reason": "worse"},
    "deprecation": {"message": "old"},
    "{alias}": {"version": "v1"},
    "promotions": {"evaluation": "1", "minimum": "accuracy>=0"},
    "{user}": {"state": "accepted"},
    "handle": {"user": "nobody-here", "status": "accepted"},
    "move": {"to": "acme/open"},
    "grant": {"user": "nobody-here"},
    "{revision}": {"tag": "prod", "files": []},
}
QUERIES = {
    ("DELETE", "{selector}"): "?reason=worse",
    ("GET", "at"): "?time=2026-01-01T00:00:00Z",
    ("GET", "diff"): "?against=v1",
}


@dataclass(frozen=True)
class Stage:
    """acme, with acme/open, acme/closed, and everybody in it."""

    hub: Hub
    headers: Mapping[str, Mapping[str, str]]
    values: Mapping[str, str]
    scored: str

    def ask(self, method: str, path: str, who: str, adapter: str) -> str:
        """ "through", or the code of the refusal."""
        address = re.sub(r"\{(\w+)\}", lambda match: {**self.values, "name": adapter}[match[1]], path)
        body = BODIES.get(path.rpartition("/")[2], {})
        if method == "PATCH":
            body = {"visibility": "private" if adapter == "closed" else "public"}
        address += QUERIES.get((method, path.rpartition("/")[2]), "")
        answer = self.hub.client.request(
            method, address, headers=self.headers[who], **({} if method in ("GET", "DELETE") else {"json": body})
        )
        refusals = {401: None, 403: None, 404: "ADAPTER_UNKNOWN"}
        assert answer.status_code < 500, answer.text
        if answer.status_code not in refusals:
            return "through"
        code = str(answer.json()["code"])
        return code if refusals[answer.status_code] in (None, code) else "through"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    hub = start(Settings(data_dir=tmp_path_factory.mktemp("access")))
    hub.register_base()
    hub.found("acme", **MEMBERS)
    worker, olga = hub.worker(), hub.headers("olga")
    for seed, (name, visibility) in enumerate([("open", "public"), ("closed", "private")]):
        pushed = hub.push(make_archive(seed=seed), name, user="acme", headers=olga, visibility=visibility)
        assert pushed.status_code == 201, pushed.text
        worker.finish(worker.must_claim())
    version = hub.get("/adapters/acme/closed/versions/v1", headers=olga).json()
    values = {
        "namespace": "acme",
        "organisation": "acme",
        "user": "nobody-here",
        "publisher_id": "1",
        "webhook_id": "1",
        "delivery_id": "1",
        "selector": "v2",
        "alias": "prod",
        "tag": "prod",
        "branch": "dev",
        "revision": "v1",
        "state": "pending",
        "sha256": version["files"][0]["sha256"],
    }
    headers = {who: hub.headers(who) for who in ROLES} | {"nobody": {}}
    headers["bench"] = hub.headers("bench", TokenKind.WORKER)
    yield Stage(hub, headers, values, version["evaluations"][0]["id"])
    hub.database.close()


def expected(action: Action, who: str, adapter: str) -> str:
    """What the rules say comes of it."""
    rule, role = RULES[action], ROLES.get(who)
    is_hidden = adapter == "closed" and role is None
    if rule.is_open:
        return "ADAPTER_UNKNOWN" if is_hidden else "through"
    if who == "nobody":
        return "TOKEN_MISSING"
    if rule.is_for_admins:
        return "ADMIN_ONLY"
    if who == "bench" and rule.scope is not Scope.LEASE:
        return "SCOPE_INSUFFICIENT"
    if (rule.role is None and not is_hidden) or (role is not None and role.covers(rule.role)):
        return "through"
    return "ADAPTER_UNKNOWN" if is_hidden and not rule.is_about_a_namespace else "FORBIDDEN"


def addressed(app_routes: list[RouteContext]) -> Iterator[tuple[str, str, Action]]:
    """The routes of the API that lead to a namespace or an adapter: method, path and what is asked for."""
    for route in app_routes:
        path, action = str(route.path), declared_action(route.dependant)
        assert action is not None
        if path.startswith("/api/") and "{namespace}" in path:
            yield from ((method, path, BEYOND.get((method, path), action)) for method in route.methods or ())


@pytest.mark.parametrize("adapter", ["open", "closed"])
@pytest.mark.parametrize("who", PEOPLE)
def test_everybody_reaches_what_the_rules_say_and_nothing_else(stage: Stage, who: str, adapter: str) -> None:
    routes = list(addressed(routes_of(stage.hub.app)))
    assert len(routes) >= 24
    for method, path, action in routes:
        is_of_adapter = "{name}" in path
        if not is_of_adapter and adapter == "closed":
            continue
        wanted = expected(action, who, adapter if is_of_adapter else "open")
        assert stage.ask(method, path, who, adapter) == wanted, (method, path, who, adapter)


def test_without_a_token_with_a_code_and_as_no_admin_one_gets_nowhere(stage: Stage) -> None:
    code = stage.hub.headers("sam", TokenKind.BOOTSTRAP)
    for route in routes_of(stage.hub.app):
        path, action = str(route.path), declared_action(route.dependant)
        assert action is not None
        rule = RULES[action]
        if not path.startswith("/api/") or rule.is_open:
            continue
        for method in route.methods or ():
            address = re.sub(r"\{\w+\}", "1", path)
            people = {"nobody": {}, "code": code, "sam": stage.hub.headers("sam")}  # some routes end the token
            refused = {
                who: stage.hub.client.request(method, address, headers=headers) for who, headers in people.items()
            }
            assert refused["nobody"].json()["code"] == "TOKEN_MISSING", path
            if not rule.is_for_codes:
                assert refused["code"].json()["code"] == "CODE_MISUSED", path
            if rule.is_for_admins:
                assert refused["sam"].json()["code"] == "ADMIN_ONLY", path


def test_hidden_and_missing_are_the_same_bytes(stage: Stage) -> None:
    for who in ("nobody", "sam"):
        for path in ("", "/versions/v1", "/versions/latest", f"/blobs/{stage.values['sha256']}"):
            hidden, missing = (
                stage.hub.get(
                    f"/adapters/acme/{name}{path}",
                    headers={**stage.headers[who], "X-Request-Id": "the-same-one", "If-None-Match": "*"},
                )
                for name in ("closed", "absent")
            )
            assert hidden.status_code == 404
            assert hidden.content.replace(b"closed", b"absent") == missing.content
            assert dict(hidden.headers) == dict(missing.headers)


def test_a_private_adapter_is_in_no_list_of_a_stranger(stage: Stage) -> None:
    for who in ("nobody", "sam", "bench"):
        headers = stage.headers[who]
        for path in (
            "/adapters",
            "/adapters?search=closed",
            "/adapters?owner=acme&sort=name",
            "/leaderboards/demo/topics",
            "/leaderboards/demo/topics/history",
        ):
            assert "acme/closed" not in stage.hub.get(path, headers=headers).text, (who, path)
        assert [base["adapter_count"] for base in stage.hub.get("/bases", headers=headers).json()["items"]] == [1]
        evaluation = stage.hub.get(f"/evaluations/{stage.scored}", headers=headers)
        assert (evaluation.status_code, evaluation.json()["code"]) == (404, "EVALUATION_UNKNOWN")
        comparison = stage.hub.get(f"/evaluations/{stage.scored}/comparison?against={stage.scored}", headers=headers)
        assert comparison.status_code == 404
    board = "/leaderboards/demo/topics"
    for page in ("/", "/?search=closed", "/?owner=acme", board, f"{board}/history", f"{board}/export.csv", "/bases"):
        assert "acme/closed" not in stage.hub.client.get(page).text, page
    assert stage.hub.client.get("/acme/closed").status_code == 404
    assert stage.hub.client.head("/acme/closed/v1").status_code == 404


def test_a_private_adapter_is_there_for_its_people(stage: Stage) -> None:
    headers = stage.headers["rita"]

    assert len(stage.hub.get("/adapters?owner=acme", headers=headers).json()["items"]) == 2
    assert "acme/closed" in stage.hub.get("/leaderboards/demo/topics", headers=headers).text
    assert stage.hub.get("/bases", headers=headers).json()["items"][0]["adapter_count"] == 2
    assert stage.hub.get(f"/evaluations/{stage.scored}", headers=headers).status_code == 200


def test_what_is_private_is_kept_by_no_cache(stage: Stage) -> None:
    blob = f"/adapters/acme/closed/blobs/{stage.values['sha256']}"
    for path in ("/adapters/acme/closed", "/adapters", blob):
        answer = stage.hub.get(path, headers=stage.headers["rita"])
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.headers["vary"] == "Authorization"


def test_asking_for_an_evaluation_of_what_is_hidden_is_asking_for_nothing(stage: Stage) -> None:
    body = {"ref": "acme/closed@v1", "suite": "demo/topics"}
    answer = stage.hub.post("/evaluations", body, stage.headers["sam"])
    assert (answer.status_code, answer.json()["code"]) == (404, "ADAPTER_UNKNOWN")


def test_a_worker_reads_a_private_adapter_while_it_holds_its_job_and_no_longer(sqlite_hub: Hub, tmp_path: Path) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive(), "closed", visibility="private")
    path = "/adapters/demo/closed/versions/v1"
    assert sqlite_hub.get(path, headers=worker.headers).status_code == 404

    job = worker.must_claim()
    version = sqlite_hub.get(path, headers=worker.headers)
    assert version.status_code == 200
    blob = f"/adapters/demo/closed/blobs/{version.json()['files'][0]['sha256']}"
    assert sqlite_hub.get(blob, headers=worker.headers).status_code == 200
    another = sqlite_hub.headers("another-host", TokenKind.WORKER)
    assert sqlite_hub.get(path, headers=another).status_code == 404
    assert sqlite_hub.get(blob, headers=another).status_code == 404

    worker.finish(job)
    assert sqlite_hub.get(path, headers=worker.headers).status_code == 404


def test_no_dependency_takes_a_thread_but_one_that_reads_the_database_or_asks_another_machine(sqlite_hub: Hub) -> None:
    """Handing something to a thread takes longer than most dependencies themselves."""
    calls = {each.call for route in routes_of(sqlite_hub.app) for each in _dependencies(route.dependant)}
    plain = {call.__name__ for call in calls if isfunction(call) and not iscoroutinefunction(call)}
    assert plain == {"read_session", "reachable"}


def _dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _dependencies(each)
