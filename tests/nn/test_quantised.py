"""Quantised bases: the adapter is computed beside the quantised product, and its source proves the base."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchao.quantization import Int8Tensor, Int8WeightOnlyConfig, quantize_
from transformers import BitsAndBytesConfig, LlamaForCausalLM, TorchAoConfig

from tests.nn.small_models import Int8Linear, adapted, normal, tiny_llama, tokens
from tests.nn.test_training_tasks import completions
from tests.tiny import write_tiny_llama
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.archive import Archive
from vera.data import TEXT_GENERATION
from vera.errors import BaseMismatch, TargetError, VeraError
from vera.fingerprint import BaseFingerprint
from vera.nn import experiment, quantising
from vera.nn.attach import attach
from vera.nn.base import Base
from vera.nn.identity import prove_base
from vera.nn.merge import merge
from vera.nn.training.recipe import Recipe

HAS_BITSANDBYTES = torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is not None
ON_GPU = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes computes on CUDA devices only")
# 4 bits come in blocks of 64, and the tiny model is 48 wide: bitsandbytes says that it will be slow.
pytestmark = pytest.mark.filterwarnings("ignore:inner dimension:UserWarning")
SIZES = {"model.layers.0.self_attn.q_proj": (48, 48), "model.layers.1.mlp.down_proj": (64, 48)}

Load = Callable[[Path], Any]


def torchao_int8(folder: Path) -> Any:
    return load(folder, quantization_config=TorchAoConfig(Int8WeightOnlyConfig(version=2)))


def torchao_in_place(folder: Path) -> Any:
    model = load(folder)
    quantize_(model, Int8WeightOnlyConfig(version=2))
    return model


def own_int8(folder: Path) -> Any:
    """As libraries without a tensor type of their own do it: integers in `weight` and a scale beside them."""
    model = load(folder)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            model.set_submodule(name, Int8Linear(module))
    return model


def bitsandbytes_8bit(folder: Path) -> Any:
    return load(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map=0)


def bitsandbytes_4bit(folder: Path) -> Any:
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
    return load(folder, quantization_config=config, device_map=0)


def load(folder: Path, **options: Any) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, local_files_only=True, **options).eval().requires_grad_(False)


QUANTISED = [
    torchao_int8,
    torchao_in_place,
    own_int8,
    pytest.param(bitsandbytes_8bit, marks=ON_GPU),
    pytest.param(bitsandbytes_4bit, marks=ON_GPU),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseFingerprint:
    return fingerprint.of_files(folder)


@pytest.fixture(scope="module")
def archive(base: BaseFingerprint) -> Archive:
    return make_tiny(base, sizes=SIZES)


# What is computed


@pytest.mark.parametrize("quantised", QUANTISED)
def test_the_delta_is_added_to_the_quantised_product(
    quantised: Load, folder: Path, base: BaseFingerprint, archive: Archive
) -> None:
    model = quantised(folder)
    module = model.get_submodule("model.layers.1.mlp.down_proj")
    x = normal(2, 5, 64).to(model.device, torch.bfloat16)
    with torch.autocast(model.device.type, torch.bfloat16):
        plain = module(x)
        bank = attach(model, archive, base, is_loaded_from_base=True).vera.bank
        delta = bank.slots[bank.active].deltas["model.layers.1.mlp.down_proj"]
        assert torch.equal(module(x), (plain + delta(x.to(plain.dtype), plain)).to(plain.dtype))


@pytest.mark.parametrize("quantised", QUANTISED)
def test_the_vectors_are_trained_beside_a_quantised_base(
    quantised: Load, folder: Path, base: BaseFingerprint, archive: Archive
) -> None:
    model = quantised(folder)
    ids = tokens(2).to(model.device)
    before = model(input_ids=ids).logits
    bank = attach(model, archive, base, is_loaded_from_base=True).vera.bank
    model(input_ids=ids, labels=ids).loss.backward()
    for parameter in bank.parameters(bank.active):
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    bank.detach()
    assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.parametrize("quantised", QUANTISED)
def test_nothing_is_merged_into_a_quantised_weight(
    quantised: Load, folder: Path, base: BaseFingerprint, archive: Archive
) -> None:
    model = quantised(folder)
    bank = attach(model, archive, base, is_loaded_from_base=True).vera.bank
    ids = tokens(2).to(model.device)
    expected = model(input_ids=ids).logits
    with pytest.raises(TargetError, match="quantised") as caught:
        merge(bank, bank.active)
    assert caught.value.code == "MERGE_QUANTIZED"
    assert torch.equal(model(input_ids=ids).logits, expected)


def test_int8_weights_move_with_the_dtype_of_the_activations(folder: Path) -> None:
    model = torchao_in_place(folder).to(torch.bfloat16)
    adapted(model, "q_proj", "lm_head")
    assert model(tokens(2)).logits.dtype == torch.bfloat16


# What is proven


@pytest.mark.parametrize("quantised", QUANTISED)
def test_a_live_quantised_model_is_refused_and_the_next_step_named(
    quantised: Load, folder: Path, base: BaseFingerprint, archive: Archive
) -> None:
    model = quantised(folder)
    with pytest.raises(BaseMismatch, match=r"quantised.*sdk\.load the checkpoint's folder") as caught:
        attach(model, archive, base)
    assert caught.value.code == "BASE_UNPROVABLE"
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("quantised", QUANTISED)
def test_one_loaded_from_the_verified_files_is_proven_by_its_source(
    quantised: Load, folder: Path, base: BaseFingerprint, archive: Archive
) -> None:
    proof = attach(quantised(folder), archive, base, is_loaded_from_base=True).vera.base
    assert proof.kind == "source"
    assert "model.embed_tokens.weight" not in proof.unread
    assert set(SIZES) <= {name.removesuffix(".weight") for name in proof.unread}
    assert f"{len(proof.unread)} held quantised or rounded" in str(proof)
    assert proof.extra == ()


@pytest.mark.parametrize("quantised", QUANTISED)
def test_what_is_not_quantised_is_still_compared(quantised: Load, folder: Path, base: BaseFingerprint) -> None:
    model = quantised(folder)
    with torch.no_grad():
        model.model.norm.weight[3] += 0.5
    with pytest.raises(BaseMismatch) as caught:
        prove_base(model, base, is_loaded_from_base=True)
    assert caught.value.facts["differing"] == ["model.norm.weight"]


def test_a_quantised_model_that_was_proven_is_proven_until_it_changes(folder: Path, base: BaseFingerprint) -> None:
    model = torchao_in_place(folder)
    proof = prove_base(model, base, is_loaded_from_base=True)
    assert prove_base(model, base) is proof
    model.lm_head.weight.qdata.neg_()
    with pytest.raises(BaseMismatch, match="cannot be proven"):
        prove_base(model, base)


def test_a_deeper_quantised_model_is_not_taken_for_the_base(folder: Path, base: BaseFingerprint) -> None:
    model = load(folder, num_hidden_layers=3)
    quantize_(model, Int8WeightOnlyConfig(version=2))
    with pytest.raises(BaseMismatch, match="deeper"):
        prove_base(model, base, is_loaded_from_base=True)


def test_a_rounded_base_is_proven_by_its_source_alone(folder: Path, base: BaseFingerprint) -> None:
    model = load(folder, dtype=torch.float16)
    with pytest.raises(BaseMismatch, match="cannot contain the stored F32") as caught:
        prove_base(model, base)
    assert caught.value.code == "BASE_UNPROVABLE"
    assert prove_base(model, base, is_loaded_from_base=True).kind == "source"


def test_dvora_needs_norms_that_a_quantised_weight_does_not_tell(folder: Path, base: BaseFingerprint) -> None:
    with pytest.raises(TargetError, match="DVoRA"):
        attach(torchao_in_place(folder), make_tiny(base, sizes=SIZES, method="dvora"), base, is_loaded_from_base=True)


# What is trained


def test_a_base_is_read_in_8_bits_and_its_adapter_says_so(folder: Path) -> None:
    recipe = Recipe(rank=8, epochs=1, batch_size=8, max_length=16)
    base = Base.open(
        write_tiny_llama(folder.with_name("worded")), TEXT_GENERATION, recipe, name="tests/tiny", quantization="int8"
    )
    outcome = experiment.run("made", base, completions(), recipe, experiment.Choices(baselines=False))
    assert outcome.archive is not None
    assert outcome.archive.manifest.base.fingerprint == base.fingerprint.value  # the files', whatever it is held in
    assert outcome.archive.manifest.training["quantization"] == "int8"
    assert "held in int8" in outcome.archive.card
    assert isinstance(base.model.get_submodule("model.layers.0.mlp.up_proj").weight, Int8Tensor)


def test_all_weights_of_a_quantised_base_are_not_trained(folder: Path) -> None:
    recipe = Recipe(method="full", epochs=1)
    base = Base.open(
        write_tiny_llama(folder.with_name("whole")), TEXT_GENERATION, recipe, name="tests/tiny", quantization="int8"
    )
    with pytest.raises(VeraError, match="held in int8") as caught:
        experiment.run("made", base, completions(), recipe)
    assert caught.value.code == "TRAINING_INVALID"


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
@pytest.mark.parametrize(("name", "words"), [("nf4", "pip install bitsandbytes"), ("int3", "one of int8, nf4")])
def test_a_quantisation_that_cannot_be_had_says_what_can(name: str, words: str) -> None:
    with pytest.raises(VeraError, match=words) as caught:
        quantising.configuration(name)
    assert caught.value.code == "QUANTIZATION_UNAVAILABLE"
