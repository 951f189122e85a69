"""Training loops that know only models train the vectors of an adapter, and nothing of the base."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.nn.small_models import adapted, tiny_llama, tokens
from tests.nn.two_processes import BATCH as TWO_BATCHES
from tests.nn.two_processes import adapted_model, gradients_of_half
from vera.errors import VeraError
from vera.nn.bank import Bank
from vera.nn.live_tensors import tensors_of
from vera.nn.merge import merge
from vera.nn.parameters import as_parameters

BATCH = tokens(4)


def bits_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_bits(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def vectors_of(bank: Bank, name: str = "a") -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in bank.parameters(name)]


def test_an_optimiser_of_the_model_trains_the_vectors_alone() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", names=("b", "a"))
    bits, before, others = bits_of(model), vectors_of(bank), vectors_of(bank, "b")
    with as_parameters(bank, "a") as vectors:
        assert [p for p in model.parameters() if p.requires_grad] == vectors
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(input_ids=BATCH, labels=BATCH).loss.backward()
        optimizer.step()
        model.zero_grad()
        assert all(vector.grad is None for vector in vectors)
    assert_bits(model, bits)
    assert all(not torch.equal(new, old) for new, old in zip(vectors_of(bank), before, strict=True))
    assert all(torch.equal(new, old) for new, old in zip(vectors_of(bank, "b"), others, strict=True))


def test_after_the_block_the_model_is_as_it_was() -> None:
    model = tiny_llama()
    model.lm_head.requires_grad_(False)
    bank = adapted(model, "q_proj")
    names = [name for name, _ in model.named_modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(KeyError), as_parameters(bank, "a"):
        raise KeyError
    assert [name for name, _ in model.named_modules()] == names
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted


def test_casting_the_model_leaves_the_vectors_in_float32() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj")
    before = vectors_of(bank)
    with as_parameters(bank, "a") as vectors:
        model.to(torch.bfloat16)
        assert model.lm_head.weight.dtype == torch.bfloat16
        assert {vector.dtype for vector in vectors} == {torch.float32}
    assert all(torch.equal(new, old) for new, old in zip(vectors_of(bank), before, strict=True))


def test_a_second_adapter_of_the_same_modules_waits_until_the_first_is_trained() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj", names=("a", "b"))
    with as_parameters(bank, "a") as vectors:
        with pytest.raises(VeraError, match="leave the block of the other first"), as_parameters(bank, "b"):
            pass
        assert bank.active == "a"
        assert [p for p in model.parameters() if p.requires_grad] == vectors
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_checkpoint_of_the_block_puts_the_vectors_back() -> None:
    bank, other = adapted(model := tiny_llama(), "q_proj"), adapted(fresh := tiny_llama(), "q_proj")
    with as_parameters(bank, "a") as vectors, torch.no_grad():
        for vector in vectors:
            vector.add_(1.0)
        saved = bits_of(model)
    with as_parameters(other, "a"):
        fresh.load_state_dict(saved, strict=True)
    assert all(torch.equal(new, old) for new, old in zip(vectors_of(other), vectors_of(bank), strict=True))


def test_a_checkpoint_without_the_vectors_is_short_of_them() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj")
    with as_parameters(bank, "a"), pytest.raises(RuntimeError, match=r"Missing key.*vera_vectors\.lambda_d"):
        model.load_state_dict(bits_of(tiny_llama()))


def test_the_base_is_proven_within_the_block() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj")
    before = tensors_of(model).keys()
    with as_parameters(bank, "a"):
        assert tensors_of(model).keys() == before


def test_a_merged_adapter_is_not_trained() -> None:
    model = tiny_llama()
    bank = adapted(model, "q_proj")
    merge(bank, "a")
    with pytest.raises(VeraError, match="unmerge it first"), as_parameters(bank, "a"):
        pass


def test_trainer_trains_the_vectors_as_a_loop_of_ones_own_does(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", "lm_head")
    bits, expected = bits_of(model), trained_by_hand(steps=3)
    rows = [{"input_ids": row, "labels": row} for row in BATCH]
    options = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=len(rows), max_steps=3, learning_rate=1e-2, lr_scheduler_type="constant",
        optim="adamw_torch", weight_decay=0.0, max_grad_norm=1.0, save_strategy="no", report_to=[], disable_tqdm=True,
        use_cpu=True, logging_strategy="no",
    )  # fmt: skip
    with as_parameters(bank, "a"):
        Trainer(model, options, train_dataset=rows).train()
        model.save_pretrained(tmp_path / "saved")
    assert_bits(model, bits)
    assert_bits(type(model).from_pretrained(tmp_path / "saved"), bits)
    for got, wanted in zip(vectors_of(bank), expected, strict=True):
        # Three steps of Adam at 1e-2, from losses over the rows in another order. Adam divides by what the gradient
        # was: one that is all but zero goes by its rounding, a twentieth of a step here and a seventh on another processor.
        torch.testing.assert_close(got, wanted, rtol=0, atol=3e-3)


def test_trainer_goes_on_in_another_process_from_the_vectors_of_its_checkpoint(tmp_path: Path) -> None:
    whole = trained_by_trainer(tmp_path, until=4)
    trained_by_trainer(tmp_path / "stopped", until=2)
    resumed = trained_by_trainer(tmp_path, until=4, resume=str(tmp_path / "stopped" / "checkpoint-2"))
    for got, wanted in zip(resumed, whole, strict=True):
        # The same bits here; another machine may add the rows of a step in another order. Two steps that are lost are 2e-2.
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def trained_by_trainer(folder: Path, until: int, resume: str | None = None) -> list[torch.Tensor]:
    """The vectors of a new model after Trainer has taken it to step `until`."""
    from transformers import Trainer, TrainingArguments

    model = tiny_llama()
    bank = adapted(model, "q_proj")
    rows = [{"input_ids": row, "labels": row} for row in BATCH]
    options = TrainingArguments(
        str(folder), per_device_train_batch_size=len(rows), max_steps=until, learning_rate=1e-2, lr_scheduler_type="constant",
        optim="adamw_torch", save_strategy="steps", save_steps=2, report_to=[], disable_tqdm=True, use_cpu=True,
        logging_strategy="no",
    )  # fmt: skip
    with as_parameters(bank, "a"):
        Trainer(model, options, train_dataset=rows).train(resume_from_checkpoint=resume)
    return vectors_of(bank)


def trained_by_hand(steps: int) -> list[torch.Tensor]:
    model = tiny_llama()
    bank = adapted(model, "q_proj", "v_proj", "lm_head")
    optimizer = torch.optim.AdamW(bank.parameters("a"), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=BATCH, labels=BATCH).loss.backward()
        nn.utils.clip_grad_norm_(bank.parameters("a"), 1.0)
        optimizer.step()
    return vectors_of(bank)


# Several processes


def test_two_processes_average_the_gradients_of_the_vectors(tmp_path: Path) -> None:
    # Both in processes of their own, which can be given up: gloo has hung once while it was taken down, everything saved.
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=gradients_of_half, args=(rank, str(tmp_path)), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        process.kill()
    model, bank = adapted_model()
    model(TWO_BATCHES).square().mean().backward()
    for rank in (0, 1):
        averaged = torch.load(tmp_path / f"{rank}.pt")
        for got, parameter in zip(averaged, bank.parameters("a"), strict=True):
            assert parameter.grad is not None
            # Means over two rows each, and the mean of those: the same float32 sums in another order.
            torch.testing.assert_close(got, parameter.grad, rtol=1e-5, atol=1e-7)
