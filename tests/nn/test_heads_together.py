"""Heads on pooled hidden states that answer in one batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel, BloomConfig, BloomModel, DebertaV2Config, DebertaV2Model

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


def test_the_last_batch_may_be_of_one_item() -> None:
    """DeBERTa hands its layers positions of (1, tokens, tokens), which are one for all rows and look as if they were one for each."""
    config = DebertaV2Config(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, relative_attention=True, pos_att_type=["c2p", "p2c"],
    )  # fmt: skip
    model = seeded(lambda: DebertaV2Model(config))
    bank = adapted(model, "layer.1.attention.self.query_proj", names=("a", "b"))
    heads = [PooledClassifier(model, ["x", "y"], adapter=(bank, name)) for name in ("a", "b")]
    for head in heads:
        nn.init.normal_(head.classifier.weight, generator=torch.Generator().manual_seed(0))
    items = [Tokens([1, 2, 3]), Tokens([4, 5, 6]), Tokens([7, 8])]

    together = outputs_of_many(heads, items, batch_size=2)

    for head, found in zip(heads, together, strict=True):
        np.testing.assert_allclose(found, head.outputs(items, batch_size=2), atol=1e-5)  # float32, in other batches


def test_positions_by_row_and_head_go_with_their_rows() -> None:
    """BLOOM hands its layers ALiBi of (rows · heads, 1, tokens)."""
    config = BloomConfig(vocab_size=40, hidden_size=32, n_layer=3, n_head=4)
    model = seeded(lambda: BloomModel(config))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    bank = adapted(model, "h.1.self_attention.query_key_value", names=("a", "b", "c"))
    heads = [PooledClassifier(model, ["x", "y"], adapter=(bank, name)) for name in ("a", "b", "c")]
    for head in heads:
        nn.init.normal_(head.classifier.weight, generator=torch.Generator().manual_seed(0))
    items = [Tokens([1, 2, 3, 4]), Tokens([4, 5]), Tokens([7, 8, 9, 1]), Tokens([3, 2])]

    together = outputs_of_many(heads, items, batch_size=2)

    for head, found in zip(heads, together, strict=True):
        np.testing.assert_allclose(found, head.outputs(items, batch_size=2), atol=1e-5)  # float32, in other batches
    assert np.abs(together[0] - together[1]).max() > 1e-3
