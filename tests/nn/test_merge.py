"""An adapter folded into the weights and taken out again, and as the LoRA it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.nn.small_models import Int8Linear, adapted, linear, normal, tiny_gpt2, tiny_llama, tokens, two_layers
from tests.tiny import load_tiny_bert
from tests.tiny_adapters import QUERY, RANK, WIDE, make_tiny
from vera import archive as archives
from vera.errors import BaseMismatch, TargetError, VeraError
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE
from vera.nn.attach import attach
from vera.nn.bank import Bank
from vera.nn.identity import prove_base
from vera.nn.merge import lora_tensors, merge, unmerge
from vera.nn.peft_form import peft_tensors
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, rebuild

IDS = torch.arange(2, 14).reshape(2, 6)


def output_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
    return hidden


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_bits(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    assert model.state_dict().keys() == weights.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    # Two ways of summing the same float32 products of values of order 1, through two layers.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def bank(tiny_model: Any, tiny_base: BaseFingerprint) -> Bank:
    made: Bank = attach(tiny_model, make_tiny(tiny_base), tiny_base).vera.bank
    return made


def name_in(bank: Bank) -> str:
    return next(iter(bank.slots))


# Merge and unmerge


def test_a_merged_model_answers_as_the_adapted_one(tiny_model: Any, bank: Bank) -> None:
    adapted_output = output_of(tiny_model)
    merge(bank, name_in(bank))
    close(output_of(tiny_model), adapted_output)
    assert not any("forward" in vars(module) for module in tiny_model.modules())


def test_unmerging_gives_the_base_back_bit_for_bit(tiny_model: Any, bank: Bank, tiny_base: BaseFingerprint) -> None:
    before, adapted_output = weights_of(tiny_model), output_of(tiny_model)
    merge(bank, name_in(bank))
    assert not torch.equal(tiny_model.get_submodule(QUERY).weight, before[f"{QUERY}.weight"])
    unmerge(bank)
    assert_same_bits(tiny_model, before)
    assert torch.equal(output_of(tiny_model), adapted_output)  # the adapter goes on, beside the weights
    assert prove_base(tiny_model, tiny_base).kind == "content"


def test_a_merged_model_no_longer_passes_for_its_base(tiny_model: Any, bank: Bank, tiny_base: BaseFingerprint) -> None:
    merge(bank, name_in(bank))
    with pytest.raises(BaseMismatch, match="adapter merged into it"):
        attach(tiny_model, make_tiny(tiny_base, seed=1), tiny_base)


def test_detaching_unmerges_first(tiny_model: Any, tiny_folder: Path, bank: Bank) -> None:
    merge(bank, name_in(bank))
    bank.detach()
    assert_same_bits(tiny_model, weights_of(load_tiny_bert(tiny_folder)))
    assert bank.size_bytes == 0


def test_a_merged_checkpoint_is_an_ordinary_model(tiny_model: Any, bank: Bank, tmp_path: Path) -> None:
    merge(bank, name_in(bank))
    tiny_model.save_pretrained(tmp_path)
    assert torch.equal(output_of(load_tiny_bert(tmp_path)), output_of(tiny_model))


def test_the_kept_weights_are_counted(tiny_model: Any, bank: Bank) -> None:
    before = bank.size_bytes
    merge(bank, name_in(bank))
    assert bank.size_bytes - before == sum(tiny_model.get_submodule(name).weight.nbytes for name in (QUERY, WIDE))
    unmerge(bank)
    assert bank.size_bytes == before


def test_a_classifier_of_the_merged_adapter_goes_on(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    classifier = attach(tiny_model, make_tiny(tiny_base, head=True), tiny_base)
    mask = torch.ones_like(IDS)
    expected = classifier(IDS, mask)
    merge(classifier.vera.bank, classifier.vera.name)
    close(classifier(IDS, mask), expected)


def test_gpt2_is_merged_the_way_it_keeps_its_weights() -> None:
    model = tiny_gpt2()
    bank = adapted(model, "c_attn", "c_proj")
    with torch.no_grad():
        expected = model(tokens(2)).logits
        merge(bank, "a")
        close(model(tokens(2)).logits, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_weight_is_rounded_once(dtype: torch.dtype) -> None:
    model = linear("Linear").to(dtype)
    bank = adapted(model, "0")
    before = weights_of(model)
    exact = before["0.weight"].double() + bank.slots["a"].deltas["0"].weight().detach().double()
    merge(bank, "a")
    merged = model[0].weight.detach().double()
    assert torch.all((merged - exact).abs() <= 0.5001 * torch.finfo(dtype).eps * exact.abs().clamp_min(1e-3))
    unmerge(bank)
    assert_same_bits(model, before)


def test_autocast_rounds_nothing_that_is_merged() -> None:
    merged = []
    for autocast in (False, True):
        model = linear("Linear")
        bank = adapted(model, "0")
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            merge(bank, "a")
        merged.append(model[0].weight)
    assert torch.equal(*merged)


# Refusals


def test_merging_twice_is_refused(tiny_model: Any, tiny_base: BaseFingerprint, bank: Bank) -> None:
    first = name_in(bank)
    second = attach(tiny_model, make_tiny(tiny_base, seed=1), tiny_base).vera.name
    merge(bank, first)
    merged = weights_of(tiny_model)
    for name in (first, second):
        with pytest.raises(VeraError, match="unmerge it first") as caught:
            merge(bank, name)
        assert caught.value.code == "ADAPTER_MERGED"
    assert_same_bits(tiny_model, merged)


def test_other_adapters_wait_until_it_is_unmerged(tiny_model: Any, tiny_base: BaseFingerprint, bank: Bank) -> None:
    first = name_in(bank)
    second = attach(tiny_model, make_tiny(tiny_base, seed=1), tiny_base).vera.name
    merge(bank, first)
    for change in (
        lambda: bank.activate(second),
        lambda: bank.activate(None),
        lambda: bank.combine({first: 0.5}),
        lambda: bank.rows([first]).__enter__(),
        lambda: bank.remove(first),
    ):
        with pytest.raises(VeraError, match="unmerge it first"):
            change()
    bank.activate(first)  # which it is
    assert bank.active == first


def test_a_merge_that_fails_leaves_the_adapter_active(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = two_layers(), normal(3, 48)
    bank = adapted(model, "0", "2")
    expected, weights = model(x), weights_of(model)

    def no_memory(_weight: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(list(bank.slot("a").deltas.values())[-1], "adapted", no_memory)
    with pytest.raises(MemoryError):
        merge(bank, "a")
    assert_same_bits(model, weights)
    assert bank.active == "a"
    assert torch.equal(model(x), expected)


def test_unmerging_what_is_not_merged_is_refused(bank: Bank) -> None:
    with pytest.raises(VeraError, match="No adapter is merged") as caught:
        unmerge(bank)
    assert caught.value.code == "NOT_MERGED"


def test_merging_an_adapter_that_is_not_there_is_refused(bank: Bank) -> None:
    with pytest.raises(VeraError, match="nobody"):
        merge(bank, "nobody")


def test_merging_while_rows_are_set_is_refused(bank: Bank) -> None:
    name = name_in(bank)
    with bank.rows([name]), pytest.raises(VeraError, match="leave the block"):
        merge(bank, name)


def test_a_quantised_weight_is_not_merged_into() -> None:
    model = nn.Sequential(two_layers()[0], Int8Linear(two_layers()[2]))
    bank = adapted(model, "0", "1")
    x, before = normal(2, 48), weights_of(model)
    answer = model(x)
    with pytest.raises(TargetError, match="quantised") as caught:
        merge(bank, "a")
    assert caught.value.facts["module"] == "1"
    assert_same_bits(model, before)
    assert torch.equal(model(x), answer)


def test_a_tied_weight_is_not_merged_into() -> None:
    model = tiny_llama(tie_word_embeddings=True)
    bank = adapted(model, "lm_head")
    before = weights_of(model)
    with pytest.raises(TargetError, match=r"model\.embed_tokens\.weight") as caught:
        merge(bank, "a")
    assert caught.value.code == "MERGE_TIED"
    assert_same_bits(model, before)


def test_a_module_of_two_names_is_not_merged_into_nor_written_under_one_of_them() -> None:
    """Unmerging would leave the delta of the first name in the weight, and a file would hold that of one name alone."""
    model = nn.Sequential()
    model.first = nn.Linear(16, 16)
    model.second = model.first
    bank = Bank({"first": model.first, "second": model.second}, model)
    pair = rebuild(ProjectionRecipe(PEFT_MT19937, 0, 4, 16, 16))
    bank.add_vera("a", bank.modules(), digest_of(pair), lambda: pair)
    before = weights_of(model)
    for use in (merge, lora_tensors, peft_tensors):
        with pytest.raises(TargetError, match=r"first and second are one module in this Sequential") as caught:
            use(bank, "a")
        assert caught.value.code == "MERGE_TIED"
    assert_same_bits(model, before)


# As a LoRA


def test_lora_factors_are_the_scaled_matrices_bit_for_bit(tiny_base: BaseFingerprint, bank: Bank) -> None:
    archive = make_tiny(tiny_base)
    A, B = rebuild(archive.manifest.recipe)
    vectors = archives.vectors_of(archive)
    tensors = lora_tensors(bank, name_in(bank))
    assert len(tensors) == 4
    for module, (wide_in, wide_out) in {QUERY: (32, 32), WIDE: (32, 64)}.items():
        lora_A = tensors[f"base_model.model.{module}.lora_A.weight"].numpy()
        lora_B = tensors[f"base_model.model.{module}.lora_B.weight"].numpy()
        np.testing.assert_array_equal(lora_A, vectors.lambda_d[module][:, None] * A[:, :wide_in])
        np.testing.assert_array_equal(lora_B, vectors.lambda_b[module][:, None] * B[:wide_out])


def lora_folder(folder: Path, bank: Bank, name: str, **options: Any) -> Path:
    from peft import LoraConfig

    save_file(lora_tensors(bank, name), folder / WEIGHTS_FILE)
    targets = list(bank.slots[name].deltas)
    LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, **options).save_pretrained(str(folder))
    return folder


def test_peft_loads_the_lora_and_answers_the_same(
    tiny_model: Any, tiny_folder: Path, bank: Bank, tmp_path: Path
) -> None:
    from peft import PeftModel

    expected = output_of(tiny_model)
    loaded = PeftModel.from_pretrained(load_tiny_bert(tiny_folder), str(lora_folder(tmp_path, bank, name_in(bank))))
    close(output_of(loaded), expected)


def test_peft_loads_the_lora_of_a_gpt2(tmp_path: Path) -> None:
    from peft import PeftModel

    model = tiny_gpt2()
    bank = adapted(model, "c_attn")
    with torch.no_grad():
        expected = model(tokens(2)).logits
        loaded = PeftModel.from_pretrained(tiny_gpt2(), str(lora_folder(tmp_path, bank, "a", fan_in_fan_out=True)))
        close(loaded(tokens(2)).logits, expected)
