"""What a hub answers about base models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdk.models.answer import Answer
from vera.fingerprint import BaseFingerprint


@dataclass(frozen=True)
class BaseName(Answer):
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Base(Answer):
    fingerprint: str
    name: str
    revision: str | None
    dtype: str
    parameters: int
    size_bytes: int
    tensor_count: int
    adapter_count: int
    created_at: str


@dataclass(frozen=True)
class BaseDetail(Base):
    """A base with its table of tensors: rows of name, dtype, shape, sha256."""

    tensors: tuple[Any, ...]

    @property
    def table(self) -> BaseFingerprint:
        """The checked table. Its `value` is computed here: the hub's `fingerprint` is a claim. Raises BaseUnreadable."""
        return BaseFingerprint.from_rows(self.tensors)


@dataclass(frozen=True)
class Task(Answer):
    kind: str
    labels: tuple[str, ...]
