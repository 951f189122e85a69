"""The bytes of a base, digested where they lie on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.measuring import Row, gpu_median, medians
from vera.nn.parallel_digest import digests_of

RUNS = 7


def rows() -> Iterator[Row]:
    """First that it is the number of plain torch operations. None without a GPU."""
    if not torch.cuda.is_available():
        return
    base = list(_llama_7b())
    assert digests_of(base[1:2]) == digests_of([base[1].cpu()]), "the GPU digests to another number"
    size = sum(tensor.nbytes for tensor in base)
    copied = torch.empty_like(base[0])
    floor = gpu_median(lambda: copied.copy_(base[0]), RUNS) * size / (2 * base[0].nbytes)
    ms = medians(RUNS, digest=lambda: digests_of(base))["digest"]
    what = f"digests of a live Llama-2-7B, {len(base)} tensors, {size / 1e9:.1f} GB bfloat16, GPU"
    yield Row(what, "ms", ms, None, floor, "reading it, at the rate of a copy")


def _llama_7b() -> Iterator[Tensor]:
    """Tensors of its sizes with random bytes, the largest first."""
    shapes = [(32_000, 4096)] * 2 + [(4096,)] * 65
    shapes += ([(4096, 4096)] * 4 + [(11_008, 4096)] * 2 + [(4096, 11_008)]) * 32
    for shape in shapes:
        words = torch.randint(-(2**63), 2**63 - 1, (int(np.prod(shape)) // 4,), device="cuda")
        yield words.view(torch.bfloat16).view(shape)
