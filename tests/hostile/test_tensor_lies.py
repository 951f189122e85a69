"""Every way a tensor file can lie (T1 to T15 of the threat table), each with the code it is refused by.

T9 and T10 are about values, so they go through `vera.archive.inspect`: see test_archive_lies.py.
That vectors are all zero is a warning of the hub: see tests/hub/test_push.py.
"""

from __future__ import annotations

import json
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import pytest

from vera.errors import ArchiveError
from vera.tensorfile import ADAPTER_LIMITS, BASE_LIMITS, HeaderLimits, header_length, parse, parse_header

LIMIT = ADAPTER_LIMITS.max_header_bytes


@dataclass(frozen=True)
class Lie:
    """A file that claims to be safetensors, and the code it must be refused with."""

    row: str
    what: str
    data: bytes
    code: str


def file_of(header: object, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4), **extra: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **extra}


def one(name: str = "a", body: bytes = b"\0" * 4, **fields: object) -> bytes:
    """A valid file of one tensor of four bytes, unless `fields` say otherwise."""
    return file_of({name: tensor(**fields)}, body)


def padded(size: int) -> bytes:
    """A valid header of exactly `size` bytes."""
    return json.dumps({"a": tensor()}).encode().ljust(size)


def zip_file() -> bytes:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return archive.getvalue()


def deep(levels: int) -> bytes:
    return b'{"a":' + b"[" * levels + b"]" * levels + b"}"


HEADER_LENGTHS = [
    Lie("T1", f"header length {length}", file_of({"a": tensor()}, b"\0" * 4, length=length), "TENSOR_HEADER_LENGTH")
    for length in (2**63, 2**64 - 1, 2**63 - 1, 10_000, 1, 0)
] + [
    Lie("T1", f"a file of {n} bytes", b"\x10\0\0\0\0\0\0\0"[:n], "TENSOR_HEADER_LENGTH") for n in range(9)
] + [
    Lie("T1", "one byte more than the file", file_of(b"{}", length=3), "TENSOR_HEADER_LENGTH"),
    Lie("T1", "512 KiB and a byte, of which one is missing", file_of(padded(LIMIT), length=LIMIT + 1), "TENSOR_HEADER_LENGTH"),
    Lie("T2", "header of 512 KiB and a byte", file_of(padded(LIMIT + 1), b"\0" * 4), "TENSOR_HEADER_TOO_LARGE"),
    Lie("T2", "99 MB of metadata", file_of(b'{"__metadata__":{"x":"' + b"y" * 99_000_000 + b'"}}'), "TENSOR_HEADER_TOO_LARGE"),
]  # fmt: skip

COUNTS = [
    Lie("T3", "4097 tensors", file_of({f"a{i}": tensor("F16", (1,), (2 * i, 2 * i + 2)) for i in range(4097)}, b"\0" * 8194), "TENSOR_COUNT"),
    Lie("T4", "a tensor twice", file_of(b'{"a":%b,"a":%b}' % ((json.dumps(tensor()).encode(),) * 2), b"\0" * 4), "TENSOR_DUPLICATE_KEY"),
    Lie("T4", "a tensor twice, once escaped", file_of(b'{"a":%b,"\\u0061":%b}' % ((json.dumps(tensor()).encode(),) * 2), b"\0" * 4), "TENSOR_DUPLICATE_KEY"),
    Lie("T4", "a dtype twice", file_of(b'{"a":{"dtype":"F16","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4), "TENSOR_DUPLICATE_KEY"),
    Lie("T4", "metadata twice", file_of(b'{"__metadata__":{"format":"pt"},"__metadata__":{"format":"pt"}}'), "TENSOR_DUPLICATE_KEY"),
    Lie("T4", "a metadata key twice", file_of(b'{"__metadata__":{"format":"pt","format":"pt"}}'), "TENSOR_DUPLICATE_KEY"),
]  # fmt: skip

LAYOUTS = [
    Lie("T5", "overlap", file_of({"a": tensor(), "b": tensor(offsets=(2, 6))}, b"\0" * 6), "TENSOR_OFFSETS"),
    Lie("T5", "the same bytes twice", file_of({"a": tensor(), "b": tensor()}, b"\0" * 4), "TENSOR_OFFSETS"),
    Lie("T5", "a hole", file_of({"a": tensor(), "b": tensor(offsets=(8, 12))}, b"\0" * 12), "TENSOR_OFFSETS"),
    Lie("T5", "a hole before the first", one(offsets=(4, 8), body=b"\0" * 8), "TENSOR_OFFSETS"),
    Lie("T5", "bytes after the last", one(body=b"\0" * 5), "TENSOR_OFFSETS"),
    Lie("T5", "bytes and no tensor", file_of({}, b"\0"), "TENSOR_OFFSETS"),
    Lie("T5", "truncated", one(body=b"\0" * 3), "TENSOR_OFFSETS"),
    Lie("T5", "backwards", one(offsets=(4, 0)), "TENSOR_OFFSETS"),
    Lie("T5", "negative", one(offsets=(-4, 0)), "TENSOR_OFFSETS"),
    Lie("T5", "longer than the shape", one(offsets=(0, 8), body=b"\0" * 8), "TENSOR_OFFSETS"),
    *[Lie("T5", f"offsets {offsets}", one(offsets=offsets), "TENSOR_OFFSETS")
      for offsets in (None, [], [0], [0, 4, 4], ["0", "4"], [0.0, 4.0], [False, 4], {"0": 4}, 4, [0, None])],
    Lie("T6", "no elements", one(shape=(0,), offsets=(0, 0), body=b""), "TENSOR_EMPTY"),
    Lie("T6", "an empty tensor at a shared offset", file_of({"a": tensor(), "b": tensor(shape=(3, 0), offsets=(4, 4))}, b"\0" * 4), "TENSOR_EMPTY"),
]  # fmt: skip

SHAPES = [
    Lie("T7", f"shape {str(shape)[:40]}", one(shape=shape), "TENSOR_SHAPE")
    for shape in (
        [], None, 1, "1", "\x1b[2J", {}, [-1], [1.0], [True], [None], ["1"], [[1]], [1, 1, 1], [1] * 65,
        [2**32, 2**32], [2**28 + 1], [2**28, 2], [2**62], [1, -1],
    )
]  # fmt: skip

DTYPES = [
    Lie("T8", f"dtype {dtype!r}", one(dtype=dtype), "TENSOR_DTYPE")
    for dtype in (
        "F64", "F8_E4M3", "F8_E5M2", "I64", "I32", "I8", "U8", "BOOL", "f32", "F32 ", "float32", "", "C64", "F4",
        None, 2, True, [], ["F32"], {}, {"F32": 1}, "\x1b[2J",
    )
]  # fmt: skip

NAMES = [
    Lie("T11", f"name {name[:20]!r}", one(name), "TENSOR_NAME")
    for name in (
        "", "\0", "a\0b", "../a", "../../etc/passwd", "/a", "a/b", "a\\b", ".", "..", ".a", "a.", "a..b", "\x1b[31ma", "a b",
        "a\n", "é", "ａ", "a" * 201, "%2e%2e", "a-b", "$(id)",
    )
]  # fmt: skip

HEADERS = [
    Lie("T12", "an unknown field", one(extra=1), "TENSOR_HEADER_INVALID"),
    Lie("T12", "a missing field", file_of({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4), "TENSOR_HEADER_INVALID"),
    *[Lie("T12", f"{value!r} for a tensor", file_of({"a": value}, b"\0" * 4), "TENSOR_HEADER_INVALID")
      for value in (None, 1, "F32", [], [["dtype", "F32"]], {})],
    Lie("T12", "space before the header", file_of(b" " + json.dumps({"a": tensor()}).encode(), b"\0" * 4), "TENSOR_HEADER_INVALID"),
    Lie("T12", "a byte-order mark", file_of(b"\xef\xbb\xbf{}"), "TENSOR_HEADER_INVALID"),
    Lie("T12", "not UTF-8", file_of(b'{"\xff":1}'), "TENSOR_HEADER_INVALID"),
    Lie("T12", "UTF-16", file_of("{}".encode("utf-16le")), "TENSOR_HEADER_INVALID"),
    Lie("T12", "a list", file_of(b"[]"), "TENSOR_HEADER_INVALID"),
    Lie("T12", "text after the header", file_of(b"{}{}"), "TENSOR_HEADER_INVALID"),
    Lie("T12", "NULs after the header", file_of(b"{}\0\0\0"), "TENSOR_HEADER_INVALID"),
    Lie("T12", "half a surrogate pair", file_of(b'{"\\ud800":1}'), "TENSOR_HEADER_INVALID"),
    *[Lie("T13", f"metadata {str(metadata)[:40]!r}", file_of({"__metadata__": metadata}), "TENSOR_METADATA")
      for metadata in (
          None, {}, [], "pt", {"format": "tf"}, {"format": 1}, {"format": "pt", "rank": "8"}, {"payload": "A" * 100_000},
          {"\x1b[2J": "\x1b[2J"},
      )],
    Lie("T14", "nested 100,000 deep", file_of(deep(100_000)), "TENSOR_HEADER_INVALID"),
    Lie("T14", "nested nine deep", file_of(deep(8)), "TENSOR_HEADER_INVALID"),
    *[Lie("T14", f"the number {literal[:12].decode()}", file_of(b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % literal, b"\0" * 4), code)
      for literal, code in (
          (b"9" * 5000, "TENSOR_HEADER_INVALID"), (b"9223372036854775808", "TENSOR_HEADER_INVALID"),
          (b"NaN", "TENSOR_HEADER_INVALID"), (b"Infinity", "TENSOR_HEADER_INVALID"), (b"1e999", "TENSOR_HEADER_INVALID"),
          (b"1e0", "TENSOR_SHAPE"), (b"01", "TENSOR_HEADER_INVALID"), (b"0x1", "TENSOR_HEADER_INVALID"),
      )],
]  # fmt: skip

FORMATS = [
    Lie("T15", "a pickle", pickle.dumps({"a": [1.0] * 20}), "UNSUPPORTED_FORMAT"),
    Lie(
        "T15",
        "an old pickle of torch",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
        "UNSUPPORTED_FORMAT",
    ),
    Lie("T15", "a zip archive", zip_file(), "UNSUPPORTED_FORMAT"),
    Lie("T15", "a web page", b"<!DOCTYPE html><html><body>404</body></html>", "UNSUPPORTED_FORMAT"),
    Lie("T15", "JSON", b'{"error": "not found"}', "UNSUPPORTED_FORMAT"),
    Lie(
        "T15",
        "a Git LFS pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "UNSUPPORTED_FORMAT",
    ),
    Lie("T15", "GGUF", b"GGUF\x03\0\0\0" + b"\0" * 64, "UNSUPPORTED_FORMAT"),
    Lie("T15", "gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\0" * 64, "UNSUPPORTED_FORMAT"),
    Lie("T15", "safetensors with a zip behind it", one() + zip_file(), "TENSOR_OFFSETS"),
    Lie("T15", "noise", bytes(range(7, 250)), "TENSOR_HEADER_LENGTH"),
]

LIES = [*HEADER_LENGTHS, *COUNTS, *LAYOUTS, *SHAPES, *DTYPES, *NAMES, *HEADERS, *FORMATS]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{lie.row}-{lie.what}"[:60])
def test_a_lie_is_refused_with_its_code(lie: Lie) -> None:
    with pytest.raises(ArchiveError) as refused:
        parse(lie.data)
    assert refused.value.code == lie.code
    assert str(refused.value).isprintable()  # nothing of the file reaches a terminal as it is
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "data",
    [
        one(),
        one("a" * 200),
        one(dtype="F16", shape=(2,)),
        one(dtype="BF16", shape=(2, 1)),
        file_of({"__metadata__": {"format": "pt"}, "a": tensor()}, b"\0" * 4),
        file_of(padded(LIMIT), b"\0" * 4),
        file_of({f"a{i}": tensor("F16", (1,), (2 * i, 2 * i + 2)) for i in range(4096)}, b"\0" * 8192),
        file_of({"b": tensor(offsets=(4, 8)), "a": tensor()}, b"\0" * 8),
    ],
    ids=["plain", "200 letters", "F16", "BF16", "metadata", "512 KiB header", "4096 tensors", "any order"],
)  # fmt: skip
def test_the_last_thing_that_is_still_allowed(data: bytes) -> None:
    assert parse(data)


@pytest.mark.parametrize("limits", [ADAPTER_LIMITS, BASE_LIMITS], ids=["adapter", "base"])
@pytest.mark.parametrize("claimed", [2**63, 2**64 - 1, 2**40])
def test_a_header_is_measured_before_it_is_read(limits: HeaderLimits, claimed: int) -> None:
    """The first eight bytes and the size of the file decide: nothing else has been read yet."""
    with pytest.raises(ArchiveError) as refused:
        header_length(struct.pack("<Q", claimed), 1000, limits)
    assert refused.value.code == "TENSOR_HEADER_LENGTH"


@pytest.mark.parametrize("shape", [[2**28], [2**14, 2**14], [1, 2**28]], ids=str)
def test_the_largest_tensor_that_a_header_may_describe(shape: list[int]) -> None:
    header = json.dumps({"a": tensor("F16", shape, (0, 2**29))}).encode()
    assert parse_header(header, 2**29)[0].shape == tuple(shape)


@pytest.mark.parametrize("metadata", [None, 1, "pt", [], ["format"], {"format": 1}, {"a": "b", "c": None}], ids=repr)
def test_the_metadata_of_a_base_is_any_text(metadata: object) -> None:
    with pytest.raises(ArchiveError) as refused:
        parse_header(json.dumps({"__metadata__": metadata}).encode(), 0, BASE_LIMITS)
    assert refused.value.code == "TENSOR_METADATA"
    assert parse_header(b'{"__metadata__":{"made by":"somebody"}}', 0, BASE_LIMITS) == []


def test_two_hundred_thousand_tensors_are_refused_without_being_looked_at() -> None:
    entry = '"a%d":{"dtype":"F16","shape":[1],"data_offsets":[%d,%d]}'
    header = ",".join(entry % (i, 2 * i, 2 * i + 2) for i in range(200_000))
    data = file_of(f"{{{header}}}".encode(), b"\0" * 400_000)

    peak, error = traced(lambda: parse(data))

    assert error.code == "TENSOR_HEADER_TOO_LARGE"
    assert peak < 1 << 20


def test_as_many_tensors_as_a_header_can_name_cost_little_memory() -> None:
    entry = b'"%x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}'
    header = b"{" + b",".join(entry % i for i in range(9_000)) + b"}"
    assert len(header) < LIMIT

    peak, error = traced(lambda: parse_header(header, 2))

    assert error.code == "TENSOR_COUNT"
    assert peak < 8 << 20


def traced(action: Callable[[], object]) -> tuple[int, ArchiveError]:
    """The peak of memory that `action` allocates until it is refused, and the refusal."""
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError) as refused:
            action()
        return tracemalloc.get_traced_memory()[1], refused.value
    finally:
        tracemalloc.stop()
