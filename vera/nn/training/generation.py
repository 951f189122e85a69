"""Generation: a decoder that completes a prompt, by its own language-modelling head."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vera import metrics
from vera.data import Examples
from vera.errors import DataError
from vera.nn import inputs
from vera.nn.modes import evaluating
from vera.nn.training.recipe import Recipe
from vera.nn.training.task import Scored, Task

_IGNORED = -100  # the label of a token whose prediction is not learned


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
        super().__init__()
        self.model, self.recipe = model, recipe
        self.tokenizer: Any = inputs.tokenizer_of(model)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
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

    def make_items(self, examples: Examples) -> list[Completion]:
        prompts = self._prompts(examples.texts)
        ends: list[list[int]] = self.tokenizer(list(examples.completions), add_special_tokens=False)["input_ids"]
        return [self._joined(prompt, end) for prompt, end in zip(prompts, ends, strict=True)]

    def weight(self, items: Sequence[Completion]) -> int:
        return sum(len(item) - item.start for item in items)

    def loss(self, items: Sequence[Completion]) -> Tensor:
        return self._loss(items, self.recipe.label_smoothing)

    def score(self, examples: Examples) -> Scored:
        """The mean loss per token, in nats, without label smoothing, and its exponential."""
        items, total = self.items(examples), 0.0
        with evaluating(self.model), torch.inference_mode():
            for _, chunk in inputs.batches_by_length(items, self.recipe.batch_size):
                total += self._loss(chunk, 0.0).item() * self.weight(chunk)
        loss = total / self.weight(items)
        return {"loss": loss, "perplexity": metrics.perplexity(loss)}

    def likelihoods(self, examples: Examples) -> list[tuple[float, int]]:
        """Of each completion with the token that ends it: its negative log-likelihood in nats, and its tokens."""
        items = self.make_items(examples)
        found: dict[int, tuple[float, int]] = {}
        with evaluating(self.model), torch.inference_mode():
            for rows, chunk in inputs.batches_by_length(items, self.recipe.batch_size):
                logits, targets = self._predictions(chunk)
                nats = functional.cross_entropy(
                    logits.float().transpose(1, 2), targets, ignore_index=_IGNORED, reduction="none"
                ).sum(1, dtype=torch.float64)
                found |= {
                    row: (value, len(item) - item.start)
                    for row, value, item in zip(rows, nats.tolist(), chunk, strict=True)
                }
        return [found[row] for row in range(len(items))]

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
        prompt = list(prompt) or [inputs.first_token(self.tokenizer)]
        learned = [*completion, end][: max(1, most - 1)]
        kept = prompt[-max(1, most - len(learned)) :]
        return Completion([*kept, *learned], len(kept))

    def _loss(self, items: Sequence[Completion], label_smoothing: float) -> Tensor:
        """The mean over the tokens of the completions."""
        logits, targets = self._predictions(items)
        learned = targets != _IGNORED
        return functional.cross_entropy(logits[learned].float(), targets[learned], label_smoothing=label_smoothing)

    def _predictions(self, items: Sequence[Completion]) -> tuple[Tensor, Tensor]:
        """Logits (batch, tokens, vocabulary) from where the first completion begins, and the tokens they predict (batch, tokens)."""
        batch = inputs.padded([inputs.Tokens(item.ids) for item in items], self.device)
        labels = [[*[_IGNORED] * item.start, *item.ids[item.start :]] for item in items]
        first = min(item.start for item in items)
        targets = inputs.filled(labels, self.device, value=_IGNORED)[:, first:]
        kept = targets.shape[1] + 1  # the logits at a token predict the next one
        # Most of the memory of a long prompt would be logits that nothing is learned from.
        only = {"logits_to_keep": kept} if self._keeps_logits else {}
        logits: Tensor = self.model(**batch, use_cache=False, **only).logits[:, -kept:-1]
        return logits, targets
