"""A packed bank answers what `Bank.rows` answers; on a GPU within the rounding of the kernels' products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.nn.small_models import Int8Linear, adapted, normal, tiny_gpt2, tiny_llama
from vera.archive import Vectors
from vera.errors import TargetError, VeraError
from vera.manifest import DVORA
from vera.nn.bank import Bank
from vera.nn.serving.bank import PackedBank
from vera.nn.slots import read

if torch.cuda.is_available():
    from vera.nn.serving import forms
    from vera.nn.serving.repeating import Known

NAMES = ("a", "b", "c")
IDS = torch.arange(1, 13).view(4, 3)
ROWS = ["c", None, "a", "c"]


def answers(model: Any, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids).logits
    return logits


def packed(model: Any, bank: Bank, *, names: Sequence[str] = NAMES, **options: Any) -> PackedBank:
    given = {"capacity": 8, "dtype": torch.float32, "max_rows": 16, "run": lambda: answers(model), **options}
    made = PackedBank(bank, names[0], **given)
    for name in names[1:]:
        made.put(name, read(bank.slot(name)))
    return made


MODELS = [
    (tiny_llama, ("q_proj", "v_proj")),
    (tiny_llama, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
    (tiny_llama, ("down_proj",)),
    (tiny_gpt2, ("c_attn", "c_fc")),
]


@pytest.mark.parametrize(("make", "suffixes"), MODELS)
def test_each_row_gets_what_the_other_bank_gives_it(make: Any, suffixes: tuple[str, ...]) -> None:
    model = make()
    bank = adapted(model, *suffixes, names=NAMES)
    with bank.rows(ROWS):
        expected = answers(model)

    with packed(model, bank) as many:
        many.use(ROWS)
        assert torch.equal(answers(model), expected)


def test_vectors_on_a_quantised_base_are_numbers_with_fractions() -> None:
    model = nn.Sequential(Int8Linear(nn.Linear(48, 80)))
    bank, x = adapted(model, "0", names=("a", "b")), normal(3, 48)
    with torch.no_grad(), bank.rows(["a", None, "b"]):
        expected = model(x)

    many = packed(model, bank, names=("a", "b"), dtype=None, run=lambda: model(x))

    with torch.no_grad(), many:
        many.use(["a", None, "b"])
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(VeraError, match="no fractions") as refused:
        packed(model, bank, names=("a",), dtype=torch.int8, run=lambda: model(x))
    assert refused.value.code == "DTYPE_INVALID"


def test_modules_with_one_input_are_a_group_with_what_no_adapter_adapts_in_it() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", "down_proj", names=NAMES)

    groups = packed(model, bank).groups

    layer = model.model.layers[0]
    attention, mlp = layer.self_attn, layer.mlp
    assert [m.module for m in groups[0].product.members] == [attention.q_proj, attention.k_proj, attention.v_proj]
    assert [m.places is None for m in groups[0].product.members] == [False, True, False]
    assert [m.module for m in groups[1].product.members] == [mlp.down_proj]


@pytest.fixture
def served() -> Iterator[tuple[Any, Bank, PackedBank]]:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", names=NAMES)
    with packed(model, bank, capacity=3) as many:
        yield model, bank, many


def alone(model: Any, bank: Bank, many: PackedBank, name: str | None) -> Tensor:
    many.use([name] * len(IDS))
    return answers(model)


def test_rows_change_from_pass_to_pass(served: tuple[Any, Bank, PackedBank]) -> None:
    model, bank, many = served
    each = {name: alone(model, bank, many, name) for name in (*NAMES, None)}

    for names in (ROWS, ["b", "b", None, "a"]):
        many.use(names)
        mixed = answers(model)
        for row, name in enumerate(names):
            assert torch.equal(mixed[row], each[name][row])


def test_replaced_vectors_answer_at_the_next_pass(served: tuple[Any, Bank, PackedBank]) -> None:
    model, bank, many = served
    expected = alone(model, bank, many, "b")

    many.use(["a"] * 4)
    many.put("a", read(bank.slot("b")))

    assert torch.equal(answers(model), expected)


def test_the_one_used_longest_ago_makes_room(served: tuple[Any, Bank, PackedBank]) -> None:
    _, bank, many = served
    many.use(["a", "c", "a", None])

    many.put("d", read(bank.slot("b")))

    assert set(many.packing.names) == {"a", "c", "d"}
    with pytest.raises(VeraError, match="No adapter 'b' is in this bank") as refused:
        many.use(["b"] * 4)
    assert refused.value.code == "ADAPTER_NOT_LOADED"
    assert many.names == ("a", "c", "a", None)


def test_no_adapter_of_the_batch_makes_room(served: tuple[Any, Bank, PackedBank]) -> None:
    model, bank, many = served
    many.use(["a", "b", "c", "a"])
    before = answers(model)

    with pytest.raises(VeraError) as refused:
        many.put("d", read(bank.slot("b")))

    assert refused.value.code == "BANK_FULL"
    assert torch.equal(answers(model), before)


def test_a_graph_of_more_rows_than_are_named_reads_nobody_s_vectors_in_the_others() -> None:
    """What a graph of four rows reads is read here as it would: by the numbers, where they lie."""
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", names=NAMES)
    many = packed(model, bank, names=("a", "b"), capacity=2)
    index, rows = many.index, many.packing.rows_SV
    many.use(["a", "b", "b", "a"])
    named = rows[index[:4].long()].clone()
    many.use(["a"])
    many.put("c", read(bank.slot("c")))  # in place of b

    replayed = rows[index[:4].long()]

    assert (index.data_ptr(), rows.data_ptr()) == (many.index.data_ptr(), many.packing.rows_SV.data_ptr())
    assert torch.equal(replayed[0], named[0])
    assert replayed[1:].count_nonzero() == 0


def test_a_graph_that_is_replayed_before_the_next_use_reads_of_one_name_what_was_put_last() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", names=NAMES)
    many = packed(model, bank)
    many.use(["a"])
    many.put("a", read(bank.slot("b")))
    many.put("b", read(bank.slot("c")))
    a, b, c = (packed(model, bank, names=(name,)).packing.rows_SV[1] for name in NAMES)
    assert torch.equal(many.packing.rows_SV[many.index[0].long()], b)
    many.use(["b"])
    assert torch.equal(many.packing.rows_SV[many.index[0].long()], c)
    assert not torch.equal(a, b)


def test_an_adapter_of_the_batch_is_not_removed(served: tuple[Any, Bank, PackedBank]) -> None:
    _, _, many = served
    many.use(["a", None, None, None])
    with pytest.raises(VeraError) as refused:
        many.remove("a")
    assert refused.value.code == "ADAPTER_IN_USE"

    many.remove("b")
    assert "b" not in many.packing


def test_a_batch_of_other_rows_is_refused(served: tuple[Any, Bank, PackedBank]) -> None:
    model, _, many = served
    many.use(["a", "b"])
    with pytest.raises(VeraError) as refused:
        answers(model)
    assert refused.value.code == "ROWS_MISMATCH"
    with pytest.raises(VeraError) as refused:
        many.use(["a"] * 17)
    assert refused.value.code == "ROWS_MISMATCH"


def test_vectors_of_other_modules_are_refused_and_change_nothing(served: tuple[Any, Bank, PackedBank]) -> None:
    model, bank, many = served
    good = read(bank.slot("b"))
    module = next(iter(good.lambda_b))
    expected = alone(model, bank, many, "a")
    for bad in (
        Vectors(
            {**good.lambda_b, "other": np.zeros(3, np.float32)}, {**good.lambda_d, "other": np.zeros(8, np.float32)}, {}
        ),
        Vectors({**good.lambda_b, module: np.zeros(3, np.float32)}, good.lambda_d, {}),
        Vectors(good.lambda_b, {**good.lambda_d, module: np.zeros(4, np.float32)}, {}),
    ):
        with pytest.raises(VeraError) as refused:
            many.put("a", bad)
        assert refused.value.code == "DIMS_MISMATCH"
    assert torch.equal(alone(model, bank, many, "a"), expected)


def test_a_module_that_an_adapter_does_not_adapt_is_the_base_s(served: tuple[Any, Bank, PackedBank]) -> None:
    model, bank, many = served
    whole = read(bank.slot("b"))
    some = [name for name in whole.lambda_b if name.endswith("q_proj")]
    part = Vectors({n: whole.lambda_b[n] for n in some}, {n: whole.lambda_d[n] for n in some}, {})
    zeros = {n: np.zeros_like(v) if n not in some else v for n, v in whole.lambda_b.items()}
    many.put("a", Vectors(zeros, whole.lambda_d, {}))
    expected = alone(model, bank, many, "a")

    many.put("a", part)

    assert torch.equal(alone(model, bank, many, "a"), expected)


def test_after_the_block_the_model_is_as_it_was_before() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", names=NAMES)
    bank.activate("b")
    before = answers(model)
    many = packed(model, bank)
    assert bank.active == "b"

    with many:
        many.use(ROWS)
        assert not torch.equal(answers(model), before)
        with pytest.raises(VeraError):
            bank.activate("c")

    assert bank.active == "b"
    assert torch.equal(answers(model), before)


def test_generate_answers_each_row_as_alone() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", names=NAMES)
    with packed(model, bank) as many:
        many.use(ROWS)
        together = model.generate(input_ids=IDS, max_new_tokens=5, do_sample=False)
        for row, name in enumerate(ROWS):
            many.use([name])
            one = model.generate(input_ids=IDS[row : row + 1], max_new_tokens=5, do_sample=False)
            assert torch.equal(together[row], one[0])


def test_what_cannot_be_packed_says_what_can_hold_it() -> None:
    model = tiny_llama()
    for bank in (adapted(model, "q_proj", method=DVORA), adapted(tiny_llama(), "embed_tokens")):
        with pytest.raises(TargetError, match=r"Bank\.rows") as refused:
            PackedBank(bank, "a", capacity=2, run=lambda: None)
        assert refused.value.code == "TARGET_UNSUPPORTED"
        bank.detach()


def test_a_compiled_model_follows_the_rows() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", names=NAMES)
    with bank.rows(ROWS):
        expected = answers(model)
    with packed(model, bank) as many:
        many.use(ROWS)
        compiled = torch.compile(model, backend="eager")
        assert torch.equal(answers(compiled), expected)
        many.use(["a"] * 4)
        changed = answers(compiled)
        assert torch.equal(changed, answers(model))
        assert not torch.equal(changed, expected)


# Stacked weights


@pytest.fixture
def stacked() -> tuple[Any, Bank, PackedBank]:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", "down_proj", names=NAMES)
    return model, bank, packed(model, bank, stack=True)


def test_a_model_with_stacked_weights_is_the_same_model(stacked: tuple[Any, Bank, PackedBank]) -> None:
    model, bank, many = stacked
    fresh = tiny_llama()
    attention = model.model.layers[0].self_attn
    bank.activate(None)

    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(answers(model), answers(fresh))
    with bank.rows(ROWS):
        expected = answers(model)
    with many:
        many.use(ROWS)
        assert torch.equal(answers(model), expected)
    storages = {m.weight.untyped_storage().data_ptr() for m in (attention.q_proj, attention.k_proj, attention.v_proj)}
    assert len(storages) == 1
    rank, layers = many.packing.rank, len(model.model.layers)
    assert many.stacked_bytes >= 4 * rank * layers * (attention.q_proj.in_features + model.config.intermediate_size)


def test_unstacking_gives_every_module_its_own_weight_again(stacked: tuple[Any, Bank, PackedBank]) -> None:
    model, _, many = stacked
    bits = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    many.unstack()

    attention = model.model.layers[0].self_attn
    for module in (attention.q_proj, attention.k_proj, attention.v_proj):
        assert module.weight.untyped_storage().nbytes() == module.weight.numel() * module.weight.itemsize
    assert all(torch.equal(tensor, bits[name]) for name, tensor in model.state_dict().items())
    assert many.stacked_bytes == 0


def test_weights_that_are_stacked_for_one_bank_are_not_moved_to_another(stacked: tuple[Any, Bank, PackedBank]) -> None:
    model, bank, many = stacked
    first = [group.product.stack for group in many.groups]

    with pytest.raises(VeraError, match="stacked for another packed bank") as refused:
        packed(model, bank, stack=True)
    assert refused.value.code == "TARGET_TAKEN"
    assert all(stack is not None and stack.is_whole() for stack in first)

    packed(model, bank)
    many.unstack()
    assert packed(model, bank, stack=True).stacked_bytes > 0


def test_a_stack_notices_that_a_weight_has_been_given_another_tensor(stacked: tuple[Any, Bank, PackedBank]) -> None:
    model, _, many = stacked
    stack = many.groups[0].product.stack
    assert stack is not None
    assert stack.is_whole()

    weight = model.model.layers[0].self_attn.k_proj.weight
    weight.data = weight.data + 1

    assert not stack.is_whole()
    many.unstack()
    assert torch.equal(model.model.layers[0].self_attn.k_proj.weight, weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the stacked form is for GPUs")
@pytest.mark.parametrize("batch", [1, 4, 70])
def test_the_stacked_form_answers_within_rounding(batch: int) -> None:
    model = tiny_llama().to("cuda", torch.bfloat16)
    bank = adapted(model, "q_proj", "v_proj", "down_proj", names=NAMES)
    many = packed(model, bank, stack=True, max_rows=128, run=lambda: answers(model, IDS.cuda()))
    names = [(*NAMES, None)[i % 4] for i in range(batch)]
    for group in many.groups:
        product = group.product
        x = torch.randn(batch, 3, product.members[0].module.in_features, device="cuda", dtype=torch.bfloat16)
        many.use(names)
        for tiles in forms.tiles_added(batch * 3):
            with torch.no_grad():
                got, expected = forms.stacked(product, tiles, Known(), x), product.plain(x)
            for one, other in zip(got, expected, strict=True):
                assert (one.double() - other.double()).abs().max() <= 3e-2 * other.double().abs().max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="launches are repeated on a GPU")
@pytest.mark.parametrize("stack", [False, True])
def test_a_pass_that_repeats_launches_answers_as_the_first_did(stack: bool) -> None:
    model = tiny_llama().to("cuda", torch.bfloat16)
    bank = adapted(model, "q_proj", "v_proj", "down_proj", names=NAMES)
    many = packed(model, bank, stack=stack, run=lambda: answers(model, IDS.cuda()))
    many.use(ROWS)
    for group in many.groups:
        product = group.product
        x = torch.randn(4, 1, product.members[0].module.in_features, device="cuda", dtype=torch.bfloat16)
        for form in product._forms(x):
            with torch.no_grad():
                first, other = form(x), form(x + 1)
                again = form(x.clone())
                weight = product.members[0].module.weight
                kept = weight.data
                weight.data = kept + 1
                moved = form(x)
                weight.data = kept
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
            assert not torch.equal(first[0], other[0])
            expected = product.plain(x)[0] + x.sum(-1, keepdim=True)
            assert (moved[0] - expected).abs().max() <= 5e-2 * expected.abs().max()
