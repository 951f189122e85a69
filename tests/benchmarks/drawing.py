"""The frozen matrices: the largest pair of the paper's models, rank 1024 for the 11,008 features of Llama-2-7B."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from tests.benchmarks.measuring import Row, cores, gpu_median, medians
from vera.nn.draw import ProvenPair, draw_projection
from vera.projection import PEFT_MT19937, PHILOX, ProjectionRecipe, digest_of, rebuild
from vera.streams import kaiming_bound

RUNS = 7
RANK, FEATURES = 1024, 11_008
VALUES = 2 * RANK * FEATURES
PEFT, OURS = (ProjectionRecipe(stream, 7, RANK, FEATURES, FEATURES) for stream in (PEFT_MT19937, PHILOX))


def rows() -> Iterator[Row]:
    for count in (1, 2):
        with cores(count):
            yield from _on_cpu(f"{count} core{'s'[: count - 1]}")
    if torch.cuda.is_available():
        yield from _on_gpu()


def _on_cpu(where: str) -> Iterator[Row]:
    pair, data = rebuild(OURS), bytes(4 * VALUES)
    ms = medians(
        RUNS, torch=_torch_pair, mt19937=lambda: rebuild(PEFT), words=_mt19937_words, philox=lambda: rebuild(OURS),
        write=lambda: np.empty(VALUES, np.float32).fill(1), digest=lambda: digest_of(pair),
        sha256=lambda: hashlib.sha256(data),
    )  # fmt: skip
    yield Row(f"draw, {PEFT_MT19937}, {where}", "ms", ms["mt19937"], ms["torch"], ms["words"], "its 32-bit words")
    yield Row(f"draw, {PHILOX}, {where}", "ms", ms["philox"], ms["torch"], ms["write"], "writing 90 MB")
    yield Row(f"digest of the pair, {where}", "ms", ms["digest"], None, ms["sha256"], "SHA-256 of 90 MB")


def _on_gpu() -> Iterator[Row]:
    """First that it is the same pair, in every bit."""
    for on_gpu, rebuilt in zip(draw_projection(OURS, "cuda"), rebuild(OURS), strict=True):
        assert np.array_equal(on_gpu.cpu().numpy(), rebuilt), "the GPU drew another pair"
    write = gpu_median(lambda: torch.empty(VALUES, device="cuda").fill_(1.0))
    draw = gpu_median(lambda: draw_projection(OURS, "cuda"))
    uniform = gpu_median(lambda: torch.empty(VALUES, device="cuda").uniform_(-1, 1))
    yield Row(f"draw, {PHILOX}, GPU", "ms", draw, uniform, write, "writing 90 MB")
    yield Row(
        f"draw, {PEFT_MT19937}, CPU and upload", "ms", medians(RUNS, a=lambda: draw_projection(PEFT, "cuda"))["a"]
    )
    yield from _proofs(ProvenPair(OURS, digest_of(rebuild(OURS))), torch.device("cuda"))


def _proofs(proven: ProvenPair, device: torch.device) -> Iterator[Row]:
    """On the wall, launches and Python among it. Another recipe is another proof: the first of a process."""
    seeds = iter(range(RUNS + 1))
    pairs = [ProvenPair(recipe, digest_of(rebuild(recipe))) for recipe in (replace(OURS, seed=s) for s in seeds)]
    fresh = iter(pairs)
    first = medians(RUNS, first=lambda: next(fresh).on(device))["first"]
    again = medians(RUNS, again=lambda: pairs[0].on(device))["again"]
    on_cpu = medians(3, proven=lambda: proven.on(torch.device("cpu")))["proven"]
    yield Row("prove the pair: drawn on the GPU, copied back and hashed", "ms", first, None, on_cpu, "on the CPU")
    yield Row("prove the pair: drawn on the GPU again", "ms", again)


def _torch_pair() -> None:
    generator = torch.Generator().manual_seed(7)
    for shape in ((RANK, FEATURES), (FEATURES, RANK)):
        bound = float(kaiming_bound(shape[1]))
        torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _mt19937_words() -> None:
    words = np.random.RandomState(7)
    for _ in range(VALUES >> 16):
        words.randint(0, 1 << 32, size=1 << 16, dtype=np.uint32)
