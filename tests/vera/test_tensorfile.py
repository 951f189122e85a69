"""The strict safetensors reader against the reference one: never more lenient, never of another opinion."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.real_files import ours, theirs
from vera.errors import ArchiveError
from vera.tensorfile import (
    ADAPTER_LIMITS,
    BASE_LIMITS,
    ITEM_BYTES,
    HeaderLimits,
    are_small,
    entries_of,
    parse,
    serialize,
)


def assemble(header: object, body: bytes, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


# -- generated files, valid and spoiled -----------------------------------------------------------

NAMES = st.sampled_from(["a", "a.b", "layer.0.weight", "x_1"]) | st.text(max_size=8)
SHAPES = st.lists(st.integers(0, 5), max_size=4)
DTYPES = st.sampled_from([*ITEM_BYTES, "F32", "F32", "BF16", "F16"])
METADATA = st.none() | st.just({"format": "pt"}) | st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2)
ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70)
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.integers(-1, 9), max_size=3)
)


@dataclass
class Draft:
    """A safetensors file in parts, as a list of pairs so that a key may stand twice."""

    pairs: list[tuple[str, Any]]
    body: bytes

    def assemble(self) -> bytes:
        fields = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in self.pairs)
        return assemble(f"{{{fields}}}".encode(), self.body)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """A well-formed file of a few tensors, empty ones and odd names among them."""
    pairs: list[tuple[str, Any]] = []
    offset = 0
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        dtype, shape = draw(DTYPES), draw(SHAPES)
        size = ITEM_BYTES[dtype] * math.prod(shape)
        pairs.append((name, {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}))
        offset += size
    metadata = draw(METADATA)
    if metadata is not None:
        pairs.append(("__metadata__", metadata))
    return Draft(draw(st.permutations(pairs)), draw(st.binary(min_size=offset, max_size=offset)))


@st.composite
def spoiled_drafts(draw: st.DrawFn) -> bytes:
    draft = draw(drafts())
    entries = [value for name, value in draft.pairs if name != "__metadata__"]
    kind = draw(st.sampled_from(["offset", "field", "extra", "missing", "twice", "body", "prefix", "flip", "whole"]))
    if kind == "offset" and entries:
        draw(st.sampled_from(entries))["data_offsets"][draw(st.integers(0, 1))] += draw(st.integers(-8, 8))
    elif kind == "field" and entries:
        draw(st.sampled_from(entries))[draw(st.sampled_from(["dtype", "shape", "data_offsets"]))] = draw(ANYTHING)
    elif kind == "extra" and entries:
        draw(st.sampled_from(entries))["extra"] = draw(ANYTHING)
    elif kind == "missing" and entries:
        draw(st.sampled_from(entries)).pop(draw(st.sampled_from(["dtype", "shape", "data_offsets"])))
    elif kind == "twice" and draft.pairs:
        draft.pairs.append(draw(st.sampled_from(draft.pairs)))
    elif kind == "whole":
        draft.pairs.append((draw(NAMES), draw(ANYTHING)))
    elif kind == "body":
        draft.body = draw(st.sampled_from([draft.body[:-1], draft.body + b"\0", b""]))
    data = bytearray(draft.assemble())
    if kind in ("prefix", "flip"):
        at = draw(st.integers(0, min(7, len(data) - 1) if kind == "prefix" else len(data) - 1))
        data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@pytest.mark.parametrize("limits", [ADAPTER_LIMITS, BASE_LIMITS], ids=["adapter", "base"])
@settings(max_examples=300)
@given(data=drafts().map(Draft.assemble) | spoiled_drafts())
def test_whatever_it_reads_safetensors_reads_the_same(limits: HeaderLimits, data: bytes) -> None:
    read = ours(data, limits)
    if read is not None:
        assert read == theirs(data)


@given(data=st.binary(max_size=64) | st.binary(max_size=64).map(lambda text: assemble(text, b"")))
def test_noise_is_refused_or_read_as_safetensors_reads_it(data: bytes) -> None:
    read = ours(data, BASE_LIMITS)
    assert read is None or read == theirs(data)


@given(draft=drafts())
def test_a_base_is_refused_only_for_empty_tensors_and_control_characters(draft: Draft) -> None:
    """What a trainer may well write is read: scalars, odd names, any dtype, any metadata."""
    entries = [(name, value) for name, value in draft.pairs if name != "__metadata__"]
    is_usual = all(0 not in value["shape"] and name.isprintable() and name for name, value in entries)
    data = draft.assemble()
    if is_usual:
        assert ours(data, BASE_LIMITS) == theirs(data)


# -- what it writes -------------------------------------------------------------------------------

ARRAYS = st.dictionaries(
    st.from_regex(r"[a-z]{1,6}(\.[a-z]{1,6})?", fullmatch=True),
    st.lists(st.integers(1, 6), min_size=1, max_size=2).map(
        lambda shape: np.arange(math.prod(shape), dtype="<f4").reshape(shape)
    ),
    max_size=5,
)


@given(arrays=ARRAYS)
def test_what_it_writes_both_read_back(arrays: dict[str, np.ndarray]) -> None:
    data = serialize(arrays, "F32")

    ours, theirs = parse(data), safetensors.numpy.load(data)

    assert set(ours) == set(theirs) == set(arrays)
    for name, array in arrays.items():
        assert np.array_equal(ours[name], array)
        assert np.array_equal(theirs[name], array)


@given(arrays=ARRAYS)
def test_equal_tensors_give_equal_bytes_with_the_data_aligned(arrays: dict[str, np.ndarray]) -> None:
    data = serialize(arrays, "F32")
    assert data == serialize(dict(reversed(arrays.items())), "F32")
    assert struct.unpack("<Q", data[:8])[0] % 8 == 0


def test_tensors_lie_over_the_bytes_of_the_file_without_a_copy() -> None:
    data = serialize({"a": np.ones(3, "<f4")}, "F32")
    tensor = parse(data)["a"]
    assert not tensor.flags.owndata
    assert not tensor.flags.writeable


@pytest.mark.parametrize(("dtype", "words"), [("F32", "<f4"), ("F16", "<f2"), ("BF16", "<u2")])
def test_each_dtype_of_an_adapter_is_read(dtype: str, words: str) -> None:
    array = np.arange(6, dtype=words).reshape(2, 3)
    read = parse(serialize({"a": array}, dtype))["a"]
    assert read.dtype == np.dtype(words)
    assert np.array_equal(read, array)


# -- numbers by one byte of each --------------------------------------------------------------------

# Every float16 and bfloat16 there is, and of float32 each with that upper half and nothing, or everything, below it.
_HALVES = np.arange(1 << 16, dtype=np.uint32)
EVERY = {
    "F16": (_HALVES.astype("<u2"), _HALVES.astype(np.uint16).view(np.float16)),
    "BF16": (_HALVES.astype("<u2"), (_HALVES << np.uint32(16)).view(np.float32)),
    "F32": (below := np.concatenate([_HALVES << np.uint32(16), (_HALVES << np.uint32(16)) | np.uint32(0xFFFF)]).astype("<u4"),
            below.view("<f4")),
}  # fmt: skip


def test_a_header_is_read_once_for_files_that_have_the_same() -> None:
    one, other = (serialize({"a": np.full(3, number, np.float32)}, "F32") for number in (1, 2))

    assert entries_of(one) is entries_of(other)
    assert [float(parse(each)["a"][0]) for each in (one, other)] == [1, 2]
    with pytest.raises(ArchiveError, match="the data at 11"):
        entries_of(other[:-1])
    with pytest.raises(ArchiveError, match="has the shape"):
        entries_of(other, replace(ADAPTER_LIMITS, min_dims=2))


@pytest.mark.parametrize("dtype", EVERY)
def test_small_numbers_are_those_below_8192_and_no_other(dtype: str) -> None:
    words, values = EVERY[dtype]
    is_small = np.abs(values) < 8192  # no NaN is

    assert are_small(serialize({"a": words[is_small]}, dtype), dtype)
    for word in np.unique(words[~is_small] >> (8 * words.itemsize - 16)):  # one of each that its upper bytes tell apart
        spoiled = words[is_small].copy()
        spoiled[7] = int(word) << (8 * words.itemsize - 16)
        assert not are_small(serialize({"a": spoiled[:20]}, dtype), dtype), hex(word)
