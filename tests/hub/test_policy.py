"""Who may do what: the rules, without a database."""

from __future__ import annotations

import pytest

from hub.auth.policy import LOGIN_SCOPES, RULES, Action, Grant, Principal, Resource, Role, Scope, authorize, viewer_of
from hub.db.queries.visibility import Viewer
from hub.errors import Forbidden, NotFound, Unauthorized


def somebody(role: Role | None = None, **changes: object) -> Principal:
    """ann, with this role in acme."""
    grants = (Grant(1, "ann", Role.OWNER), *((Grant(2, "acme", role),) if role else ()))
    values = {"account_id": 1, "token_id": 1, "name": "ann", "kind": "user", "scopes": frozenset(LOGIN_SCOPES)}
    return Principal(**{**values, "grants": grants, **changes})  # type: ignore[arg-type]


WORKER = Principal(3, 3, "bench", "worker", frozenset({Scope.LEASE}))
ACME = Resource("acme", "topics")
HIDDEN = Resource("acme", "topics", is_private=True)

# The least role in the namespace, for the actions that need one.
LEAST = {
    Action.PUSH: Role.PUBLISHER,
    Action.CREATE_ADAPTER: Role.MAINTAINER,
    Action.MANAGE_ADAPTER: Role.MAINTAINER,
    Action.READ_ORGANISATION: Role.READER,
    Action.LEAVE_ORGANISATION: Role.READER,
    Action.MANAGE_ORGANISATION: Role.OWNER,
    Action.MANAGE_SERVICE_TOKENS: Role.OWNER,
    Action.MANAGE_PUBLISHERS: Role.MAINTAINER,
}


def test_every_action_has_a_rule() -> None:
    assert set(RULES) == set(Action)


@pytest.mark.parametrize("action", list(Action))
def test_without_a_token_one_reads_and_nothing_else(action: Action) -> None:
    if RULES[action].is_open:
        authorize(None, action, ACME)
        return
    with pytest.raises(Unauthorized):
        authorize(None, action, ACME)


@pytest.mark.parametrize("role", [None, *Role])
@pytest.mark.parametrize("action", list(LEAST))
def test_a_role_may_what_it_covers(action: Action, role: Role | None) -> None:
    if role is not None and role.covers(LEAST[action]):
        authorize(somebody(role), action, ACME)
        return
    with pytest.raises(Forbidden, match="acme"):
        authorize(somebody(role), action, ACME)


@pytest.mark.parametrize("action", list(Action))
def test_what_is_hidden_is_not_found_whatever_is_asked(action: Action) -> None:
    for stranger in (None, somebody()):
        with pytest.raises(NotFound) as refused:
            authorize(stranger, action, HIDDEN)
        assert refused.value.code == "ADAPTER_UNKNOWN"


@pytest.mark.parametrize("action", [action for action, rule in RULES.items() if rule.scope and not rule.is_for_admins])
def test_a_token_may_only_what_it_was_given_for(action: Action) -> None:
    bare = somebody(Role.OWNER, scopes=frozenset(set(LOGIN_SCOPES) - {RULES[action].scope}))

    with pytest.raises(Forbidden) as refused:
        authorize(bare, action, ACME)
    assert refused.value.code == "SCOPE_INSUFFICIENT"


def test_a_member_whose_token_reads_nothing_private_sees_nothing_private() -> None:
    with pytest.raises(NotFound):
        authorize(somebody(Role.OWNER, scopes=frozenset({Scope.SUBMIT})), Action.READ, HIDDEN)


def test_a_restricted_token_stays_where_it_belongs() -> None:
    restricted = somebody(Role.OWNER, restricted_to=frozenset({"acme/topics"}))

    authorize(restricted, Action.PUSH, ACME)
    authorize(restricted, Action.READ, HIDDEN)
    with pytest.raises(Forbidden) as refused:
        authorize(restricted, Action.PUSH, Resource("acme", "other"))
    assert refused.value.code == "TOKEN_RESTRICTED"
    with pytest.raises(NotFound):
        authorize(restricted, Action.READ, Resource("acme", "other", is_private=True))


def test_what_is_gated_is_seen_and_its_files_are_not_given() -> None:
    gated = Resource("acme", "topics", is_gated=True)
    for principal in (None, somebody()):
        authorize(principal, Action.READ, gated)
        with pytest.raises(Forbidden) as refused:
            authorize(principal, Action.READ_FILES, gated)
        assert refused.value.code == "ADAPTER_GATED"
    with pytest.raises(NotFound):
        authorize(None, Action.READ_FILES, Resource("acme", "topics", is_private=True, is_gated=True))


def test_a_worker_works_and_does_nothing_else() -> None:
    authorize(WORKER, Action.EVALUATE)
    for action in (Action.PUSH, Action.REGISTER_BASE, Action.REQUEST_EVALUATION, Action.MANAGE_ADAPTER):
        with pytest.raises(Forbidden):
            authorize(WORKER, action, Resource("bench", "x"))


@pytest.mark.parametrize(
    ("principal", "viewer"),
    [
        (None, Viewer()),
        (somebody(), Viewer(namespaces=frozenset({1}), account_id=1)),
        (somebody(Role.READER), Viewer(namespaces=frozenset({1, 2}), account_id=1)),
        (somebody(Role.READER, scopes=frozenset({Scope.SUBMIT})), Viewer()),
        (somebody(Role.READER, restricted_to=frozenset({"acme"})), Viewer(namespaces=frozenset({2}))),
        (
            somebody(Role.READER, restricted_to=frozenset({"acme/topics", "elsewhere/x"})),
            Viewer(adapters=frozenset({(2, "topics")})),
        ),
        (WORKER, Viewer(worker_token_id=3)),
    ],
)
def test_a_list_shows_what_authorize_would_let_one_read(principal: Principal | None, viewer: Viewer) -> None:
    assert viewer_of(principal) == viewer
