"""In what order items are learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

_POOL = 8  # batches a pool of items is cut into
_T = TypeVar("_T")


def steps_per_epoch(items: int, batch_size: int, accumulation: int) -> int:
    batches = -(-items // batch_size)
    return -(-batches // accumulation)


def shuffled_steps(
    lengths: Sequence[int], batch_size: int, accumulation: int, generator: torch.Generator
) -> Iterator[list[list[int]]]:
    """One epoch: for each step, the rows of its batches."""
    batches = list(shuffled_rows(lengths, batch_size, generator))
    yield from (batches[at : at + accumulation] for at in range(0, len(batches), accumulation))


def shuffled_rows(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """One epoch of batches in random order, each of items of like length: a pool of random items is
    sorted and cut, so that batches differ from epoch to epoch and little is padded."""
    order: list[int] = torch.randperm(len(lengths), generator=generator).tolist()
    for start in range(0, len(order), batch_size * _POOL):
        pool = sorted(order[start : start + batch_size * _POOL], key=lambda row: lengths[row])
        chunks = [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
        yield from (chunks[i] for i in torch.randperm(len(chunks), generator=generator).tolist())
