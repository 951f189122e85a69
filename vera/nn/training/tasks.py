"""What is learned: how items become a loss, and how predictions are scored.

Task
├── PooledTask     a head on pooled hidden states of texts, pairs or images, with an Objective:
│   └── FeatureTask    the same head on features computed once: the base is frozen and bare
└── Generation     the base's own language-modelling head, on the completion alone
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vera import metrics
from vera.data import IMAGE_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION, Examples, Split
from vera.errors import DataError, VeraError
from vera.nn import inputs
from vera.nn.heads import ImageClassifier, PooledClassifier, PooledHead, PooledRegressor, TextHead
from vera.nn.training.recipe import Recipe

Scored = dict[str, float]  # a number by the name of its metric

_SMALLER_IS_BETTER = ("loss", "perplexity", "mean_squared_error")
_IGNORED = -100  # the label of a token whose prediction is not learned


class _Sized(Protocol):
    def __len__(self) -> int: ...


ItemT = TypeVar("ItemT", bound=_Sized)


class Task(ABC, Generic[ItemT]):
    """A task on one live base. An item knows its length: batches are made of items of like length."""

    metrics: tuple[str, ...]  # what `score` gives; the first decides unless a recipe names another
    head: PooledHead | None = None

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """What is switched between training and evaluation mode."""

    @abstractmethod
    def items(self, examples: Examples) -> list[ItemT]:
        """`examples` as the base will be given them, in their order."""

    @abstractmethod
    def loss(self, items: Sequence[ItemT]) -> Tensor:
        """The mean loss of `items` to train on, float32."""

    @abstractmethod
    def score(self, examples: Examples) -> Scored:
        """What the predictions for `examples` are worth, in evaluation mode and the base's own dtype."""

    def weight(self, items: Sequence[ItemT]) -> int:
        """How many terms the mean of `loss` has."""
        return len(items)

    def start(self, seed: int) -> None:
        """The head as it is before training: it depends on `seed` and the training targets alone."""

    def finish(self) -> None:
        """The head as it is kept, after its parameters were trained."""

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.classifier.parameters()) if self.head else []


def is_better(metric: str, value: float, than: float) -> bool:
    return value < than if metric in _SMALLER_IS_BETTER else value > than


# -- Classification and regression: a head on pooled hidden states --------------------------------


class Objective(ABC):
    """What the outputs of a head should be."""

    metrics: tuple[str, ...]

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Sequence[Any]) -> Tensor: ...

    @abstractmethod
    def score(self, outputs: NDArray[np.float32], examples: Examples) -> Scored: ...


@dataclass(frozen=True)
class Classes(Objective):
    """One output per label; cross-entropy."""

    labels: tuple[str, ...]
    label_smoothing: float = 0.0

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]  # it depends on the labels
        of_each = tuple(_f1_of(label) for label in self.labels) if len(self.labels) == 2 else ()
        return ("accuracy", "f1_macro", "matthews", *of_each)

    def loss(self, outputs: Tensor, targets: Sequence[int]) -> Tensor:
        wanted = torch.tensor(targets, device=outputs.device)
        return functional.cross_entropy(outputs.float(), wanted, label_smoothing=self.label_smoothing)

    def score(self, outputs: NDArray[np.float32], examples: Examples) -> Scored:
        truth, answers = examples.classes, outputs.argmax(-1)
        of_each = {
            _f1_of(label): metrics.f1(truth, answers, positive=index)
            for index, label in enumerate(self.labels)
            if len(self.labels) == 2  # of many labels, the mean is what is read
        }
        return {
            "accuracy": metrics.accuracy(truth, answers),
            "f1_macro": metrics.f1_macro(truth, answers),
            "matthews": metrics.matthews(truth, answers),
            **of_each,
        }


class Values(Objective):
    """One output: a number; mean squared error, in standard deviations of the training targets.

    `scale` says how outputs are read while the head is trained: whatever unit the targets have, the
    head learns numbers of order 1.
    """

    metrics = ("pearson", "spearman", "mean_squared_error")

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    @classmethod
    def of(cls, values: Sequence[float]) -> Values:
        return cls(float(np.mean(values)), float(np.std(values)) or 1.0)

    def loss(self, outputs: Tensor, targets: Sequence[float]) -> Tensor:
        wanted = (torch.tensor(targets, dtype=torch.float32, device=outputs.device) - self.mean) / self.deviation
        return functional.mse_loss(outputs.float()[:, 0], wanted)

    def score(self, outputs: NDArray[np.float32], examples: Examples) -> Scored:
        truth, answers = examples.values, outputs[:, 0].astype(np.float64)
        return {
            "pearson": metrics.pearson(truth, answers),
            "spearman": metrics.spearman(truth, answers),
            "mean_squared_error": metrics.mean_squared_error(truth, answers),
        }


@dataclass(frozen=True)
class Labelled:
    """An item of a pooled task and its target."""

    input: Any
    target: Any

    def __len__(self) -> int:
        return len(self.input)


class PooledTask(Task[Labelled]):
    """A head that is trained on the base's pooled hidden states."""

    def __init__(self, head: PooledHead, objective: Objective) -> None:
        self.head: PooledHead = head
        self.objective = objective
        self.metrics = objective.metrics

    @property
    def module(self) -> nn.Module:
        return self.head

    def items(self, examples: Examples) -> list[Labelled]:
        return [Labelled(x, y) for x, y in zip(self.encoded(examples), examples.targets, strict=True)]

    def encoded(self, examples: Examples) -> Sequence[Any]:
        if isinstance(self.head, TextHead):
            return self.head.encode(examples.texts, examples.pairs)
        assert isinstance(self.head, ImageClassifier)
        return self.head.encode(examples.images or ())

    def loss(self, items: Sequence[Labelled]) -> Tensor:
        return self.objective.loss(self.forward(items), [item.target for item in items])

    def forward(self, items: Sequence[Labelled]) -> Tensor:
        outputs: Tensor = self.head(**self.head.batch([item.input for item in items]))
        return outputs

    def score(self, examples: Examples) -> Scored:
        return self.objective.score(self.head.outputs(self.encoded(examples)), examples)

    def start(self, seed: int) -> None:
        """A small random head."""
        generator, head = torch.Generator().manual_seed(seed), self.head.classifier
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.02)
            head.bias.zero_()

    def finish(self) -> None:
        """Give the outputs of a regression the unit of its targets."""
        if isinstance(self.objective, Values):
            head, values = self.head.classifier, self.objective
            with torch.no_grad():
                head.weight.mul_(values.deviation)
                head.bias.mul_(values.deviation).add_(values.mean)


@dataclass(frozen=True)
class Feature:
    """The pooled hidden state (hidden) of an item, and the length of the item it is of."""

    pooled: NDArray[np.float32]
    length: int

    def __len__(self) -> int:
        return self.length


class FeatureTask(PooledTask):
    """The head alone, the base frozen: its features are computed once, so training it takes seconds.

    The same items in the same order as with the base in the loop, whose dropout would have no effect.
    """

    def __init__(self, task: PooledTask) -> None:
        super().__init__(task.head, task.objective)
        self._known: dict[int, tuple[Examples, list[Feature]]] = {}

    @property
    def module(self) -> nn.Module:
        return self.head.classifier

    def items(self, examples: Examples) -> list[Labelled]:
        return [Labelled(x, y) for x, y in zip(self._features(examples), examples.targets, strict=True)]

    def forward(self, items: Sequence[Labelled]) -> Tensor:
        return self._outputs([item.input for item in items])

    def score(self, examples: Examples) -> Scored:
        with torch.inference_mode():
            outputs = self._outputs(self._features(examples)).float().cpu().numpy()
        return self.objective.score(outputs, examples)

    def _outputs(self, features: Sequence[Feature]) -> Tensor:
        pooled = torch.from_numpy(np.stack([feature.pooled for feature in features]))
        return self.head.classify_pooled(pooled.to(self.head.device))

    def _features(self, examples: Examples) -> list[Feature]:
        if id(examples) not in self._known:
            encoded = self.encoded(examples)
            rows = zip(self.head.features(encoded), encoded, strict=True)
            self._known[id(examples)] = examples, [Feature(row, len(item)) for row, item in rows]
        return self._known[id(examples)][1]


# -- Generation -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Completion:
    """Token ids of a prompt and its completion; `start` is where the completion begins."""

    ids: Sequence[int]
    start: int

    def __len__(self) -> int:
        return len(self.ids)


class Generation(Task[Completion]):
    """A decoder that completes a prompt: the loss is on the completion and the token that ends it."""

    metrics = ("loss", "perplexity")

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.tokenizer: Any = inputs.tokenizer_of(model)
        if self.tokenizer.eos_token_id is None:
            raise DataError("The base's tokenizer has no token that ends a text, so no completion would end.")
        if recipe.chat and not self.tokenizer.chat_template:
            raise DataError("The base has no chat template: train without --chat.")

    @property
    def module(self) -> nn.Module:
        return self.model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def items(self, examples: Examples) -> list[Completion]:
        prompts = self._prompts(examples.texts)
        ends: list[list[int]] = self.tokenizer(list(examples.completions), add_special_tokens=False)["input_ids"]
        return [self._joined(prompt, end) for prompt, end in zip(prompts, ends, strict=True)]

    def weight(self, items: Sequence[Completion]) -> int:
        return sum(len(item) - item.start for item in items)

    def loss(self, items: Sequence[Completion]) -> Tensor:
        return self._loss(items, self.recipe.label_smoothing)

    def score(self, examples: Examples) -> Scored:
        """The mean loss per token, in nats, without label smoothing, and its exponential."""
        was_training = self.model.training
        self.model.eval()
        items, total = self.items(examples), 0.0
        with torch.inference_mode():
            for _, chunk in inputs.batches_by_length(items, self.recipe.batch_size):
                total += self._loss(chunk, 0.0).item() * self.weight(chunk)
        self.model.train(was_training)
        loss = total / self.weight(items)
        return {"loss": loss, "perplexity": metrics.perplexity(loss)}

    def _prompts(self, texts: Sequence[str]) -> list[list[int]]:
        if self.recipe.chat:
            turns = [[{"role": "user", "content": text}] for text in texts]
            chats: list[list[int]] = self.tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=True
            )["input_ids"]
            return chats
        prompts: list[list[int]] = self.tokenizer([text and text + self.recipe.separator for text in texts])[
            "input_ids"
        ]
        return prompts

    def _joined(self, prompt: Sequence[int], completion: Sequence[int]) -> Completion:
        """Prompt and completion in at most `max_length` tokens: the completion is cut at its end, the prompt at its
        beginning. The first token of a text is not predicted, so there is at least one token of prompt."""
        end, most = self.tokenizer.eos_token_id, self.recipe.max_length
        start = self.tokenizer.bos_token_id
        prompt = list(prompt) or [end if start is None else start]
        learned = [*completion, end][: max(1, most - 1)]
        kept = prompt[-max(1, most - len(learned)) :]
        return Completion([*kept, *learned], len(kept))

    def _loss(self, items: Sequence[Completion], label_smoothing: float) -> Tensor:
        """The mean over the tokens of the completions."""
        batch = inputs.padded([inputs.Tokens(item.ids) for item in items], self.device)
        labels = [[*[_IGNORED] * item.start, *item.ids[item.start :]] for item in items]
        targets = inputs.filled(labels, self.device, value=_IGNORED)[:, 1:]
        logits: Tensor = self.model(**batch, use_cache=False).logits[:, :-1]
        learned = targets != _IGNORED
        return functional.cross_entropy(logits[learned].float(), targets[learned], label_smoothing=label_smoothing)


def task_of(split: Split, model: nn.Module, recipe: Recipe, *, pooling: str | None = None) -> Task[Any]:
    """The task of `split` on `model`. Raises VeraError when the base cannot do it."""
    if split.task == TEXT_GENERATION:
        return Generation(model, recipe)
    options: Mapping[str, Any] = {"pooling": pooling} if pooling else {}
    classes = Classes(split.labels, recipe.label_smoothing)
    if split.task == IMAGE_CLASSIFICATION:
        return PooledTask(ImageClassifier(model, split.labels, **options), classes)
    options = {**options, "max_length": recipe.max_length}
    if split.task == TEXT_REGRESSION:
        return PooledTask(PooledRegressor(model, **options), Values.of(split.train.values))
    return PooledTask(PooledClassifier(model, split.labels, **options), classes)


def check_metric(task: Task[Any], metric: str | None) -> str:
    """The metric that decides. Raises VeraError (METRIC_UNKNOWN) for one that `task` does not have."""
    if metric is not None and metric not in task.metrics:
        raise VeraError(
            f"This task has no metric {metric!r}: there are {', '.join(task.metrics)}.",
            code="METRIC_UNKNOWN",
            metric=metric,
        )
    return metric or task.metrics[0]


def _f1_of(label: str) -> str:
    return f"f1 {label}"
