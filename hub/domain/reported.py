"""Scores that a publisher says of their own adapter: shown apart from those that are measured here, and believed by nothing.

Cards say them in `model-index`, as Hugging Face's do: results, each of a data set with metrics and their values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from hub.domain.views.versions import ReportedScore

MOST = 32
_LONGEST = 100


def reported_scores(facts: Mapping[str, Any]) -> tuple[ReportedScore, ...]:
    """The scores in the YAML of a card, in its order; what has no data set, no metric or no number is left out."""
    return tuple(islice(_found(facts.get("model-index")), MOST))


def _found(index: object) -> Iterator[ReportedScore]:
    for model in _mappings(index):
        for result in _mappings(model.get("results")):
            for metric in _mappings(result.get("metrics")):
                dataset, name = _name(result.get("dataset")), _name(metric)
                value = _number(metric.get("value"))
                if dataset and name and value is not None:
                    yield ReportedScore(dataset, name, value)


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def _name(value: object) -> str | None:
    """What it is called, or else its type."""
    if not isinstance(value, dict):
        return None
    named = next((each for key in ("name", "type") if isinstance(each := value.get(key), str) and each.strip()), None)
    return "".join(filter(str.isprintable, named.strip()))[:_LONGEST] if named else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of a thousand digits
        return None
