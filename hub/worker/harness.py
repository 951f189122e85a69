"""Tasks of lm-evaluation-harness: it makes the requests and says what the answers are worth, and the child answers them.

The task, its data and its right answers stay in the worker's process. What travels to the child are the harness's requests,
(kind, arguments); what comes back are its responses. A score is the hub's, computed from one outcome of each item.

what the harness takes of its items          the metric here                      an outcome
mean of acc, acc_norm or exact_match         accuracy, accuracy_norm, exact_match the item's credit, 0 or 1
mean of another number                       harness_mean                         that number
perplexity, weighted_perplexity              perplexity                           nats, and what they are divided by
f1, matthews_corrcoef                        f1, matthews                         the right class and the answered one
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from hub.scoring.metrics import Outcome
from hub.worker.errors import NotComputed, SuiteError
from vera.metrics import LOWER_IS_BETTER, SHARES

if TYPE_CHECKING:
    from hub.worker.suite_files import SuiteFile

METRICS = ("exact_match", "harness_mean")
# `data` of a task that comes with the harness; another one lies in a folder of task files.
BUILT_IN = "lm-eval"
MAX_LENGTH = 2048
_SEED = 1234  # of few-shot examples: the harness's own
_NAMES = {"acc": "accuracy", "acc_norm": "accuracy_norm", "exact_match": "exact_match"}
KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


@dataclass(frozen=True)
class _Measure:
    """One number of the task: its metric and filter there, its metric here, and how an item's value becomes an outcome."""

    metric: str
    filter: str
    name: str
    outcome: Callable[[Any], Outcome]


class Harnessed:
    """The items of a task, as `hub.worker.generating.Asked`."""

    def __init__(self, task: Any, measures: Sequence[_Measure], documents: Sequence[Any]) -> None:
        self._task, self._documents = task, documents
        self._measures = {each.name: each for each in measures}
        self._lock = threading.Lock()  # the harness keeps responses in its requests
        self._of: dict[int, list[Any]] = {}  # the requests of each item
        for each in task.instances:
            self._of.setdefault(each.doc_id, []).append(each)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The one that ranks, and those beside it."""
        return tuple(self._measures)

    @property
    def prompts(self) -> list[str]:
        return [str(self._of[number][0].args[0]) for number in range(len(self))]

    @property
    def answers(self) -> list[str]:
        return [str(self._task.doc_to_target(document)) for document in self._documents]

    @property
    def facts(self) -> dict[str, Any]:
        """What the numbers hang on beside the items."""
        measures = [f"{each.metric},{each.filter}" for each in self._measures.values()]
        config = self._task.config
        return {"version": version(), "task_version": self._task.VERSION, "num_fewshot": config.num_fewshot,
                "measures": measures}  # fmt: skip

    @property
    def digest(self) -> str:
        """`sha256:…` over requests and right answers, as the harness has made them of task and data."""
        found = json.dumps([self._requests(), self.answers], sort_keys=True, default=str)
        return f"sha256:{hashlib.sha256(found.encode()).hexdigest()}"

    def __len__(self) -> int:
        return len(self._documents)

    def request(self) -> dict[str, Any]:
        return {"harness": self._requests()}

    def rows_of(self, items: int) -> int:
        return sum(len(self._of[number]) for number in range(items))

    def outputs(self, answered: Sequence[str]) -> list[str]:
        """The responses to the requests of each item, in JSON."""
        if len(answered) != len(self._task.instances):
            raise SuiteError(f"{len(answered)} answers were given to {len(self._task.instances)} requests.")
        rows = iter(answered)
        return [f"[{', '.join(next(rows) for _ in self._of[number])}]" for number in range(len(self))]

    def outcomes(self, metric: str, outputs: Sequence[str]) -> list[Outcome]:
        """Raises SuiteError for an item that the task gives no such number, or cannot judge."""
        measure = self._measures[metric]
        with self._lock:
            self._answer(outputs)
            try:
                self._task.apply_filters()
                return [self._outcome(measure, number) for number in range(len(self))]
            except SuiteError:
                raise
            except Exception as error:  # whatever the task's own code says
                raise SuiteError(
                    f"The task cannot judge what was answered: {type(error).__name__}: {_first_line(error)}."
                ) from error

    def _outcome(self, measure: _Measure, number: int) -> Outcome:
        responses = [each.filtered_resps[measure.filter] for each in self._of[number]]
        values: Mapping[str, Any] = self._task.process_results(self._documents[number], responses)
        if measure.metric not in values:
            raise SuiteError(f"The task gives item {number + 1} no {measure.metric}: it has {', '.join(values)}.")
        return measure.outcome(values[measure.metric])

    def _answer(self, outputs: Sequence[str]) -> None:
        for number, output in enumerate(outputs):
            responses = json.loads(output, parse_constant=_limit)
            for each, response in zip(self._of[number], responses, strict=True):
                said = tuple(response) if isinstance(response, list) else response
                each.resps, each.filtered_resps = [said] * (each.repeats or 1), {}

    def _requests(self) -> list[list[Any]]:
        return [[each.request_type, *each.args] for each in self._task.instances]


def load(stated: SuiteFile) -> Harnessed:
    """The task that a suite names, with its items. Raises SuiteError, and NotComputed without the harness."""
    _require_version(stated)
    task = _task(stated)
    if stated.num_fewshot is not None:
        task.set_config(key="num_fewshot", value=stated.num_fewshot)
    task.set_fewshot_seed(seed=_SEED)
    if (task.config.generation_kwargs or {}).get("do_sample"):
        raise SuiteError(f"{stated.harness} draws its texts at random (do_sample), so that no score comes twice.")
    try:
        task.build_all_requests(limit=stated.limit)
    except Exception as error:  # whatever the task's own code says
        raise SuiteError(f"{stated.name}: {stated.harness} makes no requests of its data: {error}.") from error
    kinds = {each.request_type for each in task.instances} - set(KINDS)
    if kinds or any(len(each.args) > 2 for each in task.instances):
        raise SuiteError(f"{stated.harness} asks for more than text ({', '.join(sorted(kinds)) or 'images or sound'}).")
    documents = [document for _, document in task.doc_iterator(rank=0, limit=stated.limit, world_size=1)]
    return Harnessed(task, _measures(task, stated), documents)


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


def _task(stated: SuiteFile) -> Any:
    from lm_eval.tasks import TaskManager

    own = stated.data != BUILT_IN
    manager = TaskManager(include_path=stated.data if own else None, include_defaults=not own)
    if stated.harness not in manager.all_subtasks:
        where = (
            f"{stated.data} has {', '.join(manager.all_subtasks[:10]) or 'none'}"
            if own
            else "`lm-eval ls tasks` lists them"
        )
        raise SuiteError(f"{stated.name}: {stated.harness!r} is no single task of lm-evaluation-harness: {where}.")
    try:
        return manager.load([stated.harness])["tasks"][stated.harness]
    except Exception as error:  # datasets says it in a dozen ways
        raise SuiteError(
            f"{stated.name}: the data of {stated.harness} is not to be had ({_first_line(error)}). Let a machine with the network "
            "run the task once, which keeps it in the cache of Hugging Face, or write a task file over data of your own and "
            "name its folder as `data`."
        ) from error


def _measures(task: Any, stated: SuiteFile) -> list[_Measure]:
    """Those of the task that can be kept item by item, the one that ranks first. Raises SuiteError when that is none of them."""
    filters = [each.name for each in task._filters]
    metrics = list(task.aggregation())
    metric, _, chosen = (stated.measure or metrics[0]).partition(",")
    if metric not in metrics or (chosen and chosen not in filters):
        raise SuiteError(
            f"{stated.name}: {stated.harness} measures {', '.join(metrics)} (of {', '.join(filters)}), and not {stated.measure!r}."
        )
    ranking = _measure(task, metric, chosen or filters[0])
    if ranking is None:
        raise SuiteError(
            f"{stated.name}: {metric} of {stated.harness} cannot be kept item by item: name another as `measure`, of "
            f"{', '.join(each for each in metrics if _measure(task, each, '') is not None) or 'which the task has none'}."
        )
    found = {ranking.name: ranking}
    for other in metrics:
        if (also := _measure(task, other, ranking.filter)) is not None:
            found.setdefault(also.name, also)
    return list(found.values())


def _measure(task: Any, metric: str, chosen: str) -> _Measure | None:
    """None where what the harness takes of its items is nothing that a score here is computed from."""
    taken, is_higher_better = task.aggregation()[metric], task.higher_is_better().get(metric, True)
    kind = getattr(taken, "__name__", "")
    name = _NAMES.get(metric, "harness_mean") if kind == "mean" else _AGGREGATED.get(kind)
    if name is None or is_higher_better == (name in LOWER_IS_BETTER):
        return None
    return _Measure(metric, chosen, name, _credit if name in SHARES else _OUTCOMES.get(kind, float))


def _limit(name: str) -> float:
    """What JSON has no number for. Of likelihoods of which one is NaN the harness takes that for the largest."""
    if name == "NaN":
        raise SuiteError("The adapter answered NaN, which is no number: it cannot be scored.")
    return float(name)


def _credit(value: Any) -> Outcome:
    if value not in (0, 1):
        raise SuiteError(f"The task earns an item {value}, and this metric is a share of the items: 0 or 1.")
    return int(value)


_AGGREGATED = {
    "perplexity": "perplexity",
    "weighted_perplexity": "perplexity",
    "f1_score": "f1",
    "matthews_corrcoef": "matthews",
}
_OUTCOMES: Mapping[str, Callable[[Any], Outcome]] = {
    "mean": float,
    "perplexity": lambda value: (-float(value), 1.0),
    "weighted_perplexity": lambda value: (-float(value[0]), float(value[1])),
    "f1_score": lambda value: (int(value[0]), int(value[1])),
    "matthews_corrcoef": lambda value: (int(value[0]), int(value[1])),
}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")[:300]
