"""How items are laid out in batches: halved when memory runs short, and a sample once more in another way.

A score must not hang on the layout, and on some devices it does a little. How much is measured with every result: the noise
floor of a suite on a base in an environment.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

from hub.worker.runner import SAMPLE
from vera.errors import VeraError

# What a processor's allocator says: there is no class of its own for it.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def within_memory(answer: Callable[[int], list[str]], batch_size: int) -> tuple[list[str], int]:
    """The answers in batches of this size, or of the largest half, quarter … of it that there is memory for; and that size.

    Raises VeraError (OUT_OF_MEMORY) when there is none for a single item.
    """
    while True:
        try:
            return answer(batch_size), batch_size
        except (MemoryError, RuntimeError) as error:
            if not is_short_of_memory(error):
                raise
            shortage = str(error)
        if batch_size == 1:
            raise no_memory("one item at a time", shortage)
        batch_size //= 2
        give_back_memory()


def is_short_of_memory(error: Exception) -> bool:
    """torch raises an OutOfMemoryError of its own on a GPU, which is a RuntimeError, and a bare one on a processor."""
    return isinstance(error, MemoryError) or any(each in str(error).lower() for each in _NO_MEMORY)


def no_memory(what: str, shortage: str) -> VeraError:
    return VeraError(
        f"There is not memory enough for {what} ({shortage[:200]}): a worker with more is needed.", code="OUT_OF_MEMORY"
    )


def again(
    answer: Callable[[dict[str, Any], int], list[str]], asked: Mapping[str, Any], batch_size: int
) -> dict[str, Any]:
    """What the first rows are answered in batches of another size, and that size."""
    other, rows = batch_size // 2 if batch_size > 1 else 2, asked.get("sample", SAMPLE)
    sample = {key: value[:rows] if isinstance(value, list) else value for key, value in asked.items()}
    return {"outputs": answer(sample, other), "batch_size": other}


def give_back_memory() -> None:
    """What nothing refers to any more, modules of a model that refer to each other among it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
