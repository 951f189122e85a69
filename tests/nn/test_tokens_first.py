"""A model that puts tokens before rows within: its rows are never taken for tokens."""

from __future__ import annotations

import pytest
import torch
from transformers import XLNetConfig, XLNetModel

from tests.nn.small_models import adapted, seeded
from vera.errors import VeraError
from vera.nn.serving.bank import PackedBank


@pytest.mark.parametrize("tokens", [2, 3])
def test_rows_of_a_batch_as_long_as_its_texts_are_refused_as_those_of_any_other(tokens: int) -> None:
    model = seeded(lambda: XLNetModel(XLNetConfig(vocab_size=40, d_model=32, n_layer=1, n_head=2, d_inner=48)))
    bank = adapted(model, "layer_1", names=("a", "b"))
    ids = torch.arange(2 * tokens).reshape(2, tokens)
    with torch.no_grad(), bank.rows(["a", "b"]), pytest.raises(VeraError) as refused:
        model(ids)
    assert refused.value.code == "ROWS_MISMATCH"
    assert ("cannot be told apart" in str(refused.value)) == (tokens == 2)
    with PackedBank(bank, "a", capacity=2, max_rows=4, run=lambda: model(ids)) as packed, torch.no_grad():
        packed.use(["a", None])
        with pytest.raises(VeraError) as refused:
            model(ids)
    assert refused.value.code == "ROWS_MISMATCH"
