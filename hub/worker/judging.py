"""Answers rated by a language model, as MT-Bench has them rated: a number from 1 to 10 for each turn.

The judge is any server with OpenAI's `/chat/completions`: VERA_HUB_JUDGE_URL says where (`https://…/v1`), VERA_HUB_JUDGE_KEY
what lets one in, and the suite which model. The key goes there and nowhere else. Judges differ between runs on the same
answers, so each turn is rated several times, everything a judge has said is kept, and such a score decides nothing.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from hub.scoring.metrics import Outcome
from hub.worker.errors import JudgeFailed, NotComputed, SuiteError
from sdk.completions import Reply, ask
from sdk.errors import Unavailable

METRICS = ("judged",)
URL, KEY = "VERA_HUB_JUDGE_URL", "VERA_HUB_JUDGE_KEY"
# What the judge is told is part of the suite's definition: another wording has another number.
PROMPT_VERSION = 1
_TIMEOUT_S = 120.0
_TRIES = 4
_LONGEST_WAIT_S = 30.0
_RATING = re.compile(r"Rating:\s*\[\[\s*(10(?:\.0+)?|[1-9](?:\.\d+)?)\s*\]\]", re.IGNORECASE)
_TASK = (
    "You rate how well an assistant answered a person. Judge whether the answer is right, complete, relevant, clear and as long "
    "as it should be; what it costs to read counts against it. Say in a few sentences what is good and what is not, and end with "
    "a line of its own that gives a whole number from 1 (useless) to 10 (could not be better): Rating: [[number]]"
)


@dataclass(frozen=True)
class Judge:
    """A model behind a server, and how often each turn is put before it."""

    url: str
    model: str
    repeats: int
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of_environment(cls, model: str, repeats: int, environment: Mapping[str, str] = os.environ) -> Judge:
        """Raises NotComputed where no judge is known."""
        require(environment)
        return cls(environment[URL].rstrip("/"), model, repeats, environment.get(KEY) or None)

    def said(self, messages: Sequence[Mapping[str, str]], *, seed: int) -> str:
        """What it answers. A busy server is asked again. Raises JudgeFailed."""
        body = {"model": self.model, "messages": list(messages), "temperature": 0, "seed": seed}
        for tried in range(1, _TRIES + 1):
            try:
                answer = ask(self.url, body, key=self.key, timeout_s=_TIMEOUT_S)
            except Unavailable as error:
                problem, wait_s = str(error).rstrip("."), 2.0**tried
            else:
                if answer.status == 200:
                    return _text_of(answer)
                problem, wait_s = f"it answered with status {answer.status}", _wait_of(answer, tried)
                if answer.status < 500 and answer.status != 429:
                    break
            if tried < _TRIES:
                time.sleep(min(wait_s, _LONGEST_WAIT_S))
        raise JudgeFailed(f"The judge {self.model} at {self.url} rated nothing: {problem}. Check {URL} and {KEY}.")


def require(environment: Mapping[str, str] = os.environ) -> None:
    """Raises NotComputed where no judge is known."""
    if not environment.get(URL):
        raise NotComputed(
            f"judged needs a judge: set {URL} to a server with OpenAI's API (https://…/v1), and {KEY} if it asks for a key."
        )


class Judged:
    """Conversations of one turn or more. A completion is the turns and the references of some of them, in JSON."""

    def __init__(self, conversations: Sequence[tuple[object, object]], judge: Judge) -> None:
        self._judge = judge
        self._turns = [_texts(turns, "turns") for turns, _ in conversations]
        self._references = [_texts(references or [], "references") for _, references in conversations]
        if not all(self._turns):
            raise SuiteError("A conversation needs one turn or more, and one has none.")

    def __len__(self) -> int:
        return len(self._turns)

    def request(self) -> dict[str, Any]:
        return {"conversations": self._turns}

    def rows_of(self, items: int) -> int:
        return items

    def outputs(self, answered: Sequence[str]) -> list[str]:
        """The answers of each conversation, and all that the judge has said of them, in JSON. Raises JudgeFailed."""
        return [self._rated(row, json.loads(answers)) for row, answers in enumerate(answered)]

    def outcomes(self, _metric: str, outputs: Sequence[str]) -> list[Outcome]:
        """The mean of all ratings of a conversation."""
        return [fmean(each["rating"] for each in json.loads(output)["judged"]) for output in outputs]

    def _rated(self, row: int, answers: list[str]) -> str:
        judged = [
            self._rating(row, answers, turn, repeat)
            for turn in range(len(self._turns[row]))
            for repeat in range(self._judge.repeats)
        ]
        return json.dumps({"answers": answers, "judged": judged}, ensure_ascii=False)

    def _rating(self, row: int, answers: Sequence[str], turn: int, repeat: int) -> dict[str, Any]:
        messages = asked_of_judge(self._turns[row], answers, self._references[row], turn)
        said = self._judge.said(messages, seed=repeat)
        found = _RATING.findall(said)
        if not found:
            raise JudgeFailed(
                f"The judge {self._judge.model} gave no `Rating: [[1 to 10]]` for item {row + 1}, and said {said[-200:]!r}: "
                "take a model that follows its instructions."
            )
        return {"turn": turn + 1, "rating": float(found[-1]), "said": said}


def asked_of_judge(
    turns: Sequence[str], answers: Sequence[str], references: Sequence[str], turn: int
) -> list[dict[str, str]]:
    """The messages in which a judge rates the answer of one turn; it sees the turns before it, and a reference where there is one."""
    parts = []
    for number in range(turn + 1):
        parts += [f"<person>\n{turns[number]}\n</person>", f"<assistant>\n{answers[number]}\n</assistant>"]
    if turn < len(references):
        parts.append(f"<reference>\n{references[turn]}\n</reference>")
    last = "Rate the assistant's last answer." + (
        " The reference is a right answer to it." if turn < len(references) else ""
    )
    return [{"role": "system", "content": _TASK}, {"role": "user", "content": "\n\n".join([*parts, last])}]


def _text_of(answer: Reply) -> str:
    try:
        return str(json.loads(answer.content)["choices"][0]["message"]["content"])
    except (ValueError, LookupError, TypeError) as error:
        raise JudgeFailed("The judge answered with something else than OpenAI's API has: check the address.") from error


def _wait_of(answer: Reply, tried: int) -> float:
    asked = answer.headers.get("retry-after", "")
    return float(asked) if asked.isdecimal() else 2.0**tried


def _texts(value: object, what: str) -> list[str]:
    found = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise SuiteError(f"{str(value)[:80]!r} are no {what}: a list of texts is wanted.")
    return found
