"""Bases that accelerate has spread over devices: proven where their weights are kept, and adapted where they compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from accelerate.hooks import remove_hook_from_submodules
from transformers import LlamaForCausalLM

from tests.nn.small_models import tiny_llama, tokens
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.errors import BaseMismatch, TargetError, VeraError
from vera.fingerprint import BaseFingerprint
from vera.nn.attach import attach
from vera.nn.identity import prove_base
from vera.nn.merge import merge

CPU = torch.device("cpu")
SIZES = {"model.layers.0.self_attn.q_proj": (48, 48), "model.layers.1.mlp.down_proj": (64, 48)}

Spread = Callable[[Path, Path], Any]


def on_host(folder: Path, _spare: Path) -> Any:
    return cpu_offload(load(folder), execution_device=CPU)


def on_disk(folder: Path, spare: Path) -> Any:
    model = load(folder)
    disk_offload(model, spare, execution_device=CPU)
    return model


def by_device_map(folder: Path, spare: Path) -> Any:
    places = {"model.embed_tokens": "disk", "model.layers.0": "cpu", "model.layers.1": "disk"}
    rest = dict.fromkeys(["model.norm", "model.rotary_emb", "lm_head"], "cpu")
    return load(folder, device_map=places | rest, offload_folder=str(spare))


def load(folder: Path, **options: Any) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, local_files_only=True, **options).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseFingerprint:
    return fingerprint.of_files(folder)


@pytest.mark.parametrize("spread", [on_host, on_disk, by_device_map])
def test_an_offloaded_base_is_proven_and_answers_as_one_that_is_not(
    spread: Spread, folder: Path, base: BaseFingerprint, tmp_path: Path
) -> None:
    model, whole, archive = spread(folder, tmp_path), load(folder), make_tiny(base, sizes=SIZES)
    assert (prove_base(model, base).kind, prove_base(model, base).tensors) == ("content", len(base.tensors))
    for each in (model, whole):
        attach(each, archive, base)
    with torch.no_grad():
        assert torch.equal(model(tokens(2)).logits, whole(tokens(2)).logits)


def test_an_adapter_that_goes_with_the_hooks_of_accelerate_is_missed_and_comes_back(
    folder: Path, base: BaseFingerprint, tmp_path: Path
) -> None:
    """They put back the forward that they found, and the adapter's was put on theirs."""
    model, archive = on_host(folder, tmp_path), make_tiny(base, sizes=SIZES)
    attach(model, archive, base)
    with torch.no_grad():
        answer = model(tokens(2)).logits
        remove_hook_from_submodules(model)
        with pytest.raises(VeraError, match="answered without the adapter that is active") as refused:
            model(tokens(2))
        assert refused.value.code == "ADAPTER_TAKEN_DOWN"
        attach(model, archive, base)
        assert torch.equal(model(tokens(2)).logits, answer)
        model.vera.bank.detach()
        bare = model(tokens(2)).logits
        assert torch.equal(bare, load(folder)(tokens(2)).logits)
    assert not torch.equal(bare, answer)


def test_a_changed_weight_is_found_where_it_is_kept(folder: Path, base: BaseFingerprint, tmp_path: Path) -> None:
    model = on_host(folder, tmp_path)
    prove_base(model, base)
    projection = model.model.layers[1].self_attn.v_proj
    projection._hf_hook.weights_map["weight"].add_(1)
    with pytest.raises(BaseMismatch) as caught:
        prove_base(model, base)
    assert caught.value.facts["differing"] == ["model.layers.1.self_attn.v_proj.weight"]


def test_a_weight_that_nobody_keeps_is_no_proof(folder: Path, base: BaseFingerprint) -> None:
    model = load(folder)
    model.lm_head.to("meta")
    with pytest.raises(BaseMismatch):
        prove_base(model, base)


def test_what_needs_the_weights_at_hand_is_refused(folder: Path, base: BaseFingerprint, tmp_path: Path) -> None:
    model = on_host(folder, tmp_path)
    with pytest.raises(TargetError, match="DVoRA needs it at hand"):
        attach(model, make_tiny(base, sizes=SIZES, method="dvora"), base)
    attached = attach(model, make_tiny(base, sizes=SIZES), base).vera
    with pytest.raises(TargetError, match="a merge needs it at hand"):
        merge(attached.bank, attached.name)
