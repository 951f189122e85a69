"""Training the vectors of an adapter, and the two things it is compared with: LoRA and the head alone.

Deterministic: the same recipe on the same machine gives the same bytes, and torch's global
generator is as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vera.data import Examples, Split
from vera.errors import VeraError
from vera.nn.bank import Bank
from vera.nn.heads import PooledClassifier, batches_by_length, padded
from vera.streams import PEFT_MT19937

METHODS = ("vera", "dvora", "lora")
_POOL = 8  # batches a pool of texts is cut into
PROBE_EPOCHS = 100  # after which the head alone has converged


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are for short texts on a small encoder, chosen on a part of a training set.

    VeRA wants about ten times LoRA's learning rate, and the head one of its own.
    """

    method: str = "vera"
    stream: str = PEFT_MT19937  # what PEFT can rebuild too
    rank: int = 256
    epochs: int = 6
    batch_size: int = 16
    learning_rate: float = 2e-2
    head_learning_rate: float = 5e-3
    warmup: float = 0.06  # share of all steps; Kopiczko et al. 2024, Table 8
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: bool = False  # True: the base's own rates; on short texts it cost half a point in cross-validation
    seed: int = 0
    max_length: int = 64

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """Where training stands: `loss` is the mean since the epoch began."""

    epoch: int
    step: int
    steps: int
    loss: float


Report = Callable[[Step], None]


def train(
    classifier: PooledClassifier,
    parameters: Sequence[nn.Parameter],
    split: Split,
    recipe: Recipe,
    report: Report | None = None,
) -> None:
    """Train `parameters` (the vectors of the active adapter) and the head of `classifier` on `split.train`.

    Raises VeraError (TRAINING_DIVERGED) as soon as a loss is not finite.
    """
    classifier.backbone.requires_grad_(False)
    reset_head(classifier, recipe.seed)
    token_ids, targets = classifier.encode(split.train.texts), torch.tensor(split.train.targets)
    shuffle, device = torch.Generator().manual_seed(recipe.seed), next(classifier.parameters()).device
    steps = recipe.epochs * -(-len(token_ids) // recipe.batch_size)
    optimizer = _optimizer(parameters, classifier.classifier.parameters(), recipe)
    schedule, step = _linear_schedule(optimizer, recipe, steps), 0
    with _seeded_dropout(classifier, recipe):
        for epoch in range(1, recipe.epochs + 1):
            losses = []
            for rows in _shuffled_rows(token_ids, recipe.batch_size, shuffle):
                logits = classifier(**padded([token_ids[row] for row in rows], device))
                losses.append(_step(logits, targets[rows].to(device), optimizer, recipe.label_smoothing))
                schedule.step()
                step += 1
                if report:
                    report(Step(epoch, step, steps, sum(losses) / len(losses)))
    classifier.eval()


def train_head(classifier: PooledClassifier, split: Split, recipe: Recipe, *, epochs: int | None = None) -> None:
    """Train the head alone on the frozen base: the recipe without the adapter, and so the baseline to beat.

    The base's features are computed once, so this takes seconds. `epochs` replaces the recipe's.
    """
    features = pooled_features(classifier, split.train)
    targets = torch.tensor(split.train.targets, device=features.device)
    token_ids = classifier.encode(split.train.texts)
    reset_head(classifier, recipe.seed)
    shuffle, epochs = torch.Generator().manual_seed(recipe.seed), epochs or recipe.epochs
    optimizer = _optimizer([], classifier.classifier.parameters(), recipe)
    schedule = _linear_schedule(optimizer, recipe, epochs * -(-len(token_ids) // recipe.batch_size))
    for _ in range(epochs):
        for rows in _shuffled_rows(token_ids, recipe.batch_size, shuffle):
            _step(classifier.classify_pooled(features[rows]), targets[rows], optimizer, recipe.label_smoothing)
            schedule.step()


def pooled_features(classifier: PooledClassifier, examples: Examples, *, batch_size: int = 64) -> Tensor:
    """The pooled hidden states (n, hidden) of `examples`, in their order."""
    classifier.eval()
    device = next(classifier.parameters()).device
    pooled: list[tuple[list[int], Tensor]] = []
    with torch.no_grad():
        for rows, batch in batches_by_length(classifier.encode(examples.texts), batch_size, device):
            pooled.append((rows, classifier.pool(**batch)))
    features = torch.empty(len(examples), pooled[0][1].shape[-1], device=device)
    for rows, values in pooled:
        features[rows] = values
    return features


def accuracy(classifier: PooledClassifier, examples: Examples) -> float:
    answers = classifier.predict(examples.texts)
    return sum(answer == target for answer, target in zip(answers, examples.targets, strict=True)) / len(examples)


def adapted_parameters(bank: Bank) -> list[nn.Parameter]:
    """The trainable parameters of the active adapter; none for the bare base."""
    return bank.parameters(bank.active) if bank.active is not None else []


def reset_head(classifier: PooledClassifier, seed: int) -> None:
    """A small random head that depends on `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    head = classifier.classifier
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.02)
        head.bias.zero_()


@contextmanager
def _seeded_dropout(classifier: PooledClassifier, recipe: Recipe) -> Iterator[None]:
    """Training mode with masks that depend on the seed alone. Dropout can only draw from torch's global
    generator, so that is lent for the time and given back as it was."""
    devices = [classifier.classifier.weight.device] if classifier.classifier.weight.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(recipe.seed)
        classifier.train(recipe.dropout)
        yield


def _shuffled_rows(
    token_ids: Sequence[Sequence[int]], batch_size: int, generator: torch.Generator
) -> Iterator[list[int]]:
    """One epoch of batches in random order, each of texts of like length: a pool of random texts is
    sorted and cut, so that batches differ from epoch to epoch and little is padded."""
    order: list[int] = torch.randperm(len(token_ids), generator=generator).tolist()
    for start in range(0, len(order), batch_size * _POOL):
        pool = sorted(order[start : start + batch_size * _POOL], key=lambda row: len(token_ids[row]))
        chunks = [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
        yield from (chunks[i] for i in torch.randperm(len(chunks), generator=generator).tolist())


def _optimizer(vectors: Sequence[nn.Parameter], head: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    groups: list[dict[str, Any]] = [{"params": list(head), "lr": recipe.head_learning_rate}]
    if vectors:
        groups.append({"params": list(vectors), "lr": recipe.learning_rate})
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


def _linear_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    warmup = max(1, int(steps * recipe.warmup))

    def factor(step: int) -> float:
        return (step + 1) / warmup if step < warmup else max(0.0, (steps - step) / max(1, steps - warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _step(logits: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, label_smoothing: float = 0.0) -> float:
    loss = functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
    value = loss.item()
    if not math.isfinite(value):
        raise VeraError(f"The loss became {value}: train again with a lower learning rate.", code="TRAINING_DIVERGED")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    optimizer.step()
    return value
