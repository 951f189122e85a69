"""Reading λ of each token's adapter. In most programs of a long prompt that is one adapter, whose λ is read once."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def adapters_of(index, n, N, tokens):
    """The bank's row of each token, the first of them, and whether all tokens of this program have that one."""
    adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
    first = tl.min(tl.where(n < N, adapter, 1 << 30), 0)
    return adapter, first, tl.max(tl.where(n < N, adapter, 0), 0) == first


@triton.jit
def lambdas(rows_SV, adapter, first, is_one, is_token, columns, is_column, V):
    """λ of each token (tokens, columns), which stands at `columns` of its adapter's row."""
    if is_one:
        one = tl.load(rows_SV + first * V + columns, mask=is_column, other=0.0)
        each = tl.broadcast_to(one[None, :], is_token.shape[0], columns.shape[0])
    else:
        each_at = rows_SV + adapter[:, None] * V + columns[None, :]
        each = tl.load(each_at, mask=is_token & is_column[None, :], other=0.0)
    return each


@triton.jit
def scaled(values, rows_SV, adapter, first, is_one, is_token, columns, is_column, V):
    """`values` (tokens, columns) ⊙ λ, which stands at `columns` of the adapter's row, in float32."""
    values = values.to(tl.float32)
    if is_one:
        one = tl.load(rows_SV + first * V + columns, mask=is_column, other=0.0).to(tl.float32)
        values *= one[None, :]
    else:
        each_at = rows_SV + adapter[:, None] * V + columns[None, :]
        each = tl.load(each_at, mask=is_token & is_column[None, :], other=0.0).to(tl.float32)
        values *= each
    return values
