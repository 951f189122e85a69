"""multipart/form-data (RFC 7578), read part by part as it comes, each part held to its own size.

python-multipart finds the parts. Here it is decided which there may be, each once and how large, and
that nothing follows the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from hub.errors import Invalid, Malformed, TooLarge, Unsupported

_MAX_BOUNDARY = 70  # RFC 2046, section 5.1.1


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header. Raises Unsupported when it is not multipart/form-data."""
    media_type, parameters = parse_options_header(content_type.encode("latin-1"))
    if media_type != b"multipart/form-data" or b"boundary" not in parameters:
        raise Unsupported("A push is multipart/form-data, one part per file: use `vera-hub push`.")
    boundary = parameters[b"boundary"]
    if not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
        raise _malformed("its boundary is not one")
    return boundary


async def read_parts(stream: AsyncIterator[bytes], boundary: bytes, limits: Mapping[str, int]) -> dict[str, bytes]:
    """The parts of a body by name; `limits` says which there may be and how large each.

    Raises Malformed, Invalid for a part that is not asked for, TooLarge for one beyond its size.
    """
    parts = _Parts(boundary, limits)
    close = b"--" + boundary + b"--"
    tail = b""
    async for chunk in stream:
        parts.feed(chunk)
        tail = (tail + chunk[-len(close) - 2 :])[-len(close) - 2 :]
    if not parts.is_whole:
        raise _malformed("it ends in the middle")
    if not tail.removesuffix(b"\r\n").endswith(close):
        raise _malformed("something follows its end")
    return parts.received()


class _Parts:
    """What the parser calls, and what has come of it so far."""

    def __init__(self, boundary: bytes, limits: Mapping[str, int]) -> None:
        self.is_whole = False
        self._limits = limits
        self._parts: dict[str, bytearray] = {}
        self._name = ""
        self._field, self._value, self._disposition = b"", b"", b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_to_field,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open_part,
                "on_part_data": self._add_to_part,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise _malformed(str(error)) from error

    def received(self) -> dict[str, bytes]:
        return {name: bytes(data) for name, data in self._parts.items()}

    def _begin_part(self) -> None:
        self._disposition = b""

    def _add_to_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _open_part(self) -> None:
        name = _name_in(self._disposition)
        if name not in self._limits:
            raise Invalid(
                f"{name[:80]!r} is no part of a push: there may be {', '.join(self._limits)}.",
                code="FILE_UNKNOWN",
                path=name[:200],
            )
        if name in self._parts:
            raise Invalid(f"{name} was sent twice: send each file once.", code="PART_DUPLICATE", path=name)
        self._parts[name], self._name = bytearray(), name

    def _add_to_part(self, data: bytes, start: int, end: int) -> None:
        part, limit = self._parts[self._name], self._limits[self._name]
        if len(part) + end - start > limit:
            raise TooLarge(
                f"{self._name} is larger than the {limit:,} bytes it may have.", path=self._name, limit=limit
            )
        part += memoryview(data)[start:end]

    def _end(self) -> None:
        self.is_whole = True


def _name_in(disposition: bytes) -> str:
    kind, parameters = parse_options_header(disposition)
    if kind != b"form-data" or b"name" not in parameters:
        raise _malformed("a part has no name")
    return parameters[b"name"].decode(errors="replace")


def _malformed(what: str) -> Malformed:
    return Malformed(f"The multipart body cannot be read: {what.rstrip('.')}.", code="MULTIPART_INVALID")
