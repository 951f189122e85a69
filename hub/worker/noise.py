"""How far a score moves when a sample is answered in another layout: nothing less is a difference between adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hub.scoring import metrics
from hub.worker.suites import Results, Suite


def graded(suite: Suite, reply: Mapping[str, Any]) -> Results:
    """What the child's `reply` of one adapter is worth, with the noise that was measured. Raises SuiteError and NotComputed."""
    found = suite.results(reply)
    if (second := reply.get("again")) is None:
        return found
    outputs: Sequence[str] = reply["outputs"]
    sample: Sequence[str] = second["outputs"]
    measured = {"items": len(sample), "batch_size": second["batch_size"], "changed": 0, "score": 0.0}
    if list(outputs[: len(sample)]) != list(sample):
        otherwise = suite.results({**reply, "outputs": [*sample, *outputs[len(sample) :]]})
        measured |= _difference(suite.stated.metric, found, otherwise)
    return replace(found, environment={**found.environment, "noise": measured})


def _difference(metric: str, found: Results, otherwise: Results) -> dict[str, Any]:
    scores = [metrics.score(metric, each.outcomes) for each in (found, otherwise)]
    changed = sum(ours != theirs for ours, theirs in zip(found.outcomes, otherwise.outcomes, strict=True))
    return {"changed": changed, "score": abs(scores[0] - scores[1])}
