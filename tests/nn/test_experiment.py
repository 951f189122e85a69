"""Training learns, is deterministic, leaves the base alone, and gives an adapter that loads back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tests.tiny import WORDS, load_tiny_bert
from tests.tiny_adapters import SIZES, WIDE, make_tiny
from vera import archive as archives
from vera import folders
from vera.data import Split
from vera.data.dividing import split_by_hash
from vera.errors import ArchiveError, DataError, ManifestError, TargetError, VeraError
from vera.fingerprint import BaseFingerprint
from vera.manifest import DVORA, VERA
from vera.nn import experiment
from vera.nn.attach import attach
from vera.nn.base import Base
from vera.nn.experiment import Choices, Outcome
from vera.nn.training.recipe import Recipe
from vera.projection import PEFT_MT19937, PHILOX

RECIPE = Recipe(rank=16, epochs=8, batch_size=8, learning_rate=5e-2, head_learning_rate=2e-2)


@pytest.fixture(scope="module")
def split() -> Split:
    """Which animal is in it? Learnable from one word."""
    places = [f"{a} {b}" for a in WORDS[10:] for b in WORDS[10:]]
    rows = [(f"the {animal} {place}", animal) for animal in ("cat", "dog", "bird") for place in places[:40]]
    return split_by_hash("animals", rows, min_per_label=10)


def train(folder: Path, base: BaseFingerprint, split: Split, recipe: Recipe = RECIPE, **options: Any) -> Outcome:
    model = Base(load_tiny_bert(folder), base, "tests/tiny-bert")
    return experiment.run(
        "animals", model, split, recipe, Choices(targets=options.pop("targets", ["query", "value"])), **options
    )


def test_training_beats_the_majority(tiny_folder: Path, tiny_base: BaseFingerprint, split: Split) -> None:
    outcome = train(tiny_folder, tiny_base, split)
    assert outcome.scores.adapter["accuracy"] > 2 * split.majority
    assert outcome.parameters == 4 * (16 + 32)


def test_the_same_training_twice_gives_the_same_bytes(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    first, second = (train(tiny_folder, tiny_base, split) for _ in range(2))
    assert first.archive is not None
    assert second.archive is not None
    assert first.archive.files == second.archive.files
    assert first.files == second.files


def test_training_ignores_and_leaves_the_global_generator(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    torch.manual_seed(1)
    first = train(tiny_folder, tiny_base, split)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = train(tiny_folder, tiny_base, split)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.files == second.files


@pytest.mark.parametrize(("stream", "method"), [(PHILOX, VERA), (PEFT_MT19937, DVORA)])
def test_an_adapter_of_another_stream_or_method_is_trained_and_loads(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, stream: str, method: str
) -> None:
    outcome = train(tiny_folder, tiny_base, split, replace(RECIPE, stream=stream, method=method))
    assert outcome.archive is not None
    assert outcome.archive.manifest.recipe.stream == stream
    assert outcome.archive.manifest.method == method
    assert outcome.parameters == outcome.archive.manifest.parameters
    loaded = attach(load_tiny_bert(tiny_folder), outcome.archive, tiny_base)
    right = [split.labels[target] for target in split.heldout.targets]
    answers = loaded.classify(split.heldout.texts)
    assert sum(a == b for a, b in zip(answers, right, strict=True)) / len(right) == pytest.approx(
        outcome.scores.adapter["accuracy"]
    )


def test_another_seed_gives_another_adapter(tiny_folder: Path, tiny_base: BaseFingerprint, split: Split) -> None:
    first, second = (
        train(tiny_folder, tiny_base, split),
        train(tiny_folder, tiny_base, split, replace(RECIPE, seed=1)),
    )
    assert first.archive is not None
    assert second.archive is not None
    assert first.archive.manifest.projection_digest != second.archive.manifest.projection_digest


def test_the_trained_folder_loads_back_to_the_same_answers(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path
) -> None:
    outcome = train(tiny_folder, tiny_base, split)
    assert outcome.archive is not None
    folders.write_files({**outcome.archive.files, **outcome.files}, tmp_path / "animals")
    loaded = attach(load_tiny_bert(tiny_folder), archives.read_folder(tmp_path / "animals"), tiny_base)
    answers = loaded.classify(split.heldout.texts)
    right = [split.labels[target] for target in split.heldout.targets]
    accuracy = sum(a == b for a, b in zip(answers, right, strict=True)) / len(right)
    assert accuracy == pytest.approx(outcome.scores.adapter["accuracy"])


def test_folders_may_be_given_as_text(tiny_folder: Path, split: Split, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    base = Base.open(str(tiny_folder), split.task, recipe, name="tests/tiny-bert")

    outcome = experiment.run("animals", base, split, recipe, work=str(tmp_path / "work"))
    outcome.write(str(tmp_path / "adapter"))

    assert outcome.archive is not None
    assert archives.read_folder(tmp_path / "adapter").files == outcome.archive.files


def test_the_base_is_left_as_it_was(tiny_folder: Path, tiny_base: BaseFingerprint, split: Split) -> None:
    from vera.nn.identity import prove_base

    model = load_tiny_bert(tiny_folder)
    experiment.run("animals", Base(model, tiny_base, "tests/tiny-bert"), split, RECIPE, Choices(targets=["query"]))
    assert prove_base(model, tiny_base).kind == "content"
    assert not any(module._forward_hooks for module in model.modules())


def test_lora_is_trained_by_the_same_words_and_has_no_archive(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    outcome = train(
        tiny_folder,
        tiny_base,
        split,
        Recipe(method="lora", rank=4, epochs=4, batch_size=8, learning_rate=5e-3, head_learning_rate=2e-2),
    )
    assert outcome.archive is None
    assert outcome.parameters == 4 * 4 * (32 + 32)
    assert b'"LORA"' in outcome.files["adapter_config.json"]


def test_a_diverging_run_stops_with_a_sentence(tiny_folder: Path, tiny_base: BaseFingerprint, split: Split) -> None:
    with pytest.raises(VeraError, match="lower learning rate") as caught:
        train(
            tiny_folder,
            tiny_base,
            split,
            Recipe(rank=16, epochs=50, batch_size=8, learning_rate=1e30, head_learning_rate=1e30),
        )
    assert caught.value.code == "TRAINING_DIVERGED"


def test_an_unknown_target_names_what_there_is(tiny_folder: Path, tiny_base: BaseFingerprint, split: Split) -> None:
    with pytest.raises(TargetError, match="query"):
        train(tiny_folder, tiny_base, split, targets=["q_proj"])


def test_a_set_with_one_label_cannot_be_trained_on() -> None:
    with pytest.raises(DataError, match="two or more"):
        split_by_hash("one", [("a cat", "cat"), ("the cat", "cat")], min_per_label=1)


def test_nothing_is_trained_on_top_of_another_adapter(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    """The weights are the base's, so that it proves to be the base; its answers are not."""
    model = attach(load_tiny_bert(tiny_folder), make_tiny(tiny_base, sizes={WIDE: SIZES[WIDE]}), tiny_base)
    with pytest.raises(VeraError, match=r"goes through an adapter, .* make the bare base active first") as refused:
        experiment.run("animals", Base(model, tiny_base, "b"), split, RECIPE, Choices(targets=["query"]))
    assert refused.value.code == "TARGET_TAKEN"


def no_step(*_: object) -> None:
    pytest.fail("something was trained that cannot be kept")


def test_what_would_be_too_large_is_not_trained(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head of thousands of labels on a wide base is refused in seconds, and not when hours of training are packed."""
    head_bytes = 4 * 3 * (32 + 1)
    monkeypatch.setattr(archives, "MAX_WEIGHTS_BYTES", 1000)

    with pytest.raises(
        ArchiveError, match=r"would have .* and an adapter may have 1,000: give it fewer outputs"
    ) as refused:
        train(tiny_folder, tiny_base, split, report=no_step)

    assert refused.value.code == "FILE_TOO_LARGE"
    assert refused.value.facts["got_bytes"] == 4 * 4 * (16 + 32) + head_bytes
    assert refused.value.facts["head_bytes"] == head_bytes


def test_what_no_manifest_can_name_is_not_trained(tiny_folder: Path, tiny_base: BaseFingerprint, split: Split) -> None:
    named = replace(split, labels=(*split.labels[:-1], "a name\u202e that is read backwards"))

    with pytest.raises(ManifestError):
        train(tiny_folder, tiny_base, named, report=no_step)


def test_a_lora_of_an_embedding_is_one_for_peft_too(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path
) -> None:
    recipe = Recipe(method="lora", rank=4, epochs=1, batch_size=8, learning_rate=5e-3)
    outcome = train(tiny_folder, tiny_base, split, recipe, targets=["word_embeddings"])
    outcome.write(tmp_path / "lora")
    loaded = PeftModel.from_pretrained(load_tiny_bert(tiny_folder), tmp_path / "lora")
    embedding = loaded.base_model.model.embeddings.word_embeddings
    assert embedding.lora_embedding_A["default"].abs().max() > 0  # with which PEFT begins
