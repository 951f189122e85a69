"""Weights and modules that somebody exchanges after they were packed: the answers are right, or it is said that they are not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.nn.serving.test_packed_bank import NAMES, ROWS, answers, packed
from tests.nn.small_models import adapted, tiny_llama
from vera.errors import VeraError, VeraWarning
from vera.nn.bank import Bank
from vera.nn.serving.bank import PackedBank

Served = tuple[Any, Bank, PackedBank]


@pytest.fixture
def served() -> Served:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", "down_proj", names=NAMES)
    return model, bank, packed(model, bank, stack=True)


def attention_of(model: Any) -> Any:
    return model.model.layers[0].self_attn


def others(model: Any) -> dict[str, Tensor]:
    return {name: tensor + 0.01 for name, tensor in model.state_dict().items()}


def assigned(model: Any) -> None:
    model.load_state_dict(others(model), assign=True)


def given_data(model: Any) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = others(model)[name]


def copied(model: Any) -> None:
    model.load_state_dict(others(model))


def swapped(model: Any) -> None:
    """Each is given the place of the other in the stack."""
    key, value = attention_of(model).k_proj.weight, attention_of(model).v_proj.weight
    key.data, value.data = value.data, key.data


def are_stacked(many: PackedBank) -> bool:
    """Whether the stack has what the modules have, and they have it there."""
    return all(
        group.product.stack is not None
        and group.product.stack.is_whole()
        and torch.equal(
            group.product.stack.W_SI[: sum(group.product.sizes)],
            torch.cat([member.module.weight for member in group.product.members]),
        )
        for group in many.groups
    )


@pytest.mark.parametrize("exchange", [assigned, given_data, copied, swapped])
@pytest.mark.parametrize("noticed_by", ["the next batch", "the block"])
def test_weights_that_were_exchanged_are_stacked_where_the_first_ones_were(
    served: Served, exchange: Callable[[Any], None], noticed_by: str
) -> None:
    """Where a captured graph goes on reading."""
    model, bank, many = served
    places = [group.product.stack.W_SI.data_ptr() for group in many.groups if group.product.stack]
    fresh = copy.deepcopy(model)
    exchange(fresh)
    with bank.rows(ROWS):
        before = answers(model)
    exchange(model)
    if noticed_by == "the next batch":
        many.use(ROWS)
    else:
        many.__enter__()
        many.__exit__(None, None, None)

    assert are_stacked(many)
    assert [group.product.stack.W_SI.data_ptr() for group in many.groups if group.product.stack] == places
    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in model.state_dict().items())
    with bank.rows(ROWS):
        expected = answers(model)
    with many:
        many.use(ROWS)
        assert torch.equal(answers(model), expected)
    assert not torch.equal(expected, before)


@pytest.mark.parametrize(("exchange", "sees"), [(copied, "the new"), (assigned, "the old"), (given_data, "the old")])
def test_what_a_graph_reads_that_is_replayed_before_the_next_use(
    served: Served, exchange: Callable[[Any], None], sees: str
) -> None:
    """docs/serving.md says so. The stack stands for the graph, which reads what lies there without running any Python."""
    model, _, many = served
    stacks = [group.product.stack.W_SI for group in many.groups if group.product.stack]
    before = [stack.clone() for stack in stacks]
    exchange(model)
    equal = [torch.equal(stack, old) for stack, old in zip(stacks, before, strict=True)]
    assert equal == [sees == "the old"] * len(stacks)
    many.use(ROWS)
    assert not any(torch.equal(stack, old) for stack, old in zip(stacks, before, strict=True))


def test_weights_of_another_dtype_stand_apart_and_it_is_said_once(served: Served) -> None:
    model, bank, many = served
    model.to(torch.float64)

    with pytest.warns(VeraWarning, match=r"4 of 4 groups .* slower .* another kind, shape, dtype or device") as told:
        many.use(ROWS)

    assert [warning.filename for warning in told] == [__file__]
    assert many.stacked_bytes == 0
    with bank.rows(ROWS):
        expected = answers(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with many:
            many.use(ROWS)
            assert torch.equal(answers(model), expected)


def test_a_bank_whose_weights_another_one_has_stacked_says_so(served: Served) -> None:
    model, bank, many = served
    assigned(model)
    second = packed(model, bank, stack=True)

    with pytest.warns(VeraWarning, match="stacked for another packed bank of this model"):
        many.use(ROWS)

    assert are_stacked(second)
    assert many.stacked_bytes == 0


@pytest.mark.parametrize("place", ["k_proj", "self_attn"])
def test_a_module_that_was_replaced_is_refused_by_name(served: Served, place: str) -> None:
    """It would answer without any adapter."""
    model, _, many = served
    many.use(["a"] * 4)
    if place == "self_attn":
        model.model.layers[1].self_attn = copy.deepcopy(model.model.layers[1].self_attn)
    else:
        model.model.layers[1].self_attn.k_proj = copy.deepcopy(model.model.layers[1].self_attn.k_proj)

    for ask in (lambda: many.use(ROWS), many.__enter__):
        with pytest.raises(VeraError, match=r"layers\.1\.self_attn.* was replaced .* open the base anew") as refused:
            ask()
        assert refused.value.code == "TARGET_REPLACED"
    assert many.names == ("a",) * 4
