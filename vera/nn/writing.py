"""A decoder writes: the texts that follow prompts, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from vera.errors import DataError
from vera.nn import inputs
from vera.nn.modes import evaluating


@dataclass(frozen=True)
class Writing:
    """How a text is written: the likeliest token at each step, or of several `beams` the likeliest text, whose
    log-likelihood counts by its length to the power of `length_penalty`. No n-gram of `no_repeat_ngram` tokens comes
    twice in it (0: any may); those of the prompt may come once."""

    max_new_tokens: int
    beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0


def written(
    model: nn.Module,
    prompts: Sequence[str],
    writing: Writing,
    *,
    batch_size: int,
    max_length: int,
    separator: str,
    chat: bool = False,
) -> list[str]:
    """What the decoder writes after each prompt and `separator`, up to a token that ends a text (the tokenizer's, or one of
    those of the base's generation configuration) and without white space around it. With `chat` a prompt is what a user
    says in the base's own chat template. A prompt is cut at its beginning to what `max_length` leaves beside the new tokens.
    Raises DataError for a tokenizer with no token that ends a text, or without a template."""
    tokenizer, most = _tokenizer_of(model), max_length - writing.max_new_tokens
    if chat:
        items = _chats(tokenizer, [[{"role": "user", "content": prompt}] for prompt in prompts], most)
    else:
        items = _prompts(tokenizer, prompts, separator, most)
    return _all_written(model, tokenizer, items, writing, batch_size)


def conversed(
    model: nn.Module, conversations: Sequence[Sequence[str]], writing: Writing, *, batch_size: int, max_length: int
) -> list[list[str]]:
    """What the decoder writes after each turn of a user, in the base's own chat template, the turns and answers before it
    among what it reads. Cut and refused as by `written`."""
    tokenizer, most = _tokenizer_of(model), max_length - writing.max_new_tokens
    chats: list[list[dict[str, str]]] = [[] for _ in conversations]
    for turn in range(max(map(len, conversations), default=0)):
        rows = [row for row, turns in enumerate(conversations) if turn < len(turns)]
        for row in rows:
            chats[row].append({"role": "user", "content": conversations[row][turn]})
        items = _chats(tokenizer, [chats[row] for row in rows], most)
        for row, text in zip(rows, _all_written(model, tokenizer, items, writing, batch_size), strict=True):
            chats[row].append({"role": "assistant", "content": text})
    return [[said["content"] for said in chat if said["role"] == "assistant"] for chat in chats]


def _tokenizer_of(model: nn.Module) -> Any:
    tokenizer: Any = inputs.tokenizer_of(model)
    if tokenizer.eos_token_id is None:
        raise DataError("The base's tokenizer has no token that ends a text, so no text would end.")
    return tokenizer


def _all_written(
    model: nn.Module, tokenizer: Any, items: Sequence[Sequence[int]], writing: Writing, batch_size: int
) -> list[str]:
    found: dict[int, str] = {}
    with evaluating(model), torch.inference_mode():
        for rows, chunk in inputs.batches_by_length(items, batch_size):
            for row, ids in zip(rows, _continued(model, tokenizer, chunk, writing), strict=True):
                found[row] = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
    return [found[row] for row in range(len(items))]


def _prompts(tokenizer: Any, prompts: Sequence[str], separator: str, most: int) -> list[list[int]]:
    """As training has them (`vera.nn.training.generation`)."""
    ids: list[list[int]] = tokenizer([text and text + separator for text in prompts])["input_ids"]
    return [(each or [inputs.first_token(tokenizer)])[-most:] for each in ids]


def _chats(tokenizer: Any, turns: Sequence[Sequence[dict[str, str]]], most: int) -> list[list[int]]:
    if not tokenizer.chat_template:
        raise DataError("The base has no chat template: leave out `chat`, or take a base that has one.")
    ids: list[list[int]] = tokenizer.apply_chat_template(
        list(turns), add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    return [each[-most:] for each in ids]


def _continued(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
    """The new tokens of each prompt. Prompts are padded at their beginning, so that what follows stands right behind them."""
    from transformers import GenerationConfig

    device, longest, ends = next(model.parameters()).device, max(map(len, prompts)), _ends(model, tokenizer)
    padding = [longest - len(ids) for ids in prompts]
    ids = [[ends[0]] * pad + list(ids) for pad, ids in zip(padding, prompts, strict=True)]
    mask = [[0] * pad + [1] * (longest - pad) for pad in padding]
    config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        do_sample=False, num_beams=writing.beams, max_new_tokens=writing.max_new_tokens, eos_token_id=ends,
        pad_token_id=ends[0], length_penalty=writing.length_penalty, early_stopping=False,
    )  # fmt: skip
    # What a configuration leaves open is taken from the base's own, which is no part of a suite.
    own, model.generation_config = model.generation_config, config
    try:
        tokens: Tensor = model.generate(
            input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device),
            logits_processor=[_NoRepeat(writing.no_repeat_ngram, longest)] if writing.no_repeat_ngram else [],
        )  # fmt: skip
    finally:
        model.generation_config = own
    return [list(takewhile(lambda token: token not in ends, row[longest:])) for row in tokens.tolist()]


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a text, the tokenizer's first: a base for chats has others too, which it was trained to end with."""
    own: int | list[int] | None = model.generation_config.eos_token_id
    others = [] if own is None else [own] if isinstance(own, int) else own
    return list(dict.fromkeys([tokenizer.eos_token_id, *others]))


class _NoRepeat:
    """No n-gram of `size` tokens comes twice in what is written after the first `start` tokens.

    transformers' own rule counts the prompt's n-grams too, and so forbids to repeat a name that a prompt asks about.
    """

    def __init__(self, size: int, start: int) -> None:
        from transformers import NoRepeatNGramLogitsProcessor

        self._of_text: Any = NoRepeatNGramLogitsProcessor(size)
        self._start = start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        masked: Tensor = self._of_text(input_ids[:, self._start :], scores)
        return masked
