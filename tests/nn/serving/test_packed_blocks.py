"""What a packed bank leaves behind: being made, entered, refused and left changes nothing but what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.nn.serving.test_packed_bank import IDS, NAMES, ROWS, answers, packed
from tests.nn.small_models import adapted, tiny_llama
from vera.archive import Vectors
from vera.errors import VeraError
from vera.manifest import AdaptedModule
from vera.nn import merge
from vera.nn.bank import Bank
from vera.nn.layer import Adapting
from vera.nn.serving.choosing import Quickest, Recent
from vera.nn.serving.packing import Packing
from vera.nn.slots import fill
from vera.nn.targets import find_targets
from vera.projection import PHILOX, ProjectionRecipe, digest_of, rebuild

SUFFIXES = ("q_proj", "v_proj")


def hung(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module.forward, Adapting)]


def test_a_block_is_entered_once() -> None:
    model = tiny_llama()
    bank = adapted(model, *SUFFIXES, names=NAMES)
    before = answers(model)
    many = packed(model, bank)
    with many:
        many.use(ROWS)
        mixed = answers(model)
        with pytest.raises(VeraError, match="already") as refused, many:
            pass
        assert refused.value.code == "ROWS_ACTIVE"
        assert torch.equal(answers(model), mixed)
    assert (bank.active, torch.equal(answers(model), before)) == ("a", True)


def test_what_could_not_be_entered_hangs_nowhere() -> None:
    model = tiny_llama()
    bank = adapted(model, *SUFFIXES, names=NAMES)
    many = packed(model, bank)
    bank.activate(None)
    other = adapted(model, "layers.1.self_attn.v_proj")
    with pytest.raises(VeraError) as refused, many:
        pass
    assert refused.value.code == "TARGET_TAKEN"
    assert hung(model) == ["model.layers.1.self_attn.v_proj"]
    other.detach()
    bank.activate("b")
    assert bank.active == "b"


def test_a_block_is_not_entered_while_other_modules_go_through_another_bank() -> None:
    model = tiny_llama()
    bank = adapted(model, *SUFFIXES, names=NAMES)
    many = packed(model, bank)
    bank.activate(None)
    other = adapted(model, "layers.1.mlp.down_proj")
    with pytest.raises(VeraError, match="answers would go through both"), many:
        pass
    assert hung(model) == ["model.layers.1.mlp.down_proj"]
    other.detach()
    with many:
        pass


def test_an_adapter_may_be_removed_in_a_block_that_it_was_active_before() -> None:
    model = tiny_llama()
    bank = adapted(model, *SUFFIXES, names=NAMES)
    many = packed(model, bank, names=("b",))
    with many:
        bank.remove("a")
    assert (bank.active, hung(model)) == (None, [])


def test_a_bank_is_not_made_of_modules_that_answer_for_another() -> None:
    model = tiny_llama()
    bank = adapted(model, *SUFFIXES, names=NAMES)
    with packed(model, bank) as many:
        many.use(ROWS)
        mixed = answers(model)
        with pytest.raises(VeraError) as refused:
            packed(model, bank, run=lambda: model(IDS))
        assert refused.value.code == "TARGET_TAKEN"
        assert torch.equal(answers(model), mixed)


class _FullDevice(TorchFunctionMode):
    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.to:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return func(*args, **(kwargs or {}))


def test_an_adapter_that_no_memory_is_left_for_takes_no_place() -> None:
    def vectors(value: float) -> Vectors:
        return Vectors({"m": np.full(4, value, np.float32)}, {"m": np.full(2, value, np.float32)}, {})

    packing = Packing(
        [[AdaptedModule("m", 4, 4)]],
        rank=2,
        padded_rank=32,
        capacity=1,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    packing.put("a", vectors(7))
    with pytest.raises(torch.OutOfMemoryError), _FullDevice():
        packing.put("b", vectors(1))
    assert packing.names == ("a",)
    assert packing.rows_SV[packing.row_of("a")].max() == 7


def test_an_adapter_is_merged_into_stacked_weights_as_into_others() -> None:
    alone, model = tiny_llama(), tiny_llama()
    merge.merge(adapted(alone, *SUFFIXES, names=NAMES), "a")
    bank = adapted(model, *SUFFIXES, names=NAMES)
    before, many = answers(model), packed(model, bank, stack=True)

    merge.merge(bank, "a")

    assert torch.equal(answers(model), answers(alone))
    merge.unmerge(bank)
    many.unstack()
    assert torch.equal(answers(model), before)


def test_batches_are_measured_apart_where_the_ways_are_others() -> None:
    model = tiny_llama()
    product = packed(model, adapted(model, *SUFFIXES, names=NAMES)).groups[0].product
    shapes = [product.shape_of(torch.zeros(1, tokens, 48)) for tokens in (600, 1023, 1024, 1025)]
    assert shapes[0] == shapes[1]
    assert len(set(shapes)) == 3


def test_the_ways_of_inputs_seen_long_ago_are_forgotten() -> None:
    recent: Recent[str] = Recent(2)
    recent.keep(1, "one")
    recent.keep(2, "two")
    assert recent.get(1) == "one"
    recent.keep(3, "three")
    assert [recent.get(each) for each in (1, 2, 3)] == ["one", None, "three"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="ways are measured on a GPU")
def test_outputs_too_wide_for_a_split_sum_are_answered_another_way() -> None:
    model = nn.Sequential(nn.Linear(512, 140_000, bias=False)).to("cuda", torch.bfloat16)
    wide = AdaptedModule("0", 512, 140_000)
    pair = rebuild(ProjectionRecipe(PHILOX, 3, 128, 512, 140_000))
    bank = Bank(find_targets(model, ["0"]), model)
    random = np.random.default_rng(0)
    slot = bank.add_vera("a", [wide], digest_of(pair), lambda: pair)
    lambda_b, lambda_d = (random.normal(size=size).astype(np.float32) for size in (140_000, 128))
    fill(slot, Vectors({"0": lambda_b}, {"0": lambda_d}, {}))
    x = torch.randn(64, 1, 512, device="cuda", dtype=torch.bfloat16)
    many = packed(model, bank, names=("a",), max_rows=64, run=lambda: model(x))
    many.use(["a"] * 64)
    with torch.no_grad(), many:
        answer, expected = model(x), many.groups[0].product.plain(x)[0]
    assert (answer - expected).abs().max() <= 3e-2 * expected.abs().max()


def test_a_graph_is_captured_of_what_is_quickest_on_the_gpu_and_an_eager_pass_takes_what_is_quickest_to_launch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quickest = Quickest(captured="many launches", eager="one")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert quickest.now == "one"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert quickest.now == "many launches"
