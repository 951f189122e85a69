"""The suites this worker can run. Inputs go to the child process; the right answers stay here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vera import data
from vera.errors import DataError

BATCH_SIZE = 32


@dataclass(frozen=True)
class TextClassification:
    """Label each held-out text of a labelled set; credit 1 for the right label."""

    name: str
    title: str
    source: str
    version: int = 1

    @cached_property
    def split(self) -> data.Split:
        return data.load(self.source)

    @property
    def inputs(self) -> list[str]:
        return list(self.split.heldout.texts)

    def grade(self, outputs: Sequence[str]) -> list[int]:
        """Credit per item for the labels `outputs`."""
        right = [self.split.labels[target] for target in self.split.heldout.classes]
        return [int(output == answer) for output, answer in zip(outputs, right, strict=True)]

    def declaration(self) -> dict[str, Any]:
        """What the hub is told: the definition decides the column a score stands in."""
        split = self.split
        return {
            "name": self.name,
            "title": self.title,
            "metric": "accuracy",
            "items": len(split.heldout),
            "labels": list(split.labels),
            "baselines": {"majority": split.majority},
            "definition": {
                "task": "text-classification",
                "version": self.version,
                "data": {"source": self.source, "digest": split.heldout_digest},
                "metric": "accuracy",
                "labels": list(split.labels),
                "batch_size": BATCH_SIZE,
                "dtype": "float32",
            },
        }


def available() -> Mapping[str, TextClassification]:
    """The suites whose data is on this machine, by name."""
    known = [TextClassification("demo/topics", "Which topic does a line of small talk belong to?", "demo/topics")]
    return {suite.name: suite for suite in known if _has_data(suite)}


def _has_data(suite: TextClassification) -> bool:
    try:
        return bool(suite.split)
    except DataError:
        return False
