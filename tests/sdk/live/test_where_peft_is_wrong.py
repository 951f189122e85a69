"""What PEFT 0.21.2 gets silently wrong or refuses, from a hub to a live model; the names say what PEFT does.

The same rows one floor down, without a hub, are in tests/nn/test_where_peft_is_wrong.py.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import sdk
from sdk.client import Hub
from sdk.config import Config
from sdk.fetching import fetch_many
from tests.sdk.fakes import FakeHub
from tests.sdk.live.published import output_of, serve_base
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import QUERY, RANK, SIZES, make_tiny
from vera import archive as archives
from vera import fingerprint
from vera.errors import BaseMismatch, ProjectionMismatch
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE

NARROW = {QUERY: SIZES[QUERY]}
# A wider input than NARROW's changes every value of the draw.
ALL = {**SIZES, "encoder.layer.1.output.dense": (64, 32)}
DEEP = {"encoder.layer.1.attention.self.query": (32, 32)}


@pytest.mark.parametrize("as_path", [False, True], ids=["live", "folder"])
def test_an_adapter_on_another_base_of_the_same_shapes_is_silently_wrong(
    hub: Hub, tiny_base: BaseFingerprint, tmp_path: Path, as_path: bool
) -> None:
    folder = write_tiny_bert(tmp_path / "other", seed=1)
    other = load_tiny_bert(folder)
    before = output_of(other)

    with pytest.raises(BaseMismatch, match=tiny_base.value):
        sdk.load(folder if as_path else other, "demo/a@v1", hub=hub)

    assert torch.equal(output_of(other), before)


@pytest.mark.parametrize(
    "options",
    [
        ({"sizes": ALL}, {"sizes": NARROW}),
        ({"sizes": NARROW}, {"sizes": ALL}),
        ({"rank": 2 * RANK}, {"rank": RANK}),
        ({"rank": RANK}, {"rank": 2 * RANK}),
        ({"seed": 1}, {"seed": 2}),
    ],
    ids=[
        "a narrower one second silently uses the first one's matrices",
        "a wider one second crashes in the forward pass",
        "a lower rank second crashes in the forward pass",
        "a higher rank second gets other matrices",
        "two seeds are refused",
    ],
)
def test_whichever_is_loaded_second(
    fake: FakeHub, hub: Hub, tiny_base: BaseFingerprint, tiny_folder: Path, options: tuple[dict[str, Any], ...]
) -> None:
    refs = [fake.publish(f"demo/order-{n}", make_tiny(tiny_base, **each)) for n, each in enumerate(options)]
    alone = [output_of(sdk.load(load_tiny_bert(tiny_folder), ref, hub=hub)) for ref in refs]

    model = load_tiny_bert(tiny_folder)
    sdk.load_many(model, refs, hub=hub)

    for ref, expected in zip(refs, alone, strict=True):
        assert torch.equal(output_of(sdk.activate(model, ref)), expected)
    assert not torch.equal(*alone)


def test_an_edited_seed_loads_silently_and_is_wrong(
    fake: FakeHub, hub: Hub, model: Any, tiny_base: BaseFingerprint
) -> None:
    honest = make_tiny(tiny_base, seed=9)
    edited = replace(honest.manifest, recipe=replace(honest.manifest.recipe, seed=99))
    fake.publish("demo/edited", archives.seal(edited, honest.files[WEIGHTS_FILE], "# x\n"))
    before = output_of(model)

    with pytest.raises(ProjectionMismatch) as caught:
        sdk.load(model, "demo/edited", hub=hub)

    assert caught.value.facts["expected"] == honest.manifest.projection_digest
    assert torch.equal(output_of(model), before)


@pytest.mark.parametrize(("trained_on", "loaded_on"), [(2, 4), (4, 2)])
def test_an_adapter_of_another_depth_is_only_a_warning(
    fake: FakeHub, hub: Hub, tmp_path: Path, trained_on: int, loaded_on: int
) -> None:
    deep = write_tiny_bert(tmp_path / "4", layers=4)
    shallow = load_tiny_bert(write_tiny_bert(tmp_path / "2"))
    shallow.load_state_dict(load_tiny_bert(deep).state_dict(), strict=False)
    shallow.save_pretrained(tmp_path / "2")
    base = fingerprint.of_files(tmp_path / str(trained_on))
    serve_base(fake, base)
    fake.publish("demo/deep", make_tiny(base, sizes=DEEP))

    with pytest.raises(BaseMismatch):
        sdk.load(load_tiny_bert(tmp_path / str(loaded_on)), "demo/deep", hub=hub)


def test_the_default_dtype_while_loading_silently_changes_the_matrices(hub: Hub, tiny_folder: Path) -> None:
    expected = output_of(sdk.load(load_tiny_bert(tiny_folder), "demo/a@v1", hub=hub))
    model = load_tiny_bert(tiny_folder)

    torch.set_default_dtype(torch.bfloat16)
    try:
        sdk.load(model, "demo/a@v1", hub=hub)
    finally:
        torch.set_default_dtype(torch.float32)

    assert torch.equal(output_of(model), expected)


def test_every_further_adapter_takes_longer_to_load(
    fake: FakeHub, hub: Hub, model: Any, tiny_base: BaseFingerprint
) -> None:
    """Here it takes as many steps as the one before; steps are counted, because this machine may be busy."""
    refs = [fake.publish("demo/many", make_tiny(tiny_base, seed=1, card=f"# {n:02}\n")) for n in range(24)]
    sdk.load_many(model, refs[:2], hub=hub)
    fetch_many(refs, hub=hub)

    steps = [calls_of(lambda ref=ref: sdk.load(model, ref, hub=hub)) for ref in refs[2:]]

    # What grows is the scan over what is loaded, to take a moved alias away: a few calls for each adapter.
    assert steps[-1] - steps[0] <= 6 * len(steps)
    assert steps[-1] < 1.1 * steps[0]


def test_there_is_no_hot_swap(hub: Hub, model: Any, published: FakeHub, config: Config) -> None:
    """Here switching between loaded adapters asks nobody and reads no file: the cache is gone."""
    sdk.load_many(model, ["demo/a@v1", "demo/a@v2"], hub=hub)
    first = output_of(sdk.activate(model, "demo/a@v1"))
    published.requests.clear()
    shutil.rmtree(config.cache)

    second = output_of(sdk.activate(model, "demo/a@v2"))

    assert torch.equal(output_of(sdk.activate(model, "demo/a@v1")), first)
    assert not torch.equal(second, first)
    assert published.requests == []
    assert not config.cache.exists()


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions `work` calls."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls
