"""What every answer of a hub is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sdk.decoding import decode


class Answer:
    """Base of the answers: each is made from JSON and checks it."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises BadAnswer."""
        return decode(value, cls)


@dataclass(frozen=True)
class Health(Answer):
    status: str
    version: str
