"""The canonical form is one and the same, whoever writes it."""

from __future__ import annotations

import enum

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from vera import canonical_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


class Word(enum.StrEnum):
    SAID = "said"


@given(VALUES)
@example({"\ue000": 1, "\U0001f600": 2})
@example(['\x00\x1f\x7f\u2028/\\"', 1.0, -0.0, 1e21, 2**53 - 1, Word.SAID, {}, []])
def test_it_is_what_the_reference_writes(value: object) -> None:
    assert canonical_json.dumps(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # it is JSON


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), float("nan"), "\ud800", {"a": ["\udfff"]}, {1: 2}, object()],
    ids=["large", "small", "nan", "half", "half within", "key", "object"],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(canonical_json.Impossible):
        canonical_json.dumps(value)
