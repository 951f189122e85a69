"""The suites of decoders: what each asks of the child, and what the outputs are worth. One class for each family of metrics.

family         metrics                                              an item
likelihood     perplexity                                           a prompt and its completion
references     bleu, nist, meteor, rouge_l, cider                   a prompt and what might be written after it
instructions   ifeval, ifeval_loose, ifeval_instructions, …_loose   a prompt and the rules for what is written after it
choices        accuracy, accuracy_norm                              a question, its choices, and the right one
judged         judged                                               the turns of a conversation
harness        those that a task of lm-evaluation-harness has       what the task asks (`hub.worker.harness`), or each of a group
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from hub.scoring.metrics import Outcome
from hub.worker import choices, harness, instructions, judging, texts
from hub.worker.errors import SuiteError
from vera.data import Examples

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "likelihood": ("perplexity",),
    "references": texts.METRICS,
    "instructions": instructions.METRICS,
    "choices": choices.METRICS,
    "judged": judging.METRICS,
    "harness": harness.METRICS,
}
METRICS = tuple(metric for metrics in FAMILIES.values() for metric in metrics)
FAMILY_OF = {metric: family for family, metrics in FAMILIES.items() for metric in metrics}
WRITTEN = ("references", "instructions", "judged")
# Those that a program or a task's own code scores. (A judge is a server, which is waited for so long and no longer.)
GRADED_APART = ("references", "instructions", "harness")
# How a family asks: part of a suite's definition, as other numbers come of another way. Families without a number are as in the first.
VERSIONS = {
    # The base's own ends end a text too; n-grams that may not come twice are the text's alone.
    **dict.fromkeys(WRITTEN, 2),
    # What the tokenizer puts around a text counts neither to a choice nor against it.
    "choices": 2,
}
_Right = TypeVar("_Right")
# The columns that say what is right, where a suite does not name them.
COLUMNS = {"instructions": "instruction_id_list,kwargs", "choices": "choices,label", "judged": "turns,reference"}


class Asked(Protocol):
    """The items of a suite."""

    def __len__(self) -> int: ...

    def request(self) -> dict[str, Any]:
        """What the child is asked beside what the suite says of all items, without an answer in it."""

    def rows_of(self, items: int) -> int:
        """How many rows of the request the first so many items are."""

    def outputs(self, answered: Sequence[str]) -> list[str]:
        """One output of each item, from what the child answered. Raises SuiteError when that is of other items."""

    def outcomes(self, metric: str, outputs: Sequence[str]) -> list[Outcome]:
        """Raises SuiteError and NotComputed."""


def asked_of(
    family: str, examples: Examples, *, prompted: Callable[[str], str], separator: str, judge: judging.Judge | None
) -> Asked:
    """The items in `examples`; `prompted` makes a prompt of a text. Raises SuiteError."""
    if judge is not None:
        return judging.Judged(_each(examples.completions, lambda turns, references: (turns, references)), judge)
    prompts = [prompted(text) for text in examples.texts]
    return _ASKED[family](prompts, examples.completions, separator)


def require(metric: str) -> None:
    """Raises NotComputed when this machine cannot compute `metric`."""
    if FAMILY_OF[metric] == "references":
        texts.require(metric)
    elif FAMILY_OF[metric] == "instructions":
        instructions.require(metric)
    elif FAMILY_OF[metric] == "judged":
        judging.require()


def scorers(metric: str) -> dict[str, str]:
    """The packages that score, and their versions."""
    return {"references": texts.versions, "instructions": instructions.versions}.get(FAMILY_OF[metric], dict)()


class _OneRowEach:
    """An item is a row of the request, and what is answered to it is its output."""

    def rows_of(self, items: int) -> int:
        return items

    def outputs(self, answered: Sequence[str]) -> list[str]:
        return list(answered)


class Likelihoods(_OneRowEach):
    """Completions, every token of which is asked."""

    def __init__(self, prompts: Sequence[str], completions: Sequence[str], _separator: str) -> None:
        self._prompts, self._completions = list(prompts), list(completions)

    def __len__(self) -> int:
        return len(self._prompts)

    def request(self) -> dict[str, Any]:
        return {"texts": self._prompts, "completions": self._completions}

    def outcomes(self, _metric: str, outputs: Sequence[str]) -> list[Outcome]:
        return [_pair(output) for output in outputs]


class References(_OneRowEach):
    """Texts beside references. Of prompts that are the same, each completion is a reference of one item."""

    def __init__(self, prompts: Sequence[str], completions: Sequence[str], _separator: str) -> None:
        self._references: dict[str, list[str]] = {}
        for prompt, completion in zip(prompts, completions, strict=True):
            self._references.setdefault(prompt, []).append(completion)
        self._last: tuple[Sequence[str], texts.Texts] | None = None

    def __len__(self) -> int:
        return len(self._references)

    def request(self) -> dict[str, Any]:
        return {"texts": list(self._references)}

    def outcomes(self, metric: str, outputs: Sequence[str]) -> list[Outcome]:
        if self._last is None or self._last[0] is not outputs:  # several metrics are of the same tokens
            self._last = outputs, texts.Texts(outputs, list(self._references.values()))
        return self._last[1].outcomes(metric)


class Instructed(_OneRowEach):
    """Texts that follow instructions or do not. A completion is the kinds and their arguments, in JSON."""

    def __init__(self, prompts: Sequence[str], completions: Sequence[str], _separator: str) -> None:
        self._prompts = list(prompts)
        self._instructions = _each(completions, instructions.instructions_of)

    def __len__(self) -> int:
        return len(self._prompts)

    def request(self) -> dict[str, Any]:
        return {"texts": self._prompts}

    def outcomes(self, metric: str, outputs: Sequence[str]) -> list[Outcome]:
        instructions.require(metric)
        return instructions.outcomes(metric, self._instructions, outputs)


class Chosen:
    """Questions with choices. A completion is the choices and the label, in JSON."""

    def __init__(self, prompts: Sequence[str], completions: Sequence[str], separator: str) -> None:
        self._prompts, self._separator = list(prompts), separator
        self._choices = _each(completions, choices.choices_of)

    def __len__(self) -> int:
        return len(self._prompts)

    def request(self) -> dict[str, Any]:
        rows = [
            (prompt, text) for prompt, each in zip(self._prompts, self._choices, strict=True) for text in each.texts
        ]
        return {
            "texts": [prompt for prompt, _ in rows],
            "continuations": [self._separator + text for _, text in rows],
        }

    def rows_of(self, items: int) -> int:
        return sum(len(each.texts) for each in self._choices[:items])

    def outputs(self, answered: Sequence[str]) -> list[str]:
        """The nats of the choices of each question."""
        if len(answered) != sum(len(each.texts) for each in self._choices):
            raise SuiteError(f"{len(answered)} answers were given to the choices of {len(self)} questions.")
        rows = iter(answered)
        return [" ".join(str(_pair(next(rows))[0]) for _ in each.texts) for each in self._choices]

    def outcomes(self, metric: str, outputs: Sequence[str]) -> list[Outcome]:
        return choices.outcomes(metric, self._choices, outputs)


_ASKED: Mapping[str, Callable[[Sequence[str], Sequence[str], str], Asked]] = {
    "likelihood": Likelihoods,
    "references": References,
    "instructions": Instructed,
    "choices": Chosen,
}


def _each(completions: Sequence[str], read: Callable[[object, object], _Right]) -> list[_Right]:
    """What the two columns of each completion say. Raises SuiteError, which names the item."""
    found = []
    for number, completion in enumerate(completions, 1):
        try:
            found.append(read(*_two(completion)))
        except SuiteError as error:
            raise SuiteError(f"Item {number}: {error}") from error
    return found


def _two(completion: str) -> tuple[object, object]:
    """The two columns of which a completion is made."""
    try:
        first, second = json.loads(completion)
    except (TypeError, ValueError) as error:
        raise SuiteError(
            f"{completion[:80]!r} is no pair of columns: name two of them as the label, such as `label: choices,label`."
        ) from error
    return first, second


def _pair(output: str) -> tuple[float, float]:
    first, _, second = output.partition(" ")
    return number(first), number(second)


def number(output: str) -> float:
    """The finite number that was answered. Raises SuiteError."""
    try:
        found = float(output)
    except ValueError as error:
        raise SuiteError(f"The answer {output[:80]!r} is not a number.") from error
    if not math.isfinite(found):
        raise SuiteError(f"The adapter answered {output}, which is no finite number: it cannot be scored.")
    return found
