"""One test for every kind of model: proven, adapted, trained, merged, and given back bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from tests.nn.small_models import normal, seeded, tokens
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.archive import Archive
from vera.fingerprint import BaseFingerprint
from vera.nn.attach import attach, live_modules, shared_tensors
from vera.nn.bank import Bank
from vera.nn.identity import prove_base
from vera.nn.merge import merge
from vera.nn.targets import find_targets

SIZE = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"vocab_size": 40, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
T5 = {
    "vocab_size": 40, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2,
    "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": 40, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "scale_embedding": True,
}  # fmt: skip
VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip

Inputs = Mapping[str, torch.Tensor]


def text() -> Inputs:
    return {"input_ids": tokens(2)}


def text_to_text() -> Inputs:
    return {"input_ids": tokens(2), "decoder_input_ids": tokens(2, 5)}


def images() -> Inputs:
    return {"pixel_values": normal(2, 3, 16, 16)}


@dataclass(frozen=True)
class Kind:
    """A kind of model, and modules of it to adapt, as the model spells them."""

    model: Any
    config: Any
    targets: tuple[str, ...]
    inputs: Callable[[], Inputs] = text

    def make(self) -> Any:
        return seeded(lambda: self.model(self.config)).requires_grad_(False)

    def load(self, folder: Path) -> Any:
        return self.model.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)


KINDS = {
    "encoder": Kind(hf.BertModel, hf.BertConfig(**SIZE), ("query", "value", "output.dense", "word_embeddings")),
    "encoder with a tied head": Kind(hf.BertForMaskedLM, hf.BertConfig(**SIZE), ("query", "decoder")),
    "decoder": Kind(hf.LlamaForCausalLM, hf.LlamaConfig(**SIZE, num_key_value_heads=1), ("q_proj", "v_proj", "lm_head")),
    "decoder with a tied head": Kind(
        hf.LlamaForCausalLM, hf.LlamaConfig(**SIZE, tie_word_embeddings=True), ("down_proj", "lm_head")
    ),
    "decoder of Conv1D": Kind(hf.GPT2LMHeadModel, hf.GPT2Config(**GPT2), ("c_attn", "c_proj", "wte", "lm_head")),
    "decoder of fused query_key_value": Kind(
        hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig(**SIZE), ("query_key_value", "lm_head")
    ),
    "decoder of fused qkv_proj": Kind(
        hf.Phi3ForCausalLM,
        hf.Phi3Config(**SIZE, num_key_value_heads=1, pad_token_id=0),
        ("qkv_proj", "gate_up_proj", "embed_tokens"),
    ),
    "decoder of scaled embeddings": Kind(
        hf.Gemma3ForCausalLM,
        hf.Gemma3TextConfig(**SIZE, num_key_value_heads=1, head_dim=16),
        ("q_proj", "embed_tokens"),
    ),
    "encoder-decoder": Kind(hf.T5ForConditionalGeneration, hf.T5Config(**T5), ("q", "wo", "lm_head"), text_to_text),
    "encoder-decoder of scaled embeddings": Kind(
        hf.BartForConditionalGeneration, hf.BartConfig(**BART), ("v_proj", "fc1", "embed_tokens"), text_to_text
    ),
    "images": Kind(hf.ViTModel, hf.ViTConfig(**VIT), ("q_proj", "fc1"), images),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def folder(kind: Kind, tmp_path: Path) -> Path:
    kind.make().save_pretrained(tmp_path)
    return tmp_path


def archive_of(kind: Kind, model: Any, base: BaseFingerprint) -> Archive:
    """A random adapter of the kind's targets, as a training of them on `model` would name them."""
    proof = prove_base(model, base)
    chosen = {id(module) for module in find_targets(model, kind.targets).values()}
    targets = {name: module for name, module in live_modules(model, proof).items() if id(module) in chosen}
    assert len(targets) == len(chosen)
    return make_tiny(base, modules=Bank(targets, model, shared_tensors(proof)).modules())


def output_of(model: Any, inputs: Inputs) -> torch.Tensor:
    output = model(**inputs)
    tensor: torch.Tensor = output.logits if "logits" in output else output.last_hidden_state
    return tensor


def bits_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_bits(model: nn.Module, expected: Mapping[str, torch.Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_an_adapter_is_attached_trained_and_taken_off(kind: Kind, folder: Path) -> None:
    base, model, inputs = fingerprint.of_files(folder), kind.load(folder), kind.inputs()
    before, bits = output_of(model, inputs), bits_of(model)
    archive = archive_of(kind, model, base)

    bank = attach(model, archive, base).vera.bank

    adapted = output_of(model, inputs)
    assert not torch.allclose(adapted, before)
    adapted.square().mean().backward()
    for name, delta in bank.slots[bank.active].deltas.items():
        for vector, parameter in delta.named_parameters():
            assert parameter.grad is not None, (name, vector)
            assert parameter.grad.abs().max() > 0, (name, vector)
    assert all(weight.grad is None for weight in model.parameters())
    assert_bits(model, bits)
    model.save_pretrained(folder / "again")
    assert fingerprint.of_files(folder / "again").value == base.value  # what is saved is the base's own
    bank.detach()
    assert torch.equal(output_of(model, inputs), before)


def test_the_delta_that_is_added_is_the_one_that_is_merged(kind: Kind, folder: Path) -> None:
    base, model, inputs = fingerprint.of_files(folder), kind.load(folder), kind.inputs()
    bits = bits_of(model)
    untied = [
        module for module in archive_of(kind, model, base).manifest.modules
        if module.tensor is None and not is_tied(model, module.name)
    ]  # fmt: skip
    bank = attach(model, make_tiny(base, modules=untied), base).vera.bank
    adapted = output_of(model, inputs)

    merge(bank, bank.active)

    # Two ways of summing the same float32 products of values of order 1, through two layers.
    torch.testing.assert_close(output_of(model, inputs), adapted, rtol=2e-4, atol=2e-4)
    bank.detach()
    assert_bits(model, bits)


def is_tied(model: Any, name: str) -> bool:
    """Whether the module's weight stands under several names of the model's state."""
    state = {n: t.data_ptr() for n, t in model.state_dict().items()}
    mine = [pointer for n, pointer in state.items() if n.endswith(f"{name}.weight")]
    return any(list(state.values()).count(pointer) > 1 for pointer in mine)
