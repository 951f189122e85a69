"""h = λd ⊙ (A x) of every module of a group."""

# N tokens of a batch, I in_features, O out_features, R rank, G modules of the group, S adapters (rows of `Packed.rows`)

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from vera.nn.kernels import RANK_STEP
from vera.nn.kernels.launching import Repeats, has_gdc, launch
from vera.nn.kernels.mixed.batch import Packed, Tiles, evenly
from vera.nn.kernels.mixed.sums import check_fits, is_last, total, workspace


def project(
    x_NI: Tensor, A_RI: Tensor, packed: Packed, places_d: Sequence[int], tiles: Tiles, *, out: Tensor | None = None,
    known: Repeats | None = None,
) -> Tensor:  # fmt: skip
    """λd ⊙ (A x) of each module, side by side, (N, G·R) in the dtype of x; in `out` when it is given.

    `places_d[g]` is the column of `packed.rows` at which λd of module g begins.
    """
    (N, I), R, G = x_NI.shape, A_RI.shape[0], len(places_d)
    h_NGR = x_NI.new_empty(N, G * R) if out is None else out
    split = max(1, min(tiles.split, I // tiles.inputs))
    blocks = (R // tiles.outputs) * triton.cdiv(N, tiles.tokens)
    partials, counters = workspace(x_NI.device)
    if split > 1:
        check_fits(blocks * split * tiles.tokens * tiles.outputs, blocks)
    first, step = evenly(places_d)
    launch(
        _project, (blocks * split,),
        (x_NI, A_RI, packed.rows, packed.index, partials, counters, h_NGR,
         N, packed.tokens, I, x_NI.stride(0), A_RI.stride(0), packed.rows.stride(0), first, step),
        {"G": G, "R": R, "BN": tiles.tokens, "BR": tiles.outputs, "BI": tiles.inputs, "SPLIT": split,
         "EVEN": I % (split * tiles.inputs) == 0, "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, 6),
    )  # fmt: skip
    return h_NGR


def scale(
    h_NR: Tensor, packed: Packed, places_d: Sequence[int], *, out: Tensor | None = None, known: Repeats | None = None
) -> Tensor:
    """λd ⊙ h of each module, side by side, (N, G·R): what `project` makes, of products that are there."""
    (N, R), G = h_NR.shape, len(places_d)
    h_NGR = h_NR.new_empty(N, G * R) if out is None else out
    first, step = evenly(places_d)
    launch(
        _scale, (triton.cdiv(N, 16), R // RANK_STEP, G),
        (h_NR, packed.rows, packed.index, h_NGR, N, packed.tokens, h_NR.stride(0), packed.rows.stride(0), first, step),
        {"G": G, "R": R, "BN": 16, "BR": RANK_STEP, "PDL": has_gdc()}, warps=2, stages=3, overlaps=has_gdc(),
        known=known, places=(0, 3),
    )  # fmt: skip
    return h_NGR


@triton.jit(do_not_specialize=["N", "tokens"])
def _project(
    x_NI, A_RI, rows_SV, index, partials, counters, h_NGR, N, tokens, I, x_stride, A_stride, V, first_d, step_d,
    G: tl.constexpr, R: tl.constexpr, BN: tl.constexpr, BR: tl.constexpr, BI: tl.constexpr, SPLIT: tl.constexpr,
    EVEN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    block, part = tl.program_id(0) // SPLIT, tl.program_id(0) % SPLIT
    n = ((block // (R // BR)) * BN + tl.arange(0, BN)).to(tl.int64)  # times a stride it may be beyond 2^31
    r = (block % (R // BR)) * BR + tl.arange(0, BR)
    i = part * BI + tl.arange(0, BI)
    is_token = (n < N)[:, None]
    A_at, x_at = A_RI + r[:, None] * A_stride + i[None, :], x_NI + n[:, None] * x_stride + i[None, :]
    if EVEN:
        A = tl.load(A_at)
    else:
        A = tl.load(A_at, mask=i[None, :] < I, other=0.0)
    if PDL:  # A is nobody's result; x may be that of the kernel before, and what comes after this may begin now
        gdc_wait()
        gdc_launch_dependents()
    if EVEN:
        x = tl.load(x_at, mask=is_token, other=0.0)
    else:
        x = tl.load(x_at, mask=is_token & (i < I)[None, :], other=0.0)
    sum_NR = tl.dot(x, tl.trans(A), input_precision="ieee")
    for start in range(SPLIT * BI, tl.cdiv(I, SPLIT * BI) * SPLIT * BI, SPLIT * BI):
        if EVEN:
            A = tl.load(A_at + start)
            x = tl.load(x_at + start, mask=is_token, other=0.0)
        else:
            inside = (i + start < I)[None, :]
            A = tl.load(A_at + start, mask=inside, other=0.0)
            x = tl.load(x_at + start, mask=is_token & inside, other=0.0)
        sum_NR = tl.dot(x, tl.trans(A), sum_NR, input_precision="ieee")
    if is_last(sum_NR, partials, counters, block, part, BN, BR, SPLIT):
        if SPLIT > 1:
            sum_NR = total(partials, block, BN, BR, SPLIT)
        adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
        for g in tl.static_range(G):
            d_at = rows_SV + adapter[:, None] * V + (first_d + g * step_d + r)[None, :]
            d = tl.load(d_at, mask=is_token, other=0.0).to(tl.float32)
            tl.store(
                h_NGR + n[:, None] * (G * R) + (g * R + r)[None, :],
                (d * sum_NR).to(h_NGR.dtype.element_ty),
                mask=is_token,
            )


@triton.jit(do_not_specialize=["N", "tokens"])
def _scale(
    h_NR, rows_SV, index, h_NGR, N, tokens, h_stride, V, first_d, step_d,
    G: tl.constexpr, R: tl.constexpr, BN: tl.constexpr, BR: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    n, r = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64), tl.program_id(1) * BR + tl.arange(0, BR)
    g = tl.program_id(2)
    is_token = (n < N)[:, None]
    adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
    d = tl.load(
        rows_SV + adapter[:, None] * V + (first_d + g * step_d + r)[None, :], mask=is_token, other=0.0
    )  # nobody's result
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    h = tl.load(h_NR + n[:, None] * h_stride + r[None, :], mask=is_token, other=0.0)
    tl.store(
        h_NGR + n[:, None] * (G * R) + (g * R + r)[None, :],
        (d.to(tl.float32) * h.to(tl.float32)).to(h_NGR.dtype.element_ty),
        mask=is_token,
    )
