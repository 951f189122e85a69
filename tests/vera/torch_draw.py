"""The pair as torch draws it, by the three lines of PEFT's `_kaiming_init` (0.21.2).

A module of its own, so that a subprocess imports torch and nothing more.
`tests/vera/test_peft_format.py` holds PEFT's own matrices to the recipe.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def pair(seed: int, rank: int, in_features: int, out_features: int) -> Pair:
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return _uniform((rank, in_features), generator), _uniform((out_features, rank), generator)


def fuses_multiply_add() -> bool:
    """Whether torch's kernels on this machine round once, as the stream is defined."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> NDArray[np.float32]:
    bound = math.sqrt(3.0) * (math.sqrt(2.0) / math.sqrt(shape[1]))
    drawn: NDArray[np.float32] = torch.empty(shape).uniform_(-bound, bound, generator=generator).numpy()
    return drawn
