"""Multiple choice: a decoder answers with the choice that it thinks the likeliest after the question.

`accuracy` compares log-likelihoods as they are, `accuracy_norm` each divided by the characters of its choice, which
does not favour short ones. They are lm-evaluation-harness's `acc` and `acc_norm`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hub.scoring.metrics import Outcome
from hub.worker.errors import SuiteError

METRICS = ("accuracy", "accuracy_norm")


@dataclass(frozen=True)
class Choices:
    """What may be answered to one question, and the place of the right one."""

    texts: tuple[str, ...]
    right: int

    def is_right(self, nats: Sequence[float], metric: str) -> bool:
        """`nats` are the negative log-likelihoods of the choices; of equal ones the first is the answer."""
        costs = [each / len(text) for each, text in zip(nats, self.texts, strict=True)]
        compared = costs if metric == "accuracy_norm" else list(nats)
        return compared.index(min(compared)) == self.right


def choices_of(choices: object, label: object) -> Choices:
    """From a list of texts, or as ARC has them `{"text": [...], "label": ["A", ...]}`; the label is a place from 0, one of
    those names, or a choice itself. Raises SuiteError."""
    found = _read(choices)
    texts, names = (found.get("text"), found.get("label")) if isinstance(found, dict) else (found, None)
    if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(text, str) and text for text in texts):
        raise _invalid(f"a question needs two choices or more, which are texts, and has {str(choices)[:80]}")
    return Choices(tuple(texts), _place(label, texts, names))


def outcomes(metric: str, asked: Sequence[Choices], outputs: Sequence[str]) -> list[Outcome]:
    """Whether each question is answered right. An output has the nats of the choices, with a space between them."""
    nats = [[float(number) for number in output.split()] for output in outputs]
    return [int(each.is_right(some, metric)) for each, some in zip(asked, nats, strict=True)]


def _read(choices: object) -> object:
    try:
        return json.loads(choices) if isinstance(choices, str) else choices
    except ValueError as error:
        raise _invalid(f"{choices!r:.80} are no choices in JSON") from error


def _place(label: object, texts: Sequence[str], names: object) -> int:
    for among in (names, texts):
        if isinstance(among, list) and label in among:
            return among.index(label)
    is_place = str(label).isdecimal() and not isinstance(label, bool) and names is None
    if not is_place or int(str(label)) >= len(texts):
        raise _invalid(f"the label {label!r} is none of the {len(texts)} choices, nor their places from 0")
    return int(str(label))


def _invalid(what: str) -> SuiteError:
    return SuiteError(f"{what}.")
