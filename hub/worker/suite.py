"""One suite with its items: what is asked of an adapter, and what its answers are worth. What is asked goes to the child
process; the right answers stay here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hub.scoring import metrics
from hub.scoring.metrics import Outcome
from hub.worker import generating, harness
from hub.worker.errors import NotComputed, SuiteError
from hub.worker.generating import Asked
from hub.worker.judging import PROMPT_VERSION, Judge
from hub.worker.runner import SAMPLE
from hub.worker.suite_files import WRITING, SuiteFile
from vera.data import EncodedImage, Questions
from vera.metrics import ADVISORY

BATCH_SIZE = 32


@dataclass(frozen=True)
class Results:
    """What an adapter answered, and what that is worth by the metric that ranks and by those beside it. `scores` are of all
    of them."""

    outcomes: list[Outcome]
    beside: dict[str, list[Outcome]]
    scores: dict[str, float]
    outputs: list[str]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """What a suite file says, with the items it means."""

    stated: SuiteFile
    questions: Questions
    harnessed: harness.Harnessed | None = None

    @property
    def name(self) -> str:
        return self.stated.name

    @property
    def items(self) -> int:
        return len(self.questions) if self.asked is None else len(self.asked)

    @cached_property
    def asked(self) -> Asked | None:
        """What is asked of a decoder. Raises SuiteError."""
        stated = self.stated
        if stated.family is None or self.harnessed is not None:
            return self.harnessed
        return generating.asked_of(
            stated.family, self.questions.examples,
            prompted=lambda text: stated.prompt.replace("{text}", text), separator=stated.separator,
            judge=Judge.of_environment(stated.judge, stated.repeats) if stated.judge is not None else None,
        )  # fmt: skip

    @property
    def sampled(self) -> int:
        """How many items, the first ones, are answered again in another layout: none where a metric decides nothing."""
        return 0 if self.stated.metric in ADVISORY else min(SAMPLE, self.items)

    @property
    def is_graded_apart(self) -> bool:
        """Whether what grades it runs a task's own code, or a program, on what was written: that may never end, and is not done in
        the worker's own process."""
        return self.stated.family in generating.GRADED_APART

    def request(self, folder: Path) -> dict[str, Any]:
        """What the child is asked, without an answer in it. (Of a text to generate, every token is asked.) Images
        are written into `folder`."""
        examples = self.questions.examples
        asked: dict[str, Any] = {"task": self.stated.task}
        if self.asked is not None:
            options = {key: getattr(self.stated, key) for key in ("max_length", "separator", "chat")}
            writing = {"writing": self._writing()} if self.stated.is_written else {}
            sample = {"sample": self.asked.rows_of(self.sampled)}
            return asked | options | writing | sample | self.asked.request()
        if examples.images is not None:
            return asked | {"images": [str(path) for path in _image_files(examples.images, folder)]}
        return asked | {"texts": list(examples.texts), "pairs": list(examples.pairs) if examples.pairs else None}

    def results(self, reply: Mapping[str, Any]) -> Results:
        """What the child's `reply` of one adapter is worth. Raises SuiteError and NotComputed."""
        outputs = self.outputs(reply["outputs"])
        outcomes = self.grade(outputs)
        beside, missing = self.grade_beside(outputs)
        scores = {metric: scored(metric, each) for metric, each in {self.stated.metric: outcomes, **beside}.items()}
        scorers = generating.scorers(self.stated.metric) if self.stated.is_generated else {}
        scorers = scorers if self.harnessed is None else {"lm_eval": harness.version()}
        scorers |= {"judge": self.stated.judge} if self.stated.judge is not None else {}
        stated = {"scorers": scorers, "not_computed": missing}
        environment = reply["environment"] | {key: value for key, value in stated.items() if value}
        # A text may hold what it was asked.
        kept = [""] * len(outputs) if self.stated.items == "hidden" else list(outputs)
        return Results(outcomes, beside, scores, kept, environment)

    def outputs(self, answered: Sequence[str]) -> Sequence[str]:
        """One output of each item. Raises SuiteError and JudgeFailed."""
        return answered if self.asked is None else self.asked.outputs(answered)

    def grade(self, outputs: Sequence[str]) -> list[Outcome]:
        """The outcome of each item, as its metric needs it. Raises SuiteError for outputs that are no answers."""
        if len(outputs) != self.items:
            raise SuiteError(f"{self.name} has {self.items} items, and {len(outputs)} answers were given.")
        return self._graded(outputs, self.stated.metric)

    def grade_beside(self, outputs: Sequence[str]) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
        """The outcomes of each metric beside the one that ranks; and why there are none of those that this machine
        cannot compute. Raises SuiteError."""
        computed, missing = {}, {}
        for metric in self.stated.also:
            try:
                computed[metric] = self._graded(outputs, metric)
            except NotComputed as error:
                missing[metric] = str(error)
        return computed, missing

    def _graded(self, outputs: Sequence[str], metric: str) -> list[Outcome]:
        if self.asked is not None:
            return self.asked.outcomes(metric, outputs)
        truth = self.questions.examples.targets
        if not self.stated.is_labelled:
            return [(float(value), generating.number(output)) for value, output in zip(truth, outputs, strict=True)]
        places = {label: place for place, label in enumerate(self.questions.labels)}
        return [self._outcome(int(t), places.get(output), metric) for t, output in zip(truth, outputs, strict=True)]

    @property
    def not_computed(self) -> dict[str, str]:
        """The metrics beside the one that ranks that this machine cannot compute, and why."""
        if not self.stated.is_generated or self.harnessed is not None:
            return {}
        missing = {}
        for metric in self.stated.also:
            try:
                generating.require(metric)
            except NotComputed as error:
                missing[metric] = str(error)
        return missing

    def declaration(self) -> dict[str, Any]:
        """What the hub is told: the definition decides the column a score stands in."""
        return {
            "name": self.name,
            "title": self.stated.title,
            "metric": self.stated.metric,
            "items": self.items,
            "labels": list(self.questions.labels),
            "baselines": self._baselines(),
            "definition": self._definition(),
        }

    def _writing(self) -> dict[str, Any]:
        return {key: getattr(self.stated, key) for key in WRITING}

    def _judging(self) -> dict[str, Any] | None:
        if self.stated.judge is None:
            return None
        return {"model": self.stated.judge, "repeats": self.stated.repeats, "prompt": PROMPT_VERSION}

    def _outcome(self, truth: int, answer: int | None, metric: str) -> Outcome:
        if answer is None:
            raise SuiteError(f"{self.name} was given an answer that is none of its labels.")
        if metric == "accuracy":
            return int(truth == answer)
        if metric != "f1" or self.stated.positive is None:
            return truth, answer
        positive = self.questions.labels.index(self.stated.positive)
        return int(truth == positive), int(answer == positive)

    def _definition(self) -> dict[str, Any]:
        stated, generates = self.stated, self.stated.is_generated
        options = {
            "columns": {key: value for key in ("text", "label", "image") if (value := getattr(stated, key))},
            "positive": stated.positive,
            "max_length": stated.max_length if generates else None,
            "separator": stated.separator if generates else None,
            "writing": self._writing() if stated.is_written else None,
            "prompt": stated.prompt if stated.prompt != "{text}" else None,
            "chat": stated.chat,
            "judge": self._judging(),
            "harness": self.harnessed.facts if self.harnessed is not None else None,
            "items": stated.items if stated.items != "private" else None,
            "also": list(stated.also),
        }
        return {
            "task": stated.task,
            "version": generating.VERSIONS.get(stated.family or "", 1),
            "data": self._data(),
            "metric": stated.metric,
            "labels": list(self.questions.labels),
            "batch_size": stated.batch_size,
            "dtype": "float32",
            **{key: value for key, value in options.items() if value},
        }

    def _data(self) -> dict[str, Any]:
        """Which items they are: by where they come from, and by what they are."""
        source, stated = self.questions.source, self.stated
        if stated.is_of_items:  # wherever they were read
            found = {
                "source": stated.data,
                "digest": self.questions.digest,
                "split": stated.split,
                "limit": stated.limit,
            }
            return {key: value for key, value in found.items() if value}
        named = f"{source.dataset}@{source.revision}" if source.dataset else source.name
        options = {
            "sha256": self.questions.files_digest if source.dataset is None else None,
            "config": source.config,
            "split": stated.split,
            "limit": stated.limit,
        }
        known = {key: value for key, value in options.items() if value}
        return {"source": named, "digest": self.questions.digest, **known}

    def _baselines(self) -> dict[str, float]:
        """What answering every item with the most common label scores."""
        if not self.stated.is_labelled:
            return {}
        truth = self.questions.examples.classes
        common = Counter(truth).most_common(1)[0][0]
        return {
            "majority": metrics.score(
                self.stated.metric, [self._outcome(each, common, self.stated.metric) for each in truth]
            )
        }


def scored(metric: str, outcomes: Sequence[Outcome]) -> float:
    """The score of what was answered. Raises SuiteError when that is none, or no finite number."""
    try:
        score = metrics.score(metric, outcomes)
    except ValueError as error:
        raise SuiteError(f"What was answered has no {metric}: {error}") from error
    if not math.isfinite(score):
        raise SuiteError(f"What was answered has the {metric} {score}, which is no finite number.")
    return score


def _image_files(images: Sequence[EncodedImage], folder: Path) -> list[Path]:
    """The images as files whose names say nothing: that of a folder of images is its label."""
    paths = [folder / f"{number:07}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(image.read())
    return paths
