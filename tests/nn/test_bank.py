"""Many adapters on one model: one per row of a batch, weighted sums, and what they cost in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.nn.small_models import adapted, tiny_llama
from tests.tiny import load_tiny_bert
from tests.tiny_adapters import QUERY, WIDE, make_tiny
from vera.archive import Vectors
from vera.errors import VeraError
from vera.fingerprint import BaseFingerprint
from vera.manifest import AdaptedModule
from vera.nn.attach import attach
from vera.nn.bank import Bank
from vera.nn.heads import PooledClassifier, logits_per_row
from vera.nn.layer import LoraDelta
from vera.nn.linear import linear_size
from vera.nn.merge import merge, unmerge
from vera.nn.slots import fill
from vera.nn.targets import find_targets
from vera.projection import PEFT_MT19937, Projection, ProjectionRecipe, digest_of, rebuild

TOKENS = 6
OUTPUT = "encoder.layer.1.output.dense"


def outputs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return hidden


def texts(rows: int) -> torch.Tensor:
    return torch.randint(2, 25, (rows, TOKENS), generator=torch.Generator().manual_seed(rows))


def one_by_one(model: Any, bank: Bank, names: Sequence[str | None], ids: torch.Tensor) -> torch.Tensor:
    """Each row in a batch of its own, through its own adapter."""
    alone = []
    for row, name in enumerate(names):
        bank.activate(name)
        alone.append(outputs(model, ids[row : row + 1]))
    bank.activate(None)
    return torch.cat(alone)


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max())


def noise_of_the_base(model: Any, bank: Bank, ids: torch.Tensor) -> float:
    """How far a row of the bare base is from the same row alone.

    Whether a row's bits depend on the rows beside it is up to the matrix products of the processor.
    On x86 in float32 they do not for these shapes, so that this is 0.0, and a mixed batch has no
    excuse: it must be exact. Where the base has noise, several times as much is allowed, because
    the random adapters here are stronger than the base.
    """
    return difference(outputs(model, ids), one_by_one(model, bank, [None] * len(ids), ids))


def add(bank: Bank, name: str, modules: Sequence[str], pair: Projection, seed: int = 0) -> None:
    """An adapter with random vectors that depend on `seed`."""
    rng = np.random.default_rng(seed)
    adapted = [AdaptedModule(module, *linear_size(bank.targets[module])) for module in modules]
    slot = bank.add_vera(name, adapted, digest_of(pair), lambda: pair)
    rank = pair.A.shape[0]
    fill(
        slot,
        Vectors(
            {m.name: rng.normal(size=m.out_features).astype(np.float32) for m in adapted},
            {m.name: rng.normal(size=rank).astype(np.float32) for m in adapted},
            {},
        ),
    )


def pair_of(rank: int, *, seed: int = 0, rounding: str = "float32") -> Projection:
    return rebuild(ProjectionRecipe(PEFT_MT19937, seed, rank, 64, 64, rounding))


@pytest.fixture
def bank(tiny_model: Any) -> Bank:
    """Adapters that differ in seed, rank, targets, rounding, and one that is a LoRA."""
    bank = Bank(find_targets(tiny_model, ["query", "value", "dense"]), tiny_model)
    add(bank, "a", [QUERY, WIDE], pair_of(8), seed=1)
    add(bank, "same projection", [QUERY, WIDE], pair_of(8), seed=2)
    add(bank, "other seed", [QUERY, OUTPUT], pair_of(8, seed=7), seed=3)
    add(bank, "other rank", [WIDE], pair_of(4), seed=4)
    add(bank, "rounded", [QUERY, WIDE], pair_of(8, rounding="bfloat16"), seed=5)
    lora = LoraDelta(4, 32, 32, alpha=8, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(lora.lora_B, generator=torch.Generator().manual_seed(1))
    bank.add("lora", {QUERY: lora})
    return bank


ROWS = ["a", None, "same projection", "other seed", "a", "rounded", "lora", "other rank"]


# One batch, one adapter per row


def test_each_row_gets_exactly_what_it_gets_alone(tiny_model: Any, bank: Bank) -> None:
    ids = texts(len(ROWS))
    expected = one_by_one(tiny_model, bank, ROWS, ids)
    with bank.rows(ROWS):
        mixed = outputs(tiny_model, ids)
    assert difference(mixed, expected) <= 16 * noise_of_the_base(tiny_model, bank, ids)
    assert len({row.numpy().tobytes() for row in expected}) == len(ROWS)


def test_rows_of_one_token_equal_the_same_batch_through_each_adapter(tiny_model: Any, bank: Bank) -> None:
    # With one token a row alone is a matrix-vector product, which sums in another order, in the base as well.
    # What can be asked of every bit is that the others in the batch do not matter: one adapter for all rows.
    names = ["a", "same projection", "a", "same projection"]
    ids = texts(len(names))[:, :1]
    with bank.rows(names):
        mixed = outputs(tiny_model, ids)
    for row, name in enumerate(names):
        bank.activate(name)
        assert torch.equal(mixed[row], outputs(tiny_model, ids)[row])


def test_after_the_block_what_was_active_is_active_again(tiny_model: Any, bank: Bank) -> None:
    ids = texts(2)
    bank.activate("a")
    before = outputs(tiny_model, ids)
    with bank.rows(["rounded", None]):
        assert bank.active is None
    assert bank.active == "a"
    assert torch.equal(outputs(tiny_model, ids), before)


def test_an_error_within_the_block_ends_it_too(tiny_model: Any, bank: Bank) -> None:
    ids = texts(2)
    before = outputs(tiny_model, ids)
    with pytest.raises(ZeroDivisionError), bank.rows(["a", "a"]):
        _ = 1 / 0
    assert torch.equal(outputs(tiny_model, ids), before)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_batch_of_another_size_is_refused(tiny_model: Any, bank: Bank, rows: int) -> None:
    with bank.rows(["a", None, "a", "rounded"]), pytest.raises(VeraError, match="4 rows") as caught:
        outputs(tiny_model, texts(rows))
    assert caught.value.code == "ROWS_MISMATCH"


def test_a_model_that_folds_its_batch_into_its_tokens_is_refused(bank: Bank) -> None:
    with bank.rows(["a", "a"]), pytest.raises(VeraError, match="first dimension"):
        bank.targets[QUERY](torch.zeros(2 * TOKENS, 32))


def test_a_single_vector_is_no_batch_even_when_its_length_fits(bank: Bank) -> None:
    with bank.rows(["a"] * 32), pytest.raises(VeraError, match="shape"):
        bank.targets[QUERY](torch.zeros(32))


def test_a_row_through_an_adapter_that_is_not_there_is_refused(bank: Bank) -> None:
    with pytest.raises(VeraError, match="nobody") as caught, bank.rows(["a", "nobody"]):
        pass
    assert caught.value.code == "ADAPTER_NOT_LOADED"


CHANGES: dict[str, Callable[[Bank], object]] = {
    "activate": lambda bank: bank.activate("rounded"),
    "activate none": lambda bank: bank.activate(None),
    "ensure_active": lambda bank: bank.ensure_active("a"),
    "combine": lambda bank: bank.combine({"a": 0.5}),
    "remove": lambda bank: bank.remove("a"),
    "detach": lambda bank: bank.detach(),
    "rows": lambda bank: bank.rows(["a"]).__enter__(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_changed_while_rows_are_set(tiny_model: Any, bank: Bank, change: str) -> None:
    ids = texts(2)
    with bank.rows(["a", "rounded"]):
        before = outputs(tiny_model, ids)
        with pytest.raises(VeraError, match="leave the block") as caught:
            CHANGES[change](bank)
        assert caught.value.code == "ROWS_ACTIVE"
        assert torch.equal(outputs(tiny_model, ids), before)


def test_a_classifier_cannot_end_the_block_unseen(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    classifier = attach(tiny_model, make_tiny(tiny_base, head=True), tiny_base)
    ids = texts(2)
    with classifier.vera.bank.rows([None, None]), pytest.raises(VeraError, match="leave the block"):
        classifier(ids, torch.ones_like(ids))


def test_vectors_of_every_row_are_trained_as_they_are_alone(tiny_model: Any, bank: Bank) -> None:
    names = ["a", "same projection", None, "other seed"]
    ids = texts(len(names))

    def gradients() -> dict[str, list[torch.Tensor]]:
        found = {
            name: [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in bank.parameters(name)]
            for name in names
            if name
        }
        tiny_model.zero_grad()
        for name in found:
            for parameter in bank.parameters(name):
                parameter.grad = None
        return found

    def loss(ids: torch.Tensor) -> torch.Tensor:
        return tiny_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.square().sum()

    with bank.rows(names):
        loss(ids).backward()
    mixed = gradients()
    for row, name in enumerate(names):
        bank.activate(name)
        loss(ids[row : row + 1]).backward()
    for name, alone in gradients().items():
        for got, expected in zip(mixed[name], alone, strict=True):
            # A gradient sums over tokens in another order when other rows are in the batch.
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


# Heads go with their rows


def classifier(model: Any, bank: Bank, name: str, labels: Sequence[str], **options: Any) -> PooledClassifier:
    made = PooledClassifier(model, labels, adapter=(bank, name), **options)
    nn.init.normal_(made.classifier.weight, generator=torch.Generator().manual_seed(len(labels)))
    return made.eval()


@pytest.fixture
def owners(tiny_model: Any, bank: Bank) -> list[PooledClassifier]:
    two, three = ("cat", "dog"), ("red", "blue", "green")
    return [
        classifier(tiny_model, bank, "a", two),
        classifier(tiny_model, bank, "other seed", three),
        classifier(tiny_model, bank, "other rank", two, pooling="cls"),
    ]


def test_rows_are_answered_by_their_own_heads(owners: list[PooledClassifier]) -> None:
    two, three, cls = owners
    row_owners, ids, mask = [three, two, cls, two], texts(4), torch.ones(4, TOKENS, dtype=torch.long)
    mask[0, 4:] = 0
    with torch.no_grad():
        mixed = logits_per_row(row_owners, ids, mask)
        alone = [owner(ids[i : i + 1], mask[i : i + 1])[0] for i, owner in enumerate(row_owners)]
    assert [len(logits) for logits in mixed] == [3, 2, 2, 2]
    for got, expected in zip(mixed, alone, strict=True):
        assert torch.equal(got, expected)


def test_heads_and_rows_must_be_as_many(owners: list[PooledClassifier]) -> None:
    ids = texts(2)
    with pytest.raises(VeraError, match="3 classifiers were given for 2 texts"):
        logits_per_row(owners, ids, torch.ones_like(ids))


def test_heads_of_two_models_are_not_mixed(
    owners: list[PooledClassifier], tiny_folder: Path, tiny_base: BaseFingerprint
) -> None:
    elsewhere = attach(load_tiny_bert(tiny_folder), make_tiny(tiny_base, head=True), tiny_base)
    ids = texts(2)
    with pytest.raises(VeraError, match="same live model"):
        logits_per_row([owners[0], elsewhere], ids, torch.ones_like(ids))


# Weighted sums


def test_a_combination_adds_the_weighted_deltas(bank: Bank) -> None:
    module = bank.targets[QUERY]
    x = torch.randn(2, TOKENS, 32, generator=torch.Generator().manual_seed(0))
    plain, deltas = module(x), {}
    for name in ("a", "other seed", "lora"):
        bank.activate(name)
        deltas[name] = module(x) - plain
    bank.combine({"a": 0.5, "other seed": -2.0, "lora": 1.0})
    expected = 0.5 * deltas["a"] - 2.0 * deltas["other seed"] + deltas["lora"]
    # Each difference above lost the last bits of values some ten times larger.
    torch.testing.assert_close(module(x) - plain, expected, rtol=1e-4, atol=1e-4)
    assert bank.active is None


def test_one_adapter_of_weight_one_is_that_adapter(tiny_model: Any, bank: Bank) -> None:
    ids = texts(2)
    bank.activate("a")
    expected = outputs(tiny_model, ids)
    bank.combine({"a": 1.0})
    assert bank.active == "a"
    assert torch.equal(outputs(tiny_model, ids), expected)


def test_an_adapter_that_leaves_takes_its_combination_with_it(tiny_model: Any, bank: Bank) -> None:
    ids = texts(2)
    base = outputs(tiny_model, ids)
    bank.combine({"a": 0.5, "rounded": 0.5})
    bank.remove("rounded")
    assert torch.equal(outputs(tiny_model, ids), base)


@pytest.mark.parametrize(("weights", "message"), [({"nobody": 1.0}, "nobody"), ({"a": float("nan")}, "finite number")])
def test_a_combination_that_cannot_be_is_refused_and_changes_nothing(
    tiny_model: Any, bank: Bank, weights: dict[str, float], message: str
) -> None:
    ids = texts(2)
    bank.activate("a")
    before = outputs(tiny_model, ids)
    with pytest.raises(VeraError, match=message):
        bank.combine(weights)
    assert torch.equal(outputs(tiny_model, ids), before)
    assert bank.active == "a"


# Living on a model with others


def test_a_second_bank_on_an_adapted_module_is_refused(tiny_model: Any, bank: Bank) -> None:
    bank.activate("a")
    other = Bank(bank.targets, tiny_model)
    add(other, "b", [OUTPUT, QUERY], pair_of(8))
    with pytest.raises(VeraError, match="another bank") as caught:
        other.activate("b")
    assert caught.value.code == "TARGET_TAKEN"
    assert other.active is None
    bank.detach()
    other.activate("b")


HANDLES: dict[str, Callable[[Any], Any]] = {
    "the same model": lambda model: model,
    "a part": lambda model: model.encoder.layer[0],
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "a copy": deepcopy,
}


@pytest.mark.parametrize("handle", HANDLES)
def test_a_second_bank_with_other_modules_is_refused_while_answers_would_go_through_both(
    tiny_model: Any, bank: Bank, handle: str
) -> None:
    bank.activate("a")  # on the queries of layer 0, and elsewhere
    model = HANDLES[handle](tiny_model)
    other = Bank(find_targets(model, ["key"]), model)
    add(other, "b", list(other.targets)[:1], pair_of(8))
    with pytest.raises(VeraError, match="answers would go through both") as caught:
        other.activate("b")
    assert caught.value.code == "TARGET_TAKEN"
    assert other.active is None


def test_a_model_is_not_adapted_beside_a_part_of_it_that_is(tiny_model: Any, bank: Bank) -> None:
    part = tiny_model.encoder.layer[0]
    other = Bank(find_targets(part, ["key"]), part)
    add(other, "b", list(other.targets), pair_of(8))
    other.activate("b")
    for change in (lambda: bank.activate("a"), lambda: bank.rows(["a"]).__enter__(), lambda: merge(bank, "a")):
        with pytest.raises(VeraError, match="answers would go through both"):
            change()
    other.activate(None)
    bank.activate("a")


def test_what_is_merged_through_a_part_of_a_model_is_not_added_to(tiny_model: Any, bank: Bank) -> None:
    part = tiny_model.encoder.layer[0]
    other = Bank(find_targets(part, ["key"]), part)
    add(other, "b", list(other.targets), pair_of(8))
    merge(other, "b")
    with pytest.raises(VeraError, match="unmerge it there") as refused:
        bank.activate("a")
    assert refused.value.code == "TARGET_TAKEN"
    unmerge(other)
    other.activate(None)
    bank.activate("a")


def test_a_forward_that_was_there_before_is_there_afterwards(bank: Bank) -> None:
    module = bank.targets[QUERY]
    plain = module.forward
    module.forward = twice = lambda x: 2 * plain(x)
    x = torch.ones(1, 3, 32)
    doubled = module(x)
    bank.activate("a")
    assert not torch.equal(module(x), doubled)
    bank.detach()
    assert vars(module)["forward"] is twice


def test_detaching_leaves_no_trace_in_any_module(tiny_model: Any, bank: Bank) -> None:
    before = {name: dict(vars(module)) for name, module in tiny_model.named_modules()}
    with bank.rows(["a", "rounded"]):
        outputs(tiny_model, texts(2))
    bank.activate("other seed")
    bank.detach()
    assert {name: dict(vars(module)) for name, module in tiny_model.named_modules()} == before


def test_a_copy_of_an_adapted_model_stands_on_its_own(tiny_model: Any, bank: Bank) -> None:
    bank.activate("a")
    ids = texts(2)
    adapted = outputs(tiny_model, ids)
    copy = deepcopy(tiny_model)
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.zero_()
    bank.detach()
    assert torch.equal(outputs(copy, ids), adapted)


def test_matrices_are_where_their_modules_are() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64, device="meta"))
    bank = Bank(find_targets(model, ["0", "1"]), model)
    add_empty = bank.add_vera("a", [AdaptedModule(name, 64, 64) for name in "01"], "digest", lambda: pair_of(8))
    for name, device in (("0", "cpu"), ("1", "meta")):
        delta: Any = add_empty.deltas[name]
        assert {delta.lambda_b.device.type, delta.shared.A_RI.device.type} == {device}


# Memory, and very many


def test_thousands_of_adapters_share_one_pair_and_one_batch(tiny_model: Any) -> None:
    modules = [f"encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "value")]
    bank = Bank(find_targets(tiny_model, ["query", "value"]), tiny_model)
    pairs = [pair_of(8, seed=0), pair_of(8, seed=1)]
    for number in range(1000):
        add(bank, f"adapter {number}", modules, pairs[number % 2], seed=number)
    vectors, pair = 4 * len(modules) * (8 + 32), 4 * 8 * (64 + 64)
    assert bank.size_bytes == 1000 * vectors + 2 * pair
    names: list[str | None] = [f"adapter {number}" for number in range(0, 1000, 16)] + [None]
    ids = texts(len(names))
    assert len(names) == 64
    expected = one_by_one(tiny_model, bank, names, ids)
    with bank.rows(names):
        mixed = outputs(tiny_model, ids)
    assert difference(mixed, expected) <= 16 * noise_of_the_base(tiny_model, bank, ids)


def test_memory_shrinks_with_the_adapters(bank: Bank) -> None:
    before = bank.size_bytes
    bank.remove("same projection")
    assert before - bank.size_bytes == 4 * (2 * 8 + 32 + 64)  # its vectors: "a" still needs the pair
    before = bank.size_bytes
    bank.remove("other seed")
    assert before - bank.size_bytes == 4 * (2 * 8 + 32 + 32) + 4 * 8 * (64 + 64)  # its vectors and its own pair
    bank.detach()
    assert bank.size_bytes == 0


def test_the_copy_of_the_pair_in_the_bases_dtype_is_counted(tiny_model: Any) -> None:
    tiny_model.to(torch.bfloat16)
    bank = Bank(find_targets(tiny_model, ["query"]), tiny_model)
    add(bank, "a", [QUERY], pair_of(8))
    before = bank.size_bytes
    bank.activate("a")
    outputs(tiny_model, texts(1))
    outputs(tiny_model, texts(2))
    assert bank.size_bytes - before == 2 * 8 * (64 + 64)


@pytest.mark.parametrize("use", [lambda bank: bank.activate("a"), lambda bank: bank.rows(["a", None]).__enter__()])
def test_a_module_that_was_replaced_is_refused_and_one_that_was_wrapped_goes_on(use: Any) -> None:
    """PEFT wraps modules. What replaces one answers without the adapter."""
    model = tiny_llama()
    bank = adapted(model, "q_proj", names=("a",))
    attention = model.model.layers[1].self_attn
    own = attention.q_proj
    attention.q_proj = nn.Sequential(own)
    bank.activate("a")
    bank.activate(None)
    attention.q_proj = deepcopy(own)

    with pytest.raises(VeraError, match=r"layers\.1\.self_attn\.q_proj of the model was replaced") as refused:
        use(bank)

    assert refused.value.code == "TARGET_REPLACED"
    assert bank.active is None
