"""Embeddings and tied heads: linear maps too, each adapted alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding, BartScaledWordEmbedding

from tests.nn.small_models import RANK, RECIPE, adapted, normal, seeded, tiny_llama, tokens
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.archive import Archive
from vera.errors import TargetError, VeraError
from vera.fingerprint import BaseFingerprint
from vera.manifest import AdaptedModule
from vera.nn.attach import attach, bank_of
from vera.nn.bank import Bank
from vera.nn.identity import prove_base
from vera.nn.layer import LoraDelta
from vera.nn.linear import linear_size
from vera.nn.merge import lora_tensors, merge, unmerge
from vera.projection import rebuild

IDS = torch.tensor([[3, 0, 39, 3], [1, 2, 0, 0]])
TIED = AdaptedModule("lm_head", 48, 40, "model.embed_tokens.weight")


def embedding(**options: Any) -> nn.Sequential:
    return seeded(lambda: nn.Sequential(nn.Embedding(40, 24, **options))).requires_grad_(False)


def scaled_embedding() -> nn.Sequential:
    return seeded(lambda: nn.Sequential(BartScaledWordEmbedding(40, 24, 0, embed_scale=24**0.5))).requires_grad_(False)


def delta_weight(bank: Bank) -> torch.Tensor:
    """λb ⊙ B(λd ⊙ A[:, i]) in row i, float64, of the very numbers the module holds."""
    A, B = (torch.from_numpy(matrix.astype(np.float64)) for matrix in rebuild(RECIPE))
    delta: Any = bank.slots["a"].deltas["0"]
    columns = delta.lambda_d.double()[:, None] * A[:, :40]
    return ((B[:24] @ columns) * delta.lambda_b.double()[:, None]).T


# Embeddings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_row_i_of_an_embedding_gets_column_i_of_a(dtype: torch.dtype) -> None:
    model = embedding().to(dtype)
    bank = adapted(model, "0")
    expected = (model[0].weight.double() + delta_weight(bank))[IDS]
    answer = model(IDS)
    assert answer.dtype == dtype
    # One rounding of the sum, of values up to about 8; float32 sums 8 products besides.
    torch.testing.assert_close(answer.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


def test_gradients_of_an_embedding_reach_its_vectors_and_nothing_else() -> None:
    model = embedding()
    bank = adapted(model, "0")
    delta: Any = bank.slots["a"].deltas["0"]
    upstream = normal(2, 4, 24)
    model(IDS).backward(upstream)
    expected = torch.autograd.grad(
        delta_weight(bank)[IDS], [delta.lambda_b, delta.lambda_d], upstream.double(), retain_graph=False
    )
    for parameter, gradient in zip((delta.lambda_b, delta.lambda_d), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient.float(), rtol=1e-5, atol=1e-5)
    assert model[0].weight.grad is None


def test_the_padding_row_is_adapted_like_any_other() -> None:
    """Which token pads is a setting of the live module, and two copies of a base may differ in it."""
    plain, padded = embedding(), embedding(padding_idx=0)
    padded.load_state_dict(plain.state_dict())
    for model in (plain, padded):
        adapted(model, "0")
    assert torch.equal(plain(IDS), padded(IDS))
    assert not torch.equal(padded(IDS)[0, 1], padded[0].weight[0])


@pytest.mark.parametrize("make", [embedding, scaled_embedding])
@pytest.mark.parametrize("method", ["vera", "dvora"])
def test_an_embedding_is_merged_as_it_is_computed(make: Any, method: str) -> None:
    model = make()
    bank = adapted(model, "0", method=method)
    before, expected = model[0].weight.clone(), model(IDS)
    merge(bank, "a")
    torch.testing.assert_close(model(IDS), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(model[0].weight, before)
    unmerge(bank)
    assert torch.equal(model[0].weight, before)


def test_each_row_of_a_batch_looks_up_its_own_adapter_s_embedding() -> None:
    model = embedding()
    bank = adapted(model, "0", names=("a", "b"))
    alone = []
    for row, name in enumerate(("b", None)):
        bank.activate(name)
        alone.append(model(IDS[row : row + 1]))
    with bank.rows(["b", None]):
        assert torch.equal(model(IDS), torch.cat(alone))


def test_positions_that_are_no_batch_are_refused_in_rows() -> None:
    model = embedding()
    bank = adapted(model, "0", names=("a", "b"))
    with bank.rows(["a", "b"]), pytest.raises(VeraError, match="2 rows") as caught:
        model(torch.arange(2))  # as long as the batch, and still positions
    assert caught.value.code == "ROWS_MISMATCH"


def test_a_sum_of_adapters_on_an_embedding() -> None:
    model = embedding()
    plain = model(IDS)
    bank = adapted(model, "0", names=("a", "b"))
    parts = []
    for name in ("a", "b"):
        bank.activate(name)
        parts.append(model(IDS) - plain)
    bank.combine({"a": 0.5, "b": -2.0})
    torch.testing.assert_close(model(IDS), plain + 0.5 * parts[0] - 2 * parts[1], rtol=1e-5, atol=1e-5)


def test_a_lora_of_an_embedding_is_the_same_map() -> None:
    model = embedding()
    plain = model(IDS)
    bank = Bank({"0": model[0]}, model)
    lora = LoraDelta(RANK, 40, 24, alpha=RANK, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        lora.lora_B.copy_(normal(24, RANK))
    bank.add("lora", {"0": lora})
    bank.activate("lora")
    torch.testing.assert_close(model(IDS), plain + lora.weight().T[IDS])


def test_an_embedding_as_a_lora_has_its_factors() -> None:
    model = embedding()
    bank = adapted(model, "0")
    tensors = lora_tensors(bank, "a")
    A, B = (tensors[f"base_model.model.0.lora_embedding_{factor}"].double() for factor in "AB")
    torch.testing.assert_close((B @ A).T, delta_weight(bank), rtol=1e-5, atol=1e-6)


def test_a_compiled_embedding_follows_every_change_of_adapter() -> None:
    torch.compiler.reset()
    model = embedding()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    bank = adapted(model, "0", names=("a", "b"))
    for name in ("a", "b", None):
        bank.activate(name)
        torch.testing.assert_close(compiled(IDS), model(IDS))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (BartLearnedPositionalEmbedding(8, 4), "does not just look rows up"),  # it is given tokens, and counts them
        (nn.Embedding(8, 4, max_norm=1.0), "renormalises"),  # and writes the base's weight
    ],
)
def test_an_embedding_that_does_more_than_look_up_cannot_be_adapted(module: nn.Module, why: str) -> None:
    with pytest.raises(TargetError, match=why) as caught:
        linear_size(module)
    assert caught.value.code == "TARGET_UNSUPPORTED"


# Heads tied to the embedding


@pytest.fixture(scope="module")
def tied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tied")
    tiny_llama(tie_word_embeddings=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tied_base(tied_folder: Path) -> BaseFingerprint:
    return fingerprint.of_files(tied_folder)


def load(folder: Path, **options: Any) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, local_files_only=True, **options).eval()


def on_head(base: BaseFingerprint, *modules: AdaptedModule) -> Archive:
    return make_tiny(base, modules=modules or (TIED,))


def test_an_adapter_on_a_tied_head_changes_the_head_alone(tied_folder: Path, tied_base: BaseFingerprint) -> None:
    model, hidden = load(tied_folder), normal(1, 3, 48)
    embedded, logits = model.model.embed_tokens(IDS), model.lm_head(hidden)
    bank = attach(model, on_head(tied_base), tied_base).vera.bank
    assert torch.equal(model.model.embed_tokens(IDS), embedded)
    delta = bank.slots[bank.active].deltas["lm_head"]
    assert torch.equal(model.lm_head(hidden), logits + delta(hidden, logits))


def test_a_tied_head_is_named_with_the_tensor_it_shares(tied_folder: Path, tied_base: BaseFingerprint) -> None:
    model = load(tied_folder)
    proof = prove_base(model, tied_base)
    assert proof.extra == ()
    bank = bank_of(model, proof)
    named = {name: bank.targets[name] for name in ("lm_head", "model.embed_tokens")}
    own = AdaptedModule("model.embed_tokens", 40, 48)
    assert Bank(named, model, bank.shared).modules() == (TIED, own)


def test_embedding_and_tied_head_are_adapted_side_by_side(tied_folder: Path, tied_base: BaseFingerprint) -> None:
    model = load(tied_folder)
    both = on_head(tied_base, TIED, AdaptedModule("model.embed_tokens", 40, 48))
    bank = attach(model, both, tied_base).vera.bank
    model(input_ids=tokens(2), labels=tokens(2)).loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in bank.parameters(bank.active))
    with pytest.raises(TargetError, match="tied") as caught:
        merge(bank, bank.active)
    assert caught.value.code == "MERGE_TIED"


def test_a_model_that_does_not_tie_its_head_is_refused(tied_folder: Path, tied_base: BaseFingerprint) -> None:
    """Its head is not the base's at all: transformers makes up a random one."""
    with pytest.raises(TargetError, match="tie_word_embeddings") as caught:
        attach(load(tied_folder, tie_word_embeddings=False), on_head(tied_base), tied_base)
    assert caught.value.code == "TARGET_UNTIED"


def test_an_adapter_that_hides_whose_tensor_its_head_is_is_refused(
    tied_folder: Path, tied_base: BaseFingerprint
) -> None:
    hidden = on_head(tied_base, AdaptedModule("lm_head", 48, 40))
    with pytest.raises(TargetError) as caught:
        attach(load(tied_folder), hidden, tied_base)
    assert caught.value.code == "TARGET_UNTIED"


def test_a_tied_head_is_found_by_name_alone_when_nobody_looks(tied_folder: Path, tied_base: BaseFingerprint) -> None:
    model = load(tied_folder)
    assert attach(model, on_head(tied_base), tied_base, verify="off").vera.base.kind == "none"
    assert "forward" in vars(model.lm_head)


def test_a_head_that_was_untied_is_merged(tied_folder: Path, tied_base: BaseFingerprint) -> None:
    model = load(tied_folder)
    bank = attach(model, on_head(tied_base), tied_base).vera.bank
    expected = model(input_ids=tokens(2)).logits
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    merge(bank, bank.active)
    torch.testing.assert_close(model(input_ids=tokens(2)).logits, expected, rtol=1e-4, atol=1e-4)


# PEFT would rather have the matrices in the file, and warns of merging into tied weights.
WITHOUT_ADVICE = pytest.mark.filterwarnings("ignore::UserWarning:peft.*")


def folder_of(archive: Archive, folder: Path) -> str:
    for name, data in archive.files.items():
        (folder / name).write_bytes(data)
    return str(folder)


@WITHOUT_ADVICE
def test_peft_answers_the_same_with_a_tied_head(tied_folder: Path, tied_base: BaseFingerprint, tmp_path: Path) -> None:
    from peft import PeftModel

    model, archive = load(tied_folder), on_head(tied_base)
    attach(model, archive, tied_base)
    peft = PeftModel.from_pretrained(load(tied_folder), folder_of(archive, tmp_path))
    torch.testing.assert_close(
        peft(input_ids=tokens(2)).logits, model(input_ids=tokens(2)).logits, rtol=1e-4, atol=1e-4
    )


@WITHOUT_ADVICE
def test_peft_fails_to_load_an_adapted_embedding(tied_folder: Path, tied_base: BaseFingerprint, tmp_path: Path) -> None:
    from peft import PeftModel

    query = AdaptedModule("model.layers.0.self_attn.q_proj", 48, 48)
    archive = on_head(tied_base, AdaptedModule("model.embed_tokens", 40, 48), query)
    with pytest.raises(TypeError, match="Embedding"):
        PeftModel.from_pretrained(load(tied_folder), folder_of(archive, tmp_path))
