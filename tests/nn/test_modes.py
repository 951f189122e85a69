"""Whoever is asked something answers in evaluation mode, and is in the mode of before afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.nn.small_models import adapted
from tests.nn.test_experiment import RECIPE
from tests.tiny import WORDS, load_tiny_bert, write_tiny_llama
from vera.data import Examples
from vera.data.dividing import split_by_hash
from vera.errors import VeraError
from vera.fingerprint import BaseFingerprint
from vera.nn import experiment
from vera.nn.base import Base
from vera.nn.continuing import likelihoods
from vera.nn.experiment import Choices
from vera.nn.heads import PooledClassifier, outputs_of_many
from vera.nn.modes import evaluating
from vera.nn.opening import open_language_model
from vera.nn.training.generation import Generation
from vera.nn.training.recipe import Recipe
from vera.nn.writing import Writing, written

LABELS = ("cat", "dog")
SPLIT = split_by_hash("animals", [(f"the {a} {word}", a) for a in LABELS for word in WORDS[6:]], min_per_label=5)


def modes_of(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def partly_frozen(model: Any) -> Any:
    """In training mode but for one layer, as whoever freezes that leaves it."""
    model.train()
    next(stack for stack in model.modules() if isinstance(stack, nn.ModuleList))[0].eval()
    return model


def test_every_part_is_in_its_mode_of_before_also_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout().eval(), nn.Dropout()))
    before = modes_of(model)
    with evaluating(model):
        assert not any(modes_of(model))
    assert modes_of(model) == before
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert modes_of(model) == before
    assert len(set(before)) == 2


def classifies(model: Any) -> None:
    PooledClassifier(model, LABELS).classify(["the cat"])


def classifies_with_many(model: Any) -> None:
    bank = adapted(model, "query", names=("a", "b"))
    heads = [PooledClassifier(model, LABELS, adapter=(bank, name)) for name in ("a", "b")]
    outputs_of_many(heads, heads[0].encode(["the cat"]))


@pytest.mark.parametrize("ask", [classifies, classifies_with_many])
def test_an_encoder_is_left_in_its_modes(tiny_model: Any, ask: Callable[[Any], None]) -> None:
    before = modes_of(partly_frozen(tiny_model))
    ask(tiny_model)
    assert modes_of(tiny_model) == before


def writes(model: Any) -> None:
    written(model, ["the cat"], Writing(2), batch_size=1, max_length=16, separator="\n")


def thinks(model: Any) -> None:
    likelihoods(model, ["the cat"], [" runs"], batch_size=1, max_length=16)


def scores(model: Any) -> None:
    task, examples = Generation(model, Recipe(max_length=16)), Examples(("the cat",), ("runs",))
    task.score(examples)
    task.likelihoods(examples)


@pytest.mark.parametrize("ask", [writes, thinks, scores])
def test_a_decoder_is_left_in_its_modes(tmp_path: Path, ask: Callable[[Any], None]) -> None:
    model = partly_frozen(open_language_model(write_tiny_llama(tmp_path / "llama"), {}))
    before = modes_of(model)
    ask(model)
    assert modes_of(model) == before


@pytest.mark.parametrize("rate", [1e-2, 1e30])
def test_a_training_leaves_the_base_in_its_modes(tiny_folder: Path, tiny_base: BaseFingerprint, rate: float) -> None:
    model = partly_frozen(load_tiny_bert(tiny_folder))
    before = modes_of(model)
    recipe = replace(RECIPE, epochs=2, dropout=True, learning_rate=rate, head_learning_rate=rate)
    diverges = pytest.raises(VeraError, match="train again with a lower learning rate") if rate > 1 else nullcontext()
    with diverges:
        experiment.run("animals", Base(model, tiny_base, "tests/tiny-bert"), SPLIT, recipe, Choices(baselines=False))
    assert modes_of(model) == before
