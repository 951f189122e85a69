"""A model that puts tokens before rows within: its rows are never taken for tokens."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import XLNetConfig, XLNetModel

from tests.nn.small_models import adapted, seeded, tiny_llama
from vera.errors import VeraError
from vera.nn.serving.bank import PackedBank
from vera.nn.slots import read


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


class TokensFirst(nn.Module):
    """A model of somebody's own, with its tokens first within, or not."""

    def __init__(self, *, is_swapped: bool) -> None:
        super().__init__()
        self.is_swapped = is_swapped
        self.embedding, self.first, self.second = nn.Embedding(40, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(ids.T if self.is_swapped else ids)
        hidden = self.second(self.first(hidden))
        return hidden.transpose(0, 1) if self.is_swapped else hidden


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_model_that_nobody_knows_is_held_to_what_a_batch_shows_of_it(is_packed: bool) -> None:
    square, oblong = torch.arange(9).reshape(3, 3), torch.arange(6).reshape(3, 2)
    names = ["a", None, "b"]

    def through(model: nn.Module, *batches: torch.Tensor) -> list[torch.Tensor]:
        bank = adapted(model, "first", "second", names=("a", "b"))
        with torch.no_grad():
            if not is_packed:
                with bank.rows(names):
                    return [model(ids) for ids in batches]
            packed = PackedBank(bank, "a", capacity=2, max_rows=4, run=lambda: model(oblong))
            packed.put("b", read(bank.slot("b")))
            with packed:
                packed.use(names)
                return [model(ids) for ids in batches]

    swapped, plain = (seeded(lambda swap=swap: TokensFirst(is_swapped=swap)) for swap in (True, False))
    for batches in ([square], [oblong, square]):
        with pytest.raises(VeraError, match=r"^(first|A module) was given inputs") as refused:
            through(copy.deepcopy(swapped), *batches)
        assert refused.value.code == "ROWS_MISMATCH"
    with pytest.raises(VeraError, match="Run a batch with another number of tokens first, which shows it"):
        through(copy.deepcopy(plain), square)
    _, alike = through(copy.deepcopy(plain), oblong, square)
    for row, name in enumerate(names):
        alone = copy.deepcopy(plain)
        adapted(alone, "first", "second", names=("a", "b")).activate(name)
        with torch.no_grad():
            torch.testing.assert_close(alike[row], alone(square)[row])


def test_a_model_of_transformers_within_somebody_s_own_is_known() -> None:
    class Wrapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_llama()

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.body(ids).logits
            return logits

    model, ids = Wrapping(), torch.arange(4).reshape(2, 2)
    with torch.no_grad(), adapted(model, "q_proj", names=("a", "b")).rows(["a", "b"]):
        assert model(ids).shape == (2, 2, 40)
