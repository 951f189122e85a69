"""How far a score moves when a sample is answered in another layout: nothing less is a difference between adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hub.worker.suite import Results, Suite, scored


def graded(suite: Suite, reply: Mapping[str, Any]) -> Results:
    """What the child's `reply` of one adapter is worth, with the noise that was measured. Raises SuiteError and NotComputed."""
    found = suite.results(reply)
    if (second := reply.get("again")) is None:
        return found
    measured = {"items": suite.sampled, "batch_size": second["batch_size"], "changed": 0, "score": 0.0}
    outputs: Sequence[str] = reply["outputs"]
    sample: Sequence[str] = second["outputs"]
    if list(outputs[: len(sample)]) != list(sample):
        otherwise = suite.grade(suite.outputs([*sample, *outputs[len(sample) :]]))
        measured |= _difference(suite, found.outcomes[: suite.sampled], otherwise[: suite.sampled])
    return replace(found, environment={**found.environment, "noise": measured})


def _difference(suite: Suite, ours: Sequence[Any], theirs: Sequence[Any]) -> dict[str, Any]:
    """Of the outcomes of the sample alone: what is the same in all other items says nothing of how much they would move."""
    ours_score, theirs_score = (scored(suite.stated.metric, each) for each in (ours, theirs))
    changed = sum(one != other for one, other in zip(ours, theirs, strict=True))
    return {"changed": changed, "score": abs(ours_score - theirs_score)}
