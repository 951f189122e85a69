"""The bytes of a base: hashed on a CPU, and digested where they lie on a GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.measuring import Row, gpu_median, medians
from vera.nn.parallel_digest import digests_of
from vera.parallel_digest import digest_of_bytes

RUNS = 7


def rows() -> Iterator[Row]:
    data = np.random.default_rng(0).bytes(90_000_000)
    ms = medians(RUNS, ours=lambda: digest_of_bytes(data), sha256=lambda: hashlib.sha256(data))
    yield Row("splitmix64-sum/1 of 90 MB, NumPy (beside: SHA-256)", "ms", ms["ours"], ms["sha256"])
    if torch.cuda.is_available():
        yield from _on_gpu()


def _on_gpu() -> Iterator[Row]:
    """First that it is NumPy's number."""
    base = list(_llama_7b())
    first = base[1].cpu().view(torch.uint8).numpy().tobytes()
    assert digests_of(base[1:2]) == [digest_of_bytes(first)], "the GPU digests to another number"
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
