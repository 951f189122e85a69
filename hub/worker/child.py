"""The child process that runs adapters: a base kept warm, no token, no network, no answers.

It reads one JSON request per line and writes one JSON reply per line. A crash, an endless loop or
a memory blow-up ends this process and nothing else.

    request  {"base": {"path", "fingerprint", "tensors": [[name, dtype, shape, sha256], …]},
              "adapter": folder, "batch_size": n, "asked": {"task", …}}
    reply    {"outputs": [text, …], "environment": {…}}  or  {"error": {"code", "detail"}}

task                  what is asked beside it                                   an output
text-classification   "texts", "pairs" (or null)                                the label
text-regression       "texts", "pairs" (or null)                                the number
image-classification  "images": [path, …]                                       the label
text-generation       "texts", "completions", "max_length", "separator"         the completion's nats and tokens, "12.5 7"
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vera import __version__
from vera.data import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION
from vera.errors import VeraError

if TYPE_CHECKING:
    from vera.manifest import Manifest


class Evaluator:
    """Answers requests, keeping the last base loaded and proven."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[object, ...], Any] | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            outputs = self._run(request)
        except VeraError as error:
            return {"error": {"code": error.code, "detail": str(error)}}
        return {"outputs": outputs, "environment": environment()}

    def _run(self, request: dict[str, Any]) -> list[str]:
        from vera.archive import read_folder
        from vera.fingerprint import BaseFingerprint
        from vera.nn.attach import attach

        archive = read_folder(Path(request["adapter"]))
        base = BaseFingerprint.from_rows(request["base"]["tensors"])
        model = attach(self._base(request["base"]["path"], archive.manifest), archive, base)
        try:
            return answers(model, request["asked"], request["batch_size"])
        finally:
            model.vera.bank.detach()

    def _base(self, path: str, manifest: Manifest) -> Any:
        from vera.nn.opening import open_base, outputs_of_own_head

        task = manifest.task
        key = (path, outputs_of_own_head(manifest), task and task.pooling, task and task.kind)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, open_base(Path(path), manifest))
        return self._loaded[1]


def answers(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    """What the adapted `model` answers to each item. Raises VeraError (TASK_MISMATCH) when it answers something else."""
    task = asked["task"]
    kind = _kind_of(model)
    if kind != task:
        raise VeraError(
            f"The suite is {task}, and this adapter on its base is for {kind}: it cannot answer.", code="TASK_MISMATCH"
        )
    if task == TEXT_GENERATION:
        return _likelihoods(model, asked, batch_size)
    if task == TEXT_REGRESSION:
        return [repr(value) for value in model.predict(asked["texts"], asked["pairs"], batch_size=batch_size)]
    inputs = [asked["images"]] if task == IMAGE_CLASSIFICATION else [asked["texts"], asked["pairs"]]
    labels: list[str] = model.classify(*inputs, batch_size=batch_size)
    return labels


def _kind_of(model: Any) -> str:
    from vera.nn.heads import ImageClassifier, PooledClassifier, PooledRegressor
    from vera.nn.sequences import SequenceClassifier, SequenceRegressor

    if isinstance(model, ImageClassifier):
        return IMAGE_CLASSIFICATION
    if isinstance(model, PooledRegressor | SequenceRegressor):
        return TEXT_REGRESSION
    if isinstance(model, PooledClassifier | SequenceClassifier):
        return TEXT_CLASSIFICATION
    generates = hasattr(model, "get_output_embeddings") and model.get_output_embeddings() is not None
    return TEXT_GENERATION if generates else "no task of these"


def _likelihoods(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    from vera.data import Examples
    from vera.nn.training.generation import Generation
    from vera.nn.training.recipe import Recipe

    recipe = Recipe(batch_size=batch_size, max_length=asked["max_length"], separator=asked["separator"])
    examples = Examples(tuple(asked["texts"]), tuple(asked["completions"]))
    return [f"{nats!r} {tokens}" for nats, tokens in Generation(model, recipe).likelihoods(examples)]


def environment() -> dict[str, Any]:
    """What a score was computed with."""
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "vera-hub": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": torch.get_num_threads(),
        "dtype": "float32",
    }


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer every request until the parent closes the pipe."""
    evaluator = Evaluator()
    for line in requests:
        replies.write(json.dumps(evaluator.answer(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    # Libraries print to stdout; the replies have a descriptor of their own.
    reply_pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, reply_pipe)
