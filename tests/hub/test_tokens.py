"""Tokens: their form, and what may be kept of them."""

from __future__ import annotations

import json
import re

import pytest

from hub.auth.tokens import WORKER_CODE, TokenKind, hash_of, is_in, is_well_formed, mint, redact
from hub.domain.accounts import user_name_from
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
    assert redact(json.dumps(f"it was\n{token}")) == '"it was\\nvhw_…"'
    assert redact(f"it_was_{token}_") == "it_was_vhw_…_"


def test_a_code_for_a_worker_is_no_token_and_as_secret_as_one() -> None:
    code = mint(WORKER_CODE)

    assert not is_well_formed(code)
    assert is_in(f"?code={code}")
    assert redact(f"vera-hub worker --code {code}") == "vera-hub worker --code vhr_…"


def test_the_hub_keeps_the_hash_of_a_token_and_not_the_token(sqlite_hub: Hub) -> None:
    token = sqlite_hub.token()

    with sqlite_hub.database.reading() as session:
        row = session.connection().exec_driver_sql("SELECT * FROM tokens").mappings().one()
    assert row["hash"] == hash_of(token)
    assert token not in str(dict(row))
    assert row["last4"] == token[-4:]


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
