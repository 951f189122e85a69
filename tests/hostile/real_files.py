"""Files as they are really written, ways to spoil them, and what must hold of any bytes whatever."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.builders import edit_weights, make_archive
from vera.archive import Archive, inspect, vectors_of
from vera.errors import ArchiveError, VeraError
from vera.manifest import DVORA, MANIFEST_FILE, WEIGHTS_FILE
from vera.peft_format import head_key, magnitude_key, vector_keys
from vera.tensorfile import ADAPTER_LIMITS, BASE_LIMITS, PREFIX_BYTES, HeaderLimits, header_length, parse_header

ADAPTERS = [*(make_archive(dtype=dtype) for dtype in ("float32", "float16", "bfloat16")), make_archive(method=DVORA)]
# What an adapter's writer, the library's and a trainer with another taste make of tensors.
TENSOR_FILES = [
    *(adapter.files[WEIGHTS_FILE] for adapter in ADAPTERS),
    save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.ones(4, np.float16)}, {"format": "pt"}),
    save({"scalar": np.array(1.5), "ids": np.arange(3), "mask": np.array([True, False])}, {"made by": "somebody"}),
    save({}),
]

Tensors = Mapping[str, tuple[str, tuple[int, ...], bytes]]


@st.composite
def spoiled(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """One of `files` after one to four edits, most of them within the header."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(data), draw(st.sampled_from([8, 200, 1 << 20])))))
        match draw(st.sampled_from(["flip", "set", "insert", "delete", "repeat", "digit", "other"])):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                data[at : at + 1] = draw(st.sampled_from([b"\0", b"\xff", b'"', b"\\", b"{", b"}", b"[", b",", b" "]))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del data[at : at + draw(st.integers(1, 16))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "digit":
                digits = [i for i, byte in enumerate(data[: 1 << 12]) if 48 <= byte <= 57]
                if digits:
                    data[draw(st.sampled_from(digits))] = draw(st.integers(48, 57))
            case "other":
                data[at:] = draw(st.sampled_from(files))[at:]
    return bytes(data)


def ours(data: bytes, limits: HeaderLimits) -> Tensors | None:
    """What our reader finds in `data`, or None when it refuses."""
    try:
        body = PREFIX_BYTES + header_length(data[:PREFIX_BYTES], len(data), limits)
        entries = parse_header(data[PREFIX_BYTES:body], len(data) - body, limits)
    except ArchiveError:
        return None
    return {e.name: (e.dtype, e.shape, data[body + e.start : body + e.end]) for e in entries}


def theirs(data: bytes) -> Tensors | None:
    """What the safetensors library finds in `data`, or None when it refuses."""
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return None
    return {name: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for name, t in tensors}


def check_tensor_file(data: bytes) -> bool:
    """That safetensors reads what we read, and the same. Gives whether we read it, within the limits of a base."""
    as_adapter, as_base = ours(data, ADAPTER_LIMITS), ours(data, BASE_LIMITS)
    library = theirs(data) if as_base is not None or as_adapter is not None else None
    assert as_base is None or as_base == library
    assert as_adapter is None or as_adapter == library == as_base
    return as_base is not None


def check_weights(adapter: Archive, data: bytes) -> bool:
    """That `data` in the place of the vectors of `adapter`, with true hashes, is refused or read as safetensors reads it."""
    try:
        read = inspect(edit_weights(adapter, lambda _honest: data))
    except VeraError as error:
        _check_sentence(error)
        return False
    vectors, library = vectors_of(read), theirs(data)
    assert library is not None
    for module in read.manifest.modules:
        key_b, key_d = vector_keys(module.name)
        assert _as_float32(library.pop(key_b)) == vectors.lambda_b[module.name].tobytes()
        assert _as_float32(library.pop(key_d)) == vectors.lambda_d[module.name].tobytes()
        if read.manifest.has_magnitude:
            assert _as_float32(library.pop(magnitude_key(module.name))) == vectors.magnitude[module.name].tobytes()
    for name, tensor in vectors.head.items():
        assert _as_float32(library.pop(head_key(name))) == tensor.tobytes()
    assert not library
    return True


def check_manifest(adapter: Archive, data: bytes) -> bool:
    """That `data` in the place of the manifest of `adapter` is refused, or has the bytes and digest it is read from."""
    try:
        read = inspect({**adapter.files, MANIFEST_FILE: data})
    except VeraError as error:
        _check_sentence(error)
        return False
    assert read.manifest.to_bytes() == data
    return True


def _check_sentence(error: VeraError) -> None:
    """Nothing of a file reaches a terminal as it is."""
    assert str(error).isprintable()
    assert len(str(error)) < 1000


def _as_float32(tensor: tuple[str, tuple[int, ...], bytes]) -> bytes:
    dtype, _, data = tensor
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).tobytes()
    return np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[dtype]).astype("<f4").tobytes()
