"""A suite as a YAML file says it: which data, which columns, which metric. `docs/evaluation.md` shows one for each task."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hub.worker import generating, harness
from hub.worker.errors import SuiteError
from vera.data import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION
from vera.data.questions import is_pinned

# The first is the one a suite has that names none.
METRICS: Mapping[str, tuple[str, ...]] = {
    TEXT_CLASSIFICATION: ("accuracy", "f1", "f1_macro", "matthews"),
    IMAGE_CLASSIFICATION: ("accuracy", "f1", "f1_macro", "matthews"),
    TEXT_REGRESSION: ("pearson", "spearman", "mean_squared_error"),
    TEXT_GENERATION: generating.METRICS,
}
# What a suite has that lets texts be written, and the value when it says none.
WRITING: Mapping[str, Any] = {"max_new_tokens": 64, "beams": 1, "length_penalty": 1.0, "no_repeat_ngram": 0}
# In the words of lm-evaluation-harness.
_OF_HARNESS = (
    "harness_version", "num_fewshot", "measure", "chat_template", "system_instruction", "fewshot_as_multiturn",
)  # fmt: skip
_NOT_OF_HARNESS = (
    "text",
    "label",
    "image",
    "labels",
    "split",
    "prompt",
    "separator",
    "chat",
    "judge",
    "positive",
    *WRITING,
)
# Who sees what single items are worth, as the hub reads it (`hub.domain.secrecy`).
ACCESSES = ("private", "public", "hidden")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?/[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """What a suite file says. `data` is a file or folder (relative to the suite file once it is read), or
    `org/name@commit[:config]` of Hugging Face, at any revision where `sha256` is that of its items; `folder` is where a copy of such a set may lie, below the worker's
    folder of data sets. `positive` is the label that an f1 is of; `also` are metrics that stand beside the one that
    ranks. The keys of WRITING say how texts are written; `prompt` is what stands around a text, which is `{text}` in it.
    `items` says who sees what single items are worth; `judge` is the model that rates answers, each `repeats` times.
    `harness` is a task of lm-evaluation-harness, or a group of them, of the release `harness_version`, and `measure` the
    one of its metrics that ranks: such a suite has the metrics that the task has. With `chat_template` its prompts are
    conversations, each few-shot example a turn of its own unless `fewshot_as_multiturn` is false.
    Raises SuiteError.
    """

    name: str
    title: str
    task: str
    data: str
    sha256: str | None = None
    split: str | None = None
    text: str | None = None
    label: str | None = None
    image: str | None = None
    labels: tuple[str, ...] = ()
    metric: str = ""
    also: tuple[str, ...] = ()
    positive: str | None = None
    limit: int | None = None
    batch_size: int = 32
    max_length: int = 256
    separator: str = "\n"
    prompt: str = "{text}"
    chat: bool = False
    items: str = "private"
    judge: str | None = None
    repeats: int = 3
    max_new_tokens: int = WRITING["max_new_tokens"]
    beams: int = WRITING["beams"]
    length_penalty: float = WRITING["length_penalty"]
    no_repeat_ngram: int = WRITING["no_repeat_ngram"]
    harness: str | None = None
    harness_version: str | None = None
    num_fewshot: int | None = None
    measure: str | None = None
    chat_template: bool = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        _require(_NAME.fullmatch(self.name), f"its name is {self.name!r} and must be family/task, in small letters")
        _require(0 < len(self.title) <= 200, "its title must have 1 to 200 characters")
        _require(self.task in METRICS, f"its task is {self.task!r} and must be one of {', '.join(METRICS)}")
        if self.harness is not None:
            self._require_harness()
            return
        odd = next((key for key in _OF_HARNESS if getattr(self, key) != _default(key)), None)
        _require(odd is None, f"{odd} is of a task of lm-evaluation-harness, which `harness` names")
        if not self.metric:
            object.__setattr__(self, "metric", METRICS[self.task][0])
        known = METRICS[self.task]
        for metric in (self.metric, *self.also):
            _require(metric in known, f"its metric is {metric!r}; {self.task} is measured by {', '.join(known)}")
            _require(metric not in harness.METRICS, f"{metric} is measured by tasks of lm-evaluation-harness alone")
        measured = {self.metric, *self.also}
        _require(len(measured) == 1 + len(self.also), "a metric stands in `metric` and `also` more than once")
        families = sorted({generating.FAMILY_OF[metric] for metric in measured}) if self.is_generated else []
        _require(
            len(families) < 2,
            f"its metrics are of {' and of '.join(families)}, which are asked differently: make two suites",
        )
        _require(self.items in ACCESSES, f"its items are {self.items!r} and must be one of {', '.join(ACCESSES)}")
        _require("{text}" in self.prompt, "its prompt must have {text} where the text stands")
        _require(
            self.is_generated or (self.prompt == "{text}" and not self.chat), f"{self.task} has no prompt: leave it out"
        )
        _require(
            (self.judge is not None) == (self.family == "judged"),
            "the metric judged is by a model, which `judge` names (and no other metric has one)",
        )
        _require(self.family != "judged" or self.chat, "judged is of conversations: write `chat: true`")
        _require(self.family != "choices" or not self.chat, "choices are compared as they are: leave out chat")
        _require(len(set(self.labels)) == len(self.labels), "its labels must be different")
        _require(self.is_labelled or not self.labels, f"{self.task} has no labels: leave them out")
        _require(
            ("f1" in measured) == (self.positive is not None),
            "the metric f1 is of one label, which `positive` names (and no other metric has one)",
        )
        _require(self.sha256 is None or _SHA256.fullmatch(self.sha256), "its sha256 must be sha256: and 64 digits")
        for key in ("limit", "batch_size", "max_length", "max_new_tokens", "beams", "repeats"):
            value = getattr(self, key)
            _require(value is None or value >= 1, f"its {key} must be 1 or more")
        _require(self.no_repeat_ngram >= 0, "its no_repeat_ngram must be 0 (which is off) or more")
        is_odd = next(
            (key for key, value in WRITING.items() if getattr(self, key) != value and not self.is_written), None
        )
        _require(is_odd is None, f"{is_odd} is for texts that are written, which {self.metric} does not measure")
        _require(
            not self.is_written or self.max_new_tokens < self.max_length,
            f"max_new_tokens ({self.max_new_tokens}) are of the max_length ({self.max_length}) and must leave room for the prompt",
        )
        _require(
            is_pinned(self.data) is not False or self.sha256 is not None,
            f"{self.data} must be pinned to a commit, so that its items stay what they are: write "
            f"org/name@<40 hexadecimal digits>, and :config after them where there is more than one; or say the `sha256` "
            "of its items",
        )

    def _require_harness(self) -> None:
        _require(self.is_generated, f"tasks of lm-evaluation-harness are for decoders: write `task: {TEXT_GENERATION}`")
        _require(self.harness_version, "harness_version is missing: numbers of two releases are not the same")
        _require(self.items in ACCESSES, f"its items are {self.items!r} and must be one of {', '.join(ACCESSES)}")
        _require(self.sha256 is None or _SHA256.fullmatch(self.sha256), "its sha256 must be sha256: and 64 digits")
        for key, least in (("limit", 1), ("batch_size", 1), ("max_length", 1), ("num_fewshot", 0)):
            value = getattr(self, key)
            _require(value is None or value >= least, f"its {key} must be {least} or more")
        _require(
            not self.chat, "a task of lm-evaluation-harness is asked in the base's template by `chat_template: true`"
        )
        _require(
            self.chat_template or not self.fewshot_as_multiturn,
            "fewshot_as_multiturn makes turns of a conversation: write `chat_template: true` too",
        )
        if self.fewshot_as_multiturn is None:
            object.__setattr__(self, "fewshot_as_multiturn", self.chat_template)
        odd = next((key for key in _NOT_OF_HARNESS if getattr(self, key) != _default(key)), None)
        _require(odd is None, f"{odd} is the task's own: leave it out (and `measure` names the metric that ranks)")

    @property
    def is_labelled(self) -> bool:
        return self.task in (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION)

    @property
    def is_generated(self) -> bool:
        return self.task == TEXT_GENERATION

    @property
    def family(self) -> str | None:
        """What its metrics are of, where a decoder answers: see `hub.worker.generating`."""
        if self.harness is not None:
            return "harness"
        return generating.FAMILY_OF[self.metric] if self.is_generated else None

    @property
    def is_written(self) -> bool:
        """Whether texts are written."""
        return self.family in generating.WRITTEN

    @property
    def answer_columns(self) -> str | None:
        """The column or columns of what is right, as it says or as its family has them."""
        return self.label or generating.COLUMNS.get(self.family or "")

    @property
    def is_of_items(self) -> bool:
        """Whether its data are known by the digest of the items: those of a set of Hugging Face's, or a copy of it."""
        return self.sha256 is not None and is_pinned(self.data) is not None

    @property
    def is_local(self) -> bool:
        """Whether its data are files of the user's, which have no revision but their sha256."""
        return Path(self.data).exists()


def _default(key: str) -> object:
    return next(each.default for each in fields(SuiteFile) if each.name == key)


def read_suite(path: Path) -> SuiteFile:
    """The suite in a YAML file; the data it names is not read yet. Raises SuiteError."""
    import yaml

    try:
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    try:
        return _parse(stated, path.parent)
    except SuiteError as error:
        raise SuiteError(f"{path}: {error}") from error


def suite_paths(given: Iterable[Path]) -> list[Path]:
    """The suite files among `given`, those of a folder by name. Raises SuiteError for a folder without one."""
    found: list[Path] = []
    for path in given:
        files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]
        if not files:
            raise SuiteError(f"The folder {path} has no suite file (*.yaml): put one there, or name one.")
        found += files
    return found


def _parse(stated: object, beside: Path) -> SuiteFile:
    if not isinstance(stated, dict):
        raise SuiteError("a suite file is a list of keys and values, such as `name: acme/tickets`.")
    known = {each.name: str(each.type) for each in fields(SuiteFile) if each.name != "folder"}
    for key, value in stated.items():
        _require(key in known, f"the key {key!r} is unknown; there are {', '.join(known)}")
        _require(_fits(value, known[key]), f"{key} is {value!r}, which is not {_WORDS[known[key].split(' |')[0]]}")
    for key in ("name", "title", "task", "data"):
        _require(key in stated, f"the key {key} is missing")
    values: dict[str, Any] = dict(stated)
    for key in values.keys() & {"labels", "also"}:
        values[key] = tuple(values[key])
    if "harness" in values:
        odd = next((key for key in ("metric", "also") if key in values), None)
        _require(odd is None, f"{odd} is the task's own: leave it out (and `measure` names the metric that ranks)")
        values = {"max_length": harness.MAX_LENGTH, **values}
    near = beside / Path(values["data"]).expanduser()
    return SuiteFile(**values | ({"data": str(near)} if near.exists() else {}))


_WORDS = {
    "str": "text (put it in quotes)",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
}


def _fits(value: object, annotation: str) -> bool:
    if annotation.startswith("tuple"):
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if annotation.startswith("int"):
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation.startswith("bool"):
        return isinstance(value, bool)
    if annotation == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, str)


def _require(holds: object, what: str) -> None:
    if not holds:
        raise SuiteError(f"{what}.")
