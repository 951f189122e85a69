"""An adapter on a live model: what it computes, what it leaves alone, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import QUERY, RANK, WIDE, make_tiny, with_stored_pair
from vera import archive as archives
from vera.errors import AdapterTooLarge, BaseMismatch, ProjectionMismatch, TargetError, VeraError
from vera.fingerprint import BaseFingerprint
from vera.manifest import DVORA, VERA, WEIGHTS_FILE
from vera.nn.attach import attach
from vera.nn.parameters import as_parameters
from vera.projection import rebuild


def output_of(model: Any) -> torch.Tensor:
    ids = torch.arange(2, 14).reshape(2, 6)
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return hidden


def test_the_adapted_module_computes_equation_2(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    archive = make_tiny(tiny_base)
    module = tiny_model.get_submodule(WIDE)
    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    plain = module(x)
    attach(tiny_model, archive, tiny_base)
    A, B = (matrix.astype(np.float64) for matrix in rebuild(archive.manifest.recipe))
    vectors = archives.vectors_of(archive)
    h = (x.double().numpy() @ A[:, :32].T) * vectors.lambda_d[WIDE]
    expected = plain.detach().double().numpy() + (h @ B[:64].T) * vectors.lambda_b[WIDE]
    # float32 sums of 32 and 8 products: a few units in the last place of values of order 1
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=2e-5, atol=2e-5)


def test_a_stored_pair_answers_as_the_drawn_one(tiny_model: Any, tiny_base: BaseFingerprint, tmp_path: Path) -> None:
    drawn = make_tiny(tiny_base)
    attach(tiny_model, drawn, tiny_base)
    expected = output_of(tiny_model)
    tiny_model.vera.bank.detach()
    archives.write_folder(with_stored_pair(drawn), tmp_path / "a")

    adapted = attach(tiny_model, archives.read_folder(tmp_path / "a"), tiny_base)

    assert torch.equal(output_of(tiny_model), expected)
    assert "read from its file" in str(adapted.vera)


def test_a_stored_pair_that_is_another_one_is_refused_and_changes_nothing(
    tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    before, stored = output_of(tiny_model), with_stored_pair(make_tiny(tiny_base))
    with pytest.raises(ProjectionMismatch):
        attach(tiny_model, replace(stored, projection=rebuild(make_tiny(tiny_base, seed=5).manifest.recipe)), tiny_base)
    assert torch.equal(output_of(tiny_model), before)


def test_detaching_gives_the_model_back_bit_for_bit(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    before, keys = output_of(tiny_model), list(tiny_model.state_dict())
    adapted = attach(tiny_model, make_tiny(tiny_base), tiny_base)
    assert not torch.equal(output_of(tiny_model), before)
    assert list(tiny_model.state_dict()) == keys
    adapted.vera.bank.detach()
    assert torch.equal(output_of(tiny_model), before)


def test_adapters_of_other_seeds_and_ranks_live_together(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    alone = []
    archives_ = [
        make_tiny(tiny_base, seed=1),
        make_tiny(tiny_base, seed=2, rank=4),
        make_tiny(tiny_base, seed=1, sizes={QUERY: (32, 32)}),
    ]
    for archive in archives_:
        adapted = attach(tiny_model, archive, tiny_base)
        alone.append(output_of(tiny_model))
        adapted.vera.bank.detach()
    for archive in archives_:
        attach(tiny_model, archive, tiny_base)
    for archive, expected in zip(archives_, alone, strict=True):
        attach(tiny_model, archive, tiny_base)
        assert torch.equal(output_of(tiny_model), expected)


def test_a_classifier_answers_with_its_own_adapter_whichever_is_active(
    tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    ids, mask = torch.arange(2, 14).reshape(2, 6), torch.ones(2, 6, dtype=torch.long)
    first = attach(tiny_model, make_tiny(tiny_base, seed=1, head=True), tiny_base)
    expected = first(ids, mask)
    second = attach(tiny_model, make_tiny(tiny_base, seed=2, head=True), tiny_base)
    assert not torch.equal(second(ids, mask), expected)
    assert torch.equal(first(ids, mask), expected)


def test_the_same_adapter_twice_is_attached_once(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    archive = make_tiny(tiny_base)
    bank = attach(tiny_model, archive, tiny_base).vera.bank
    assert attach(tiny_model, archive, tiny_base).vera.bank is bank
    assert len(bank.slots) == 1


def test_matrices_are_held_once_per_digest(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    one = attach(tiny_model, make_tiny(tiny_base, seed=3), tiny_base).vera.bank
    before = one.size_bytes
    attach(tiny_model, make_tiny(tiny_base, seed=3, card="# another version\n"), tiny_base)
    vectors = 4 * (2 * RANK + 32 + 64)
    assert one.size_bytes - before == vectors


def test_loading_on_another_base_of_the_same_shapes_is_refused_and_changes_nothing(
    tmp_path: Path, tiny_base: BaseFingerprint
) -> None:
    other = load_tiny_bert(write_tiny_bert(tmp_path / "other", seed=1))
    before = output_of(other)
    with pytest.raises(BaseMismatch, match=tiny_base.value):
        attach(other, make_tiny(tiny_base), tiny_base)
    assert torch.equal(output_of(other), before)


def test_a_wrong_base_is_a_warning_when_asked(tmp_path: Path, tiny_base: BaseFingerprint) -> None:
    other = load_tiny_bert(write_tiny_bert(tmp_path / "other", seed=1))
    with pytest.warns(UserWarning, match="may answer wrongly"):
        adapted = attach(other, make_tiny(tiny_base), tiny_base, verify="warn")
    assert adapted.vera.base.kind == "none"


def test_an_edited_seed_is_refused_naming_both_digests(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    honest = make_tiny(tiny_base)
    edited = replace(honest.manifest, recipe=replace(honest.manifest.recipe, seed=99))
    archive = archives.seal(edited, honest.files[WEIGHTS_FILE], "# tiny\n")
    before = output_of(tiny_model)
    with pytest.raises(ProjectionMismatch) as caught:
        attach(tiny_model, archive, tiny_base)
    assert caught.value.facts["expected"] == honest.manifest.projection_digest
    assert caught.value.facts["got"] in str(caught.value)
    assert torch.equal(output_of(tiny_model), before)


def test_matrices_beyond_the_budget_are_refused_before_they_are_made(
    tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    with pytest.raises(AdapterTooLarge, match="budget"):
        attach(tiny_model, make_tiny(tiny_base), tiny_base, budget_bytes=1000)


def test_a_module_the_base_does_not_have_is_refused(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    archive = make_tiny(tiny_base, sizes={"encoder.layer.7.output.dense": (64, 32)})
    with pytest.raises(TargetError, match=r"encoder\.layer\.7\.output\.dense"):
        attach(tiny_model, archive, tiny_base)


def test_a_head_that_would_be_left_out_is_refused(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    honest = make_tiny(tiny_base, head=True)
    assert honest.manifest.task is not None
    headless = replace(honest.manifest, task=replace(honest.manifest.task, pooling=None))
    with pytest.raises(VeraError, match="head") as caught:
        attach(tiny_model, archives.seal(headless, honest.files[WEIGHTS_FILE], "# tiny\n"), tiny_base)
    assert caught.value.code == "HEAD_UNSUPPORTED"


def test_a_global_default_dtype_changes_nothing(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    archive = make_tiny(tiny_base)
    adapted = attach(tiny_model, archive, tiny_base)
    expected = output_of(tiny_model)
    adapted.vera.bank.detach()
    torch.set_default_dtype(torch.bfloat16)
    try:
        attach(tiny_model, archive, tiny_base)
        assert torch.equal(output_of(tiny_model), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", [VERA, DVORA])
@pytest.mark.parametrize("through_data", [False, True], ids=["in place", "through .data"])
def test_an_adapter_that_was_trained_further_is_not_loaded_as_the_published_one(
    tiny_model: Any, tiny_base: BaseFingerprint, method: str, through_data: bool
) -> None:
    archive = make_tiny(tiny_base, method=method)
    attached = attach(tiny_model, archive, tiny_base).vera
    published = output_of(tiny_model)
    with as_parameters(attached.bank, attached.name) as vectors, torch.no_grad():
        (vectors[-1].data if through_data else vectors[-1])[0] += 0.5
    trained = output_of(tiny_model)
    assert not torch.equal(trained, published)

    with pytest.raises(VeraError, match="they were trained further") as refused:
        attach(tiny_model, archive, tiny_base)
    assert refused.value.code == "ADAPTER_CHANGED"
    assert torch.equal(output_of(tiny_model), trained)

    attached.bank.remove(attached.name)
    attach(tiny_model, archive, tiny_base)
    assert torch.equal(output_of(tiny_model), published)
