"""A version and its files as one body: what was put in comes out, and what is no such body is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vera.bundle import bundle, unbundle


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.binary()))
def test_what_is_put_in_comes_out(files: dict[str, bytes]) -> None:
    said, came = unbundle(bundle(b'{"version":3,"yanked":null}', files))

    assert (said, came) == ({"version": 3, "yanked": None}, files)


BODY = bundle(b'{"version":3}', {"vera.json": b"{}", "README.md": b"# Hello\n"})
UNLISTED, UNEVEN = "does not say which files follow", "by its first line"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "Expecting value"),
        (b"{}", "Expecting value"),
        (b"[]\n", UNLISTED),
        (b'{"files":null}\n', UNLISTED),
        (b'{"files":[{"path":"a"}]}\n', UNLISTED),
        (b'{"files":[{"path":"a","size_bytes":-1},{"path":"b","size_bytes":1}]}\n', UNLISTED),
        (b'{"files":[{"path":"a","size_bytes":true}]}\nx', UNLISTED),
        (b'{"files":[{"path":"a","size_bytes":1},{"path":"a","size_bytes":1}]}\nxy', UNEVEN),
        (b'{"files":[],"files":[]}\n', "twice"),
        (b" " * (1 << 20) + BODY, "Expecting value"),
        (BODY[:-1], "10 bytes by its first line, and 9 follow"),
        (BODY + b"x", "10 bytes by its first line, and 11 follow"),
        (BODY.partition(b"\n")[0], "Expecting value"),
    ],
)
def test_what_is_no_such_body_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        unbundle(body)
