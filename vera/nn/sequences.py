"""A model of transformers for whole sequences, answering through one adapter and that adapter's head in it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vera.manifest import BaseIdentity
from vera.nn import inputs
from vera.nn.bank import Bank
from vera.nn.inputs import Tokens
from vera.nn.modes import evaluating
from vera.nn.outputs import classes_of, values_of
from vera.nn.tokenized import tokenizer_for

# Where neither the tokenizer nor the configuration says how much text the model takes.
_LONGEST = 4096


class SequenceModel(nn.Module, ABC):
    """The live model `backbone`, which stays the caller's own object, through the adapter `adapter` of a bank,
    whichever one somebody else activated on it. Texts are cut at `max_length`, None for all the model takes."""

    base: BaseIdentity | None = None  # that the adapter names
    verify = "strict"  # what is done where texts are read otherwise than `base` says

    def __init__(self, backbone: nn.Module, *, adapter: tuple[Bank, str], max_length: int | None = None) -> None:
        super().__init__()
        self.backbone, self._adapter = backbone, adapter
        self._max_length = max_length

    @property
    def config(self) -> Any:
        return self.backbone.config

    @property
    def device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    @property
    def adapter(self) -> tuple[Bank, str]:
        """The bank and the name of the adapter every pass runs through."""
        return self._adapter

    @cached_property
    def tokenizer(self) -> Any:
        """The base's own tokenizer, loaded from where the base was loaded. Raises BaseMismatch (BASE_TOKENIZER_MISMATCH)."""
        return tokenizer_for(self.backbone, self.base, verify=self.verify)

    @cached_property
    def max_length(self) -> int:
        taken = getattr(self.config, "max_position_embeddings", None) or _LONGEST
        return self._max_length or min(taken, self.tokenizer.model_max_length, _LONGEST)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Tensor) -> Tensor:
        """Logits (batch, outputs) for token ids and mask (batch, tokens)."""
        bank, name = self._adapter
        with bank.passing(name):
            logits: Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **more).logits
        return logits

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Tokens]:
        """The tokens of each text, or of each text and its pair, cut at `max_length`."""
        return inputs.encode(self.tokenizer, texts, pairs, max_length=self.max_length)

    def outputs(self, items: Sequence[Tokens], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Logits of each of `items` (items, outputs), in evaluation mode."""
        logits: dict[int, NDArray[np.float32]] = {}
        with evaluating(self), torch.inference_mode():
            for rows, batch in self._batches(items, batch_size):
                logits.update(zip(rows, self(**batch).float().cpu().numpy(), strict=True))
        return np.stack([logits[row] for row in range(len(items))]) if items else np.empty((0, 0), np.float32)

    def _batches(self, items: Sequence[Tokens], batch_size: int) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Batches padded with the token by which the model itself finds the end of a text.

        A decoder reads its answer off the last token that is not that one; without one, texts go one by one.
        """
        text_config = self.config.get_text_config()
        padding = getattr(text_config, "pad_token_id", None)
        for rows, chunk in inputs.batches_by_length(items, batch_size if padding is not None else 1):
            batch = inputs.padded(chunk, self.device)
            batch["input_ids"] = inputs.filled([item.ids for item in chunk], self.device, value=padding or 0)
            yield rows, batch


class SequenceClassifier(SequenceModel):
    """A text, or two, to one of `labels`."""

    def __init__(self, backbone: nn.Module, labels: Sequence[str], **options: Any) -> None:
        super().__init__(backbone, **options)
        self.labels = tuple(labels)

    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_size: int = 32) -> list[str]:
        """The label of each text, or of each text and its pair."""
        return [self.labels[i] for i in self.predict(texts, pairs, batch_size=batch_size)]

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_size: int = 32) -> list[int]:
        """The index of the most likely label of each text."""
        return classes_of(self.outputs(self.encode(texts, pairs), batch_size=batch_size))


class SequenceRegressor(SequenceModel):
    """A text, or two, to a number."""

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_size: int = 32) -> list[float]:
        """The number of each text, or of each text and its pair."""
        return values_of(self.outputs(self.encode(texts, pairs), batch_size=batch_size))
