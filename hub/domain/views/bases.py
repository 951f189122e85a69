"""Base models, as the hub shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

TensorRow = tuple[str, str, tuple[int, ...], str]


@dataclass(frozen=True)
class BaseName:
    """A base as something else names it."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class BaseView:
    """A registered base. `dtype` is the one most of its weights are stored in."""

    fingerprint: str
    name: str
    revision: str | None
    dtype: str
    parameters: int
    size_bytes: int
    tensor_count: int
    adapter_count: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class BaseDetail(BaseView):
    """A base and its tensor table: rows of name, dtype, shape and sha256."""

    tensors: tuple[TensorRow, ...]


@dataclass(frozen=True)
class TaskView:
    kind: str
    labels: tuple[str, ...]
