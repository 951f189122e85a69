"""One cell: trained with the project's own engine in a process that keeps its bases and sets loaded."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.results import places, prompting
from tests.benchmarks.results.experiments import Cell, Model, Prompting, Task
from tests.benchmarks.results.kept import Kept, Result, facts_of
from vera.errors import VeraError

TEXTS = "texts.json"  # what was written, beside an adapter
CHECKED_ITEMS = 256  # of a held-out set of texts, whose loss a CPU can compute again

_QUIET = {
    "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Batches are of many lengths: what is kept for each of them was half as much again as what is used.
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
}  # fmt: skip


def set_up(threads: int) -> None:
    """Before anything else in a process of its own."""
    os.environ.update(_QUIET)
    import torch
    from transformers.utils import logging

    torch.set_num_threads(threads)
    # Deterministic training would also fill every fresh tensor with NaN before it is written: 1.6 times the time per step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*deterministic.*")  # vera.nn.training.loop asks for a warning only


@dataclass
class Bench:
    """The sets this process has loaded, and one base: a second would count as memory of the training."""

    device: str
    bases: dict[tuple[str, bool], Any] = field(default_factory=dict)
    splits: dict[str, Any] = field(default_factory=dict)

    def base(self, model: Model, *, generates: bool) -> Any:
        from vera.fingerprint import of_files
        from vera.nn.experiment import Base

        if (model.key, generates) not in self.bases:
            self.bases.clear()
            folder = places.folder_of(model)
            live = _open(folder, model, self.device, generates=generates).eval()
            base = Base(live, of_files(folder), model.id, quantization=model.quantization)
            self.bases[model.key, generates] = base
        return self.bases[model.key, generates]

    def split(self, task: Task) -> Any:
        if task.key not in self.splits:
            self.splits[task.key] = places.split_of(task)
        return self.splits[task.key]

    def score(self, cell: Cell, folder: Path) -> float:
        """What the adapter in `folder` scores on the held-out set (of texts to generate: on its first items) by the task's
        metric, loaded and proven as anyone would load it."""
        from vera.archive import read_folder
        from vera.data import TEXT_GENERATION
        from vera.nn.attach import attach
        from vera.nn.training.generation import Generation
        from vera.nn.training.tasks import Classes

        split = self.split(cell.task)
        generates = split.task == TEXT_GENERATION
        base = self.base(cell.model, generates=generates)
        is_quantised = base.quantization is not None
        loaded = attach(base.model, read_folder(folder), base.fingerprint, is_loaded_from_base=is_quantised)
        if generates:
            first = split.heldout.take(range(min(CHECKED_ITEMS, len(split.heldout))))
            return Generation(base.model, cell.recipe).score(first)[cell.task.metric]
        encoded = loaded.encode(
            split.heldout.images or split.heldout.texts, *([split.heldout.pairs] if split.heldout.pairs else [])
        )
        scored = Classes(split.labels).score(loaded.outputs(encoded), split.heldout)
        return scored[cell.task.metric]


_BENCHES: dict[str, Bench] = {}


def train(cell: Cell, folder: Path, device: str, at_once: int) -> Result:
    """Train `cell` and keep it under `folder`. A training that diverged is a result too."""
    bench = _BENCHES.setdefault(device, Bench(device))
    try:
        result, files = _trained(cell, bench)
    except VeraError as error:
        if error.code != "TRAINING_DIVERGED":
            raise
        result, files = {"failed": str(error)}, {}
    whole = {
        "experiment": cell.experiment, "cell": cell.path, "metric": cell.task.metric, **facts_of(cell),
        "device": _device_name(device), "at_once": at_once, **_reading(cell, bench), **result,
    }  # fmt: skip
    Kept(folder).keep(cell, whole, files)
    return whole


def _reading(cell: Cell, bench: Bench) -> Result:
    """How the base's tokenizer reads prompts and ends texts, by its hash: the files beside the same weights may be others."""
    from vera import canonical_json
    from vera.data import TEXT_GENERATION
    from vera.nn import inputs, tokenized

    if bench.split(cell.task).task != TEXT_GENERATION:
        return {}
    model = bench.base(cell.model, generates=True).model
    record = tokenized.record_of(inputs.tokenizer_of(model), generates=True, chat=True)
    said = asdict(record)
    del said["words"]  # which the results of before have not
    return {"tokenizer": hashlib.sha256(canonical_json.dumps(said)).hexdigest()}


def _trained(cell: Cell, bench: Bench) -> tuple[Result, dict[str, bytes]]:
    from vera.data import IMAGE_CLASSIFICATION, TEXT_GENERATION
    from vera.nn import experiment

    split = bench.split(cell.task)
    base = bench.base(cell.model, generates=split.task == TEXT_GENERATION)
    if isinstance(cell.recipe, Prompting):
        return prompting.asked(cell, base.model, base.fingerprint.value, split)
    # Decoding a set of images takes longer than an epoch, and a loss of 4,693 texts a quarter of one.
    watches = not cell.is_try and split.task not in (IMAGE_CLASSIFICATION, TEXT_GENERATION)
    choices = experiment.Choices(targets=cell.targets, baselines=False, watch_heldout=watches)
    name = f"{cell.model.key}-{cell.task.key}-{cell.method.key}"
    seen: dict[str, Any] = {}
    examine = partial(_look, cell, split, seen) if split.task == TEXT_GENERATION and not cell.is_try else None
    outcome = experiment.run(name, base, split, cell.recipe, choices, examine=examine)
    result = {
        "base": base.fingerprint.value,
        "epochs": [{"epoch": epoch.number, "loss": epoch.loss, **epoch.scores} for epoch in outcome.epochs],
        "parameters": outcome.parameters,
        "head_parameters": outcome.head_parameters,
        "cost": asdict(outcome.cost),
    }
    if cell.is_try:  # what it scores on the held-out set is nobody's business yet
        return result, {}
    archived = dict(outcome.archive.files) if outcome.archive else {}
    weights = {"weights": asdict(outcome.archive.manifest.weights)} if outcome.archive else {}
    result |= {"scores": outcome.scores.to_dict(), "heldout_digest": split.heldout_digest, **weights}
    texts = {TEXTS: json.dumps(seen.pop("texts"), indent=0).encode()} if seen else {}
    return result | seen, {**archived, **outcome.files, **texts}


def _look(cell: Cell, split: Any, seen: dict[str, Any], model: Any) -> None:
    """What the trained model says of the first held-out items, and what it writes."""
    from vera.nn.training.generation import Generation

    first = split.heldout.take(range(min(CHECKED_ITEMS, len(split.heldout))))
    seen["checked"] = {"items": len(first), **Generation(model, cell.recipe).score(first)}
    if cell.task.writes:
        seen["texts"] = prompting.texts_of(model, cell.task.writes, cell.recipe)


def _open(folder: Path, model: Model, device: str, *, generates: bool) -> Any:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    from vera.nn.quantising import configuration

    kind = AutoModelForCausalLM if generates else AutoModel
    if model.quantization is None:
        return kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True).to(device)
    held = configuration(model.quantization)
    return kind.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=held, device_map=device, local_files_only=True
    )


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
