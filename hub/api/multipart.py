"""multipart/form-data (RFC 7578), read part by part as it comes, each part held to its own size.

Strict where clients agree: no preamble, every part named, no name twice, nothing after the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from email.message import Message

from hub.errors import Invalid, Malformed, TooLarge, Unsupported

_MAX_HEADERS = 4096
_MAX_BOUNDARY = 70  # RFC 2046, section 5.1.1


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header. Raises Unsupported when it is not multipart/form-data."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise Unsupported("A push is multipart/form-data, one part per file: use `vera-hub push`.")
    if not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
        raise _malformed("its boundary is not one")
    return boundary.encode()


async def read_parts(stream: AsyncIterator[bytes], boundary: bytes, limits: Mapping[str, int]) -> dict[str, bytes]:
    """The parts of a body by name; `limits` says which there may be and how large each.

    Raises Malformed, Invalid for a part that is not asked for, TooLarge for one beyond its size.
    """
    reader = _Reader(boundary, limits)
    async for chunk in stream:
        reader.feed(chunk)
    return reader.finish()


class _Reader:
    """Turns chunks into parts. `_buffer` never holds more than a chunk and the part of a delimiter."""

    def __init__(self, boundary: bytes, limits: Mapping[str, int]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._limits = limits
        # The first delimiter has no line before it; with this one it is like all others.
        self._buffer = bytearray(b"\r\n")
        self._step = self._begin
        self._parts: dict[str, bytearray] = {}
        self._name = ""

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        while self._step():
            pass

    def finish(self) -> dict[str, bytes]:
        if self._step != self._end:
            raise _malformed("it ends in the middle")
        return {name: bytes(data) for name, data in self._parts.items()}

    # Each step takes from the buffer what it can, and is True when the next one has a turn.

    def _begin(self) -> bool:
        if len(self._buffer) < len(self._delimiter):
            return False
        if not self._buffer.startswith(self._delimiter):
            raise _malformed("it does not begin with its boundary")
        del self._buffer[: len(self._delimiter)]
        self._step = self._after_delimiter
        return True

    def _after_delimiter(self) -> bool:
        if len(self._buffer) < 2:
            return False
        mark = bytes(self._buffer[:2])
        del self._buffer[:2]
        if mark not in (b"\r\n", b"--"):
            raise _malformed("a boundary is followed by something else")
        self._step = self._headers if mark == b"\r\n" else self._end
        return True

    def _headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, _MAX_HEADERS)
        if end < 0:
            if len(self._buffer) >= _MAX_HEADERS:
                raise _malformed("the headers of a part do not end")
            return False
        self._name = self._open(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._step = self._body
        return True

    def _body(self) -> bool:
        end = self._buffer.find(self._delimiter)
        is_whole = end >= 0
        if not is_whole:
            end = max(0, len(self._buffer) - len(self._delimiter) + 1)
        self._take(end)
        if is_whole:
            del self._buffer[: len(self._delimiter)]
            self._step = self._after_delimiter
        return is_whole

    def _end(self) -> bool:
        if not b"\r\n".startswith(self._buffer):
            raise _malformed("something follows its end")
        return False

    def _open(self, headers: bytes) -> str:
        name = _name_in(headers)
        if name not in self._limits:
            raise Invalid(
                f"{name[:80]!r} is no part of a push: there may be {', '.join(self._limits)}.",
                code="FILE_UNKNOWN",
                path=name[:200],
            )
        if name in self._parts:
            raise Invalid(f"{name} was sent twice: send each file once.", code="PART_DUPLICATE", path=name)
        self._parts[name] = bytearray()
        return name

    def _take(self, size: int) -> None:
        part, limit = self._parts[self._name], self._limits[self._name]
        if len(part) + size > limit:
            raise TooLarge(
                f"{self._name} is larger than the {limit:,} bytes it may have.", path=self._name, limit=limit
            )
        part += self._buffer[:size]
        del self._buffer[:size]


def _name_in(headers: bytes) -> str:
    message = Message()
    for line in headers.decode("utf-8", errors="replace").split("\r\n"):
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() == "content-disposition":
            message["Content-Disposition"] = value.strip()
    name = message.get_param("name", header="content-disposition")
    if message.get_content_disposition() != "form-data" or not isinstance(name, str):
        raise _malformed("a part has no name")
    return name


def _malformed(what: str) -> Malformed:
    return Malformed(f"The multipart body cannot be read: {what}.", code="MULTIPART_INVALID")
