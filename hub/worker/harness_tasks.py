"""What lm-evaluation-harness has under a name: one task, or a group of tasks with one score, and what of it can be kept here.

A group's score is the mean over its tasks of theirs, by the number of their items or each counting as much as any other, as
the group's own file says. By the number of items it is the mean of all items, which the metrics of one task are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hub.scoring.metrics import Outcome
from hub.worker.errors import SuiteError
from vera.metrics import LOWER_IS_BETTER, SHARES

if TYPE_CHECKING:
    from hub.worker.suite_files import SuiteFile

# `data` of a task that comes with the harness; another one lies in a folder of task files.
BUILT_IN = "lm-eval"
MACRO = "harness_macro"
_NAMES = {"acc": "accuracy", "acc_norm": "accuracy_norm", "exact_match": "exact_match"}


@dataclass(frozen=True)
class Measure:
    """One number of the harness: its metric and filter there, its metric here, and how an item's value becomes an outcome,
    given which of the tasks the item is of."""

    metric: str
    filter: str
    name: str
    outcome: Callable[[Any, int], Outcome]


@dataclass(frozen=True)
class Found:
    """The tasks, by name, and their group, where they are several."""

    name: str
    tasks: Mapping[str, Any]
    group: Any = None

    @property
    def version(self) -> Any:
        return next(iter(self.tasks.values())).VERSION if self.group is None else self.group.version


def find(stated: SuiteFile) -> Found:
    """What the suite names, with its data. Raises SuiteError."""
    from lm_eval.tasks import TaskManager

    name, own = str(stated.harness), stated.data != BUILT_IN
    manager = TaskManager(include_path=stated.data if own else None, include_defaults=not own)
    if name not in (*manager.all_subtasks, *manager.all_groups):
        known = [*manager.all_groups, *manager.all_subtasks][:10]
        where = f"{stated.data} has {', '.join(known) or 'none'}" if own else "`lm-eval ls tasks` lists them"
        what = (
            "a tag of several tasks, which have no score together," if name in manager.all_tags else "no task or group"
        )
        raise SuiteError(f"{stated.name}: {name!r} is {what} of lm-evaluation-harness: {where}.")
    try:
        loaded = manager.load([name])
    except Exception as error:  # datasets says it in a dozen ways
        raise SuiteError(
            f"{stated.name}: the data of {name} is not to be had ({first_line(error)}). Let a machine with the network "
            "run the task once, which keeps it in the cache of Hugging Face, or write a task file over data of your own and "
            "name its folder as `data`."
        ) from error
    group = loaded.get("groups", {}).get(name)
    if group is None:
        return Found(name, loaded["tasks"])
    tasks = {each.task_name: each for each in group.get_all_tasks()}
    if len(tasks) != len(group.get_all_tasks()):
        raise SuiteError(f"{stated.name}: a task is in the group {name} more than once, and would count as often.")
    return Found(name, tasks, group)


def prepare(found: Found, stated: SuiteFile, *, seed: int) -> None:
    """Gives the tasks the examples that the suite asks for. Raises SuiteError for one that may not be a suite."""
    for name, task in found.tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise SuiteError(f"{name} runs what adapters write as a program, which no worker here does.")
        if _draws(task.config.generation_kwargs or {}):
            raise SuiteError(f"{name} draws its texts at random (do_sample), so that no score comes twice.")
        if stated.num_fewshot is not None:
            _set_fewshot(task, name, stated.num_fewshot, is_alone=found.group is None)
        task.set_fewshot_seed(seed=seed)


def measures(found: Found, stated: SuiteFile) -> list[Measure]:
    """Those that can be kept item by item, the one that ranks first. Raises SuiteError when that is none of them."""
    offered = _of_group(found) if found.group is not None else _of_task(next(iter(found.tasks.values())))
    if not offered:
        raise SuiteError(
            f"{stated.name}: the group {found.name} has no score of its own (no aggregate_metric_list): name one of its tasks "
            f"({', '.join(list(found.tasks)[:10])}), or write a group file that says how they count."
        )
    metric, _, chosen = (stated.measure or next(iter(offered))[0]).partition(",")
    named = [key for key in offered if key[0] == metric and chosen in ("", key[1])]
    if not named:
        filters = ", ".join(dict.fromkeys(each for _, each in offered))
        raise SuiteError(
            f"{stated.name}: {found.name} measures {', '.join(dict.fromkeys(each for each, _ in offered))} (of {filters}), "
            f"and not {stated.measure!r}."
        )
    if (ranking := offered[named[0]]) is None:
        kept = dict.fromkeys(name for (name, _), each in offered.items() if each is not None)
        raise SuiteError(
            f"{stated.name}: {metric} of {found.name} cannot be kept item by item"
            f"{' for each of its tasks' if found.group is not None else ''}: name another as `measure`, of "
            f"{', '.join(kept) or 'which it has none'}."
        )
    beside = [each for (_, chosen), each in offered.items() if each is not None and chosen == ranking.filter]
    by_name = {ranking.name: ranking}
    for other in beside:
        by_name.setdefault(other.name, other)
    return list(by_name.values())


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")[:300]


_Offered = dict[tuple[str, str], Measure | None]  # by metric and filter; None is what cannot be kept


def _of_task(task: Any) -> _Offered:
    return {
        (metric, each.name): _measure(task, metric, each.name)
        for metric in task.aggregation()
        for each in task._filters
    }


def _of_group(found: Found) -> _Offered:
    tasks = list(found.tasks.values())
    every = sorted({each.name for task in tasks for each in task._filters})
    return {
        (stated.metric, chosen): _of_all(tasks, stated.metric, chosen, by_size=stated.weight_by_size)
        for stated in found.group.aggregate_metric_list or ()
        for chosen in stated.filter_list or every
    }


def _of_all(tasks: Sequence[Any], metric: str, chosen: str, *, by_size: bool) -> Measure | None:
    """None unless each of the tasks has the number, and as a mean of its items: the harness weighs means, and leaves out
    a task without."""
    each = [_mean_of(task, metric, chosen) for task in tasks]
    if None in each or len({measure.name for measure in each if measure is not None}) != 1:
        return None
    return each[0] if by_size else Measure(metric, chosen, MACRO, lambda value, task: (float(value), task))


def _mean_of(task: Any, metric: str, chosen: str) -> Measure | None:
    taken = task.aggregation().get(metric)
    if getattr(taken, "__name__", "") != "mean" or chosen not in [each.name for each in task._filters]:
        return None
    return _measure(task, metric, chosen)


def _measure(task: Any, metric: str, chosen: str) -> Measure | None:
    """None where what the harness takes of its items is nothing that a score here is computed from."""
    taken, is_higher_better = task.aggregation()[metric], task.higher_is_better().get(metric, True)
    kind = getattr(taken, "__name__", "")
    name = _NAMES.get(metric, "harness_mean") if kind == "mean" else _AGGREGATED.get(kind)
    if name is None or is_higher_better == (name in LOWER_IS_BETTER):
        return None
    convert = _credit if name in SHARES else _OUTCOMES.get(kind, float)
    return Measure(metric, chosen, name, partial(_of_item, convert))


def _of_item(convert: Callable[[Any], Outcome], value: Any, _task: int) -> Outcome:
    return convert(value)


def _set_fewshot(task: Any, name: str, number: int, *, is_alone: bool) -> None:
    """As the harness does it: a task whose own file says 0 has none, whatever is asked."""
    if task.config.num_fewshot != 0:
        task.set_config(key="num_fewshot", value=number)
    elif is_alone and number != 0:
        raise SuiteError(f"{name} is asked without examples by its own file: leave out num_fewshot, which is {number}.")


def _draws(options: Mapping[str, Any]) -> bool:
    """Without do_sample, a temperature leaves it to the base's own configuration."""
    return bool(options.get("do_sample", options.get("temperature")))


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
