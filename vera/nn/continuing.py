"""What a decoder thinks of given continuations: of several, the likeliest is its answer to a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vera.errors import DataError
from vera.nn import inputs
from vera.nn.modes import evaluating


@dataclass(frozen=True)
class Likelihood:
    """Of one continuation: its negative log-likelihood in nats, its tokens, and whether each is the likeliest one."""

    nats: float
    tokens: int
    is_greedy: bool


@dataclass(frozen=True)
class _Pair:
    ids: Sequence[int]
    start: int

    def __len__(self) -> int:
        return len(self.ids)


def likelihoods(
    model: nn.Module, contexts: Sequence[str], continuations: Sequence[str], *, batch_size: int, max_length: int
) -> list[Likelihood]:
    """Of each continuation after its context, without a token that ends it.

    The two are one text for the tokenizer, and white space at the end of the context counts to the continuation, as in
    lm-evaluation-harness. Of what the tokenizer puts around a text the beginning is read and not counted, and the end is
    left out. A text that is too long is cut at its beginning. Raises DataError for a continuation that has
    no token.
    """
    tokenizer: Any = inputs.tokenizer_of(model)
    before = _put_before(tokenizer)
    pairs = [_pair(tokenizer, before, *each, max_length) for each in zip(contexts, continuations, strict=True)]
    found: dict[int, Likelihood] = {}
    with evaluating(model), torch.inference_mode():
        for rows, chunk in inputs.batches_by_length(pairs, batch_size):
            found |= zip(rows, _scored(model, chunk), strict=True)
    return [found[row] for row in range(len(pairs))]


def _pair(tokenizer: Any, before: Sequence[int], context: str, continuation: str, max_length: int) -> _Pair:
    whole, start = _ids(tokenizer, context + continuation), len(_ids(tokenizer, context.rstrip()))
    if start == 0 or whole[: len(before)] != before:  # a context may spell them
        first = before or ([] if start else [inputs.first_token(tokenizer)])
        whole, start = [*first, *whole], start + len(first)
    if len(whole) <= start:
        raise DataError(f"The continuation {continuation[:80]!r} has no token of its own: correct the data.")
    cut = max(0, min(len(whole) - max_length, start - 1))
    return _Pair(whole[cut:], start - cut)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _put_before(tokenizer: Any) -> list[int]:
    """What the tokenizer begins every text with."""
    found: list[int] = tokenizer("a")["input_ids"]
    own = _ids(tokenizer, "a")
    return next((found[:n] for n in range(len(found)) if found[n : n + len(own)] == own), [])


def _scored(model: Any, pairs: Sequence[_Pair]) -> list[Likelihood]:
    device = next(model.parameters()).device
    batch = inputs.padded([inputs.Tokens(pair.ids) for pair in pairs], device)
    logits = model(**batch, use_cache=False).logits
    return [_likelihood(logits[row], pair) for row, pair in enumerate(pairs)]


def _likelihood(logits: torch.Tensor, pair: _Pair) -> Likelihood:
    predicted = logits[pair.start - 1 : len(pair) - 1].float()
    targets = torch.tensor(pair.ids[pair.start :], device=logits.device)
    nats = functional.cross_entropy(predicted, targets, reduction="none").sum(dtype=torch.float64)
    return Likelihood(float(nats), len(targets), bool((predicted.argmax(-1) == targets).all()))
