"""The frozen matrices: `make bench-vera` prints one table, medians of several runs.

The pair is the largest of the paper's models: rank 1024 for the 11,008 features of Llama-2-7B. On a
shared machine the CPU seconds say more than those on the wall.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from vera.nn.draw import draw_projection
from vera.projection import ProjectionRecipe, digest_of, rebuild
from vera.streams import PEFT_MT19937, PHILOX, kaiming_bound

RUNS = 9
RANK, FEATURES = 1024, 11_008
VALUES = 2 * RANK * FEATURES


@dataclass(frozen=True)
class Row:
    what: str
    wall_s: float
    cpu_s: float


def main() -> None:
    peft, philox = (ProjectionRecipe(stream, 7, RANK, FEATURES, FEATURES) for stream in (PEFT_MT19937, PHILOX))
    pair, data = rebuild(philox), bytes(4 * VALUES)
    baseline = _measure("torch, kaiming uniform_", _torch_pair)
    rows = [
        baseline,
        _measure(f"{PEFT_MT19937}, rebuild", lambda: rebuild(peft)),
        _measure("  floor: its words alone", _mt19937_words),
        _measure(f"{PHILOX}, rebuild", lambda: rebuild(philox)),
        _measure("  floor: writing the pair", lambda: np.empty(VALUES, np.float32).fill(1)),
        _measure("the digest of a pair", lambda: digest_of(pair)),
        _measure("  floor: SHA-256 of as many bytes", lambda: hashlib.sha256(data)),
    ]
    if torch.cuda.is_available():
        rows += _on_gpu(philox)
    print(f"{VALUES / 1e6:.1f}M values ({RANK} x {FEATURES} and {FEATURES} x {RANK}), medians of {RUNS} runs")
    print(f"numpy {np.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads of torch's")
    print(f"{'what':<42} {'wall':>11} {'CPU':>11}  torch / ours, wall")
    for row in rows:
        print(
            f"{row.what:<42} {row.wall_s * 1000:>8.2f} ms {row.cpu_s * 1000:>8.2f} ms  {baseline.wall_s / row.wall_s:.1f}"
        )


def _on_gpu(recipe: ProjectionRecipe) -> list[Row]:
    """The pair drawn on the GPU, and the floor; first that it is the same pair."""

    def draw() -> None:
        draw_projection(recipe, "cuda")
        torch.cuda.synchronize()

    def write() -> None:
        torch.ones(VALUES, device="cuda")
        torch.cuda.synchronize()

    for on_gpu, rebuilt in zip(draw_projection(recipe, "cuda"), rebuild(recipe), strict=True):
        assert np.array_equal(on_gpu.cpu().numpy(), rebuilt), "the GPU drew another pair"
    name = torch.cuda.get_device_name()
    return [_measure(f"{PHILOX}, {name}", draw), _measure("  floor: writing the pair there", write)]


def _torch_pair() -> None:
    generator = torch.Generator().manual_seed(7)
    for shape in ((RANK, FEATURES), (FEATURES, RANK)):
        bound = float(kaiming_bound(shape[1]))
        torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _mt19937_words() -> None:
    words = np.random.RandomState(7)
    for _ in range(VALUES >> 16):
        words.randint(0, 1 << 32, size=1 << 16, dtype=np.uint32)


def _measure(what: str, run: Callable[[], object]) -> Row:
    """Medians of RUNS runs, after one that is not counted."""
    run()
    times = [_time(run) for _ in range(RUNS)]
    return Row(what, statistics.median(wall for wall, _ in times), statistics.median(cpu for _, cpu in times))


def _time(run: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
