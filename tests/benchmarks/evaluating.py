"""`make bench-eval`: many adapters of one base scored on one task, together and one by one, beside PEFT.

MiniLM with query and value adapted at rank 256, random vectors, over the held-out texts of the demo. The base is warm on both
sides. Loading an adapter counts: ours proves the base and the matrices, PEFT proves nothing. PEFT scores batches of 32 in the order
of the texts, as its examples do.

`--suite glue/sst2 --datasets FOLDER` for a task of GLUE, `--adapters` for another number, `--from-layer 4` for adapters of the last
two layers only, `--device cpu` where there is a GPU, `--json` for the numbers. On a processor the time that it worked stands beside
the time on the wall: it says more on a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hub.worker import suites
from hub.worker.child import Evaluator
from hub.worker.suite import Suite
from tests.benchmarks.measuring import Row, print_table
from tests.benchmarks.results.experiments import HERE, read
from tests.benchmarks.results.places import folder_of
from vera import archive, fingerprint
from vera.archive import Vectors, pack, seal
from vera.data import TEXT_CLASSIFICATION, Questions
from vera.manifest import AdaptedModule, BaseIdentity, Manifest, Task
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, rebuild

LAYERS, WIDTH, RANK, BATCH_SIZE, MAX_LENGTH = 6, 384, 256, 32, 128


@dataclass(frozen=True)
class Taken:
    """Seconds of each adapter, on the wall and of the processor, and what was answered."""

    wall: float
    processor: float
    found: list[Any]


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.evaluating")
    parser.add_argument("--adapters", type=int, default=64)
    parser.add_argument("--from-layer", type=int, default=0, choices=range(LAYERS), help="the first that is adapted")
    parser.add_argument("--suite", default="demo/topics", help="a built-in suite of texts with labels")
    parser.add_argument("--datasets", type=Path, help="a folder with copies of data sets, as for `vera-hub worker`")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="a GPU where there is one, otherwise")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(given)
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for one
    elif arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here: leave out --device cuda, or see `vera-hub doctor`.")
    warnings.simplefilter("ignore")
    (model,) = (m for m in read(HERE / "glue.yaml").models if m.key == "minilm")
    suite = suites.named([arguments.suite], datasets=arguments.datasets)[arguments.suite]
    if suite.stated.task != TEXT_CLASSIFICATION:
        parser.error(f"{suite.name} is {suite.stated.task}: take a suite of texts with labels.")
    rows = list(measured(folder_of(model), suite, arguments.adapters, from_layer=arguments.from_layer))
    print_table(rows, as_json=arguments.json)


def measured(base: Path, suite: Suite, adapters: int, *, from_layer: int = 0) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        questions, place = suite.questions, Path(scratch)
        folders = list(_made(base, questions.labels, adapters, place, from_layer))
        table = fingerprint.of_files(base)
        request = {
            "base": {"path": str(base), "fingerprint": table.value, "tensors": table.to_rows(), "digests": None},
            "asked": suite.request(place),
            "batch_size": BATCH_SIZE,
        }
        evaluator = Evaluator()

        def answered(some: list[str]) -> list[Any]:
            return list(evaluator.answer({**request, "adapters": some})["replies"])

        answered(folders[:1])  # the base is warm, as in a worker
        _with_peft(base, folders[0], questions)
        together = _taken(lambda: answered(folders), adapters)
        few = folders[: max(1, adapters // 8)]
        alone = _taken(lambda: [answered([each])[0] for each in few], len(few))
        for one, other in zip(alone.found, together.found, strict=False):
            assert one["outputs"] == other["outputs"], "together and alone differ"
        theirs = _taken(lambda: [_with_peft(base, each, questions) for each in few], len(few))
        agree = np.mean(
            [
                a == b
                for one, other in zip(alone.found, theirs.found, strict=True)
                for a, b in zip(one["outputs"], other, strict=True)
            ]
        )
        print(f"{len(few)} adapters answer as with PEFT in {agree:.2%} of {len(questions)} texts", file=sys.stderr)
        what = f"of {adapters} on {len(questions)} texts of {suite.name}"
        for ours, how in ((together, f"{together.found[0]['together']} in a batch"), (alone, "one by one")):
            yield Row(f"an adapter {what}, {how}", "s", ours.wall, theirs.wall)
            if not torch.cuda.is_available():
                yield Row("the same, of the processor", "s", ours.processor, theirs.processor)


def _taken(run: Callable[[], list[Any]], adapters: int) -> Taken:
    began, worked = time.perf_counter(), time.process_time()
    found = run()
    return Taken((time.perf_counter() - began) / adapters, (time.process_time() - worked) / adapters, found)


def _made(base: Path, labels: tuple[str, ...], adapters: int, scratch: Path, from_layer: int) -> Iterator[str]:
    """Adapter folders with random vectors and heads over one pair of matrices, and what PEFT reads beside them."""
    table = fingerprint.of_files(base)
    names = [
        f"encoder.layer.{n}.attention.self.{name}" for n in range(from_layer, LAYERS) for name in ("query", "value")
    ]
    modules = tuple(AdaptedModule(name, WIDTH, WIDTH) for name in sorted(names))
    recipe = ProjectionRecipe(PEFT_MT19937, 0, RANK, WIDTH, WIDTH)
    digest = digest_of(rebuild(recipe))
    for seed in range(adapters):
        rng = np.random.default_rng(seed)
        vectors = Vectors(
            {m.name: rng.normal(size=WIDTH).astype(np.float32) for m in modules},
            {m.name: rng.normal(size=RANK).astype(np.float32) for m in modules},
            {
                "classifier.weight": rng.normal(size=(len(labels), WIDTH)).astype(np.float32),
                "classifier.bias": np.zeros(len(labels), np.float32),
            },
        )
        data, weights, head = pack(vectors)
        manifest = Manifest(
            BaseIdentity("sentence-transformers/all-MiniLM-L6-v2", table.value, table.dtype), recipe, digest, modules, weights,
            head=head, task=Task(TEXT_CLASSIFICATION, tuple(labels), "mean", MAX_LENGTH),
        )  # fmt: skip
        folder = scratch / str(seed)
        archive.write_folder(seal(manifest, data, "# Bench\n"), folder)
        yield str(folder)


def _with_peft(base: Path, folder: str, questions: Questions) -> list[str]:
    """The labels, as somebody with PEFT and transformers would have them."""
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (base, device) not in _WARM:
        _WARM[base, device] = AutoModel.from_pretrained(base).to(device).eval(), AutoTokenizer.from_pretrained(base)
    model, tokenizer = _WARM[base, device]
    adapted = PeftModel.from_pretrained(model, folder)
    weights = load_file(Path(folder) / archive.WEIGHTS_FILE, device=device)
    weight = next(tensor for name, tensor in weights.items() if name.endswith("classifier.weight"))
    texts, pairs, labels = questions.examples.texts, questions.examples.pairs, []
    with torch.inference_mode():
        for at in range(0, len(texts), BATCH_SIZE):
            batch = tokenizer(
                list(texts[at : at + BATCH_SIZE]),
                list(pairs[at : at + BATCH_SIZE]) if pairs else None,
                padding=True,
                truncation=True,
                max_length=MAX_LENGTH,
                return_tensors="pt",
            ).to(device)
            hidden, mask = adapted(**batch).last_hidden_state, batch["attention_mask"][..., None]
            logits = (hidden * mask).sum(1) / mask.sum(1) @ weight.T
            labels += [questions.labels[int(place)] for place in logits.argmax(-1)]
    _WARM[base, device] = adapted.unload(), tokenizer
    return labels


_WARM: dict[Any, Any] = {}


if __name__ == "__main__":
    main()
