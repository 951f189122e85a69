"""`make bench-eval`: many adapters of one base scored on one task, together and one by one, beside PEFT.

MiniLM with query and value adapted at rank 256, random vectors, over the held-out texts of the demo. Loading counts: ours proves
the base and the matrices, PEFT proves nothing. PEFT scores batches of 32 in the order of the texts, as its examples do.
`--adapters` for another number, `--from-layer 4` for adapters of the last two layers only, `--json` for the numbers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hub.worker.child import Evaluator
from tests.benchmarks.measuring import Row, print_table
from tests.benchmarks.results.experiments import HERE, read
from tests.benchmarks.results.places import folder_of
from vera import archive, fingerprint
from vera.archive import Vectors, pack, seal
from vera.data import TEXT_CLASSIFICATION, Questions, load_questions
from vera.manifest import AdaptedModule, BaseIdentity, Manifest, Task
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, rebuild

LAYERS, WIDTH, RANK, BATCH_SIZE, MAX_LENGTH = 6, 384, 256, 32, 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.evaluating")
    parser.add_argument("--adapters", type=int, default=64)
    parser.add_argument("--from-layer", type=int, default=0, choices=range(LAYERS), help="the first that is adapted")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    (model,) = (m for m in read(HERE / "glue.yaml").models if m.key == "minilm")
    questions = load_questions("demo/topics", task=TEXT_CLASSIFICATION)
    rows = list(measured(folder_of(model), questions, arguments.adapters, from_layer=arguments.from_layer))
    print_table(rows, as_json=arguments.json)


def measured(base: Path, questions: Questions, adapters: int, *, from_layer: int = 0) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        folders = list(_made(base, questions.labels, adapters, Path(scratch), from_layer))
        table = fingerprint.of_files(base)
        request = {
            "base": {"path": str(base), "fingerprint": table.value, "tensors": table.to_rows(), "digests": None},
            "asked": {"task": TEXT_CLASSIFICATION, "texts": list(questions.examples.texts), "pairs": None},
            "batch_size": BATCH_SIZE,
        }
        evaluator = Evaluator()
        evaluator.answer({**request, "adapters": folders[:1]})  # the base is warm, as in a worker
        together, answers = _seconds_each(
            lambda: evaluator.answer({**request, "adapters": folders})["replies"], adapters
        )
        few = folders[: max(1, adapters // 8)]
        alone, same = _seconds_each(
            lambda: [evaluator.answer({**request, "adapters": [each]})["replies"][0] for each in few], len(few)
        )
        for one, other in zip(same, answers, strict=False):
            assert one["outputs"] == other["outputs"], "together and alone differ"
        theirs, said = _seconds_each(lambda: [_with_peft(base, each, questions) for each in few], len(few))
        agree = np.mean(
            [a == b for one, other in zip(same, said, strict=True) for a, b in zip(one["outputs"], other, strict=True)]
        )
        print(f"{len(few)} adapters answer as with PEFT in {agree:.2%} of {len(questions)} texts", file=sys.stderr)
        what = f"of {adapters} on {len(questions)} texts"
        yield Row(f"an adapter {what}, {answers[0]['together']} in a batch", "s", together, theirs)
        yield Row(f"an adapter {what}, one by one", "s", alone, theirs)


def _seconds_each(run: Any, adapters: int) -> tuple[float, list[Any]]:
    began = time.perf_counter()
    found = run()
    return (time.perf_counter() - began) / adapters, found


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
    texts, labels = questions.examples.texts, []
    with torch.inference_mode():
        for at in range(0, len(texts), BATCH_SIZE):
            batch = tokenizer(
                list(texts[at : at + BATCH_SIZE]),
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
