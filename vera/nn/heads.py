"""Task heads on a bare encoder: pool the hidden states, then one linear map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vera.errors import VeraError
from vera.nn.bank import Bank

HEAD_WEIGHT, HEAD_BIAS = "classifier.weight", "classifier.bias"


class PooledClassifier(nn.Module):
    """An encoder, a pooling and a linear layer to one logit per label.

    `pooling` is "mean" over the unmasked tokens, or "cls" for the first one. The backbone stays
    the caller's own object. With `adapter`, every pass runs through that adapter of that bank,
    whichever one somebody else activated on the shared backbone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        labels: Sequence[str],
        *,
        pooling: str = "mean",
        max_length: int = 128,
        adapter: tuple[Bank, str] | None = None,
    ) -> None:
        super().__init__()
        self._adapter = adapter
        self.backbone = backbone
        self.labels, self.pooling, self.max_length = tuple(labels), pooling, max_length
        config: Any = backbone.config
        # skip_init: the usual initialisation would draw from torch's global generator.
        linear = nn.utils.skip_init(nn.Linear, config.hidden_size, len(self.labels), dtype=torch.float32)  # type: ignore[no-untyped-call]  # torch
        self.classifier: nn.Linear = linear
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.classifier.to(next(backbone.parameters()).device)
        self._tokenizer: Any = None

    @property
    def config(self) -> Any:
        return self.backbone.config

    @property
    def tokenizer(self) -> Any:
        """The base's own tokenizer, loaded from where the base was loaded."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(self.backbone.name_or_path)
        return self._tokenizer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, labels) for token ids and mask (batch, tokens)."""
        return self.classify_pooled(self.pool(input_ids, attention_mask))

    @property
    def adapter(self) -> tuple[Bank, str] | None:
        """The bank and the name of the adapter every pass runs through."""
        return self._adapter

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Pooled hidden states (batch, hidden)."""
        if self._adapter is not None:
            bank, name = self._adapter
            bank.ensure_active(name)
        return self.pooled(
            self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask
        )

    def pooled(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states (batch, tokens, hidden) as one per text (batch, hidden)."""
        if self.pooling == "cls":
            first: Tensor = hidden[:, 0]
            return first
        mask = attention_mask[..., None].to(hidden.dtype)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean

    def classify_pooled(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pooled.to(self.classifier.weight.dtype))
        return logits

    def classify(self, texts: Sequence[str], *, batch_size: int = 32) -> list[str]:
        """The label of each text."""
        return [self.labels[i] for i in self.predict(texts, batch_size=batch_size)]

    def predict(self, texts: Sequence[str], *, batch_size: int = 32) -> list[int]:
        """The index of the most likely label of each text, in evaluation mode."""
        was_training = self.training
        self.eval()
        answers = np.empty(len(texts), dtype=np.int64)
        with torch.inference_mode():
            for rows, batch in batches_by_length(self.encode(texts), batch_size, next(self.parameters()).device):
                answers[rows] = self(**batch).argmax(-1).cpu().numpy()
        self.train(was_training)
        return [int(answer) for answer in answers]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut at `max_length`."""
        encoded: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        return encoded


def logits_per_row(classifiers: Sequence[PooledClassifier], input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """Logits of each row from the classifier of that row: one pass of the backbone, each row through its own
    adapter and head. Row i has as many logits as `classifiers[i]` has labels.

    Raises VeraError when they do not stand on one bank, or are not one per row (ROWS_MISMATCH).
    """
    if len(classifiers) != len(input_ids):
        raise VeraError(
            f"{len(classifiers)} classifiers were given for {len(input_ids)} texts: give one per text.",
            code="ROWS_MISMATCH",
        )
    bank, names = _one_bank(classifiers)
    with bank.rows(names):
        hidden = classifiers[0].backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    logits: list[Tensor] = []
    for row, classifier in enumerate(classifiers):
        pooled = classifier.pooled(hidden[row : row + 1], attention_mask[row : row + 1])
        logits.append(classifier.classify_pooled(pooled)[0])
    return logits


def _one_bank(classifiers: Sequence[PooledClassifier]) -> tuple[Bank, list[str]]:
    """The bank all of `classifiers` stand on, and the adapter of each."""
    adapters = [classifier.adapter for classifier in classifiers]
    banks = {id(adapter[0]) if adapter else None for adapter in adapters}
    if len(banks) != 1 or adapters[0] is None:
        raise VeraError(
            "These classifiers do not share one base: put their adapters on the same live model.",
            code="BANK_NOT_SHARED",
        )
    return adapters[0][0], [adapter[1] for adapter in adapters if adapter]


def batches_by_length(
    token_ids: Sequence[Sequence[int]], batch_size: int, device: torch.device
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Batches of texts of like length, as (row numbers, model inputs): padding is wasted work."""
    rows = sorted(range(len(token_ids)), key=lambda row: (len(token_ids[row]), row))
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        yield chunk, padded([token_ids[row] for row in chunk], device)


def padded(token_ids: Sequence[Sequence[int]], device: torch.device) -> dict[str, Tensor]:
    """Token ids and mask (batch, longest), int64, padded to the right with zeros."""
    width = max(len(ids) for ids in token_ids)
    ids, mask = np.zeros((2, len(token_ids), width), dtype=np.int64)
    for row, tokens in enumerate(token_ids):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
