"""An adapter whose files contradict each other or hold values no training gives (T8 to T10, T16, T23)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping

import numpy as np
import pytest

from tests.builders import make_archive, make_base
from vera import tensorfile
from vera.archive import MAX_BYTES, Archive, Vectors, inspect, pack, seal, vectors_of
from vera.errors import ArchiveError, ManifestError, VeraError
from vera.manifest import (
    CARD_FILE,
    CONFIG_FILE,
    DTYPES,
    DVORA,
    MANIFEST_FILE,
    VERA,
    WEIGHTS_FILE,
    FileEntry,
    HeadTensor,
    Manifest,
)
from vera.peft_format import head_key, magnitude_key, vector_keys

ADAPTER = make_archive()
QUERY = "encoder.layer.0.attention.self.query"
LAMBDA_B, LAMBDA_D = vector_keys(QUERY)


def resealed(manifest: Manifest, weights: bytes) -> Archive:
    """The archive a liar would make: every hash and size in the manifest is true of `weights`."""
    entry = FileEntry.of(weights)
    honest = dataclasses.replace(manifest.weights, sha256=entry.sha256, size_bytes=entry.size_bytes)
    return seal(dataclasses.replace(manifest, weights=honest), weights, "# A lie\n")


def with_bits(adapter: Archive, name: str, index: int, word: int) -> bytes:
    """The tensor file of `adapter` with the bits of one element set to `word`."""
    data = bytearray(adapter.files[WEIGHTS_FILE])
    (length,) = struct.unpack("<Q", data[:8])
    start = json.loads(data[8 : 8 + length])[name]["data_offsets"][0]
    item = 4 if adapter.manifest.weights.dtype == "float32" else 2
    at = 8 + length + start + item * index
    data[at : at + item] = word.to_bytes(item, "little")
    return bytes(data)


def refused_with(code: str, manifest: Manifest, weights: bytes) -> VeraError:
    with pytest.raises((ArchiveError, ManifestError)) as refused:
        resealed(manifest, weights)
    assert refused.value.code == code
    assert str(refused.value).isprintable()
    return refused.value


NONFINITE = {
    "float32": [0x7FC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800000, 0xFF800000],
    "float16": [0x7E00, 0x7C01, 0xFC01, 0x7FFF, 0x7C00, 0xFC00],
    "bfloat16": [0x7FC0, 0x7F81, 0xFF81, 0x7FFF, 0x7F80, 0xFF80],
}


@pytest.mark.parametrize(("dtype", "word"), [(d, w) for d, words in NONFINITE.items() for w in words], ids=str)
def test_t9_a_value_that_is_no_number_is_named(dtype: str, word: int) -> None:
    adapter = make_archive(dtype=dtype)
    for name, index in ((LAMBDA_B, 0), (LAMBDA_B, 11), (LAMBDA_D, 7), (head_key("classifier.weight"), 23)):
        error = refused_with("TENSOR_NONFINITE", adapter.manifest, with_bits(adapter, name, index, word))
        assert error.facts == {"tensor": name, "index": index}


def test_t9_every_position_is_looked_at() -> None:
    for index in range(12):
        error = refused_with("TENSOR_NONFINITE", ADAPTER.manifest, with_bits(ADAPTER, LAMBDA_B, index, 0x7F800001))
        assert error.facts["index"] == index


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_t9_a_run_that_diverged_cannot_be_packed_into_numbers(dtype: str) -> None:
    """CUDA's NaN, 0x7FFFFFFF, in a vector that is saved in half precision."""
    vectors = vectors_of(ADAPTER)
    broken = vectors.lambda_b[QUERY].copy()
    broken.view(np.uint32)[3] = 0x7FFFFFFF
    data, weights, _ = pack(Vectors({**vectors.lambda_b, QUERY: broken}, vectors.lambda_d, vectors.head), dtype=dtype)
    refused_with("TENSOR_NONFINITE", dataclasses.replace(ADAPTER.manifest, weights=weights), data)


def test_t10_what_overflows_half_precision_is_refused_and_not_warned_about() -> None:
    vectors = vectors_of(ADAPTER)
    huge = np.full(12, 70_000, np.float32)
    data, weights, _ = pack(Vectors({**vectors.lambda_b, QUERY: huge}, vectors.lambda_d, vectors.head), dtype="float16")
    refused_with("TENSOR_NONFINITE", dataclasses.replace(ADAPTER.manifest, weights=weights), data)


@pytest.mark.parametrize("value", [1.0001e4, -2e4, 3.4e38], ids=str)
def test_t10_a_magnitude_no_training_reaches_is_refused(value: float) -> None:
    word = struct.unpack("<I", struct.pack("<f", value))[0]
    error = refused_with("TENSOR_RANGE", ADAPTER.manifest, with_bits(ADAPTER, LAMBDA_D, 2, word))
    assert error.facts["tensor"] == LAMBDA_D


@pytest.mark.parametrize("value", [1e4, -1e4, 0.0, -0.0, 1e-45, -1e-40], ids=str)
def test_t10_the_largest_the_smallest_and_both_zeros_are_numbers(value: float) -> None:
    word = struct.unpack("<I", struct.pack("<f", value))[0]
    adapter = resealed(ADAPTER.manifest, with_bits(ADAPTER, LAMBDA_D, 2, word))
    assert vectors_of(adapter).lambda_d[QUERY][2:3].view(np.uint32) == word


@pytest.mark.parametrize(("told", "held"), [(a, b) for a in DTYPES for b in DTYPES if a != b], ids=str)
def test_t8_a_dtype_that_is_not_the_manifests(told: str, held: str) -> None:
    """Of one size, float16 and bfloat16 are told apart all the same."""
    refused_with("TENSOR_DTYPE", make_archive(dtype=told).manifest, make_archive(dtype=held).files[WEIGHTS_FILE])


def spoiled_tensors(change: Mapping[str, np.ndarray | None]) -> bytes:
    """The tensor file of the valid adapter with some tensors replaced, added, or (None) left out."""
    tensors = {**tensorfile.parse(ADAPTER.files[WEIGHTS_FILE]), **change}
    return tensorfile.serialize({name: array for name, array in tensors.items() if array is not None}, "F32")


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({LAMBDA_D: ones(7)}, "RANK_MISMATCH"),
        ({LAMBDA_D: ones(9)}, "RANK_MISMATCH"),
        ({LAMBDA_D: ones(1, 8)}, "RANK_MISMATCH"),
        ({LAMBDA_B: ones(13)}, "DIMS_MISMATCH"),
        ({LAMBDA_B: ones(3, 4)}, "DIMS_MISMATCH"),
        ({head_key("classifier.weight"): ones(12, 2)}, "DIMS_MISMATCH"),
        ({LAMBDA_D: None}, "TENSOR_SET"),
        ({head_key("classifier.bias"): None}, "TENSOR_SET"),
        ({"base_model.vera_A": ones(8, 12)}, "TENSOR_SET"),
        ({head_key("encoder.layer.0.attention.self.query.weight"): ones(12, 12)}, "TENSOR_SET"),
        ({LAMBDA_D: None, LAMBDA_D + "_": ones(8)}, "TENSOR_SET"),
    ],
    ids=str,
)  # fmt: skip
def test_t16_tensors_that_are_not_the_ones_promised(change: Mapping[str, np.ndarray | None], code: str) -> None:
    refused_with(code, ADAPTER.manifest, spoiled_tensors(change))


def with_method(adapter: Archive, method: str) -> Manifest:
    """The manifest of `adapter` calling itself `method`, with sizes that add up for it."""
    per_output = {VERA: 1, DVORA: 2}[method]
    vector_bytes = 4 * sum(per_output * module.out_features + 8 for module in adapter.manifest.modules)
    weights = adapter.manifest.weights
    size_bytes = weights.size_bytes - weights.vector_bytes + vector_bytes
    weights = dataclasses.replace(weights, vector_bytes=vector_bytes, size_bytes=size_bytes)
    return dataclasses.replace(adapter.manifest, method=method, weights=weights)


def padded_to(size: int, data: bytes) -> bytes:
    """`data` with spaces at the end of the tensor header until it has `size` bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    pad = max(0, size - len(data))
    return struct.pack("<Q", length + pad) + data[8 : 8 + length] + b" " * pad + data[8 + length :]


def test_t16_a_magnitude_is_there_exactly_when_the_method_has_one() -> None:
    """Left out, DVoRA would be computed as VeRA; unexpected, VeRA would be computed without it."""
    dvora = make_archive(method=DVORA)
    for adapter, claimed in ((ADAPTER, DVORA), (dvora, VERA)):
        manifest = with_method(adapter, claimed)
        weights = padded_to(manifest.weights.size_bytes, adapter.files[WEIGHTS_FILE])
        error = refused_with("TENSOR_SET", manifest, weights)
        assert magnitude_key(QUERY) in str(error)


def test_t16_a_magnitude_of_another_size_is_refused() -> None:
    dvora = make_archive(method=DVORA)
    tensors = {**tensorfile.parse(dvora.files[WEIGHTS_FILE]), magnitude_key(QUERY): ones(11)}
    error = refused_with("DIMS_MISMATCH", dvora.manifest, tensorfile.serialize(tensors, "F32"))
    assert error.facts["expected"] == [12]


def test_t16_a_head_tensor_cannot_pose_as_a_vector() -> None:
    """Under λb's own name, a head tensor of 3 x 4 would make the vector of 12 a matrix."""
    posing = HeadTensor(f"{QUERY}.vera_lambda_b", (3, 4))
    head = tuple(sorted((*ADAPTER.manifest.head, posing), key=lambda tensor: tensor.name))
    weights = spoiled_tensors({LAMBDA_B: ones(3, 4)})
    sizes = ADAPTER.manifest.weights
    # The size must add up too, so the liar pads the header: the vector is counted twice.
    (length,) = struct.unpack("<Q", weights[:8])
    padded = struct.pack("<Q", length + 48) + weights[8 : 8 + length] + b" " * 48 + weights[8 + length :]
    manifest = dataclasses.replace(
        ADAPTER.manifest,
        head=head,
        weights=dataclasses.replace(
            sizes, head_bytes=sizes.head_bytes + 48, sha256=hashlib.sha256(padded).hexdigest(), size_bytes=len(padded)
        ),
    )
    refused_with("TENSOR_SET", manifest, padded)


def test_t16_a_rank_of_a_million_never_becomes_a_recipe() -> None:
    data = ADAPTER.files[MANIFEST_FILE].replace(b'"rank":8', b'"rank":1000000')
    with pytest.raises(ManifestError) as refused:
        inspect({**ADAPTER.files, MANIFEST_FILE: data})
    assert refused.value.code == "RANK_INVALID"


# -- whole files ----------------------------------------------------------------------------------


def with_config(config: bytes) -> dict[str, bytes]:
    """A sealed archive whose manifest vouches for a PEFT configuration of somebody's own."""
    manifest = ADAPTER.manifest.with_files({CONFIG_FILE: config, CARD_FILE: ADAPTER.files[CARD_FILE]})
    return {**ADAPTER.files, MANIFEST_FILE: manifest.to_bytes(), CONFIG_FILE: config}


@pytest.mark.parametrize(
    "field",
    [
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}},
        {"modules_to_save": ["classifier"]},
        {"base_model_name_or_path": "evil/base"},
        {"save_projection": True},
        {"target_modules": "(a+)+$"},
        {"projection_prng_key": 1},
        {"r": 9},
        {"peft_type": "LORA"},
        {"vera_dropout": 0.5},
        {"fan_in_fan_out": True},
    ],
    ids=str,
)
def test_t23_no_field_of_a_peft_configuration_can_be_smuggled_in(field: dict[str, object]) -> None:
    config = {**json.loads(ADAPTER.files[CONFIG_FILE]), **field}
    with pytest.raises(ArchiveError) as refused:
        inspect(with_config((json.dumps(config, indent=2, sort_keys=True) + "\n").encode()))
    assert refused.value.code == "CONFIG_MISMATCH"


@pytest.mark.parametrize("path", [MANIFEST_FILE, WEIGHTS_FILE])
def test_the_two_files_every_adapter_has(path: str) -> None:
    files = {name: data for name, data in ADAPTER.files.items() if name != path}
    with pytest.raises(ArchiveError) as refused:
        inspect(files)
    assert refused.value.code == "FILE_MISSING"
    assert refused.value.facts == {"path": path}


@pytest.mark.parametrize("path", [CONFIG_FILE, CARD_FILE])
def test_a_file_the_manifest_promises_must_be_there(path: str) -> None:
    with pytest.raises(ArchiveError) as refused:
        inspect({name: data for name, data in ADAPTER.files.items() if name != path})
    assert refused.value.code == "FILE_MISSING"


@pytest.mark.parametrize("path", [CONFIG_FILE, CARD_FILE])
def test_a_file_the_manifest_does_not_know_must_not(path: str) -> None:
    unsealed = {**ADAPTER.files, MANIFEST_FILE: dataclasses.replace(ADAPTER.manifest, files={}).to_bytes()}
    with pytest.raises(ArchiveError) as refused:
        inspect({name: unsealed[name] for name in (MANIFEST_FILE, WEIGHTS_FILE, path)})
    assert refused.value.code == "FILE_UNKNOWN"


@pytest.mark.parametrize(
    "path",
    ["modeling.py", "../vera.json", "/etc/passwd", "vera.json ", "VERA.JSON", "sub/vera.json", "", "\x1b[2J", "pytorch_model.bin", "vera.json\0"],
    ids=repr,
)  # fmt: skip
def test_t32_no_other_name_is_a_file_of_an_adapter(path: str) -> None:
    with pytest.raises(ArchiveError) as refused:
        inspect({**ADAPTER.files, path: b""})
    assert refused.value.code == "FILE_UNKNOWN"
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("path", list(MAX_BYTES))
def test_a_file_beyond_its_limit_is_refused_before_it_is_looked_into(path: str) -> None:
    with pytest.raises((ArchiveError, ManifestError)) as refused:
        inspect({**ADAPTER.files, path: bytes(MAX_BYTES[path] + 1)})
    assert refused.value.code == "FILE_TOO_LARGE"


@pytest.mark.parametrize("card", [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"], ids=repr)
def test_a_card_that_is_not_utf8_is_refused(card: bytes) -> None:
    manifest = ADAPTER.manifest.with_files({CONFIG_FILE: ADAPTER.files[CONFIG_FILE], CARD_FILE: card})
    with pytest.raises(ArchiveError) as refused:
        inspect({**ADAPTER.files, MANIFEST_FILE: manifest.to_bytes(), CARD_FILE: card})
    assert refused.value.code == "CARD_INVALID"


def test_t20_another_base_is_another_manifest() -> None:
    other = make_archive(base=make_base(salt="fine-tuned"))
    assert other.manifest.base.name == ADAPTER.manifest.base.name
    assert other.manifest.base.fingerprint != ADAPTER.manifest.base.fingerprint
    with pytest.raises(ArchiveError) as refused:
        inspect({**ADAPTER.files, CARD_FILE: b"x"})
    assert refused.value.code == "DIGEST_INVALID"
