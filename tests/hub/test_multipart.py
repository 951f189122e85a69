"""multipart/form-data as it comes: in any chunks, and from anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.multipart import boundary_of, read_parts
from hub.errors import HubError, Invalid, Malformed, TooLarge, Unsupported

BOUNDARY = b"frontier"
LIMITS = {"a": 1000, "b": 1000, "message": 20}


def _body(parts: Sequence[tuple[str, bytes]], end: bytes = b"--\r\n") -> bytes:
    head = b'--frontier\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\nContent-Type: a/b\r\n\r\n'
    return b"".join(head % name.encode() + data + b"\r\n" for name, data in parts) + b"--frontier" + end


def _read(body: bytes, sizes: Sequence[int] = (1 << 20,)) -> Mapping[str, bytes]:
    async def stream() -> AsyncIterator[bytes]:
        at, turn = 0, 0
        while at < len(body):
            size = sizes[turn % len(sizes)]
            yield body[at : at + size]
            at, turn = at + size, turn + 1

    return asyncio.run(read_parts(stream(), BOUNDARY, LIMITS))


@given(
    st.dictionaries(
        st.sampled_from(["a", "b"]),
        st.binary(max_size=200) | st.sampled_from([b"\r\n--frontie", b"\r\n--", b"--frontier"]),
    ),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_parts_are_the_same_in_whatever_chunks_they_come(parts: dict[str, bytes], sizes: list[int]) -> None:
    if not parts or any(b"\r\n--frontier" in data for data in parts.values()):
        return

    assert _read(_body(list(parts.items())), sizes) == parts


@given(st.binary(max_size=300), st.integers(1, 50))
def test_garbage_is_refused_and_never_a_mistake_of_ours(garbage: bytes, size: int) -> None:
    for body in (garbage, _body([("a", b"x")])[:-20] + garbage):
        try:
            _read(body, [size])
        except HubError:
            continue


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Malformed),
        (b"preamble\r\n" + _body([("a", b"x")]), Malformed),
        (_body([("a", b"x")], end=b"--\r\nepilogue"), Malformed),
        (_body([("a", b"x")], end=b""), Malformed),
        (_body([("a", b"x")], end=b"xx"), Malformed),
        (b"--frontier\r\n\r\nno headers\r\n--frontier--\r\n", Malformed),
        (b"--frontier\r\nContent-Disposition: form-data\r\n\r\nx\r\n--frontier--\r\n", Malformed),
        (b'--frontier\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--frontier--\r\n', Malformed),
        (b"--frontier\r\nX: " + b"y" * 5000, Malformed),
        (_body([("a", b"x"), ("a", b"y")]), Invalid),
        (_body([("../../etc/passwd", b"x")]), Invalid),
        (_body([("a", b"x" * 1001)]), TooLarge),
        (_body([("message", b"x" * 21)]), TooLarge),
    ],
)
def test_a_body_that_is_not_as_it_should_be_is_refused(body: bytes, error: type[HubError]) -> None:
    for size in (1, 7, 1 << 20):
        with pytest.raises(error):
            _read(body, [size])


def test_the_file_name_that_a_client_sends_is_of_no_account() -> None:
    body = b'--frontier\r\nContent-Disposition: form-data; filename="; name=\\"b\\""; name="a"\r\n\r\nx\r\n--frontier--'

    assert _read(body) == {"a": b"x"}


def test_the_boundary_is_read_from_the_content_type() -> None:
    assert boundary_of('multipart/form-data; charset=utf-8; boundary="a b"') == b"a b"
    for wrong in ("", "text/plain; boundary=x", "multipart/form-data"):
        with pytest.raises(Unsupported):
            boundary_of(wrong)
    for wrong in (f"multipart/form-data; boundary={'x' * 71}", 'multipart/form-data; boundary=""'):
        with pytest.raises((Malformed, Unsupported)):
            boundary_of(wrong)
