"""The safetensors container, read strictly: https://github.com/huggingface/safetensors#format

8 bytes little-endian header length, a JSON header, then the tensors, packed without hole or
overlap. The reference reader accepts duplicate keys, unknown fields and headers of a hundred
megabytes; a file from a stranger is refused here for each of them.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from vera import strict_json
from vera.errors import ArchiveError

if TYPE_CHECKING:
    import numpy as np  # 40 ms, and a file is checked without it: imported where arrays are made
    from numpy.typing import NDArray

PREFIX_BYTES = 8
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip

_NUMPY_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# The last byte of a little-endian float holds its sign and what weighs most of its exponent. Where that is less than
# this, without the sign, the number is less than 8192, and neither infinite nor NaN.
_SMALL_LAST_BYTES = {"F32": 0x46, "F16": 0x70, "BF16": 0x46}
_FIELDS = {"dtype", "shape", "data_offsets"}
# Of a header that is kept: seven times that of 42 modules, and so little that a few of them do not count.
_MOST_KEPT_BYTES = 64 * 1024

# What is met under the name of a tensor file, by its first bytes.
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"\x80": "a pickle, which can run code when it is read",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip file",
    b"version ": "a Git LFS pointer (`git lfs pull` brings the file)",
    b"<": "a web page",
    b"{": "JSON text",
}


@dataclass(frozen=True)
class HeaderLimits:
    """What a header may hold. The defaults are those of an adapter; a base checkpoint has wider ones."""

    max_header_bytes: int = 512 * 1024
    max_tensors: int = 4096
    dtypes: frozenset[str] = frozenset({"F32", "F16", "BF16"})
    min_dims: int = 1
    max_dims: int = 2
    max_items: int = 1 << 28
    name: re.Pattern[str] = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
    max_name: int = 200
    any_metadata: bool = False  # False: `{"format": "pt"}` or none


ADAPTER_LIMITS = HeaderLimits()
BASE_LIMITS = HeaderLimits(
    max_header_bytes=64 << 20,
    max_tensors=1 << 20,
    dtypes=frozenset(ITEM_BYTES),
    min_dims=0,
    max_dims=8,
    max_items=1 << 40,
    name=re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+"),
    max_name=512,
    any_metadata=True,
)


class TensorEntry(NamedTuple):
    """Where one tensor lies. `start` and `end` are byte offsets from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def header_length(prefix: bytes, file_bytes: int, limits: HeaderLimits = ADAPTER_LIMITS) -> int:
    """The header's length in bytes, checked before anything of that size is read.

    `prefix` is the first 8 bytes and `file_bytes` the size of the whole file. Raises ArchiveError.
    """
    if len(prefix) < PREFIX_BYTES:
        raise _lie("TENSOR_HEADER_LENGTH", f"it is {file_bytes} bytes long, too short to be a safetensors file")
    (length,) = struct.unpack("<Q", prefix[:PREFIX_BYTES])
    if length > limits.max_header_bytes:
        raise _too_long(prefix, length, file_bytes, limits)
    if not 2 <= length <= file_bytes - PREFIX_BYTES:
        raise _lie("TENSOR_HEADER_LENGTH", f"its header claims {length:,} bytes and the file has {file_bytes:,}")
    return int(length)


def parse_header(header: bytes, data_bytes: int, limits: HeaderLimits = ADAPTER_LIMITS) -> list[TensorEntry]:
    """The tensors that `header` lists, in the order of their data.

    `data_bytes` is what the file holds after the header. Raises ArchiveError for any header that
    is not exactly a description of those bytes.
    """
    if not header.startswith(b"{"):
        raise _lie("TENSOR_HEADER_INVALID", "its header does not begin with '{'")
    try:
        fields = strict_json.loads(header)
    except ValueError as error:
        is_twice = isinstance(error, strict_json.DuplicateKey)
        code = "TENSOR_DUPLICATE_KEY" if is_twice else "TENSOR_HEADER_INVALID"
        raise _lie(code, f"its header cannot be read: {error}") from error
    assert isinstance(fields, dict)  # it begins with '{'
    if "__metadata__" in fields:
        _check_metadata(fields.pop("__metadata__"), limits)
    if len(fields) > limits.max_tensors:
        raise _lie("TENSOR_COUNT", f"it holds {len(fields):,} tensors and {limits.max_tensors:,} are allowed")
    entries = sorted((_entry(name, value, limits) for name, value in fields.items()), key=attrgetter("start", "end"))
    _check_packing(entries, data_bytes)
    return entries


def entries_of(data: bytes, limits: HeaderLimits = ADAPTER_LIMITS) -> Sequence[TensorEntry]:
    """The tensors in the file that `data` is, in the order of their data. Raises ArchiveError."""
    body = _body_of(data, limits)
    header = data[PREFIX_BYTES:body]
    read = _read_before if len(header) <= _MOST_KEPT_BYTES else parse_header
    return read(header, len(data) - body, limits)


@lru_cache(maxsize=16)
def _read_before(header: bytes, data_bytes: int, limits: HeaderLimits) -> tuple[TensorEntry, ...]:
    """`parse_header`, once for headers that are the same to a byte, as those of adapters of one rank on the same modules
    are: what one says follows from these arguments alone."""
    return tuple(parse_header(header, data_bytes, limits))


def parse(data: bytes, limits: HeaderLimits = ADAPTER_LIMITS) -> dict[str, NDArray[np.generic]]:
    """The tensors in `data`, as `arrays` gives them. Raises ArchiveError."""
    return arrays(data, entries_of(data, limits), limits)


def arrays(
    data: bytes, entries: Iterable[TensorEntry], limits: HeaderLimits = ADAPTER_LIMITS
) -> dict[str, NDArray[np.generic]]:
    """`entries` of the file that `data` is, as arrays over its bytes. BF16 comes as uint16 words."""
    body = _body_of(data, limits)
    return {entry.name: _view(data, body, entry) for entry in entries}


def are_small(data: bytes, dtype: str, limits: HeaderLimits = ADAPTER_LIMITS) -> bool:
    """Whether every number of the file that `data` is, all of them of `dtype`, is surely finite and less than 8192, by a
    look at one byte of each. A number that is not may be larger, infinite or NaN."""
    last_bytes = data[_body_of(data, limits) + ITEM_BYTES[dtype] - 1 :: ITEM_BYTES[dtype]]
    small = bytes(byte for byte in range(256) if byte & 0x7F < _SMALL_LAST_BYTES[dtype])
    return not last_bytes.translate(None, small)


def serialize(tensors: Mapping[str, NDArray[np.generic]], dtype: str) -> bytes:
    """A safetensors file of `tensors`, all of `dtype`, sorted by name: equal tensors, equal bytes."""
    import numpy as np

    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    chunks, offset = [], 0
    for name in sorted(tensors):
        chunk = np.ascontiguousarray(tensors[name]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        offset += len(chunk)
        chunks.append(chunk)
    text = strict_json.dumps(header)
    text += b" " * (-len(text) % 8)  # the tensors begin aligned
    return b"".join([struct.pack("<Q", len(text)), text, *chunks])


def _body_of(data: bytes, limits: HeaderLimits) -> int:
    """Where the data begin."""
    return PREFIX_BYTES + header_length(data[:PREFIX_BYTES], len(data), limits)


def _view(data: bytes, body: int, entry: TensorEntry) -> NDArray[np.generic]:
    import numpy as np

    count = math.prod(entry.shape)
    flat = np.frombuffer(data, dtype=_NUMPY_DTYPES[entry.dtype], count=count, offset=body + entry.start)
    return flat.reshape(entry.shape)


def _entry(name: str, value: object, limits: HeaderLimits) -> TensorEntry:
    if not is_name(name, limits):
        raise _lie("TENSOR_NAME", f"{name[:80]!r} cannot be the name of a tensor", tensor=name[:200])
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise _lie(
            "TENSOR_HEADER_INVALID",
            f"the entry of {name} does not have exactly dtype, shape and data_offsets",
            tensor=name,
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in limits.dtypes:
        raise _lie(
            "TENSOR_DTYPE",
            f"{name} has the dtype {str(dtype)[:40]!r} and only {', '.join(sorted(limits.dtypes))} are allowed",
            tensor=name,
        )
    if not is_shape(shape, limits):
        raise _lie(
            "TENSOR_SHAPE", f"{name} has the shape {repr(shape)[:80]}, which no tensor here can have", tensor=name
        )
    if 0 in shape:
        raise _lie("TENSOR_EMPTY", f"{name} is empty (shape {shape})", tensor=name)
    if not (isinstance(offsets, list) and len(offsets) == 2):
        raise _lie("TENSOR_OFFSETS", f"{name} has no proper data_offsets", tensor=name)
    start, end = offsets
    if type(start) is not int or type(end) is not int:
        raise _lie("TENSOR_OFFSETS", f"{name} has no proper data_offsets", tensor=name)
    if end - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise _lie("TENSOR_OFFSETS", f"{name} ({dtype} {shape}) cannot lie in bytes {start} to {end}", tensor=name)
    return TensorEntry(name, dtype, tuple(shape), start, end)


def is_name(name: str, limits: HeaderLimits) -> bool:
    """Whether a tensor may be called `name`."""
    return len(name) <= limits.max_name and limits.name.fullmatch(name) is not None


def is_shape(shape: object, limits: HeaderLimits) -> TypeGuard[list[int]]:
    """Whether `shape`, as JSON gives it, can be that of a tensor. An empty tensor has a shape too."""
    if not isinstance(shape, list) or not limits.min_dims <= len(shape) <= limits.max_dims:
        return False
    for n in shape:
        if type(n) is not int or not 0 <= n <= limits.max_items:
            return False
    return math.prod(shape) <= limits.max_items


def _check_metadata(metadata: object, limits: HeaderLimits) -> None:
    is_text = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    if not is_text or not (limits.any_metadata or metadata == {"format": "pt"}):
        raise _lie("TENSOR_METADATA", f"its metadata is {repr(metadata)[:80]} and only {{'format': 'pt'}} is allowed")


def _check_packing(entries: Iterable[TensorEntry], data_bytes: int) -> None:
    at = 0
    for entry in entries:
        if entry.start != at:
            raise _lie(
                "TENSOR_OFFSETS", f"{entry.name} begins at byte {entry.start} and the one before it ends at {at}"
            )
        at = entry.end
    if at > data_bytes:
        raise _lie(
            "TENSOR_OFFSETS",
            f"its tensors end at byte {at:,} and the data at {data_bytes:,}, so that the file is cut off: fetch it again",
        )
    if at != data_bytes:
        raise _lie("TENSOR_OFFSETS", f"its tensors end at byte {at:,} and the data at {data_bytes:,}")


def _too_long(prefix: bytes, length: int, file_bytes: int, limits: HeaderLimits) -> ArchiveError:
    if length <= file_bytes - PREFIX_BYTES:
        return _lie(
            "TENSOR_HEADER_TOO_LARGE", f"its header is {length:,} bytes and {limits.max_header_bytes:,} are allowed"
        )
    for first_bytes, other in _OTHER_FORMATS.items():
        if prefix.startswith(first_bytes):
            return _lie("UNSUPPORTED_FORMAT", f"it is {other}, not a safetensors file")
    return _lie("TENSOR_HEADER_LENGTH", f"its header claims {length:,} bytes and the file has {file_bytes:,}")


def _lie(code: str, what: str, **facts: object) -> ArchiveError:
    return ArchiveError(f"The tensor file cannot be used: {what}.", code=code, **facts)
