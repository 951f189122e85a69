"""torch draws what NumPy draws, bit for bit, on every device there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_adapters import make_tiny
from vera import archive as archives
from vera.errors import AdapterTooLarge, ProjectionMismatch
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE
from vera.nn.attach import attach
from vera.nn.draw import ProvenPair, draw_projection, draw_uniform
from vera.projection import PHILOX, ROUNDINGS, STREAMS, ProjectionRecipe, digest_of, rebuild, round_to
from vera.streams import MATRIX_A, MATRIX_B, Philox4x32, kaiming_bound

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("stream", STREAMS)
def test_the_pair_on_a_device_is_the_rebuilt_one(stream: str, rounding: str, device: str) -> None:
    recipe = ProjectionRecipe(stream, 2**53 - 1, 7, 33, 18, rounding)

    drawn = draw_projection(recipe, device)

    for on_device, rebuilt in zip(drawn, rebuild(recipe), strict=True):
        assert on_device.device.type == device
        assert np.array_equal(on_device.cpu().numpy(), rebuilt)


@pytest.mark.parametrize("device", DEVICES)
def test_a_pair_larger_than_a_run_is_the_rebuilt_one(device: str) -> None:
    """Runs are 2^20 blocks of four columns: B takes two of them, the second one short."""
    recipe = ProjectionRecipe(PHILOX, 3, 1023, 100, 5000)
    for on_device, rebuilt in zip(draw_projection(recipe, device), rebuild(recipe), strict=True):
        assert np.array_equal(on_device.cpu().numpy(), rebuilt)


@pytest.mark.parametrize("device", DEVICES)
@given(
    seed=st.integers(0, 2**64 - 1),
    matrix=st.sampled_from([MATRIX_A, MATRIX_B]),
    shape=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    at=st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)),
    fan_in=st.integers(1, 1 << 20),
    rounding=st.sampled_from(ROUNDINGS),
)
def test_any_part_is_the_one_of_numpy(
    device: str, seed: int, matrix: int, shape: tuple[int, int], at: tuple[int, int], fan_in: int, rounding: str
) -> None:
    bound = kaiming_bound(fan_in)
    drawn = draw_uniform(seed, matrix, shape, bound, device, at=at, rounding=getattr(torch, rounding))
    assert np.array_equal(
        drawn.cpu().numpy(), round_to(Philox4x32(seed).uniform(matrix, shape, bound, at=at), rounding)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stream", STREAMS)
def test_a_pair_on_a_device_is_proven_by_its_digest(stream: str, device: str) -> None:
    recipe = ProjectionRecipe(stream, 5, 8, 40, 24)
    proven = ProvenPair(recipe, digest_of(rebuild(recipe)))

    first, again = proven.on(torch.device(device)), proven.on(torch.device(device))

    for pair in (first, again):
        for on_device, rebuilt in zip(pair, rebuild(recipe), strict=True):
            assert on_device.device.type == device
            assert np.array_equal(on_device.cpu().numpy(), rebuilt)
    with pytest.raises(ProjectionMismatch) as caught:
        replace(proven, recipe=replace(recipe, seed=6)).on(torch.device(device))
    assert caught.value.facts["expected"] == proven.digest
    with pytest.raises(AdapterTooLarge):
        replace(proven, budget_bytes=recipe.size_bytes - 1).on(torch.device(device))


@pytest.fixture
def bfloat16_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("bfloat16_by_default")
def test_a_global_default_dtype_changes_nothing() -> None:
    recipe = ProjectionRecipe(PHILOX, 1, 4, 12, 20)
    A_RI, _ = draw_projection(recipe, "cpu")
    assert A_RI.dtype == torch.float32
    assert np.array_equal(A_RI.numpy(), rebuild(recipe).A)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_pair_beyond_the_budget_is_refused_before_it_is_drawn(stream: str) -> None:
    recipe = ProjectionRecipe(stream, 0, 4096, 1 << 20, 1 << 20)
    with pytest.raises(AdapterTooLarge):
        draw_projection(recipe, "cpu")


def test_an_adapter_of_the_philox_stream_is_proven_and_attached_like_any_other(
    tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    archive = make_tiny(tiny_base)
    recipe = replace(archive.manifest.recipe, stream=PHILOX)
    manifest = replace(archive.manifest, recipe=recipe, projection_digest=digest_of(rebuild(recipe)))
    philox = archives.inspect(archives.seal(manifest, archive.files[WEIGHTS_FILE], "# philox\n").files)
    ids = torch.arange(2, 14).reshape(2, 6)

    with torch.no_grad():
        attach(tiny_model, archive, tiny_base)
        of_peft = tiny_model(ids).last_hidden_state
        attach(tiny_model, philox, tiny_base)
        of_philox = tiny_model(ids).last_hidden_state

    assert not torch.equal(of_peft, of_philox)  # equal vectors, other matrices
