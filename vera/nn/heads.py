"""Task heads on a bare base: pool the hidden states, then one linear map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vera.errors import VeraError
from vera.manifest import BaseIdentity
from vera.nn import inputs
from vera.nn.bank import Bank
from vera.nn.inputs import Image, Pixels, Tokens
from vera.nn.modes import evaluating
from vera.nn.outputs import classes_of, values_of
from vera.nn.prefix import fanned_out, layers_from_first_adapted
from vera.nn.processed import processor_for
from vera.nn.tokenized import tokenizer_for

HEAD_WEIGHT, HEAD_BIAS = "classifier.weight", "classifier.bias"


class PooledHead(nn.Module, ABC):
    """A base, a pooling and a linear layer to the outputs of a task.

    `pooling` is "mean" over the unmasked tokens, or "cls" for the first one. The backbone stays
    the caller's own object. With `adapter`, every pass runs through that adapter of that bank,
    whichever one somebody else activated on the shared backbone.
    """

    base: BaseIdentity | None = None  # that the adapter names, where there is one
    verify = "strict"  # what is done where texts or images are read otherwise than `base` says

    def __init__(
        self,
        backbone: nn.Module,
        outputs: int,
        *,
        pooling: str = "mean",
        adapter: tuple[Bank, str] | None = None,
    ) -> None:
        super().__init__()
        self._adapter = adapter
        self.backbone, self.pooling = backbone, pooling
        # skip_init: the usual initialisation would draw from torch's global generator.
        linear = nn.utils.skip_init(nn.Linear, width_of(backbone), outputs, dtype=torch.float32)  # type: ignore[no-untyped-call]  # torch
        self.classifier: nn.Linear = linear
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.classifier.to(self.device)

    @abstractmethod
    def batch(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """What the backbone is given for `items`, on its device."""

    @property
    def config(self) -> Any:
        return self.backbone.config

    @property
    def device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    @property
    def adapter(self) -> tuple[Bank, str] | None:
        """The bank and the name of the adapter every pass runs through."""
        return self._adapter

    def hidden(self, **batch: Tensor) -> Tensor:
        """The base's last hidden states (batch, tokens, hidden), through the adapter."""
        bank, name = self._adapter or (None, "")
        with bank.passing(name) if bank else nullcontext():
            states: Tensor = self.backbone(**batch).last_hidden_state
        return states

    def pooled(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden) as one per item (batch, hidden). They are summed in float32 at least: float16 ends
        at 65,504, and bfloat16 counts no further than 256."""
        if self.pooling == "cls":
            first: Tensor = hidden[:, 0]
            return first
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        if attention_mask is None:
            return hidden.mean(1, dtype=dtype)
        mask = attention_mask[..., None].to(hidden.dtype)
        mean: Tensor = (hidden * mask).sum(1, dtype=dtype) / mask.sum(1, dtype=dtype)
        return mean

    def pool(self, **batch: Tensor) -> Tensor:
        """Pooled hidden states (batch, hidden)."""
        return self.pooled(self.hidden(**batch), batch.get("attention_mask"))

    def classify_pooled(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pooled.to(self.classifier.weight.dtype))
        return logits

    def outputs(self, items: Sequence[Any], *, batch_size: int = 32) -> NDArray[np.float32]:
        """What the head gives for each of `items` (items, outputs), in evaluation mode."""
        return self._in_batches(items, batch_size, lambda **batch: self.classify_pooled(self.pool(**batch)))

    def features(self, items: Sequence[Any], *, batch_size: int = 64) -> NDArray[np.float32]:
        """The pooled hidden states of `items` (items, hidden), in evaluation mode."""
        return self._in_batches(items, batch_size, self.pool)

    def _in_batches(self, items: Sequence[Any], batch_size: int, answer: Any) -> NDArray[np.float32]:
        answers: list[NDArray[np.float32] | None] = [None] * len(items)
        with evaluating(self), torch.inference_mode():
            for rows, chunk in inputs.batches_by_length(items, batch_size):
                for row, values in zip(rows, answer(**self.batch(chunk)).float().cpu().numpy(), strict=True):
                    answers[row] = values
        width = self.classifier.in_features
        return np.stack([a for a in answers if a is not None]) if answers else np.empty((0, width), dtype=np.float32)


class TextHead(PooledHead):
    """A head over texts, or pairs of texts."""

    def __init__(self, backbone: nn.Module, outputs: int, *, max_length: int = 128, **options: Any) -> None:
        super().__init__(backbone, outputs, **options)
        self.max_length = max_length

    @cached_property
    def tokenizer(self) -> Any:
        """The base's own tokenizer, loaded from where the base was loaded. Raises BaseMismatch (BASE_TOKENIZER_MISMATCH)."""
        return tokenizer_for(self.backbone, self.base, verify=self.verify)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **more: Tensor) -> Tensor:
        """Outputs (batch, outputs) for token ids and mask (batch, tokens)."""
        return self.classify_pooled(self.pool(input_ids=input_ids, attention_mask=attention_mask, **more))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Tokens]:
        """The tokens of each text, or of each text and its pair, cut at `max_length`."""
        return inputs.encode(self.tokenizer, texts, pairs, max_length=self.max_length)

    def batch(self, items: Sequence[Tokens]) -> dict[str, Tensor]:
        return inputs.padded(items, self.device)


class PooledClassifier(TextHead):
    """A text, or two, to one of `labels`."""

    def __init__(self, backbone: nn.Module, labels: Sequence[str], **options: Any) -> None:
        super().__init__(backbone, len(labels), **options)
        self.labels = tuple(labels)

    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_size: int = 32) -> list[str]:
        """The label of each text, or of each text and its pair."""
        return [self.labels[i] for i in self.predict(texts, pairs, batch_size=batch_size)]

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_size: int = 32) -> list[int]:
        """The index of the most likely label of each text, in evaluation mode."""
        return classes_of(self.outputs(self.encode(texts, pairs), batch_size=batch_size))


class PooledRegressor(TextHead):
    """A text, or two, to a number."""

    def __init__(self, backbone: nn.Module, **options: Any) -> None:
        super().__init__(backbone, 1, **options)

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_size: int = 32) -> list[float]:
        """The number of each text, or of each text and its pair, in evaluation mode."""
        return values_of(self.outputs(self.encode(texts, pairs), batch_size=batch_size))


class ImageClassifier(PooledHead):
    """An image to one of `labels`."""

    def __init__(self, backbone: nn.Module, labels: Sequence[str], *, pooling: str = "cls", **options: Any) -> None:
        super().__init__(backbone, len(labels), pooling=pooling, **options)
        self.labels = tuple(labels)

    @cached_property
    def processor(self) -> Any:
        """The base's own image processor, loaded from where the base was loaded. Raises BaseMismatch (BASE_PROCESSOR_MISMATCH)."""
        return processor_for(self.backbone, self.base, verify=self.verify)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (batch, labels) for pixels (batch, 3, height, width)."""
        return self.classify_pooled(self.pool(pixel_values=pixel_values))

    def encode(self, images: Sequence[Image]) -> list[Pixels]:
        inputs.require_many(images, "image")
        return [Pixels(image) for image in images]

    def batch(self, items: Sequence[Pixels]) -> dict[str, Tensor]:
        self.processor  # noqa: B018  # made here, and not by every thread
        with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it decodes and resizes
            pixels = torch.cat(list(pool.map(self._pixels, items)))
        return {"pixel_values": pixels.to(self.device, next(self.backbone.parameters()).dtype)}

    def _pixels(self, item: Pixels) -> Tensor:
        """Of one image (1, 3, height, width)."""
        made: Tensor = self.processor(images=inputs.decoded(item.image), return_tensors="pt")["pixel_values"]
        return made

    def classify(self, images: Sequence[Image], *, batch_size: int = 32) -> list[str]:
        """The label of each image: encoded bytes, a path, or an image of Pillow."""
        return [self.labels[i] for i in self.predict(images, batch_size=batch_size)]

    def predict(self, images: Sequence[Image], *, batch_size: int = 32) -> list[int]:
        """The index of the most likely label of each image, in evaluation mode."""
        return classes_of(self.outputs(self.encode(images), batch_size=batch_size))


def width_of(backbone: nn.Module) -> int:
    """The size of the base's hidden states. Raises VeraError (HEAD_UNSUPPORTED) for a base without one."""
    width = getattr(getattr(backbone, "config", None), "hidden_size", None)
    if not isinstance(width, int):
        raise VeraError(
            f"A {type(backbone).__name__} has no hidden size in its configuration, so no head fits on it: "
            "take an encoder, a decoder or a vision transformer.",
            code="HEAD_UNSUPPORTED",
        )
    return width


def outputs_of_many(
    heads: Sequence[PooledHead], items: Sequence[Any], *, batch_size: int = 32
) -> list[NDArray[np.float32]]:
    """What each of `heads` gives for each of `items` (items, outputs), in evaluation mode: every batch of items goes through
    the base once, repeated for each head, and each repetition through its own adapter.

    The heads take the same items (`encode` of any of them) and pool alike. A batch of items is what it is for one
    head alone, so that nothing but the number of rows is another: and not even that in the layers below the first adapted
    one, through which it goes once for all of two or more items. Raises VeraError (BANK_NOT_SHARED).
    """
    bank, names = _one_bank(heads)
    adapted = {bank.targets[module] for name in names for module in bank.slot(name).deltas}
    layers = layers_from_first_adapted(heads[0].backbone, adapted)
    answers: list[list[NDArray[np.float32] | None]] = [[None] * len(items) for _ in heads]
    with evaluating(heads[0].backbone), torch.inference_mode():
        for size, batches in groupby(inputs.batches_by_length(items, batch_size), lambda batch: len(batch[0])):
            with bank.rows([name for name in names for _ in range(size)]):  # only the last batch may be smaller
                for rows, chunk in batches:
                    for mine, outputs in zip(answers, _outputs_of_batch(heads, chunk, layers), strict=True):
                        for row, values in zip(rows, outputs, strict=True):
                            mine[row] = values
    return [np.stack([values for values in mine if values is not None]) for mine in answers]


def _outputs_of_batch(
    heads: Sequence[PooledHead], items: Sequence[Any], layers: Sequence[nn.Module]
) -> list[NDArray[np.float32]]:
    """Of each of `heads` for each of `items` (items, outputs), as many outputs as the head has: its adapter is set for its
    rows. Only what comes to `layers` is repeated for each head, where there are any."""
    batch = heads[0].batch(items)
    if (
        layers and len(items) > 1
    ):  # of one item, what is one for all rows (DeBERTa's positions) cannot be told from what is one for each
        with fanned_out(layers, len(items), len(heads)):
            hidden: Tensor = heads[0].backbone(**batch).last_hidden_state
    else:
        repeated = {name: part.repeat(len(heads), *[1] * (part.dim() - 1)) for name, part in batch.items()}
        hidden = heads[0].backbone(**repeated).last_hidden_state
    outputs = [
        head.classify_pooled(head.pooled(states, batch.get("attention_mask"))).float()
        for head, states in zip(heads, torch.split(hidden, len(items)), strict=True)
    ]
    found: NDArray[np.float32] = torch.cat(outputs, -1).cpu().numpy()  # one copy for all: each would be waited for
    return np.split(found, np.cumsum([part.shape[-1] for part in outputs])[:-1], axis=-1)


def logits_per_row(classifiers: Sequence[PooledHead], input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
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


def _one_bank(classifiers: Sequence[PooledHead]) -> tuple[Bank, list[str]]:
    """The bank all of `classifiers` stand on, and the adapter of each."""
    adapters = [classifier.adapter for classifier in classifiers]
    banks = {id(adapter[0]) if adapter else None for adapter in adapters}
    if len(banks) != 1 or adapters[0] is None:
        raise VeraError(
            "These classifiers do not share one base: put their adapters on the same live model.",
            code="BANK_NOT_SHARED",
        )
    return adapters[0][0], [adapter[1] for adapter in adapters if adapter]
