"""Layers below the first adapted one: computed once for all that share a batch, and the outputs stay what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, ViTConfig, ViTModel

from vera.archive import Vectors
from vera.manifest import AdaptedModule
from vera.nn import heads
from vera.nn.bank import Bank
from vera.nn.heads import PooledClassifier, outputs_of_many
from vera.nn.inputs import Tokens
from vera.nn.prefix import fanned_out, layers_from_first_adapted
from vera.nn.targets import find_targets
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, rebuild

LAYERS, ADAPTERS, RANK = 6, 3, 8
# As many tokens as a batch has rows, among others: nothing goes by a length that is alike by chance.
ITEMS = [Tokens([2, *range(5, 5 + length), 3]) for length in (1, 1, 1, 9, 9, 17, 30)]


def bert() -> BertModel:
    """Of the shape of MiniLM."""
    return BertModel(
        BertConfig(
            vocab_size=64, hidden_size=384, num_hidden_layers=LAYERS, num_attention_heads=12, intermediate_size=1536
        )
    )


def llama() -> LlamaModel:
    return LlamaModel(
        LlamaConfig(
            vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=LAYERS, num_attention_heads=4,
            num_key_value_heads=2,
        )
    )  # fmt: skip


def vit() -> ViTModel:
    return ViTModel(
        ViTConfig(
            hidden_size=64, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=128, image_size=32
        ),
        add_pooling_layer=False,
    )


class OfPixels(PooledClassifier):
    """Of images, which are tensors here."""

    def batch(self, items: Sequence[Any]) -> dict[str, Tensor]:
        return {"pixel_values": torch.stack([item.pixels for item in items])}


class Picture:
    def __init__(self, seed: int) -> None:
        self.pixels = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return 1


def adapted(backbone: nn.Module, *, first: Sequence[int], kind: type[PooledClassifier] = PooledClassifier) -> list[Any]:
    """Heads over adapters of which each adapts query and value from its layer of `first` on."""
    names = ("query", "value") if isinstance(backbone, BertModel) else ("q_proj", "v_proj")
    targets = find_targets(backbone, names)
    bank, found = Bank(targets, backbone), []
    for seed, at in enumerate(first):
        modules = [
            AdaptedModule(name, module.in_features, module.out_features)
            for name, module in sorted(targets.items())
            if int(next(part for part in name.split(".") if part.isdecimal())) >= at
        ]
        recipe = ProjectionRecipe(
            PEFT_MT19937, 0, RANK, max(each.in_features for each in modules), max(each.out_features for each in modules)
        )
        rng = np.random.default_rng(seed)
        vectors = Vectors(
            {each.name: rng.normal(size=each.out_features).astype(np.float32) for each in modules},
            {each.name: rng.normal(size=RANK).astype(np.float32) for each in modules},
            {},
        )
        pair = rebuild(recipe)
        bank.add_vera(f"adapter-{seed}", modules, digest_of(pair), lambda pair=pair: pair, vectors=vectors)
        head = kind(backbone, ("cat", "dog", "fish"), adapter=(bank, f"adapter-{seed}"))
        with torch.no_grad():
            head.classifier.weight.copy_(torch.from_numpy(rng.normal(size=head.classifier.weight.shape)))
        found.append(head)
    return found


def rows_seen(backbone: nn.Module) -> dict[int, set[int]]:
    """By layer, how many rows come to it, once something goes through."""
    layers = next(each for each in backbone.modules() if isinstance(each, nn.ModuleList))
    seen: dict[int, set[int]] = {number: set() for number in range(len(layers))}
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda _module, args, _out, number=number: seen[number].add(len(args[0])))
    return seen


def same(ours: Sequence[NDArray[np.float32]], theirs: Sequence[NDArray[np.float32]]) -> bool:
    """To the last bits, which on some processors are others where more rows go through a product at once."""
    return all(np.allclose(one, other, rtol=1e-5, atol=1e-4) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("make", [bert, llama, vit], ids=["bert", "llama", "vit"])
def test_what_is_below_the_first_adapted_layer_is_computed_once_and_the_outputs_are_the_same(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    backbone = make().eval()
    is_vit = isinstance(backbone, ViTModel)
    many = adapted(backbone, first=(5, 4, 5), kind=OfPixels if is_vit else PooledClassifier)
    items: list[Any] = [Picture(seed) for seed in range(7)] if is_vit else ITEMS
    seen = rows_seen(backbone)

    ours = outputs_of_many(many, items, batch_size=3)

    # Of three items, and three copies of the one in the last batch.
    assert [seen[number] for number in range(LAYERS)] == [{3}] * 4 + [{9, 3}] * 2
    assert same(ours, [head.outputs(items, batch_size=3) for head in many])
    monkeypatch.setattr(heads, "layers_from_first_adapted", lambda *_: [])
    assert same(ours, outputs_of_many(many, items, batch_size=3))
    assert not any(layer._forward_pre_hooks for layer in backbone.modules())


def test_adapters_of_which_one_begins_at_the_bottom_share_nothing_and_answer_as_before() -> None:
    torch.manual_seed(0)
    backbone = bert().eval()
    many = adapted(backbone, first=(0, 4))
    seen = rows_seen(backbone)

    ours = outputs_of_many(many, ITEMS, batch_size=4)

    assert seen[0] == {8, 6}
    assert same(ours, [head.outputs(ITEMS, batch_size=4) for head in many])


class Counting(nn.Module):
    """Says how long each thing is that it is given."""

    def forward(self, states: Tensor, mask: Tensor, positions: Tensor) -> list[int]:
        return [len(states), len(mask), len(positions)]


def test_what_is_not_of_rows_is_not_repeated() -> None:
    layer = Counting()
    with fanned_out([layer], 3, 2):
        assert layer(torch.zeros(3, 5), torch.zeros(1, 5), positions=torch.zeros(3)) == [6, 1, 3]
    assert layer(torch.zeros(3, 5), torch.zeros(1, 5), positions=torch.zeros(3)) == [3, 1, 3]


def test_modules_beside_each_other_are_no_layers() -> None:
    beside = nn.ModuleList([nn.Linear(2, 2), nn.Embedding(2, 2)])
    assert layers_from_first_adapted(beside, [beside[1]]) == []
    in_turn = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)])
    assert layers_from_first_adapted(in_turn, [in_turn[1]]) == list(in_turn)[1:]
    assert layers_from_first_adapted(in_turn, [in_turn[1], nn.Linear(2, 2)]) == []  # one that is in no layer
