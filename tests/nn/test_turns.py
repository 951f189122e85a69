"""Threads on one model: a pass through a classifier goes through its adapter to the end, whatever another thread wants."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.nn.small_models import adapted, two_layers
from tests.tiny_adapters import make_tiny
from vera.errors import VeraError
from vera.fingerprint import BaseFingerprint
from vera.nn.attach import attach
from vera.nn.bank import Bank
from vera.nn.merge import merge, unmerge
from vera.nn.sequences import SequenceClassifier


def is_taken(bank: Bank) -> bool:
    """Whether another thread would have to wait now."""
    found: list[bool] = []

    def ask() -> None:
        found.append(not bank.turns._lock.acquire(blocking=False))
        if not found[0]:
            bank.turns._lock.release()

    other = threading.Thread(target=ask)
    other.start()
    other.join()
    return found[0]


def watched(module: nn.Module, bank: Bank) -> list[bool]:
    """Of each call of `module`, whether another thread would have had to wait."""
    seen: list[bool] = []
    module.register_forward_hook(lambda *_: seen.append(is_taken(bank)))
    return seen


def test_a_pass_of_a_classifier_is_not_changed_by_another_thread(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    classifier = attach(tiny_model, make_tiny(tiny_base, head=True), tiny_base)
    bank = classifier.vera.bank
    seen = watched(tiny_model.encoder, bank)
    classifier.classify(["the cat", "a dog"])
    assert seen == [True]
    assert not is_taken(bank)


def test_a_pass_of_a_model_with_its_own_head_is_not_changed_by_another_thread(tiny_model: Any) -> None:
    bank = adapted(tiny_model, "query")
    seen = watched(tiny_model.encoder, bank)
    model = SequenceClassifier(tiny_model, ("cat", "dog"), adapter=(bank, "a"))
    with pytest.raises(AttributeError, match="logits"):  # a bare encoder has none; it was called
        model.classify(["the cat"])
    assert seen == [True]
    assert not is_taken(bank)


def in_rows(bank: Bank) -> None:
    with bank.rows(["a", "b"]):
        assert not is_taken(bank)  # whoever else passes is told so, and does not wait


CHANGES: dict[str, Callable[[Bank], object]] = {
    "activate": lambda bank: bank.activate("b"),
    "combine": lambda bank: bank.combine({"a": 0.5, "b": 0.5}),
    "rows": in_rows,
    "remove": lambda bank: bank.remove("a"),
    "detach": lambda bank: bank.detach(),
    "merge": lambda bank: merge(bank, "a"),
    "unmerge": lambda bank: (merge(bank, "a"), unmerge(bank)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_passes_go_through_is_changed_in_turn(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    model = two_layers()
    bank = adapted(model, "0", "2", names=("a", "b"))
    hang, seen = bank._hang, list[bool]()
    monkeypatch.setattr(bank, "_hang", lambda *what: (seen.append(is_taken(bank)), hang(*what)))
    CHANGES[change](bank)
    assert seen
    assert all(seen)
    assert not is_taken(bank)


def test_a_copy_has_turns_of_its_own(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    classifier = attach(tiny_model, make_tiny(tiny_base, head=True), tiny_base)
    other = copy.deepcopy(classifier)
    with classifier.vera.bank.turns:
        assert not is_taken(other.adapter[0])


@pytest.mark.parametrize("head", [False, True])
def test_a_model_with_an_adapter_is_not_pickled_whole_and_is_as_before_without(
    head: bool, tiny_model: Any, tiny_base: BaseFingerprint
) -> None:
    adapted = attach(tiny_model, make_tiny(tiny_base, head=head), tiny_base)
    for save in (lambda: torch.save(adapted, io.BytesIO()), lambda: pickle.dumps(tiny_model)):
        with pytest.raises(VeraError, match=r"sdk\.unload") as refused:
            save()
        assert refused.value.code == "MODEL_NOT_SAVED"
    torch.save(tiny_model.state_dict(), io.BytesIO())
    adapted.vera.bank.detach()
    vars(tiny_model).pop("vera", None)
    pickle.dumps(tiny_model)


def test_a_copy_answers_through_modules_of_its_own(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    attach(tiny_model, make_tiny(tiny_base), tiny_base)
    ids = torch.arange(2, 14).reshape(2, 6)
    other = copy.deepcopy(tiny_model)
    with torch.no_grad():
        expected = tiny_model(ids).last_hidden_state
        for parameter in tiny_model.parameters():
            parameter.zero_()
        assert torch.equal(other(ids).last_hidden_state, expected)
