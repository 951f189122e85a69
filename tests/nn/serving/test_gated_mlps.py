"""An MLP whose activation is fused answers what it answered before; one that is another is told of and left alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.nn.serving.test_packed_bank import IDS, NAMES, ROWS, answers, packed
from tests.nn.small_models import adapted, tiny_llama
from vera.errors import VeraWarning
from vera.nn.bank import Bank

MLP = ("gate_proj", "up_proj", "down_proj")
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="MLPs are fused in kernels")


def changed(change: Callable[[Any], None]) -> tuple[Any, Bank]:
    model = tiny_llama()
    for layer in model.model.layers:
        change(layer.mlp)
    return model, adapted(model, *MLP, names=NAMES)


def test_mlps_are_known_by_what_they_compute() -> None:
    model, bank = changed(lambda _mlp: None)

    many = packed(model, bank, fuse=True)

    assert list(many.mlps) == ["model.layers.0.mlp", "model.layers.1.mlp"]
    assert {mlp.product.activation for mlp in many.mlps.values()} == {"silu"}


@pytest.mark.parametrize(
    ("act", "activation"),
    [(nn.GELU(), "gelu"), (nn.GELU(approximate="tanh"), "gelu_tanh"), (nn.SiLU(inplace=True), "silu")],
)
def test_activations_are_known_by_what_they_compute(act: nn.Module, activation: str) -> None:
    model, bank = changed(lambda mlp: setattr(mlp, "act_fn", act))

    assert packed(model, bank, fuse=True).mlps["model.layers.0.mlp"].product.activation == activation


def _twice(mlp: Any) -> None:
    own = mlp.forward
    mlp.forward = lambda x: own(x) * 2


def _swapped(mlp: Any) -> None:
    mlp.forward = lambda x: mlp.down_proj(mlp.gate_proj(x) * mlp.act_fn(mlp.up_proj(x)))


def _clamped(mlp: Any) -> None:
    mlp.forward = lambda x: mlp.down_proj(mlp.act_fn(mlp.gate_proj(x).clamp(max=10)) * mlp.up_proj(x).clamp(-10, 10))


def _needs_more(mlp: Any) -> None:
    own = mlp.forward
    mlp.forward = lambda x, *more: own(x) if more else (_ for _ in ()).throw(TypeError("one more"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_twice, "answers something else"),
        (_swapped, "answers something else"),
        (_clamped, "answers something else"),
        (lambda mlp: setattr(mlp, "act_fn", nn.ReLU()), "none of silu, gelu, gelu_tanh"),
        (lambda mlp: mlp.train(), "call eval"),
    ],
    ids=["twice", "swapped", "clamped", "relu", "training"],
)
def test_another_mlp_is_told_of_and_left_alone(change: Callable[[Any], None], why: str) -> None:
    model, bank = changed(change)
    with bank.rows(ROWS):
        expected = answers(model)

    with pytest.warns(VeraWarning, match=f"2 of 2 MLPs are not fused, model.layers.0.mlp the first.*{why}"):
        many = packed(model, bank, fuse=True)

    assert not many.mlps
    with many:
        many.use(ROWS)
        assert torch.equal(answers(model), expected)


def test_an_mlp_that_takes_something_else_is_told_of() -> None:
    model, bank = changed(_needs_more)
    with pytest.warns(VeraWarning, match="takes other inputs than one tensor"):
        packed(model, bank, fuse=True, run=lambda: model.model.layers[0].mlp(torch.zeros(1, 1, 48), 1))


@pytest.mark.parametrize("suffixes", [("q_proj", "v_proj"), ("down_proj",)])
def test_adapters_without_an_mlp_are_told_of(suffixes: tuple[str, ...]) -> None:
    model = tiny_llama()
    with pytest.warns(VeraWarning, match="No MLP is fused"):
        packed(model, adapted(model, *suffixes, names=NAMES), fuse=True)


def test_without_kernels_the_answers_are_the_same_bits_and_the_model_is_left_as_it_was() -> None:
    model, bank = changed(lambda _mlp: None)
    bank.activate(None)
    before, forward = answers(model), model.model.layers[0].mlp.forward
    with bank.rows(ROWS):
        expected = answers(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        many = packed(model, bank, fuse=True)

    with many:
        many.use(ROWS)
        assert torch.equal(answers(model), expected)

    assert model.model.layers[0].mlp.forward == forward
    assert torch.equal(answers(model), before)


# On a GPU


@pytest.fixture
def fused() -> tuple[Any, Any]:
    model = tiny_llama(hidden_act="gelu_pytorch_tanh").to("cuda", torch.bfloat16)
    bank = adapted(model, *MLP, names=NAMES)
    return model, packed(model, bank, fuse=True, stack=True, max_rows=2048, run=lambda: answers(model, IDS.cuda()))


@ON_GPU
@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (70, 1), (5, 300)])
def test_every_form_answers_within_rounding(fused: tuple[Any, Any], shape: tuple[int, int]) -> None:
    _, many = fused
    many.use([(*NAMES, None)[i % 4] for i in range(shape[0])])
    for mlp in many.mlps.values():
        gated = mlp.product
        x = torch.randn(*shape, 48, device="cuda", dtype=torch.bfloat16)
        with torch.no_grad():
            gate, up = gated.product.plain(x)
            expected = nn.functional.gelu(gate.double(), approximate="tanh") * up.double()
            for form in gated._forms(x):
                assert (form(x).double() - expected).abs().max() <= 3e-2 * expected.abs().max()


@ON_GPU
def test_a_fused_model_answers_as_before_and_a_watched_module_is_called(fused: tuple[Any, Any]) -> None:
    model, many = fused
    with many:
        many.use(ROWS)
        one = answers(model, IDS.cuda())
        seen: list[Tensor] = []
        for layer in model.model.layers:
            layer.mlp.gate_proj.register_forward_hook(lambda _m, _i, output: seen.append(output))
        other = answers(model, IDS.cuda())
    assert len(seen) == 2
    assert (one - other).abs().max() <= 3e-2 * other.abs().max()
    many.unstack()
    with many:
        many.use(ROWS)
        assert (answers(model, IDS.cuda()) - other).abs().max() <= 3e-2 * other.abs().max()
