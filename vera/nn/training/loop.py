"""The loop: batches to steps to epochs, for any task and method.

Deterministic: the same recipe on the same machine gives the same bytes, however often the training
was interrupted, and torch's global generator is as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vera.data import Examples
from vera.errors import VeraError
from vera.nn.modes import in_mode
from vera.nn.training.batches import shuffled_steps, steps_per_epoch
from vera.nn.training.checkpoints import Checkpoints
from vera.nn.training.progress import VALIDATION, Epoch, Fitted, Progress, Report, Snapshot, Step
from vera.nn.training.recipe import Recipe
from vera.nn.training.task import Scored, Task, check_metric, is_better

_FIRST_SCALE = 2.0**12  # torch's own, 2^16, costs a short training some steps that are beyond float16


class Loop:
    """One training of the head of `task` and the parameters `adapter`, the rest of the base being frozen already.

    It goes on from what `checkpoints` had `saved`, if anything. `examine` is called once, when the first step has its
    gradients and nothing was changed yet. With `watched`, every epoch is scored on each of
    those parts; on the one called "validation" the best epoch is chosen.
    """

    def __init__(
        self,
        task: Task[Any],
        adapter: Sequence[nn.Parameter],
        train: Examples,
        recipe: Recipe,
        *,
        watched: Mapping[str, Examples] | None = None,
        report: Report | None = None,
        checkpoints: Checkpoints | None = None,
        saved: Mapping[str, Any] | None = None,
        examine: Callable[[], None] | None = None,
    ) -> None:
        self.task, self.recipe, self.train = task, recipe, train
        self.watched, self.report, self.checkpoints = watched or {}, report, checkpoints
        self.metric = check_metric(task, recipe.metric)
        self.parameters = [*task.head_parameters(), *adapter]
        self.optimizer = _optimizer(adapter, task.head_parameters(), recipe)
        self.scaler = _scaler(task.module)
        self.shuffle = torch.Generator().manual_seed(recipe.seed)
        self.shuffled_from = self.shuffle.get_state()  # as the epoch began
        self.saved, self.examine = saved, examine
        self.progress = Progress()

    def run(self) -> Fitted:
        """Train to the end. The parameters are then those of the last epoch.

        Raises VeraError (TRAINING_DIVERGED) as soon as a loss is not finite.
        """
        self.task.start(self.recipe.seed)
        items = self.task.items(self.train)
        with _seeded(self.task.module, self.recipe):
            self._restore()
            while self.progress.epoch <= self.recipe.epochs and not self._has_stopped():
                self._epoch(items)
            if self.checkpoints:
                self._save()  # scoring and writing may fail, too
        progress = self.progress
        return Fitted(progress.steps, progress.epochs, self._snapshot(progress.epoch - 1), progress.best)

    def score(self, examples: Examples) -> Scored:
        """What the task scores now. Raises VeraError (TRAINING_DIVERGED) for what is no number."""
        scores = self.task.score(examples)
        for metric, value in scores.items():
            if not math.isfinite(value):
                raise _diverged(metric, value)
        return scores

    def take(self, snapshot: Snapshot) -> None:
        """Make the parameters those of `snapshot`, and the head the one that is kept."""
        put(snapshot.tensors, self.parameters)
        self.task.finish()

    def _epoch(self, items: Sequence[Any]) -> None:
        progress, recipe = self.progress, self.recipe
        per_epoch = steps_per_epoch(len(items), recipe.batch_size, recipe.accumulation)
        self.shuffled_from = self.shuffle.get_state()
        steps = shuffled_steps([len(item) for item in items], recipe.batch_size, recipe.accumulation, self.shuffle)
        for step in islice(steps, progress.step_in_epoch, None):
            self._set_rates(len(progress.steps), recipe.epochs * per_epoch)
            progress.loss_sum += self._step([[items[row] for row in rows] for rows in step])
            progress.step_in_epoch += 1
            mean = progress.loss_sum / progress.step_in_epoch
            progress.steps.append(Step(progress.epoch, len(progress.steps) + 1, recipe.epochs * per_epoch, mean))
            if self.checkpoints and self.checkpoints.is_due:
                self._save()
            if self.report:
                self.report(progress.steps[-1])
        self._close_epoch()

    def _close_epoch(self) -> None:
        progress = self.progress
        scores = {part: self.score(examples) for part, examples in self.watched.items()}
        epoch = Epoch(progress.epoch, progress.loss_sum / progress.step_in_epoch, scores)
        progress.epochs.append(epoch)
        if VALIDATION in scores:
            known, value = progress.best_epoch, scores[VALIDATION][self.metric]
            if known is None or is_better(self.metric, value, known.scores[VALIDATION][self.metric]):
                progress.best = self._snapshot(epoch.number)
        progress.epoch, progress.step_in_epoch, progress.loss_sum = progress.epoch + 1, 0, 0.0
        self.shuffled_from = self.shuffle.get_state()
        if self.checkpoints and self.checkpoints.is_due:
            self._save()

    def _has_stopped(self) -> bool:
        """Whether the patience of the recipe is at its end."""
        best, patience = self.progress.best, self.recipe.patience
        return best is not None and patience is not None and len(self.progress.epochs) - best.epoch >= patience

    def _step(self, batches: Sequence[Sequence[Any]]) -> float:
        """One step on the mean loss of all items of `batches`, and that loss."""
        self.optimizer.zero_grad(set_to_none=True)
        weights = [self.task.weight(items) for items in batches]
        total = 0.0
        for items, weight in zip(batches, weights, strict=True):
            with _autocast(self.parameters[0].device, self.recipe):
                loss = self.task.loss(items) * (weight / sum(weights))
            value = loss.item()
            if not math.isfinite(value):
                raise _diverged("loss", value)
            if not loss.requires_grad:
                raise VeraError(
                    "The loss depends on nothing that is trained, so nothing would be learned: choose other targets.",
                    code="TRAINING_INVALID",
                )
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            total += value
        if self.examine is not None:
            self.examine()
            self.examine = None
        self._follow_gradients()
        return total

    def _follow_gradients(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.scaler.step(
            self.optimizer
        )  # leaves out a step whose gradients are beyond float16, and scales less from then on
        self.scaler.update()
        if self.scaler.get_scale() < 1:
            raise _diverged("gradient", math.inf)

    def _set_rates(self, step: int, steps: int) -> None:
        factor = rate_factor(self.recipe, step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _snapshot(self, epoch: int) -> Snapshot:
        return Snapshot(epoch, [parameter.detach().cpu().clone() for parameter in self.parameters])

    def _save(self) -> None:
        assert self.checkpoints is not None
        device = self.parameters[0].device
        self.checkpoints.save(
            {
                "progress": self.progress.to_dict(),
                "parameters": [parameter.detach().cpu() for parameter in self.parameters],
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "shuffle": self.shuffled_from,
                "dropout": torch.get_rng_state(),
                "dropout_on_device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            }
        )

    def _restore(self) -> None:
        saved = self.saved
        if saved is None:
            return
        self.progress = Progress.from_dict(saved["progress"])
        put(saved["parameters"], self.parameters)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.shuffle.set_state(saved["shuffle"])
        torch.set_rng_state(saved["dropout"])
        if saved["dropout_on_device"] is not None:
            torch.cuda.set_rng_state(saved["dropout_on_device"], self.parameters[0].device)


def put(tensors: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
    """Copy `tensors` into `parameters`, in place."""
    with torch.no_grad():
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.copy_(tensor)


def rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """What the learning rates are multiplied with at `step` (from 0) of `steps`: up to 1, then down by the schedule."""
    warmup = max(1, int(steps * recipe.warmup) if recipe.warmup_steps is None else recipe.warmup_steps)
    if step < warmup:
        return (step + 1) / warmup
    left = max(0.0, (steps - step) / max(1, steps - warmup))
    if recipe.schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return left if recipe.schedule == "linear" else 1.0


def _diverged(what: str, value: float) -> VeraError:
    return VeraError(f"The {what} became {value}: train again with a lower learning rate.", code="TRAINING_DIVERGED")


@contextmanager
def _seeded(module: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Training mode, where the recipe has dropout, with masks that depend on the seed alone. Dropout can only draw from torch's global
    generators, so those are lent for the time and given back as they were."""
    device = next(module.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _deterministic(device):
        _seed_global(recipe.seed, device)
        with in_mode(module, training=recipe.dropout):
            _keep_statistics(module)
            yield


def _keep_statistics(module: nn.Module) -> None:
    """Batch norms go on with the statistics of the base: those of a batch would be written into it, pass by pass."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


def _seed_global(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of `device`, and those of no other GPU."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU, the algorithms that give the same sum twice, where there are such; as it was before afterwards."""
    if device.type != "cuda":
        yield
        return
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # torch makes it a property
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nobody reads it, and filling it takes time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]  # see above


def _autocast(device: torch.device, recipe: Recipe) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.dtype == "bfloat16")


def _optimizer(adapter: Sequence[nn.Parameter], head: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    rates = ((head, recipe.head_learning_rate), (adapter, recipe.learning_rate))
    groups = [{"params": list(parameters), "lr": rate, "initial_lr": rate} for parameters, rate in rates if parameters]
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


def _scaler(module: nn.Module) -> torch.amp.GradScaler:
    """Multiplies the loss of a base in float16, which holds nothing below 6e-8: without it next to all of a gradient is lost on
    the way through a few layers. Any other loss it leaves alone (Micikevicius et al. 2018, section 3.2)."""
    first = next(module.parameters())
    is_half = any(parameter.dtype == torch.float16 for parameter in module.parameters())
    return torch.amp.GradScaler(first.device.type, init_scale=_FIRST_SCALE, enabled=is_half)
