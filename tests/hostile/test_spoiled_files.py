"""Real files with a few bytes changed: never an error of another kind, never read otherwise than safetensors reads them.

`python -m tests.hostile.fuzz_archive` does the same with coverage for a guide, for as long as one likes.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.real_files import (
    ADAPTERS,
    TENSOR_FILES,
    check_manifest,
    check_tensor_file,
    check_weights,
    spoiled,
)
from vera.archive import Archive
from vera.manifest import MANIFEST_FILE, WEIGHTS_FILE


def test_every_one_of_them_is_read_while_it_is_whole() -> None:
    assert all(map(check_tensor_file, TENSOR_FILES))
    for adapter in ADAPTERS:
        assert check_weights(adapter, adapter.files[WEIGHTS_FILE])
        assert check_manifest(adapter, adapter.files[MANIFEST_FILE])


@settings(max_examples=300)
@given(data=spoiled(TENSOR_FILES))
def test_safetensors_reads_what_we_read_and_the_same(data: bytes) -> None:
    check_tensor_file(data)


@settings(max_examples=150)
@given(adapter=st.sampled_from(ADAPTERS), data=spoiled([a.files[WEIGHTS_FILE] for a in ADAPTERS]))
def test_spoiled_vectors_with_true_hashes_are_refused_or_the_ones_in_the_file(adapter: Archive, data: bytes) -> None:
    check_weights(adapter, data)


@settings(max_examples=150)
@given(adapter=st.sampled_from(ADAPTERS), data=spoiled([a.files[MANIFEST_FILE] for a in ADAPTERS]))
def test_a_spoiled_manifest_is_refused_or_is_the_bytes_it_was_read_from(adapter: Archive, data: bytes) -> None:
    check_manifest(adapter, data)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: f"{a.manifest.method}-{a.manifest.weights.dtype}")
def test_every_flipped_bit_of_a_header_is_refused_or_read_alike(adapter: Archive) -> None:
    data = adapter.files[WEIGHTS_FILE]
    for at in range(0, int.from_bytes(data[:8], "little") + 8, 7):
        for bit in range(8):
            check_tensor_file(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
