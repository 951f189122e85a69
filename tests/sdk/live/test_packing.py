"""`sdk.pack`: many adapters of one kind by reference, on a tiny real model and a hub in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sdk
from sdk.client import Hub
from tests.builders import make_base
from tests.sdk.fakes import FakeHub
from tests.sdk.live.published import output_of
from tests.tiny_adapters import make_tiny
from vera.errors import BaseMismatch, ProjectionMismatch, VeraError, VeraWarning
from vera.fingerprint import BaseFingerprint


@pytest.fixture(autouse=True)
def alike(published: FakeHub, tiny_base: BaseFingerprint) -> None:
    """demo/p: v1 and v2 share their matrices, and so does v3, a classifier."""
    for seed, head in ((1, False), (2, False), (3, True)):
        published.publish("demo/p", make_tiny(tiny_base, seed=seed, pair_seed=9, head=head))


def test_rows_of_a_packed_batch_are_what_sdk_rows_gives(model: Any, hub: Hub) -> None:
    sdk.load_many(model, ["demo/p@v1", "demo/p@v2"], hub=hub)
    with sdk.rows(model, ["demo/p@v2", None]):
        expected = output_of(model)

    with sdk.pack(model, "demo/p@v1", capacity=4) as packed:
        packed.load("demo/p@v2", hub=hub)
        packed.use(["demo/p@v2", None])
        assert torch.equal(output_of(model), expected)
        packed.use(["demo/p@v1", "demo/p@v1"])
        assert not torch.equal(output_of(model), expected)

    assert len(packed) == 2


def test_a_model_whose_mlps_no_adapter_adapts_is_told_of_and_answers_as_without_fusing(model: Any, hub: Hub) -> None:
    sdk.load_many(model, ["demo/p@v1", "demo/p@v2"], hub=hub)
    with sdk.rows(model, ["demo/p@v2", None]):
        expected = output_of(model)

    with pytest.warns(VeraWarning, match="No MLP is fused"):
        packed = sdk.pack(model, "demo/p@v2", fuse=True)

    with packed:
        packed.use(["demo/p@v2", None])
        assert torch.equal(output_of(model), expected)


def test_what_was_active_is_active_after_the_block(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/p@v1", hub=hub)
    packed = sdk.pack(model, "demo/p@v1")
    sdk.activate(model, "demo/p@v1")
    before = output_of(model)

    with packed:
        packed.use([None, None])
        assert not torch.equal(output_of(model), before)

    assert torch.equal(output_of(model), before)


def test_an_adapter_that_is_not_there_is_refused_with_what_to_do(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/p@v1", hub=hub)
    with sdk.pack(model, "demo/p@v1") as packed:
        with pytest.raises(VeraError, match="demo/p@v2") as refused:
            packed.use(["demo/p@v2", None])
        assert refused.value.code == "ADAPTER_NOT_LOADED"
    with pytest.raises(VeraError, match="is not loaded on this model"):
        sdk.pack(model, "demo/p@v2")


def test_an_unloaded_adapter_is_gone(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/p@v1", hub=hub)
    packed = sdk.pack(model, "demo/p@v1")
    packed.load("demo/p@v2", hub=hub)

    packed.unload("demo/p@v2")

    assert len(packed) == 1
    with pytest.raises(VeraError):
        packed.use(["demo/p@v2"])


def test_an_adapter_of_another_base_is_refused(
    model: Any, hub: Hub, published: FakeHub, tiny_base: BaseFingerprint
) -> None:
    sdk.load(model, "demo/p@v1", hub=hub)
    packed = sdk.pack(model, "demo/p@v1")
    published.publish("demo/e", make_tiny(make_base(), seed=1, pair_seed=9))

    with pytest.raises(BaseMismatch, match="demo/e@v1 was trained on"):
        packed.load("demo/e@v1", hub=hub)

    assert len(packed) == 1


def test_an_adapter_of_other_matrices_is_refused(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/p@v1", hub=hub)
    packed = sdk.pack(model, "demo/p@v1")

    with pytest.raises(ProjectionMismatch, match=r"sdk\.rows"):
        packed.load("demo/b@v1", hub=hub)


def test_a_head_is_refused_and_not_left_out(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/p@v1", hub=hub)
    packed = sdk.pack(model, "demo/p@v1")

    with pytest.raises(VeraError, match="has a task head") as refused:
        packed.load("demo/p@v3", hub=hub)

    assert refused.value.code == "HEAD_UNSUPPORTED"


def test_a_model_that_says_no_inputs_is_told_how_to_be_run(
    model: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk.load(model, "demo/p@v1", hub=hub)
    monkeypatch.setattr(type(model), "dummy_inputs", None, raising=False)
    with pytest.raises(VeraError, match="run=lambda") as refused:
        sdk.pack(model, "demo/p@v1")
    assert refused.value.code == "INPUTS_UNKNOWN"

    packed = sdk.pack(model, "demo/p@v1", run=lambda: output_of(model))

    assert len(packed.bank.groups) == 2
