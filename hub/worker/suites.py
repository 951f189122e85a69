"""The suites this worker can run: those that are built in and those that files say, with their data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from hub.worker import generating, harness
from hub.worker.e2e import E2E
from hub.worker.errors import NotComputed, SuiteError
from hub.worker.glue import GLUE
from hub.worker.suite import Suite
from hub.worker.suite_files import SuiteFile, read_suite, suite_paths
from vera.data import TEXT_CLASSIFICATION, TEXT_GENERATION, Questions, load_questions
from vera.data.examples import Examples, Source
from vera.data.huggingface import Endpoint
from vera.data.sources import BUILT_IN
from vera.errors import DataError

_log = structlog.get_logger("worker")

BUILT_IN_SUITES = (
    SuiteFile(
        name="demo/topics", title="Which topic does a line of small talk belong to?", task=TEXT_CLASSIFICATION,
        data="demo/topics",
    ),
    SuiteFile(
        name="instruct/ifeval", title="Does it do what the prompt says?", task=TEXT_GENERATION,
        data="google/IFEval@966cd89545d6b6acfd7638bc708b98261ca58e84", folder="instruct/ifeval", text="prompt",
        metric="ifeval", also=("ifeval_loose", "ifeval_instructions", "ifeval_instructions_loose"), separator="",
        chat=True, max_new_tokens=1280, max_length=2048,
    ),
    E2E,
    *GLUE,
)  # fmt: skip


def load_suite(
    stated: SuiteFile, *, datasets: Path | None = None, offline: bool = False, endpoint: Endpoint | None = None
) -> Suite:
    """The suite with its items. A copy of its data below the folder `datasets` goes before Hugging Face, which is
    asked at `endpoint`, unless `offline`, for what is not in its cache.

    Raises DataError when the data is not to be had, SuiteError when it is not what the suite says, and NotComputed when
    this machine cannot compute the metric that ranks.
    """
    if stated.harness is not None:
        return _harnessed(stated)
    if stated.is_generated:
        generating.require(stated.metric)
    questions = _questions(stated, datasets=datasets, offline=offline, endpoint=endpoint)
    if stated.is_local:
        _check_files(stated, questions)
    elif stated.is_of_items:
        _check_digest(stated, questions.digest, f"the items of {questions.name}")
    if stated.positive is not None and stated.positive not in questions.labels:
        raise SuiteError(
            f"{stated.name}: positive is {stated.positive!r}, which is none of the labels {', '.join(questions.labels)}."
        )
    suite = Suite(stated, questions)
    suite.asked  # noqa: B018  # raises
    return suite


def _harnessed(stated: SuiteFile) -> Suite:
    """Of a task of lm-evaluation-harness, which has its own metrics. Raises SuiteError and NotComputed."""
    items = harness.load(stated)
    _check_digest(stated, items.digest, f"the items of {stated.harness}")
    ranking, *beside = items.metrics
    source = Source(f"lm-eval:{stated.harness}")
    examples = Examples(tuple(items.prompts), tuple(items.answers))
    questions = Questions(stated.name, stated.task, (), examples, source)
    return Suite(replace(stated, metric=ranking, also=tuple(beside)), questions, harnessed=items)


def _questions(stated: SuiteFile, *, datasets: Path | None, offline: bool, endpoint: Endpoint | None) -> Questions:
    copy = datasets / stated.folder if datasets is not None and stated.folder else None
    read = partial(
        load_questions, task=stated.task, split=stated.split, text=stated.text, label=stated.answer_columns,
        image=stated.image, labels=stated.labels, limit=stated.limit,
    )  # fmt: skip
    if copy is not None and copy.is_dir():
        return read(str(copy))
    if offline or stated.is_local:
        return read(stated.data, offline=offline)
    try:
        return read(stated.data, offline=True)  # by its commit or its items it is known for what it is
    except DataError:
        pass
    try:
        return read(stated.data, endpoint=endpoint)
    except DataError as error:
        if stated.folder is None:
            raise
        raise DataError(f"{error} A copy of it in FOLDER/{stated.folder} is read with `--datasets FOLDER`.") from error


def named(
    given: Iterable[str], *, datasets: Path | None = None, endpoint: Endpoint | None = None
) -> Mapping[str, Suite]:
    """The suites in files and folders and those that are built in, by name, their data from `endpoint` where it is not
    here. Raises SuiteError, NotComputed and DataError, which says the two ways to get the data."""
    return {name: load_suite(stated, datasets=datasets, endpoint=endpoint) for name, stated in _stated(given).items()}


@dataclass(frozen=True)
class Runnable:
    """The suites that a machine can run, and what it lacks: of suites by their names, the metrics it cannot compute and why.
    One that is ranked by such a metric is not among the suites."""

    suites: Mapping[str, Suite]
    lacks: Mapping[str, Mapping[str, str]]


def runnable(given: Iterable[str], *, datasets: Path | None = None, endpoint: Endpoint | None = None) -> Runnable:
    """What this machine can run of the suites that `named` would give. Raises as that, and NotComputed only when it can run none."""
    found: dict[str, Suite] = {}
    lacks: dict[str, Mapping[str, str]] = {}
    refused: list[NotComputed] = []
    for name, stated in _stated(given).items():
        try:
            found[name] = load_suite(stated, datasets=datasets, endpoint=endpoint)
        except NotComputed as error:
            refused.append(error)
            lacks[name] = {stated.metric: str(error)}
    if refused and not found:
        raise refused[0]
    return Runnable(found, lacks | _lacks(found))


def _stated(given: Iterable[str]) -> dict[str, SuiteFile]:
    known = {stated.name: stated for stated in BUILT_IN_SUITES}
    given = list(given)
    asked = [known[each] for each in given if each in known]
    asked += [read_suite(path) for path in suite_paths(Path(each) for each in given if each not in known)]
    found: dict[str, SuiteFile] = {}
    for stated in asked:
        if stated.name in found:
            raise SuiteError(f"Two suites are called {stated.name}: rename one of them.")
        found[stated.name] = stated
    return found


def available(datasets: Path | None = None) -> Runnable:
    """The built-in suites whose data is on this machine."""
    found = {}
    for stated in BUILT_IN_SUITES:
        try:
            found[stated.name] = load_suite(stated, datasets=datasets, offline=True)
        except (DataError, NotComputed):
            continue
        except SuiteError as error:  # a copy of something else lies there
            _log.warning("suite_left_out", suite=stated.name, detail=str(error))
    return Runnable(found, _lacks(found))


def _lacks(found: Mapping[str, Suite]) -> dict[str, Mapping[str, str]]:
    return {name: missing for name, each in found.items() if (missing := each.not_computed)}


def _check_files(stated: SuiteFile, questions: Questions) -> None:
    """Raises SuiteError unless the files have the sha256 that the suite says."""
    if stated.data not in BUILT_IN:
        _check_digest(stated, questions.files_digest, stated.data)


def _check_digest(stated: SuiteFile, got: str | None, data: str) -> None:
    if got == stated.sha256:
        return
    if stated.sha256 is None:
        raise SuiteError(f"{stated.name} does not say the sha256 of its data. Add this line: `sha256: {got}`")
    raise SuiteError(
        f"{stated.name} is over data with {stated.sha256}, and {data} has {got}: take the same data again, or change "
        "the sha256 in the suite, which begins a new leaderboard."
    )
