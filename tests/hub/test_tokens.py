"""Tokens: their form, what may be kept of them, who may do what."""

from __future__ import annotations

import re

import pytest

from hub.auth.policy import Action, Principal, Scope, authorize
from hub.auth.tokens import TokenKind, hash_of, is_well_formed, mint, redact
from hub.domain.accounts import user_name_from
from hub.errors import Forbidden, Unauthorized
from tests.hub.harness import Hub
from vera.ref import check_namespace


@pytest.mark.parametrize("kind", list(TokenKind))
def test_a_token_has_its_kind_40_random_digits_and_a_checksum(kind: TokenKind) -> None:
    token = mint(kind)

    assert re.fullmatch(rf"vh{kind}_[0-9A-Za-z]{{46}}", token)
    assert is_well_formed(token)
    assert mint(kind) != token


def test_a_token_with_one_wrong_digit_is_not_one() -> None:
    token = mint(TokenKind.PERSONAL)

    for at in range(4, len(token)):
        wrong = token[:at] + ("a" if token[at] != "a" else "b") + token[at + 1 :]
        assert not is_well_formed(wrong)


@pytest.mark.parametrize("text", ["", "vhp_", "vhx_" + "0" * 46, "vhp_" + "٠" * 46, "vhp_" + "0" * 45 + "\n"])
def test_garbage_is_not_a_token(text: str) -> None:
    assert not is_well_formed(text)


def test_a_log_line_keeps_nothing_of_a_token_but_its_kind() -> None:
    token = mint(TokenKind.WORKER)

    assert redact(f'{{"header": "Bearer {token}"}}') == '{"header": "Bearer vhw_…"}'


def test_the_hub_keeps_the_hash_of_a_token_and_not_the_token(sqlite_hub: Hub) -> None:
    token = sqlite_hub.token()

    with sqlite_hub.database.reading() as session:
        row = session.connection().exec_driver_sql("SELECT * FROM tokens").mappings().one()
    assert row["hash"] == hash_of(token)
    assert token not in str(dict(row))
    assert row["last4"] == token[-4:]


USER = Principal(1, 1, "ann", "user", frozenset({Scope.PUSH, Scope.SUBMIT}))
WORKER = Principal(2, 2, "ann", "worker", frozenset({Scope.LEASE}))
MAY: dict[Action, tuple[bool, bool, bool]] = {
    # action: (nobody, a user, a worker)
    Action.READ: (True, True, True),
    Action.IDENTIFY: (False, True, True),
    Action.REGISTER_BASE: (False, True, False),
    Action.PUSH: (False, True, False),
    Action.REQUEST_EVALUATION: (False, True, False),
    Action.EVALUATE: (False, False, True),
}


@pytest.mark.parametrize("action", list(Action))
def test_who_may_do_what(action: Action) -> None:
    for principal, may in zip((None, USER, WORKER), MAY[action], strict=True):
        if may:
            authorize(principal, action, "ann")
        else:
            with pytest.raises((Unauthorized, Forbidden)):
                authorize(principal, action, "ann")


def test_a_push_is_into_the_own_namespace() -> None:
    with pytest.raises(Forbidden, match="ann may not push to bob"):
        authorize(USER, Action.PUSH, "bob")


@pytest.mark.parametrize(
    ("system_name", "user"),
    [
        ("demo", "demo"),
        ("Jane.Doe", "jane-doe"),
        ("DOMAIN\\jd", "domain-jd"),
        ("", "local"),
        ("admin", "local-admin"),
        ("ü", "local"),
        ("x" * 60, "x" * 39),
    ],
)
def test_the_system_user_name_becomes_a_valid_one(system_name: str, user: str) -> None:
    assert user_name_from(system_name) == user
    check_namespace(user)
