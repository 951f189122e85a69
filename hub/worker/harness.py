"""Tasks of lm-evaluation-harness: it makes the requests and says what the answers are worth, and the child answers them.

The tasks, their data and their right answers stay in the worker's process. What travels to the child are the harness's requests,
(kind, arguments); what comes back are its responses. A score is the hub's, computed from one outcome of each item.

what the harness takes of its items          the metric here                      an outcome
mean of acc, acc_norm or exact_match         accuracy, accuracy_norm, exact_match the item's credit, 0 or 1
mean of another number                       harness_mean                         that number
perplexity, weighted_perplexity              perplexity                           nats, and what they are divided by
f1, matthews_corrcoef                        f1, matthews                         the right class and the answered one
of a group, the mean of its tasks' means     harness_macro                        that number, and which task it is of
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from hub.scoring import grouped
from hub.scoring.metrics import Outcome
from hub.worker import harness_tasks
from hub.worker.errors import NotComputed, SuiteError
from hub.worker.harness_tasks import MACRO, Found, Measure, first_line

if TYPE_CHECKING:
    from hub.worker.suite_files import SuiteFile

METRICS = ("exact_match", "harness_mean", MACRO)
MAX_LENGTH = 2048
_SEED = 1234  # of few-shot examples: the harness's own
KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


class Conversation(str):
    """A prompt that is yet to be put in a base's chat template, as a reader sees it."""

    messages: list[dict[str, str]]
    add_generation_prompt: bool

    @classmethod
    def of(cls, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> Conversation:
        """Stands where the harness has a model's `apply_chat_template`."""
        made = cls("\n".join(f"{each['role']}: {each['content']}" for each in messages))
        made.messages, made.add_generation_prompt = messages, add_generation_prompt
        return made


@dataclass(frozen=True)
class _Part:
    """A task with the items that are asked of it, and the requests of each."""

    name: str
    task: Any
    documents: Sequence[Any]
    requests: Mapping[int, Sequence[Any]]

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "task_version": self.task.VERSION,
            "num_fewshot": self.task.config.num_fewshot,
            "items": len(self.documents),
        }

    def answer(self, number: int, output: Sequence[Any]) -> None:
        for each, response in zip(self.requests[number], output, strict=True):
            said = tuple(response) if isinstance(response, list) else response
            each.resps, each.filtered_resps = [said] * (each.repeats or 1), {}


class Harnessed:
    """The items of a task, or of the tasks of a group by turns, as `hub.worker.generating.Asked`."""

    def __init__(self, found: Found, parts: Sequence[_Part], measures: Sequence[Measure], stated: SuiteFile) -> None:
        self._found, self._parts, self._stated = found, parts, stated
        self._measures = {each.name: each for each in measures}
        self._lock = threading.Lock()  # the harness keeps responses in its requests
        # The first items, which are answered again in another layout, are of each task.
        self._items = grouped.turns([len(each.documents) for each in parts])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The one that ranks, and those beside it."""
        return tuple(self._measures)

    @property
    def prompts(self) -> list[str]:
        return [str(self._parts[part].requests[number][0].args[0]) for number, part in self._items]

    @property
    def answers(self) -> list[str]:
        return [
            str(self._parts[part].task.doc_to_target(self._parts[part].documents[number]))
            for number, part in self._items
        ]

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What a group is made of, in its order; empty of a task alone."""
        return {each.name: each.facts for each in self._parts} if self._found.group is not None else {}

    @property
    def facts(self) -> dict[str, Any]:
        """What the numbers hang on beside the items."""
        measures = [f"{each.metric},{each.filter}" for each in self._measures.values()]
        of_tasks: dict[str, Any] = (
            {"tasks": self.tasks} if self.tasks else {"num_fewshot": self._parts[0].facts["num_fewshot"]}
        )
        stated = {
            "chat_template": self._stated.chat_template,
            "fewshot_as_multiturn": self._stated.fewshot_as_multiturn,
            "system_instruction": self._stated.system_instruction,
        }
        return {"version": version(), "task_version": self._found.version, **of_tasks, "measures": measures,
                **{key: value for key, value in stated.items() if value}}  # fmt: skip

    @property
    def digest(self) -> str:
        """`sha256:…` over requests and right answers, as the harness has made them of task and data."""
        found = json.dumps([self._requests(), self.answers], sort_keys=True, default=str)
        return f"sha256:{hashlib.sha256(found.encode()).hexdigest()}"

    def __len__(self) -> int:
        return len(self._items)

    def request(self) -> dict[str, Any]:
        return {"harness": self._requests()}

    def rows_of(self, items: int) -> int:
        return sum(len(self._parts[part].requests[number]) for number, part in self._items[:items])

    def outputs(self, answered: Sequence[str]) -> list[str]:
        """The responses to the requests of each item, in JSON; of a group, under the name of the item's task."""
        if len(answered) != self.rows_of(len(self)):
            raise SuiteError(f"{len(answered)} answers were given to {self.rows_of(len(self))} requests.")
        rows, found = iter(answered), []
        for number, part in self._items:
            responses = f"[{', '.join(next(rows) for _ in self._parts[part].requests[number])}]"
            named = f"{{{json.dumps(self._parts[part].name)}: {responses}}}"
            found.append(responses if self._found.group is None else named)
        return found

    def outcomes(self, metric: str, outputs: Sequence[str]) -> list[Outcome]:
        """Raises SuiteError for an item that the task gives no such number, or cannot judge."""
        measure = self._measures[metric]
        with self._lock:
            self._answer(outputs)
            try:
                for each in self._parts:
                    each.task.apply_filters()
                return [self._outcome(measure, number, part) for number, part in self._items]
            except SuiteError:
                raise
            except Exception as error:  # whatever the task's own code says
                raise SuiteError(
                    f"The task cannot judge what was answered: {type(error).__name__}: {first_line(error)}."
                ) from error

    def _outcome(self, measure: Measure, number: int, place: int) -> Outcome:
        part = self._parts[place]
        responses = [each.filtered_resps[measure.filter] for each in part.requests[number]]
        values: Mapping[str, Any] = part.task.process_results(part.documents[number], responses)
        if measure.metric not in values:
            raise SuiteError(
                f"{part.name} gives its item {number + 1} no {measure.metric}: it has {', '.join(values)}."
            )
        return measure.outcome(values[measure.metric], place)

    def _answer(self, outputs: Sequence[str]) -> None:
        for (number, part), output in zip(self._items, outputs, strict=True):
            said = json.loads(output, parse_constant=_limit)
            self._parts[part].answer(number, said if self._found.group is None else said[self._parts[part].name])

    def _requests(self) -> list[list[Any]]:
        return [
            [each.request_type, *map(_sent, each.args)]
            for number, part in self._items
            for each in self._parts[part].requests[number]
        ]


def load(stated: SuiteFile) -> Harnessed:
    """The task or group that a suite names, with its items. Raises SuiteError, and NotComputed without the harness."""
    _require_version(stated)
    found = harness_tasks.find(stated)
    harness_tasks.prepare(found, stated, seed=_SEED)
    measures = harness_tasks.measures(found, stated)
    return Harnessed(found, [_part(name, task, stated) for name, task in found.tasks.items()], measures, stated)


def version() -> str:
    """Of the harness that is installed. Raises NotComputed."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError as error:
        raise NotComputed(
            "Tasks of lm-evaluation-harness need it: pip install 'vera-hub[lm-eval]'.", code="HARNESS_MISSING"
        ) from error


def _require_version(stated: SuiteFile) -> None:
    """Another release may ask otherwise: a number is only comparable within one."""
    if (got := version()) != stated.harness_version:
        raise SuiteError(
            f"{stated.name} is of lm-evaluation-harness {stated.harness_version}, and {got} is installed: install that one, or "
            f"write `harness_version: {got}`, which begins a new leaderboard."
        )


def _part(name: str, task: Any, stated: SuiteFile) -> _Part:
    """The task with its requests. Raises SuiteError."""
    try:
        task.build_all_requests(
            limit=stated.limit,
            system_instruction=stated.system_instruction,
            apply_chat_template=stated.chat_template,
            fewshot_as_multiturn=bool(stated.fewshot_as_multiturn),
            chat_template=Conversation.of if stated.chat_template else None,
        )
    except Exception as error:  # whatever the task's own code says
        raise SuiteError(f"{stated.name}: {name} makes no requests of its data: {error}.") from error
    kinds = {each.request_type for each in task.instances} - set(KINDS)
    if kinds or any(len(each.args) > 2 for each in task.instances):
        raise SuiteError(f"{name} asks for more than text ({', '.join(sorted(kinds)) or 'images or sound'}).")
    if stated.chat_template and not all(map(_is_chat, task.instances)):
        raise SuiteError(
            f"{name} asks for something beside answers to prompts, which no chat template can stand around: leave out "
            "`chat_template`."
        )
    requests: dict[int, list[Any]] = {}
    for each in task.instances:
        requests.setdefault(each.doc_id, []).append(each)
    documents = [document for _, document in task.doc_iterator(rank=0, limit=stated.limit, world_size=1)]
    return _Part(name, task, documents, requests)


def _is_chat(request: Any) -> bool:
    """An empty prompt is none: how likely a choice is without the question."""
    return request.request_type != "loglikelihood_rolling" and (
        isinstance(request.args[0], Conversation) or request.args[0] == ""
    )


def _sent(argument: Any) -> Any:
    if not isinstance(argument, Conversation):
        return argument
    return {"messages": argument.messages, "add_generation_prompt": argument.add_generation_prompt}


def _limit(name: str) -> float:
    """What JSON has no number for. Of likelihoods of which one is NaN the harness takes that for the largest."""
    if name == "NaN":
        raise SuiteError("The adapter answered NaN, which is no number: it cannot be scored.")
    return float(name)
