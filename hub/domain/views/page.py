"""Some items of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Some items of a list. `next` is the cursor of the page after this one."""

    items: tuple[Item, ...]
    next: str | None = None
