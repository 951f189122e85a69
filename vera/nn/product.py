"""The VeRA product and its gradients, in the form that costs least for the sizes at hand.

    y = W x + λb ⊙ B (λd ⊙ (A x))

- As it is written: plain autograd keeps A x and the product with B for the backward pass. This is
  every pass that is not recorded, and so what an answer is.
- Folded: (W + ΔW) x, where W + ΔW is made once for all tokens. Fewest operations where tokens are
  many and features few.
- With gradients of our own, for many tokens of wide layers, where passes over memory and not
  products take the time. With g = ∂L/∂y and h = A x of every token, both vectors' gradients come out of
  one product of the size of B:

      G = Σ g hᵀ        ∂L/∂λb = (B ⊙ G) λd        ∂L/∂λd = (B ⊙ G)ᵀ λb

  so that h, rank numbers a token, is all that is kept, and nothing as wide as the outputs is read
  or written for the vectors' sake.

Each is rounded at other places, and no coarser than the dtype of the base.
"""

# N tokens of a batch, I in_features, O out_features, R rank

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Inputs and outputs of a module, in numbers, from which on a GPU passes over them take longer than the
# launches that our own gradients need beyond plain autograd's (docs/performance.md).
_MANY = 1 << 23
# W + ΔW is one of these, so that it is rounded no coarser than float32 is.
_EXACT = (torch.float32, torch.float64)


class Factors(NamedTuple):
    """What ΔW is made of: A (R, I) and B (O, R) in the dtype of the inputs, and the vectors in a dtype of their own.

    The vectors are (R,) and (O,), or one per row of a batch: (rows, 1, R) and (rows, 1, O).
    """

    A_RI: Tensor
    B_OR: Tensor
    lambda_d: Tensor
    lambda_b: Tensor


def vera_product(x: Tensor, factors: Factors) -> Tensor:
    """λb ⊙ B (λd ⊙ (A x)) of inputs (…, I). The vectors are never rounded, so neither are their gradients."""
    if factors.lambda_b.dim() == 1 and has_many(x, factors) and is_recording(x, *factors):
        return product_with_own_gradients(x, factors)
    return scaled(functional.linear(x, factors.A_RI), factors)


def product_with_own_gradients(x: Tensor, factors: Factors) -> Tensor:
    """`vera_product` for vectors of a whole batch, bit for bit, that keeps A x alone for the backward pass."""
    product: Tensor = _Product.apply(x, *factors)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return product


def adapted_linear(x: Tensor, weight_OI: Tensor, bias: Tensor | None, factors: Factors) -> Tensor | None:
    """W x + bias + λb ⊙ B (λd ⊙ (A x)) for a frozen W in the dtype of x, to be trained.

    None where two steps, W x and `vera_product`, are the cheapest form. No form keeps more for the
    backward pass than those two do, in the dtype of x.
    """
    (rank, in_features), out_features = factors.A_RI.shape, len(factors.B_OR)
    tokens = x.numel() // in_features
    size, per_rank = in_features * out_features, tokens * (in_features + out_features)  # of W; of A and B with tokens
    if x.dtype in _EXACT:
        is_cheaper = (2 * rank + tokens) * size <= 2 * rank * per_rank
        if is_cheaper and (tokens + out_features) * in_features <= tokens * (rank + out_features):  # x and W + ΔW
            return folded_linear(x, weight_OI, bias, factors)
        if not x.is_cuda and _times_folded(tokens, in_features) * size <= per_rank:
            return linear_with_own_gradients(x, weight_OI, bias, factors, fold=True)
    if has_many(x, factors):
        return linear_with_own_gradients(x, weight_OI, bias, factors, fold=False)
    return None


def folded_linear(x: Tensor, weight_OI: Tensor, bias: Tensor | None, factors: Factors) -> Tensor:
    """(W + ΔW) x + bias, differentiated by plain autograd, which keeps x and W + ΔW."""
    return functional.linear(x, _folded(weight_OI, factors), bias)


def linear_with_own_gradients(
    x: Tensor, weight_OI: Tensor, bias: Tensor | None, factors: Factors, *, fold: bool
) -> Tensor:
    """W x + bias + λb ⊙ B (λd ⊙ (A x)), which keeps A x for the backward pass.

    When it is to `fold`, W + ΔW is kept too, or made again where it is larger than the outputs. Otherwise
    the vectors are multiplied into A x and B, whose product is added to W x where it lies.
    """
    y: Tensor = _AdaptedLinear.apply(x, weight_OI, bias, fold, *factors)  # type: ignore[no-untyped-call]  # as above
    return y


def has_many(x: Tensor, factors: Factors) -> bool:
    """Whether `x` is so large that gradients of our own are quicker."""
    in_features, out_features = factors.A_RI.shape[1], len(factors.B_OR)
    return x.is_cuda and x.numel() // in_features * (in_features + out_features) >= _MANY


def _times_folded(tokens: int, in_features: int) -> int:
    """How often W + ΔW is made in a step: it is kept unless it is larger than the outputs."""
    return 1 if in_features <= tokens else 2


def is_recording(*tensors: Tensor) -> bool:
    """Whether autograd records what is done to `tensors`; a compiler plans by itself what to keep."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling() and any(t.requires_grad for t in tensors)


def scaled(h: Tensor, factors: Factors) -> Tensor:
    """λb ⊙ B (λd ⊙ h) of h = A x."""
    return functional.linear((h * factors.lambda_d).to(factors.B_OR.dtype), factors.B_OR) * factors.lambda_b


class _Product(torch.autograd.Function):
    """`product_with_own_gradients`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parts: Tensor) -> Tensor:
        h = functional.linear(x, parts[0])
        ctx.save_for_backward(h, *parts)
        return scaled(h, Factors(*parts))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        h, *parts = ctx.saved_tensors
        factors, (needs_x, _, _, *needs_vectors) = Factors(*parts), ctx.needs_input_grad
        with torch.autocast(g.device.type, enabled=False):  # it would round the gradients of the vectors
            g_NO, dx = _rows(g).to(h.dtype), None
            if needs_x:
                dx = (_through_B(g_NO, factors) @ factors.A_RI).view(*g.shape[:-1], -1)
            return dx, None, None, *_vector_gradients(g_NO, _rows(h), factors, needs_vectors)


class _AdaptedLinear(torch.autograd.Function):
    """`linear_with_own_gradients`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias: Tensor | None, fold: bool, *parts: Tensor) -> Tensor:
        factors, x_NI = Factors(*parts), _rows(x)
        h_NR = x_NI @ factors.A_RI.T
        weight = _folded(weight_OI, factors) if fold else weight_OI
        y_NO = functional.linear(x_NI, weight, bias)
        if not fold:
            y_NO.addmm_(_times(h_NR, factors.lambda_d), _times(factors.B_OR, factors.lambda_b[:, None]).T)
        ctx.fold, ctx.is_kept = fold, fold and _times_folded(*x_NI.shape) == 1
        ctx.save_for_backward(h_NR, weight if ctx.is_kept else weight_OI, *parts)
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        h_NR, weight_OI, *parts = ctx.saved_tensors
        factors, (needs_x, _, _, _, _, _, *needs_vectors) = Factors(*parts), ctx.needs_input_grad
        with torch.autocast(g.device.type, enabled=False):
            g_NO, dx = _rows(g), None
            if needs_x:
                dx_NI = g_NO @ (_folded(weight_OI, factors) if ctx.fold and not ctx.is_kept else weight_OI)
                if not ctx.fold:
                    dx_NI.addmm_(_through_B(g_NO, factors), factors.A_RI)
                dx = dx_NI.view(*g.shape[:-1], -1)
            return dx, None, None, None, None, None, *_vector_gradients(g_NO, h_NR, factors, needs_vectors)


def _folded(weight_OI: Tensor, factors: Factors) -> Tensor:
    """W + ΔW."""
    lambda_b, lambda_d = factors.lambda_b.to(weight_OI.dtype), factors.lambda_d.to(weight_OI.dtype)
    return torch.addmm(weight_OI, torch.outer(lambda_b, lambda_d) * factors.B_OR, factors.A_RI)


def _through_B(g_NO: Tensor, factors: Factors) -> Tensor:  # noqa: N802  # B is the matrix
    """∂L/∂h of every token (N, R)."""
    return _times(g_NO @ _times(factors.B_OR, factors.lambda_b[:, None]), factors.lambda_d)


def _vector_gradients(
    g_NO: Tensor, h_NR: Tensor, factors: Factors, needed: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """∂L/∂λd and ∂L/∂λb, in the dtypes of the vectors."""
    lambda_d, lambda_b = factors.lambda_d, factors.lambda_b
    if not any(needed):
        return None, None
    G_OR = _summed(g_NO, h_NR) * factors.B_OR
    d = (lambda_b.to(G_OR.dtype) @ G_OR).to(lambda_d.dtype) if needed[0] else None
    b = (G_OR @ lambda_d.to(G_OR.dtype)).to(lambda_b.dtype) if needed[1] else None
    return d, b


def _summed(g_NO: Tensor, h_NR: Tensor) -> Tensor:
    """Σ g hᵀ over the tokens (O, R), in float32 at least: on a GPU as it was accumulated, without a rounding between."""
    if g_NO.is_cuda and g_NO.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(g_NO.T, h_NR, out_dtype=torch.float32)
    G_OR = g_NO.T @ h_NR
    return G_OR.to(torch.promote_types(G_OR.dtype, torch.float32))


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """matrix ⊙ vector, multiplied in the wider dtype and rounded once to the dtype of the matrix, in one pass."""
    return torch.mul(matrix, vector, out=torch.empty(matrix.shape, dtype=matrix.dtype, device=matrix.device))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
