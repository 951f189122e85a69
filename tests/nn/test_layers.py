"""The delta on every kind of linear map, dtype and way a model is run."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import CheckpointError
from transformers import GPT2Model
from transformers.pytorch_utils import Conv1D

from tests.nn.small_models import (
    RANK,
    RECIPE,
    Int8Linear,
    adapted,
    linear,
    normal,
    seeded,
    tiny_gpt2,
    tiny_llama,
    tokens,
    two_layers,
)
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.errors import TargetError, VeraError
from vera.nn.attach import attach
from vera.nn.bank import Bank
from vera.nn.linear import linear_size
from vera.nn.targets import find_targets
from vera.projection import rebuild

# Numbers: forward and gradients against float64, in every dtype a base comes in


def reference(model: nn.Sequential, bank: Bank, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Equation 2 in float64 of the very numbers the modules hold; and x, λd, λb to differentiate by."""
    A, B = (torch.from_numpy(m.astype(np.float64)) for m in rebuild(RECIPE))
    base: Any = model[0]
    delta: Any = bank.slots["a"].deltas["0"]
    W = base.weight.detach().double()
    W = W.T if isinstance(base, Conv1D) else W
    leaves = [t.detach().double().requires_grad_() for t in (x, delta.lambda_d, delta.lambda_b)]
    h = functional.linear(leaves[0], A[:, :48]) * leaves[1]
    y = functional.linear(leaves[0], W, base.bias.detach().double()) + functional.linear(h, B[:80]) * leaves[2]
    return y, leaves


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.detach().double() - expected.detach()).norm() / expected.detach().norm())


def rounding(*dtypes: torch.dtype) -> float:
    """What the coarsest of `dtypes` costs: half an epsilon or so, where sums are taken in float32 within a product;
    a few in float32 and float64 themselves, whose sums of up to 80 terms are rounded at every step."""
    return max(torch.finfo(d).eps * (1 if d in (torch.bfloat16, torch.float16) else 4) for d in dtypes)


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_forward_and_gradients_equal_a_float64_reference(
    kind: str, dtype: torch.dtype, autocast: torch.dtype | None
) -> None:
    model = linear(kind).to(dtype).requires_grad_(False)
    bank = adapted(model, "0")
    x = normal(3, 5, 48).to(dtype).requires_grad_()
    with torch.autocast("cpu", autocast) if autocast else nullcontext():
        y = model(x)
    assert y.dtype == (autocast if autocast and dtype != torch.float64 else dtype)  # autocast leaves float64 alone
    expected, leaves = reference(model, bank, x)
    upstream = normal(3, 5, 80, seed=9).to(y.dtype)
    y.backward(upstream)
    expected.backward(upstream.double())
    assert distance(y, expected) < rounding(y.dtype)
    delta: Any = bank.slots["a"].deltas["0"]
    for got, leaf in zip((x, delta.lambda_d, delta.lambda_b), leaves, strict=True):
        assert got.grad is not None
        assert leaf.grad is not None
        assert distance(got.grad, leaf.grad) < rounding(y.dtype, got.grad.dtype)


@pytest.mark.parametrize("vector", ["lambda_b", "lambda_d"])
def test_the_vectors_are_not_rounded_to_the_dtype_of_the_base(vector: str) -> None:
    bank = adapted(linear("Linear").to(torch.bfloat16), "0")
    delta: Any = bank.slots["a"].deltas["0"]
    x = normal(64, 48).to(torch.bfloat16)
    with torch.no_grad():
        getattr(delta, vector).fill_(0.7)
        before = delta(x, x).norm()
        getattr(delta, vector).fill_(0.7 * (1 + 2**-10))  # the same bfloat16: its steps are 2^-8 there
        growth = delta(x, x).norm() / before - 1
    # What λd scales is rounded before it meets B; over 64 × 8 values that leaves a tenth of the growth uncertain.
    assert growth == pytest.approx(2**-10, rel=0.3)


def test_rows_in_a_bfloat16_base_get_what_they_get_alone() -> None:
    model = linear("Linear").to(torch.bfloat16)
    bank = adapted(model, "0", names=("a", "b"))
    x = normal(2, 5, 48).to(torch.bfloat16)
    with bank.rows(["b", None]):
        mixed = model(x)
    bank.activate("b")
    assert distance(mixed[:1], model(x[:1]).double()) <= torch.finfo(torch.bfloat16).eps
    bank.activate(None)
    assert distance(mixed[1:], model(x[1:]).double()) <= torch.finfo(torch.bfloat16).eps


def test_training_goes_on_after_answering_in_inference_mode() -> None:
    model = linear("Linear").to(torch.bfloat16)
    bank = adapted(model, "0")
    x = normal(2, 5, 48).to(torch.bfloat16)
    with torch.inference_mode():
        model(x)
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in bank.parameters("a"))


# Kinds of modules


def delta_of(bank: Bank, name: str, x: torch.Tensor) -> torch.Tensor:
    added: torch.Tensor = bank.slots["a"].deltas[name](x, x)
    return added


def test_queries_and_values_of_other_widths_share_one_pair() -> None:
    bank = adapted(tiny_llama(), "q_proj", "v_proj")
    attention = "model.layers.0.self_attn"
    assert linear_size(bank.targets[f"{attention}.q_proj"]) == (48, 48)
    assert linear_size(bank.targets[f"{attention}.v_proj"]) == (48, 16)
    vectors = 2 * 4 * (2 * RANK + 48 + 16)
    assert bank.size_bytes == vectors + 4 * RANK * (128 + 128)


def test_an_adapter_on_a_fused_projection_of_gpt2_loads_from_its_archive(tmp_path: Path) -> None:
    tiny_gpt2().transformer.save_pretrained(tmp_path)
    base = fingerprint.of_files(tmp_path)
    archive = make_tiny(base, sizes={"h.1.attn.c_attn": (32, 96), "h.0.mlp.c_proj": (128, 32)})
    model = GPT2Model.from_pretrained(tmp_path, local_files_only=True).eval()
    ids = tokens(2)
    before = model(input_ids=ids).last_hidden_state
    bank = attach(model, archive, base).vera.bank
    assert not torch.allclose(model(input_ids=ids).last_hidden_state, before)
    bank.detach()
    assert torch.equal(model(input_ids=ids).last_hidden_state, before)


def test_a_plain_module_is_a_base_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = seeded(lambda: nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3)))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    base = fingerprint.of_files(tmp_path)
    x = normal(4, 32)
    before = model(x)
    adapted_model = attach(model, make_tiny(base, sizes={"0": (32, 64)}), base)
    assert adapted_model.vera.base.kind == "content"
    assert not torch.allclose(model(x), before)


def test_an_adapter_on_a_tied_head_leaves_the_embedding_alone() -> None:
    model = tiny_llama(tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids, hidden = tokens(1), normal(1, 3, 48)
    embedded, logits = model.model.embed_tokens(ids), model.lm_head(hidden)
    bank = adapted(model, "lm_head")
    assert torch.equal(model.model.embed_tokens(ids), embedded)
    assert torch.equal(model.lm_head(hidden), logits + delta_of(bank, "lm_head", hidden))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantised_base_is_adapted_beside_its_weights(dtype: torch.dtype) -> None:
    model = nn.Sequential(Int8Linear(linear("Linear")[0]))
    x = normal(2, 5, 48).to(dtype)
    plain = model(x)
    bank = adapted(model, "0")
    assert torch.equal(model(x), (plain + delta_of(bank, "0", x)).to(dtype))


def test_torchs_own_encoder_layer_takes_no_shortcut_past_the_adapter() -> None:
    model = seeded(lambda: nn.TransformerEncoderLayer(32, 2, 64, batch_first=True))
    x = normal(2, 5, 32)
    with torch.no_grad():  # when torch would compute the whole layer at once
        plain = model(x)
        bank = adapted(model, "linear1")
        fast = model(x)
    bank.activate("a")
    torch.testing.assert_close(fast, model(x))
    assert not torch.allclose(fast, plain)


def test_a_map_that_is_never_called_cannot_be_adapted() -> None:
    with pytest.raises(TargetError, match="never calls it") as caught:
        adapted(nn.MultiheadAttention(32, 2), "out_proj")
    assert caught.value.code == "TARGET_UNSUPPORTED"


def test_a_map_of_more_than_its_weight_cannot_be_adapted() -> None:
    with pytest.raises(TargetError, match="LayerNorm is not a linear map"):
        linear_size(nn.LayerNorm(4))


def test_a_target_that_is_not_there_names_what_there_is() -> None:
    with pytest.raises(TargetError, match="c_attn"):
        find_targets(tiny_gpt2(), ["q_proj"])


# Ways a model is run


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant: bool) -> None:
    model = tiny_llama().requires_grad_(False).train()
    bank = adapted(model, "q_proj", "v_proj", "down_proj", names=("a", "b"))
    ids = tokens(2)
    model.enable_input_require_grads()  # without it a reentrant checkpoint has nothing to differentiate

    def gradients() -> list[torch.Tensor]:
        with bank.rows(["b", "a"]):
            model(input_ids=ids, labels=ids).loss.backward()
        found = []
        for parameter in bank.parameters("a") + bank.parameters("b"):
            assert parameter.grad is not None
            found.append(parameter.grad)
            parameter.grad = None
        return found

    plain = gradients()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    for got, expected in zip(gradients(), plain, strict=True):
        assert torch.equal(got, expected)
    assert all(gradient.abs().max() > 0 for gradient in plain)


def test_a_checkpoint_is_not_run_again_through_another_adapter() -> None:
    model = tiny_llama().requires_grad_(False).train()
    bank = adapted(model, "q_proj", "down_proj", names=("a", "b"))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()

    def loss(name: str | None) -> torch.Tensor:
        bank.activate(name)
        found: torch.Tensor = model(input_ids=tokens(2), labels=tokens(2)).loss
        return found

    for before, after in [("a", "b"), ("a", None), (None, "a")]:
        of_before = loss(before)
        bank.activate(after)
        with pytest.raises(CheckpointError):
            of_before.backward()
    with pytest.raises(CheckpointError):  # two losses at once: one of them belongs to what is active no more
        (loss("a") + loss("b")).backward()
    of_a = loss("a")
    loss("b")
    bank.activate("a")
    of_a.backward()


@pytest.mark.parametrize(("backend", "dtype"), [("eager", torch.bfloat16), ("aot_eager", torch.float32)])
def test_a_compiled_model_follows_every_change_of_adapter(backend: str, dtype: torch.dtype) -> None:
    torch.compiler.reset()
    model = two_layers().to(dtype)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    x = normal(2, 5, 48).to(dtype)

    def check() -> torch.Tensor:
        answer: torch.Tensor = compiled(x)
        torch.testing.assert_close(answer, model(x))
        return answer

    answers = [check()]
    bank = adapted(model, "0", "2", names=("a", "b"))
    answers.append(check())
    bank.activate("b")
    answers.append(check())
    bank.combine({"a": 0.5, "b": 0.5})
    answers.append(check())
    with bank.rows(["b", None]):
        answers.append(check())
    bank.activate(None)
    assert torch.equal(check(), answers[0])
    assert len({tuple(answer.flatten().tolist()) for answer in answers}) == len(answers)


def test_a_compiled_model_trains_its_vectors() -> None:
    torch.compiler.reset()
    model = two_layers().requires_grad_(False)
    bank = adapted(model, "0", "2")
    x = normal(2, 5, 48)

    def gradients(forward: Any) -> list[torch.Tensor]:
        return list(torch.autograd.grad(forward(x).square().sum(), bank.parameters("a")))

    for got, expected in zip(gradients(torch.compile(model, backend="aot_eager")), gradients(model), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_generate_equals_greedy_steps(make: Any) -> None:
    model = make()
    plain = model.generate(tokens(1), max_new_tokens=8, do_sample=False)
    adapted(model, "v_proj" if make is tiny_llama else "c_attn", "lm_head")
    ids = expected = tokens(1)
    with torch.no_grad():
        for _ in range(8):
            expected = torch.cat([expected, model(expected, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    assert torch.equal(answer, expected)
    assert not torch.equal(answer, plain)


def test_generate_gives_each_row_its_own_adapters_text() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", "lm_head", names=("a", "b"))
    ids, names = tokens(3), ["b", None, "a"]
    mask, alone = torch.ones_like(ids), []
    for row, name in enumerate(names):
        bank.activate(name)
        alone.append(model.generate(ids[row : row + 1], attention_mask=mask[:1], max_new_tokens=6, do_sample=False))
    with bank.rows(names):
        mixed = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert torch.equal(mixed, torch.cat(alone))


def beams(model: Any, ids: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.generate(
        ids, attention_mask=torch.ones_like(ids), num_beams=3, max_new_tokens=6, do_sample=False
    )
    return found


def test_beam_search_in_rows_names_an_adapter_for_every_beam() -> None:
    """generate repeats each row of the batch once per beam, one after the other, and never mixes rows."""
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", "lm_head", names=("a", "b"))
    ids, names = tokens(2), ["b", "a"]
    alone = []
    for row, name in enumerate(names):
        bank.activate(name)
        alone.append(beams(model, ids[row : row + 1]))
    with bank.rows([name for name in names for _ in range(3)]):
        assert torch.equal(beams(model, ids), torch.cat(alone))


def test_beam_search_in_rows_of_the_batch_alone_is_refused() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", names=("a", "b"))
    with bank.rows(["b", "a"]), pytest.raises(VeraError, match="set for 2 rows") as caught:
        beams(model, tokens(2))
    assert caught.value.code == "ROWS_MISMATCH"
