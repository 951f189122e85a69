"""The child process that runs adapters: a base kept warm, no token, no network, no answers.

It reads one JSON request per line and writes one JSON reply per line. A crash, an endless loop or
a memory blow-up ends this process and nothing else.

    request  {"base": {"path", "fingerprint", "tensors": [[name, dtype, shape, sha256], …], "digests": the file of what
                       this machine knows of the bytes on its GPUs, or null},
              "adapters": [folder, …], "batch_size": n, "asked": {"task", …}}
    meanwhile {"done": [n, …], "of": n}, a line now and then: rows that each adapter has answered, and how many there are
    reply    {"replies": [{"outputs": [text, …], "together": n, "batch_size": n, "again": {"outputs", "batch_size"}}
                          or  {"error": {"code", "detail"}}, …], "environment": {…}}

`together` is how many adapters shared the batches of an answer, `batch_size` how many items each had: fewer than asked where
memory ran short. `again` is what the first rows are answered in another layout; one adapter of a request has it. How many
rows those are is "sample" in what is asked, beside the task (32, where it says nothing).

task                  what is asked beside it                                   an output
text-classification   "texts", "pairs" (or null)                                the label
text-regression       "texts", "pairs" (or null)                                the number
image-classification  "images": [path, …]                                       the label
text-generation       "texts", "completions", "max_length", "separator"         the completion's nats and tokens, "12.5 7"
                      "conversations", "writing", "max_length"                  what is written after each turn, in JSON
                      "texts", "continuations", "max_length"                    its nats and tokens, without one that ends it
                      "texts", "writing", "max_length", "separator", "chat"     the text that is written
                      "harness": [[kind, argument, …], …], "max_length"         lm-evaluation-harness's response, in JSON; a
                                                                                prompt may be a conversation, with "messages"
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hub.worker.layouts import again, give_back_memory, is_short_of_memory, no_memory, within_memory
from hub.worker.progress import Progress, now_and_then
from hub.worker.runner import Tell, nobody
from vera import __version__
from vera.data import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION
from vera.ending import end_at_once
from vera.errors import VeraError

if TYPE_CHECKING:
    from vera.archive import Archive
    from vera.fingerprint import BaseFingerprint
    from vera.manifest import Manifest
    from vera.nn.attach import Attached

# Rows of a mixed batch, items times adapters: a GPU is idle with fewer, and a processor gains nothing from more.
_ROWS_ON_GPU, _ROWS_ON_CPU = 2048, 64
_SAMPLE = 32  # items that one adapter of a mixed batch answers again alone


class Evaluator:
    """Answers requests, keeping the last base loaded and proven."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[object, ...], Any] | None = None
        # What reads texts and images for the model that is loaded, and the last record that it agreed with.
        self._reads: dict[str, tuple[Any, Any]] = {}

    def answer(self, request: dict[str, Any], tell: Tell = nobody) -> dict[str, Any]:
        """The reply to `request`. Meanwhile `tell` hears how far it is."""
        progress = Progress(len(request["adapters"]), request["asked"], tell)
        return {"replies": self._replies(request, progress), "environment": environment()}

    def _replies(self, request: dict[str, Any], progress: Progress) -> list[dict[str, Any]]:
        """One for each adapter. Those that need the base opened alike are on it together."""
        from vera.archive import read_folder

        replies: dict[int, dict[str, Any]] = {}
        alike: dict[tuple[object, ...], list[tuple[int, Archive]]] = {}
        for number, folder in enumerate(request["adapters"]):
            try:
                archive = read_folder(Path(folder))
            except VeraError as error:
                replies[number] = _refusal(error)
            else:
                key = (_opening(request["base"]["path"], archive.manifest), _max_length(archive.manifest))
                alike.setdefault(key, []).append((number, archive))
        for members in alike.values():
            replies |= self._together(members, request, progress)
        return [replies[number] for number in range(len(request["adapters"]))]

    def _together(
        self, members: Sequence[tuple[int, Archive]], request: dict[str, Any], progress: Progress
    ) -> dict[int, dict[str, Any]]:
        from vera.fingerprint import BaseFingerprint
        from vera.nn.attach import attach, find_bank

        base, replies, models = BaseFingerprint.from_rows(request["base"]["tensors"]), {}, {}
        try:
            model = self._base(request["base"], base, members[0][1].manifest)
        except VeraError as error:
            return dict.fromkeys((number for number, _ in members), _refusal(error))
        try:
            for number, archive in members:
                try:
                    self._check_reading(model, archive.manifest)
                    adapted = attach(model, archive, base)
                except VeraError as error:
                    replies[number] = _refusal(error)
                else:
                    models[number] = adapted, adapted.vera
            return replies | answered(models, request["asked"], request["batch_size"], progress)
        finally:
            if (bank := find_bank(model)) is not None:
                bank.detach()

    def _base(self, asked: Mapping[str, Any], base: BaseFingerprint, manifest: Manifest) -> Any:
        """In float32, as every suite says, whatever it is stored in. Raises VeraError (OUT_OF_MEMORY, BASE_MISMATCH)."""
        import torch

        from vera.nn.opening import open_base

        key = _opening(asked["path"], manifest)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded, self._reads = None, {}  # there is not memory for two
            give_back_memory()
            try:
                model = open_base(Path(asked["path"]), manifest, {"dtype": torch.float32}).to(device())
            except (MemoryError, RuntimeError) as error:
                if not is_short_of_memory(error):
                    raise
                raise no_memory("the base", str(error)) from error
            if asked["digests"] is not None:
                _prove(model, base, Path(asked["digests"]))
            self._loaded = (key, model)
        return self._loaded[1]

    def _check_reading(self, model: Any, manifest: Manifest) -> None:
        """Raises BaseMismatch where the texts or images of the model are read otherwise than when the adapter was trained. What
        reads them is opened once for all adapters, and compared once with a record that several have."""
        from vera.nn.inputs import image_processor_of, tokenizer_of
        from vera.nn.processed import check_processor
        from vera.nn.tokenized import check_tokenizer

        for record, opened, check in (
            (manifest.base.tokenizer, tokenizer_of, check_tokenizer),
            (manifest.base.processor, image_processor_of, check_processor),
        ):
            if record is not None:
                reader, before = self._reads.get(opened.__name__) or (opened(model), None)
                self._reads[opened.__name__] = reader, before
                if record != before:
                    check(reader, manifest.base)
                    self._reads[opened.__name__] = reader, record


def _prove(model: Any, base: BaseFingerprint, digests: Path) -> None:
    """Proves the model that was just opened with what this machine knows already. Raises BaseMismatch."""
    from sdk.digest_books import digest_book
    from vera.nn.identity import prove_base

    with digest_book(digests) as book:
        prove_base(model, base, digests=book)


def _opening(path: str, manifest: Manifest) -> tuple[object, ...]:
    """What decides how the base is opened."""
    from vera.nn.opening import outputs_of_own_head

    task = manifest.task
    return (path, outputs_of_own_head(manifest), task and task.pooling, task and task.kind)


def _max_length(manifest: Manifest) -> int | None:
    return manifest.task.max_length if manifest.task else None


def _refusal(error: VeraError) -> dict[str, Any]:
    return {"error": {"code": error.code, "detail": str(error)}}


def answered(
    attached: Mapping[int, tuple[Any, Attached]], asked: dict[str, Any], batch_size: int, progress: Progress
) -> dict[int, dict[str, Any]]:
    """The reply of each adapted model, by its number. Models with heads of one kind answer in one mixed batch, unless that
    needs more memory than there is, or gives a sample of them other answers than each gives alone."""
    replies: dict[int, dict[str, Any]] = {}
    models = {number: model for number, (model, _) in attached.items()}
    if len(models) > 1 and all(_is_pooled(model, asked["task"]) for model in models.values()):
        numbers = list(models)
        for at in range(0, len(numbers), _most_together(batch_size)):
            some = numbers[at : at + _most_together(batch_size)]
            with progress.of(some):
                outputs = _mixed([models[number] for number in some], asked, batch_size)
            if outputs is not None:
                facts = {"together": len(some), "batch_size": batch_size}
                replies |= {n: {"outputs": o, **facts} for n, o in zip(some, outputs, strict=True)}
    for number in models.keys() - replies.keys():
        adapter = attached[number][1]
        adapter.bank.ensure_active(adapter.name)
        replies[number] = _alone(models[number], asked, batch_size, partial(progress.of, [number]))
    _answer_again(attached, replies, asked)
    return replies


def _alone(
    model: Any, asked: dict[str, Any], batch_size: int, counted: Callable[[], AbstractContextManager[None]]
) -> dict[str, Any]:
    def answer(size: int) -> list[str]:
        with counted():
            return answers(model, asked, size)

    try:
        outputs, used = within_memory(answer, batch_size)
    except VeraError as error:
        return _refusal(error)
    return {"outputs": outputs, "together": 1, "batch_size": used}


def _answer_again(
    attached: Mapping[int, tuple[Any, Attached]], replies: dict[int, dict[str, Any]], asked: dict[str, Any]
) -> None:
    """Adds to one of the replies, if there is one, what a sample is answered in another layout: how much hangs on that is
    the device's doing, and not the adapter's."""
    number = next((each for each in sorted(replies) if "outputs" in replies[each]), None)
    if number is None or asked.get("sample") == 0:
        return
    model, adapter = attached[number]
    adapter.bank.ensure_active(adapter.name)
    try:
        replies[number]["again"] = again(
            lambda some, size: answers(model, some, size), asked, replies[number]["batch_size"]
        )
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise


def _most_together(batch_size: int) -> int:
    return max(1, (_ROWS_ON_GPU if device() == "cuda" else _ROWS_ON_CPU) // batch_size)


def _is_pooled(model: Any, task: str) -> bool:
    from vera.nn.heads import PooledHead

    return isinstance(model, PooledHead) and _kind_of(model) == task


def _mixed(models: Sequence[Any], asked: dict[str, Any], batch_size: int) -> list[list[str]] | None:
    """The outputs of each model; None where they cannot be had together."""
    from vera.nn.heads import outputs_of_many
    from vera.nn.inputs import telling

    inputs = [asked["images"]] if asked["task"] == IMAGE_CLASSIFICATION else [asked["texts"], asked["pairs"]]
    try:
        items = models[0].encode(*inputs)
        many = outputs_of_many(models, items, batch_size=batch_size)
        with telling(None):
            sample = models[-1].outputs(items[:_SAMPLE], batch_size=batch_size)
        outputs = [_said(model, values, asked["task"]) for model, values in zip(models, many, strict=True)]
        is_same = _said(models[-1], sample, asked["task"]) == outputs[-1][:_SAMPLE]
    except (MemoryError, RuntimeError, VeraError):
        # For want of memory, of a tokenizer, of rows within the base (XLNet), of numbers: it is said when each answers alone, if it is so then.
        return None
    return outputs if is_same else None


def _said(model: Any, values: Any, task: str) -> list[str]:
    """What a head's `values` (items, outputs) are as answers. Raises VeraError (OUTPUT_NONFINITE)."""
    from vera.nn.outputs import classes_of, values_of

    if task == TEXT_REGRESSION:
        return [repr(value) for value in values_of(values)]
    return [model.labels[place] for place in classes_of(values)]


def answers(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    """What the adapted `model` answers to each item. Raises VeraError (TASK_MISMATCH) when it answers something else."""
    task = asked["task"]
    kind = _kind_of(model)
    if kind != task:
        raise VeraError(
            f"The suite is {task}, and this adapter on its base is for {kind}: it cannot answer.", code="TASK_MISMATCH"
        )
    if task == TEXT_GENERATION:
        return _generated(model, asked, batch_size)
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


def _generated(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    if "harness" in asked:
        from hub.worker.harness_model import responses

        return responses(model, asked["harness"], batch_size=batch_size, max_length=asked["max_length"])
    if "conversations" in asked:
        return _conversed(model, asked, batch_size)
    if "writing" in asked:
        return _written(model, asked, batch_size)
    if "continuations" in asked:
        return _continuations(model, asked, batch_size)
    return _likelihoods(model, asked, batch_size)


def _conversed(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    from vera.nn.writing import Writing, conversed

    answers = conversed(
        model,
        asked["conversations"],
        Writing(**asked["writing"]),
        batch_size=batch_size,
        max_length=asked["max_length"],
    )
    return [json.dumps(each) for each in answers]


def _continuations(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    from vera.nn.continuing import likelihoods

    found = likelihoods(
        model, asked["texts"], asked["continuations"], batch_size=batch_size, max_length=asked["max_length"]
    )
    return [f"{each.nats!r} {each.tokens}" for each in found]


def _likelihoods(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    from vera.data import Examples
    from vera.nn.training.generation import Generation
    from vera.nn.training.recipe import Recipe

    options = {"max_length": asked["max_length"], "separator": asked["separator"], "chat": asked.get("chat", False)}
    recipe = Recipe(batch_size=batch_size, **options)
    examples = Examples(tuple(asked["texts"]), tuple(asked["completions"]))
    return [f"{nats!r} {tokens}" for nats, tokens in Generation(model, recipe).likelihoods(examples)]


def _written(model: Any, asked: dict[str, Any], batch_size: int) -> list[str]:
    from vera.nn.writing import Writing, written

    return written(
        model, asked["texts"], Writing(**asked["writing"]),
        batch_size=batch_size, max_length=asked["max_length"], separator=asked["separator"], chat=asked.get("chat", False),
    )  # fmt: skip


def device() -> str:
    """Where adapters are run: on a GPU, where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def environment() -> dict[str, Any]:
    """What a score was computed with."""
    import torch
    import transformers

    is_on_gpu = device() == "cuda"
    name = torch.cuda.get_device_name() if is_on_gpu else platform.processor() or platform.machine()
    return {
        "vera-hub": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": name,
        "threads": torch.get_num_threads(),
        "dtype": "float32",
    }


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer every request until the parent closes the pipe."""
    evaluator = Evaluator()

    def say(what: dict[str, Any]) -> None:
        replies.write(json.dumps(what) + "\n")
        replies.flush()

    for line in requests:
        tell = now_and_then(lambda done, of: say({"done": done, "of": of}))
        say(evaluator.answer(json.loads(line), tell))


if __name__ == "__main__":
    end_at_once()
    # Libraries print to stdout; the replies have a descriptor of their own.
    reply_pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, reply_pipe)
