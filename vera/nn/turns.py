"""Threads on one model, in turn: a pass that must go through one adapter, and whoever changes what passes go through."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import NoReturn, Self

from vera.errors import VeraError


class Turns:
    """A lock that a thread may take again while it has it. A copy of what has one has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __deepcopy__(self, _memo: object) -> Turns:
        return Turns()

    def __reduce__(self) -> NoReturn:
        raise not_saved()


def not_saved() -> VeraError:
    """The refusal to be pickled of what belongs to a live model."""
    return VeraError(
        "A model with adapters on it is not pickled whole (torch.save, multiprocessing): what it is given there would come back "
        "without its proofs. Save the base (save_pretrained, or state_dict, in which no adapter is) and load the adapter on it again, "
        "sdk.unload the adapters first, or sdk.export a model with one of them in its weights.",
        code="MODEL_NOT_SAVED",
    )
