"""Heads on pooled hidden states that answer in one batch."""

from __future__ import annotations

import numpy as np
from transformers import BertConfig, BertModel

from tests.nn.small_models import adapted, seeded
from vera.nn.heads import PooledClassifier, outputs_of_many
from vera.nn.inputs import Tokens


def test_heads_of_other_numbers_of_labels_answer_in_one_batch() -> None:
    config = BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    model = seeded(lambda: BertModel(config))
    bank = adapted(model, "query", "value", names=("a", "b", "c"))
    labels = {"a": ["x", "y"], "b": ["x", "y", "z"], "c": ["x", "y"]}
    heads = [PooledClassifier(model, each, adapter=(bank, name)) for name, each in labels.items()]
    items = [Tokens([1, 2, 3]), Tokens([4, 5, 6]), Tokens([7, 8])]

    together = outputs_of_many(heads, items, batch_size=2)

    assert [found.shape for found in together] == [(3, 2), (3, 3), (3, 2)]
    for head, name, found in zip(heads, labels, together, strict=True):
        bank.activate(name)
        np.testing.assert_array_equal(found, head.outputs(items, batch_size=2))
