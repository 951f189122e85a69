"""Every form the VeRA product is computed in: the same numbers and gradients, and no more memory than PEFT's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.benchmarks.adapting import kept_bytes
from tests.nn.small_models import RANK, adapted, linear, normal, seeded, tiny_llama, tokens
from vera.nn.bank import Bank
from vera.nn.layer import AdaptedForward
from vera.nn.product import (
    Factors,
    adapted_linear,
    folded_linear,
    linear_with_own_gradients,
    product_with_own_gradients,
    vera_product,
)

Form = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, Factors], torch.Tensor]


def beside(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factors: Factors) -> torch.Tensor:
    return functional.linear(x, weight, bias) + product_with_own_gradients(x, factors)


def as_written(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factors: Factors) -> torch.Tensor:
    return functional.linear(x, weight, bias) + vera_product(x, factors)


def added_in_place(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factors: Factors) -> torch.Tensor:
    return linear_with_own_gradients(x, weight, bias, factors, fold=False)


def folded(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factors: Factors) -> torch.Tensor:
    return linear_with_own_gradients(x, weight, bias, factors, fold=True)


EXACT = (torch.float32, torch.float64)
DTYPES = {as_written: (*EXACT, torch.bfloat16, torch.float16), beside: (*EXACT, torch.bfloat16, torch.float16)}
DTYPES |= {added_in_place: (*EXACT, torch.bfloat16, torch.float16), folded: EXACT, folded_linear: EXACT}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def factors_of(dtype: torch.dtype, device: str, *, trained: bool = True) -> Factors:
    """Part of a wider A, as a narrow module takes it, and vectors of ordinary size."""
    A_RI, B_OR = normal(RANK, 60, seed=3)[:, :48].to(device, dtype) / 7, normal(80, RANK, seed=4).to(device, dtype) / 3
    vectors = (
        normal(RANK, seed=5).to(device).requires_grad_(trained),
        normal(80, seed=6).to(device).requires_grad_(trained),
    )
    return Factors(A_RI, B_OR, *vectors)


def with_gradients(
    form: Form, x: torch.Tensor, W: torch.Tensor, bias: Any, factors: Factors, upstream: torch.Tensor
) -> Any:
    """The output of `form`, and the gradients of x, λd and λb."""
    y = form(x, W, bias, factors)
    return y, *torch.autograd.grad(y, [x, factors.lambda_d, factors.lambda_b], upstream.to(y.dtype))


def reference(x: torch.Tensor, W: torch.Tensor, bias: Any, factors: Factors) -> torch.Tensor:
    delta = functional.linear(functional.linear(x, factors.A_RI) * factors.lambda_d, factors.B_OR) * factors.lambda_b
    return functional.linear(x, W, bias) + delta


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("bias", "tokens"), [(True, 5), (False, 20)])
@pytest.mark.parametrize(
    ("form", "dtype"), [(form, dtype) for form, dtypes in DTYPES.items() for dtype in dtypes],
    ids=lambda value: getattr(value, "__name__", str(value)),
)  # fmt: skip
def test_every_form_equals_the_formula_in_float64(
    form: Form, dtype: torch.dtype, bias: bool, tokens: int, device: str
) -> None:
    x = normal(3, tokens, 48).to(device, dtype).requires_grad_()
    W = normal(80, 48, seed=1).to(device, dtype) / 7
    b = normal(80, seed=2).to(device, dtype) if bias else None
    factors, upstream = factors_of(dtype, device), normal(3, tokens, 80, seed=9).to(device, dtype)
    exact = Factors(*(f.detach().double() for f in factors))
    exact = exact._replace(lambda_d=exact.lambda_d.requires_grad_(), lambda_b=exact.lambda_b.requires_grad_())

    got = with_gradients(form, x, W, b, factors, upstream)

    x64 = x.detach().double().requires_grad_()
    expected = with_gradients(reference, x64, W.double(), b.double() if bias else None, exact, upstream.double())  # type: ignore[union-attr]
    # Half an epsilon for each of two roundings in half precision; sums of up to 80 terms, each rounded, in the exact ones.
    for found, right, vector in zip(got, expected, (False, False, True, True), strict=True):
        eps = torch.finfo(dtype).eps * (8 if dtype in EXACT else 1)
        tolerance = max(eps, 8 * torch.finfo(torch.float32).eps) if vector else eps
        assert float((found.detach().double() - right.detach()).norm() / right.detach().norm()) < tolerance


@pytest.mark.parametrize("form", [beside, added_in_place, folded, folded_linear])
@pytest.mark.parametrize("wanted", ["x", "lambda_d", "lambda_b"])
def test_what_alone_is_trained_gets_the_gradient_it_gets_among_others(form: Form, wanted: str) -> None:
    W, upstream = normal(80, 48, seed=1), normal(3, 5, 80, seed=9)

    def gradient(only: bool) -> torch.Tensor:
        factors, x = factors_of(torch.float32, "cpu", trained=not only), normal(3, 5, 48).requires_grad_(not only)
        leaf = x if wanted == "x" else getattr(factors, wanted)
        leaf.requires_grad_()
        form(x, W, None, factors).backward(upstream)
        return leaf.grad

    torch.testing.assert_close(gradient(only=True), gradient(only=False))


@pytest.mark.parametrize("form", [beside, added_in_place, folded])
def test_a_second_derivative_is_refused(form: Form) -> None:
    x, factors = normal(3, 5, 48).requires_grad_(), factors_of(torch.float32, "cpu")
    (gradient,) = torch.autograd.grad(form(x, normal(80, 48), None, factors).square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_own_gradients_change_no_bit_of_the_product() -> None:
    x, factors = normal(3, 5, 48).to(torch.bfloat16), factors_of(torch.bfloat16, "cpu")
    assert torch.equal(product_with_own_gradients(x, factors), vera_product(x, factors))


@pytest.mark.parametrize(("tokens", "kept"), [(1000, 48 * 80), (40, 0)])
def test_a_folded_weight_is_kept_while_it_is_smaller_than_the_outputs(tokens: int, kept: int) -> None:
    x, W, factors = normal(tokens, 48), normal(80, 48), factors_of(torch.float32, "cpu")
    constants = sum(t.untyped_storage().nbytes() for t in (*factors, *[W] * (not kept)))
    assert kept_bytes(lambda: folded(x, W, None, factors)) == 4 * (tokens * RANK + kept) + constants


def test_own_gradients_keep_rank_numbers_a_token() -> None:
    x, factors = normal(1000, 48), factors_of(torch.float32, "cpu")
    constants = sum(f.untyped_storage().nbytes() for f in factors)
    assert kept_bytes(lambda: product_with_own_gradients(x, factors)) == 4 * 1000 * RANK + constants


# Which form a pass takes


def trained(rows: int, *, dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, Bank, torch.Tensor]:
    model = linear("Linear").to(dtype).requires_grad_(False)
    return model, adapted(model, "0"), normal(rows, 48).to(dtype)


def form_of(tokens: int, in_features: int, out_features: int, rank: int, dtype: torch.dtype = torch.float32) -> str:
    """The autograd function at the end of a pass of this size; "" where there are two steps."""
    x, W = torch.zeros(tokens, in_features, dtype=dtype), torch.zeros(out_features, in_features, dtype=dtype)
    vectors = torch.zeros(rank, requires_grad=True), torch.zeros(out_features, requires_grad=True)
    A_RI, B_OR = torch.zeros(rank, in_features, dtype=dtype), torch.zeros(out_features, rank, dtype=dtype)
    y = adapted_linear(x, W, None, Factors(A_RI, B_OR, *vectors))
    return "" if y is None else type(y.grad_fn).__name__


def test_the_weight_is_folded_where_that_saves_time_and_costs_no_memory() -> None:
    assert form_of(1024, 384, 384, 256) == "MmBackward0"
    assert form_of(384, 384, 384, 256) == "_AdaptedLinearBackward"  # x and the sum would be more than PEFT keeps
    assert form_of(1024, 1536, 384, 256) == "_AdaptedLinearBackward"  # the sum alone would be, and is made twice
    assert form_of(10**5, 384, 384, 16) == "_AdaptedLinearBackward"  # its gradient would cost more than that of B
    assert form_of(384, 1536, 384, 256) == ""  # too few tokens to make it twice
    assert form_of(128, 384, 384, 256) == ""  # or once
    assert form_of(1024, 384, 384, 256, torch.bfloat16) == ""  # the sum would be rounded


def test_a_pass_that_is_not_recorded_is_the_formula_bit_for_bit() -> None:
    model, bank, x = trained(300)
    with torch.no_grad():
        got, delta = model(x), bank.slots["a"].deltas["0"]
        bank.activate(None)
        assert torch.equal(got, model(x) + delta(x, model(x)))


@pytest.mark.parametrize("rows", [3, 300])
def test_a_base_that_is_trained_too_gets_its_gradient(rows: int) -> None:
    model, bank, x = trained(rows)
    weight: Any = model[0].weight
    weight.requires_grad_()
    upstream = normal(rows, 80, seed=9)
    model(x).backward(upstream)
    torch.testing.assert_close(weight.grad, upstream.T @ x)
    assert all(parameter.grad is not None for parameter in bank.parameters("a"))


def test_training_leaves_the_weight_as_it_was() -> None:
    model, _, x = trained(300)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(x).sum().backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_linear_with_a_forward_of_its_own_is_called() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = seeded(lambda: nn.Sequential(Doubled(48, 80))).requires_grad_(False)
    x = normal(300, 48)
    plain = model(x)
    bank = adapted(model, "0")
    delta: Any = bank.slots["a"].deltas["0"]
    assert isinstance(model[0].forward, AdaptedForward)
    torch.testing.assert_close(model(x), plain + delta(x, plain))


@pytest.mark.parametrize(
    "targets", [("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_keeps_no_more_than_pefts_does(targets: tuple[str, ...], dtype: torch.dtype) -> None:
    from peft import VeraConfig, get_peft_model

    config = VeraConfig(r=RANK, target_modules=list(targets), projection_prng_key=3)
    theirs = get_peft_model(tiny_llama().to(dtype).requires_grad_(False), config)
    ours = tiny_llama().to(dtype).requires_grad_(False)
    adapted(ours, *targets)
    ids = tokens(8, 50)
    wider_pair = 4 * RANK * (128 + 128)  # the tests' recipe is wider than the model, PEFT's is not
    assert kept_bytes(lambda: ours(input_ids=ids)) <= kept_bytes(lambda: theirs(input_ids=ids)) + wider_pair
