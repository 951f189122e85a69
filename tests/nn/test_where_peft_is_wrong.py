"""What PEFT 0.21.2 gets silently wrong or refuses, one test each: here it is right, or a clear error.

Each was reproduced with PEFT; the names say what PEFT does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.builders import edit_manifest
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import QUERY, RANK, SIZES, WIDE, make_tiny
from vera import archive as archives
from vera import fingerprint
from vera.archive import Archive
from vera.errors import ArchiveError, BaseMismatch, ProjectionMismatch
from vera.fingerprint import BaseFingerprint
from vera.manifest import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.nn.attach import attach
from vera.projection import digest_of, rebuild

NARROW = {QUERY: SIZES[QUERY]}
# A wider input than NARROW's changes every value of the draw; a wider output alone only adds rows to B.
ALL = {**SIZES, "encoder.layer.1.output.dense": (64, 32)}
DEEPER = {"encoder.layer.1.attention.self.query": (32, 32)}


def output_of(model: Any) -> torch.Tensor:
    ids = torch.arange(2, 14).reshape(2, 6)
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return hidden


def assert_each_answers_as_alone(model: Any, base: BaseFingerprint, *adapters: Archive) -> None:
    """All of `adapters` on one model, in this order, and each gives what it gives on a model of its own."""
    alone = []
    for archive in adapters:
        attached = attach(model, archive, base)
        alone.append(output_of(model))
        attached.vera.bank.detach()
    bank = [attach(model, archive, base).vera.bank for archive in adapters][-1]
    for archive, expected in zip(adapters, alone, strict=True):
        bank.activate(archive.manifest.digest)
        assert torch.equal(output_of(model), expected)
    assert not torch.equal(alone[0], alone[1])


def test_an_adapter_on_another_base_of_the_same_shapes_is_silently_wrong(
    tmp_path: Path, tiny_base: BaseFingerprint
) -> None:
    other = load_tiny_bert(write_tiny_bert(tmp_path / "other", seed=1))
    with pytest.raises(BaseMismatch, match=tiny_base.value):
        attach(other, make_tiny(tiny_base), tiny_base)


def test_a_narrower_adapter_loaded_second_silently_uses_the_first_one_s_matrices(
    tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    """Same seed, same rank, other targets: two unrelated draws."""
    assert_each_answers_as_alone(
        tiny_model, tiny_base, make_tiny(tiny_base, sizes=ALL), make_tiny(tiny_base, sizes=NARROW)
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [({"rank": 2 * RANK}, {"rank": RANK}), ({"sizes": NARROW}, {"sizes": ALL})],
    ids=["a lower rank after a higher", "wider targets after narrow ones"],
)
def test_some_orders_of_loading_crash_in_the_forward_pass(
    tiny_model: Any, tiny_base: BaseFingerprint, first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert_each_answers_as_alone(tiny_model, tiny_base, make_tiny(tiny_base, **first), make_tiny(tiny_base, **second))


def test_two_seeds_on_one_model_are_refused(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    assert_each_answers_as_alone(tiny_model, tiny_base, make_tiny(tiny_base, seed=1), make_tiny(tiny_base, seed=2))


def test_the_second_adapter_s_matrices_overwrite_the_first_s(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    first = make_tiny(tiny_base, seed=1)
    attached = attach(tiny_model, first, tiny_base)
    expected = output_of(tiny_model)
    attach(tiny_model, make_tiny(tiny_base, seed=2), tiny_base)
    attached.vera.bank.activate(first.manifest.digest)
    assert torch.equal(output_of(tiny_model), expected)


def test_an_edited_seed_loads_silently_and_is_wrong(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    honest = make_tiny(tiny_base)
    edited = replace(honest.manifest, recipe=replace(honest.manifest.recipe, seed=99))
    with pytest.raises(ProjectionMismatch, match="seed 99"):
        attach(tiny_model, archives.seal(edited, honest.files[WEIGHTS_FILE], "# tiny\n"), tiny_base)


def test_an_edited_target_list_loads_silently_and_is_wrong(tiny_base: BaseFingerprint) -> None:
    honest = make_tiny(tiny_base)
    edited = {**honest.files, CONFIG_FILE: honest.files[CONFIG_FILE].replace(WIDE.encode(), b"dense")}
    with pytest.raises(ArchiveError) as caught:
        archives.inspect(edited)
    assert caught.value.code == "DIGEST_INVALID"

    def retarget(manifest: dict[str, Any]) -> None:
        manifest["modules"][1]["name"] = WIDE.replace("layer.1", "layer.0")
        manifest["modules"].sort(key=lambda module: module["name"])

    files = edit_manifest(honest, retarget)
    with pytest.raises(ArchiveError) as caught:
        archives.inspect({name: files[name] for name in (MANIFEST_FILE, WEIGHTS_FILE)}, sealed=False)
    assert caught.value.code == "TENSOR_SET"


@pytest.mark.parametrize(("trained_on", "loaded_on"), [(2, 4), (4, 2)])
def test_an_adapter_of_another_depth_is_only_a_warning(tmp_path: Path, trained_on: int, loaded_on: int) -> None:
    """The layers that both have are equal here, to the bit."""
    deep = write_tiny_bert(tmp_path / "4", layers=4)
    shallow = load_tiny_bert(write_tiny_bert(tmp_path / "source", layers=2))
    shallow.load_state_dict(load_tiny_bert(deep).state_dict(), strict=False)
    shallow.save_pretrained(tmp_path / "2")
    base = fingerprint.of_files(tmp_path / str(trained_on))
    with pytest.raises(BaseMismatch):
        attach(load_tiny_bert(tmp_path / str(loaded_on)), make_tiny(base, sizes=DEEPER), base)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_while_loading_silently_changes_the_matrices(
    tiny_model: Any, tiny_base: BaseFingerprint, dtype: torch.dtype
) -> None:
    attached = attach(tiny_model, make_tiny(tiny_base), tiny_base)
    expected = output_of(tiny_model)
    attached.vera.bank.detach()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        attach(tiny_model, make_tiny(tiny_base), tiny_base)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(output_of(tiny_model), expected)


def test_an_adapter_trained_on_a_bfloat16_base_gets_other_matrices_on_a_float32_one(
    tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    """The rounding belongs to the recipe, whatever the model is held in."""
    drawn = make_tiny(tiny_base)
    recipe = replace(drawn.manifest.recipe, rounding="bfloat16")
    manifest = replace(drawn.manifest, recipe=recipe, projection_digest=digest_of(rebuild(recipe)))
    rounded = archives.seal(manifest, drawn.files[WEIGHTS_FILE], "# tiny\n")
    module = tiny_model.get_submodule(WIDE)
    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    plain = module(x).detach().double().numpy()
    attach(tiny_model, rounded, tiny_base)
    delta = module(x).detach().double().numpy() - plain

    vectors = archives.vectors_of(rounded)

    def off(archive: Archive) -> float:
        A, B = (matrix.astype(np.float64) for matrix in rebuild(archive.manifest.recipe))
        expected = ((x.double().numpy() @ A[:, :32].T) * vectors.lambda_d[WIDE]) @ B[:64].T * vectors.lambda_b[WIDE]
        return float(np.abs(delta - expected).max())

    # Values of order 1: float32 sums of 32 and 8 products on one side, a rounding of A and B by 2^-9 on the other.
    assert off(rounded) < 2e-5 < 1e-3 < off(drawn)


def test_a_mixed_batch_is_accepted_and_every_row_gets_the_active_adapter(
    tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    archives_ = [make_tiny(tiny_base, seed=1), make_tiny(tiny_base, seed=2)]
    bank = [attach(tiny_model, archive, tiny_base).vera.bank for archive in archives_][-1]
    names = [archive.manifest.digest for archive in archives_]
    expected = []
    for row, name in enumerate(names):
        bank.activate(name)
        expected.append(output_of(tiny_model)[row])
    with bank.rows(names):
        mixed = output_of(tiny_model)
    # The same float32 products, one row at a time instead of two: a few units in the last place of values of order 1.
    torch.testing.assert_close(mixed, torch.stack(expected), rtol=1e-5, atol=1e-5)
    assert (expected[0] - output_of(tiny_model)[0]).abs().max() > 0.1


def test_auto_model_and_inject_adapter_in_model_refuse_vera(tmp_path: Path) -> None:
    """Here any module takes one: its own object, its own names."""
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 12))
    save_file(model.state_dict(), tmp_path / fingerprint.SINGLE_FILE)
    base = fingerprint.of_files(tmp_path)
    x, keys = torch.ones(1, 12), list(model.state_dict())
    plain = model(x)

    adapted = attach(model, make_tiny(base, sizes={"0": (12, 20), "2": (20, 12)}), base)

    assert adapted is model
    assert list(model.state_dict()) == keys
    assert not torch.equal(model(x), plain)
