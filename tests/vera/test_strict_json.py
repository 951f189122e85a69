"""Strict JSON: what it reads the standard library reads the same; what is doubtful it refuses."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vera import strict_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_what_the_standard_library_writes_reads_the_same(value: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    read = strict_json.loads(text.encode(), max_depth=50)
    assert read == json.loads(text)
    assert json.dumps(read) == json.dumps(value)  # 1, 1.0 and true are equal, but not the same JSON


@given(value=VALUES)
def test_what_it_writes_reads_back(value: object) -> None:
    assert strict_json.loads(strict_json.dumps(value), max_depth=50) == value


@given(data=st.binary(max_size=40) | st.text('{}[]",:\\u0123456789abdef-.eE \n', max_size=40).map(str.encode))
def test_whatever_it_reads_the_standard_library_reads_the_same(data: bytes) -> None:
    try:
        read = strict_json.loads(data)
    except ValueError:
        return
    assert repr(read) == repr(json.loads(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":2}', "the key 'a' stands in it twice"),
        (b'{"a":1,"\\u0061":2}', "the key 'a' stands in it twice"),
        (b'{"x":[{"b":0,"a":1,"c":2,"a":1}]}', "the key 'a' stands in it twice"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[Infinity]", "Infinity is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"1e999", "1e999 is too large for a number"),
        (b"-1e999", "-1e999 is too large for a number"),
        (b"9" * 400 + b".0", "is too large for a number"),
        (b"9223372036854775808", r"an integer beyond 2\^63 - 1"),
        (b"-9223372036854775808", r"an integer beyond 2\^63 - 1"),
        (b"1" * 5000, r"an integer beyond 2\^63 - 1"),
        (b"[" * 9 + b"]" * 9, "nested more than 8 deep"),
        (b"[" * 1_000_000, "nested more than 8 deep"),
        (b'{"a":' * 100_000, "nested more than 8 deep"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),  # a surrogate written in UTF-8
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udfff":1}', "half of a surrogate pair"),
        (b'["\\udc00\\ud800"]', "half of a surrogate pair"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"", "Expecting value"),
        (b"{}x", "Extra data"),
        (b"{'a':1}", "Expecting property name"),
        (b'{"a":1,}', "Illegal trailing comma|Expecting property name"),
        (b"[01]", "Expecting ',' delimiter"),
        (b'"\n"', "Invalid control character"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_doubtful_json_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strict_json.loads(data)


def test_the_deepest_and_the_largest_that_is_allowed() -> None:
    assert strict_json.loads(b"[" * 8 + b"]" * 8) == [[[[[[[[]]]]]]]]
    assert strict_json.loads(b"[9223372036854775807,-9223372036854775807]") == [2**63 - 1, -(2**63) + 1]
    assert strict_json.loads(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    "text", [r'["[[[[[[[[[[[["]', r'["\"[[[[[[[[[[["]', r'["\\",[[[[[[]]]]]]]', r'{"\\\"{{{{{{{{{":1}']
)
def test_brackets_inside_strings_are_not_depth(text: str) -> None:
    assert strict_json.loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", [r'["\\",[[[[[[[[]]]]]]]]]', r'{"\\\"":[[[[[[[[]]]]]]]]}'])
def test_an_escaped_quote_hides_no_depth(text: str) -> None:
    with pytest.raises(ValueError, match="nested"):
        strict_json.loads(text.encode())


@pytest.mark.parametrize("begins", ['[\\"', '[\\\\"', "\\", '[\\\\\\"', '["a"\\"'])
def test_a_backslash_that_is_in_no_string_is_refused_whatever_comes_after_it(begins: str) -> None:
    for after in ("[" * 100_000, "9" * 5_000, '"' + "[" * 100_000):
        with pytest.raises(ValueError, match=r"nested more than|Expecting|delimiter|Invalid"):
            strict_json.loads((begins + after).encode())


def test_a_refusal_does_not_repeat_a_megabyte_of_key() -> None:
    key = "k" * 1_000_000
    with pytest.raises(strict_json.DuplicateKey) as refused:
        strict_json.loads(f'{{"{key}":1,"{key}":2}}'.encode())
    assert len(str(refused.value)) < 200


def test_the_limit_on_digits_does_not_lean_on_the_interpreter() -> None:
    """Python itself refuses integers of over 4,300 digits, unless it was told not to."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(ValueError, match="beyond"):
            strict_json.loads(b"7" * 100_000)
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dumps([value])
