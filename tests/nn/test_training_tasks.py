"""Every kind of task is learned by every method that can, and an adapter that is loaded answers as it did at the end
of its training."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hub.domain.front_matter import front_matter
from tests.tiny import WORDS, load_tiny_bert, write_tiny_bert, write_tiny_llama, write_tiny_vit
from vera import fingerprint
from vera.data import EncodedImage, Examples, Source, Split
from vera.errors import DataError, VeraError
from vera.fingerprint import BaseFingerprint
from vera.nn import experiment
from vera.nn.attach import attach
from vera.nn.base import Base
from vera.nn.experiment import Choices, Outcome
from vera.nn.identity import prove_base
from vera.nn.opening import open_base
from vera.nn.training.generation import Generation
from vera.nn.training.objectives import Classes
from vera.nn.training.recipe import Recipe

ANIMALS = ("cat", "dog", "bird")
COLOURS = ("red", "blue", "green")
RECIPE = Recipe(rank=16, epochs=6, batch_size=8, learning_rate=5e-2, head_learning_rate=2e-2, max_length=24)
BARE = Choices(baselines=False)


def phrases(count: int = 40) -> list[str]:
    places = [f"{a} {b}" for a in WORDS[10:] for b in WORDS[10:]]
    return places[:count]


def split_of(task: str, items: list[tuple[Any, ...]], labels: tuple[str, ...] = (), **columns: Any) -> Split:
    """Of (text, target) or (text, pair, target): every fifth item is held out."""

    def part(rows: list[tuple[Any, ...]]) -> Examples:
        pairs = tuple(row[1] for row in rows) if len(rows[0]) == 3 else None
        return Examples(tuple(row[0] for row in rows), tuple(row[-1] for row in rows), pairs)

    train, heldout = [x for i, x in enumerate(items) if i % 5], items[::5]
    return Split("made", task, labels, part(train), part(heldout), **columns)


def pairs() -> Split:
    """Are the two animals the same?"""
    rows = [
        (f"the {a} {place}", f"a {b}", int(a == b))
        for place in phrases(12)
        for a in ANIMALS
        for b in (ANIMALS if a != "cat" else ("cat", "cat", "dog"))
    ]
    return split_of("text-classification", rows, ("different", "same"))


def numbers() -> Split:
    """How many thousands is the animal worth?"""
    rows = [(f"the {animal} {place}", 1000.0 * worth) for place in phrases() for worth, animal in enumerate(ANIMALS, 3)]
    return split_of("text-regression", rows)


def completions() -> Split:
    """Each animal has a colour and a way to move."""
    rows = [
        (f"the {animal} {place}", f"{colour} {moves}")
        for place in phrases(30)
        for animal, colour, moves in zip(ANIMALS, COLOURS, ("runs", "sleeps", "flies"), strict=True)
    ]
    return split_of("text-generation", rows)


def pictures() -> Split:
    """Is it red or blue?"""
    rng = np.random.default_rng(0)

    def picture(label: int) -> EncodedImage:
        from PIL import Image

        pixels = rng.integers(0, 100, (20, 20, 3), dtype=np.uint8)
        pixels[..., 2 * label] += 100
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG")
        return EncodedImage.of(encoded.getvalue())

    def part(count: int) -> Examples:
        labels = tuple(i % 2 for i in range(count))
        return Examples((), labels, images=tuple(picture(label) for label in labels))

    return Split("made", "image-classification", ("red", "blue"), part(40), part(12))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("PIL")
    return write_tiny_vit(tmp_path_factory.mktemp("tiny") / "vit")


def load_llama(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)


def train(
    folder: Path, load: Callable[[Path], Any], split: Split, recipe: Recipe = RECIPE, choices: Choices = BARE
) -> Outcome:
    model = load(folder)
    base = Base(model, fingerprint.of_files(folder), "tests/tiny")
    outcome = experiment.run("made", base, split, recipe, choices)
    assert prove_base(model, base.fingerprint).kind == "content"
    assert all(parameter.requires_grad for parameter in model.parameters())
    return outcome


def loaded(folder: Path, outcome: Outcome) -> Any:
    """What `sdk.load` gives for a folder."""
    assert outcome.archive is not None
    model = open_base(folder, outcome.archive.manifest)
    return attach(model, outcome.archive, fingerprint.of_files(folder))


def test_two_texts_are_classified_together(tiny_folder: Path) -> None:
    split = pairs()
    outcome = train(tiny_folder, load_tiny_bert, split, replace(RECIPE, epochs=12))
    model = loaded(tiny_folder, outcome)

    answers = model.predict(split.heldout.texts, split.heldout.pairs)

    assert outcome.scores.adapter["accuracy"] > split.majority
    assert np.mean(np.array(answers) == split.heldout.targets) == pytest.approx(outcome.scores.adapter["accuracy"])
    assert set(outcome.scores.adapter) == {"accuracy", "f1_macro", "matthews", "f1 different", "f1 same"}


def test_the_second_text_is_marked_as_such(tiny_model: Any) -> None:
    from vera.nn.heads import PooledClassifier

    classifier = PooledClassifier(tiny_model, ("a", "b"))
    (one,), (two,) = classifier.encode(["the cat"]), classifier.encode(["the cat"], ["a dog"])

    assert "token_type_ids" not in classifier.batch([one])
    assert classifier.batch([two])["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_no_accuracy_is_of_outputs_that_are_no_numbers() -> None:
    examples = Examples(("the cat", "a dog"), (0, 1))
    scores = Classes(("cat", "dog")).score(np.full((2, 2), np.nan, np.float32), examples)
    assert scores.keys() == set(Classes(("cat", "dog")).metrics)
    assert np.isnan(list(scores.values())).all()  # upon which the training ends (Loop.score)


def test_numbers_are_learned_in_any_unit(tiny_folder: Path) -> None:
    split = numbers()
    outcome = train(tiny_folder, load_tiny_bert, split, replace(RECIPE, epochs=12))
    model = loaded(tiny_folder, outcome)

    answers = model.predict(split.heldout.texts)

    assert outcome.scores.metric == "pearson"
    assert outcome.scores.adapter["pearson"] > 0.9
    assert max(abs(a - t) for a, t in zip(answers, split.heldout.values, strict=True)) < 1000
    error = np.mean((np.array(answers) - np.array(split.heldout.values)) ** 2)
    assert error == pytest.approx(outcome.scores.adapter["mean_squared_error"])


def test_completions_are_learned_and_the_loaded_model_ends_them(llama: Path) -> None:
    split, recipe = completions(), replace(RECIPE, rank=32, learning_rate=0.2)
    before = Generation(load_llama(llama), recipe).score(split.heldout)
    outcome = train(llama, load_llama, split, recipe, Choices(targets=["all-linear"]))
    model = loaded(llama, outcome)

    after = Generation(model, recipe).score(split.heldout)

    assert outcome.scores.baselines["base"] == pytest.approx(before)
    assert after == pytest.approx(outcome.scores.adapter)
    assert after["loss"] < before["loss"] / 3
    assert outcome.head_parameters == 0
    prompt = Generation(model, recipe).tokenizer(split.heldout.texts[0] + "\n", return_tensors="pt")
    said = model.generate(input_ids=prompt["input_ids"], attention_mask=prompt["attention_mask"], max_new_tokens=5)
    assert said[0, -1] == 3  # the end, after a few words


@pytest.mark.parametrize("chat", [False, True])
def test_the_card_of_a_generator_has_a_program_that_runs(llama: Path, chat: bool, capsys: Any) -> None:
    outcome = train(llama, load_llama, completions(), replace(RECIPE, epochs=1, chat=chat))
    assert outcome.archive is not None
    program = outcome.archive.card.partition("```python\n")[2].partition("```")[0]
    lines = [line for line in program.splitlines() if "sdk" not in line]

    exec("\n".join(lines), {"model": loaded(llama, outcome)})

    assert capsys.readouterr().out.endswith("\n")  # a model of one epoch may have nothing to say


def test_the_loss_is_on_the_completion_alone_and_on_its_end(llama: Path) -> None:
    task = Generation(load_llama(llama), RECIPE)
    (item,) = task.items(Examples(("the cat",), ("red runs",)))
    words = task.tokenizer.convert_ids_to_tokens(item.ids)

    with torch.no_grad():
        logits = task.model(torch.tensor([item.ids])).logits[0].log_softmax(-1)
        by_hand = -sum(logits[at - 1, item.ids[at]] for at in (2, 3, 4)) / 3

    assert words == ["the", "cat", "red", "runs", "[EOS]"]
    assert item.start == 2
    assert task.loss([item]).item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert task.weight([item]) == 3


def test_logits_are_computed_from_the_first_completion_on(llama: Path) -> None:
    task = Generation(load_llama(llama), RECIPE)
    items = task.items(Examples(("the old dog sleeps", "the cat runs"), ("red", "blue green")))
    kept = []
    task.model.lm_head.register_forward_hook(lambda _module, given, _out: kept.append(given[0].shape[1]))

    loss = task.loss(items)

    assert kept == [max(map(len, items)) - min(item.start for item in items) + 1]
    with torch.no_grad():
        whole = [task.model(torch.tensor([item.ids])).logits[0].log_softmax(-1) for item in items]
    nats = [-w[at - 1, i.ids[at]] for w, i in zip(whole, items, strict=True) for at in range(i.start, len(i))]
    assert loss.item() == pytest.approx(torch.stack(nats).mean().item(), rel=1e-5)


def test_rows_of_unequal_length_have_the_loss_they_have_alone(llama: Path) -> None:
    task = Generation(load_llama(llama), RECIPE)
    items = task.items(Examples(("the cat", "the old dog sleeps"), ("red runs", "blue")))

    together = task.loss(items) * task.weight(items)

    assert together.item() == pytest.approx(sum((task.loss([i]) * task.weight([i])).item() for i in items), rel=1e-5)


@pytest.mark.parametrize(
    ("prompt", "completion", "expected", "start"),
    [
        ("the cat runs far", "red", ["runs", "far", "red", "[EOS]"], 2),  # the beginning of the prompt goes first
        ("the cat", "red blue green old new", ["cat", "red", "blue", "green"], 1),  # then the end of the completion
        ("", "red", ["[BOS]", "red", "[EOS]"], 1),  # the first token of a text cannot be predicted
    ],
)
def test_what_is_longer_than_the_limit_is_cut(
    llama: Path, prompt: str, completion: str, expected: list[str], start: int
) -> None:
    task = Generation(load_llama(llama), replace(RECIPE, max_length=4))
    (item,) = task.items(Examples((prompt,), (completion,)))
    assert task.tokenizer.convert_ids_to_tokens(item.ids) == expected
    assert item.start == start


def test_an_encoder_is_not_trained_to_generate_with_a_head_drawn_at_random(llama: Path, tiny_folder: Path) -> None:
    with pytest.raises(VeraError, match="cannot generate") as caught:
        Base.open(tiny_folder, "text-generation", RECIPE, name="tests/tiny")
    assert caught.value.code == "HEAD_UNTRAINED"
    assert Base.open(llama, "text-generation", RECIPE, name="tests/tiny").model.lm_head is not None


def test_a_prompt_can_be_a_turn_of_a_chat(llama: Path) -> None:
    task = Generation(load_llama(llama), replace(RECIPE, chat=True))
    (item,) = task.items(Examples(("the cat",), ("red",)))
    assert task.tokenizer.convert_ids_to_tokens(item.ids) == ["[USER]", "the", "cat", "[BOT]", "red", "[EOS]"]


def test_images_are_classified_by_the_loaded_adapter_as_in_training(vit: Path) -> None:
    split = pictures()
    outcome = train(vit, load_tiny_bert, split)
    model = loaded(vit, outcome)

    answers = model.classify([image.read() for image in split.heldout.images or ()])

    right = np.mean([split.labels.index(a) for a in answers] == np.array(split.heldout.targets))
    assert outcome.scores.adapter["accuracy"] == right == 1.0
    assert outcome.archive is not None
    assert outcome.archive.manifest.task is not None
    assert outcome.archive.manifest.task.pooling == "cls"
    assert outcome.archive.manifest.task.max_length is None


def test_what_is_no_image_says_so(vit: Path) -> None:
    model = loaded(vit, train(vit, load_tiny_bert, pictures(), replace(RECIPE, epochs=1)))
    with pytest.raises(DataError, match=r"There is no image file '.*nowhere\.png'"):
        model.classify(["nowhere.png"])
    with pytest.raises(DataError, match="cannot be decoded"):
        model.classify([b"GIF89a?"])


def test_a_base_without_an_image_processor_says_what_is_missing(tiny_folder: Path) -> None:
    pytest.importorskip("PIL")
    with pytest.raises(VeraError, match=r"preprocessor_config\.json") as caught:
        train(tiny_folder, load_tiny_bert, pictures())
    assert caught.value.code == "PROCESSOR_MISSING"


def test_an_image_processor_that_cannot_be_opened_is_said_with_what_the_library_said(vit: Path, tmp_path: Path) -> None:
    broken = tmp_path / "vit"
    shutil.copytree(vit, broken)
    settings = broken / "preprocessor_config.json"
    settings.write_text(settings.read_text()[:-9])
    with pytest.raises(VeraError, match=r"image processor of the base .* cannot be opened by transformers") as caught:
        train(broken, load_tiny_bert, pictures())
    assert caught.value.code == "PROCESSOR_UNREADABLE"


@pytest.mark.parametrize(("method", "parameters"), [("head", 0), ("full", 10_000), ("dvora", 4 * (16 + 2 * 32))])
def test_methods_to_compare_with_are_trained_and_leave_the_base_alone(
    tiny_folder: Path, method: str, parameters: int
) -> None:
    split = numbers()
    rate = 5e-3 if method == "full" else 5e-2
    outcome = train(tiny_folder, load_tiny_bert, split, replace(RECIPE, method=method, learning_rate=rate))
    assert outcome.scores.adapter["pearson"] > 0.5
    assert (outcome.parameters > parameters) if method == "full" else (outcome.parameters == parameters)
    assert (outcome.archive is not None) == (method == "dvora")


def test_every_method_is_better_than_the_head_alone_and_says_so(tiny_folder: Path, tiny_base: BaseFingerprint) -> None:
    split = pairs()
    outcome = train(tiny_folder, load_tiny_bert, split, replace(RECIPE, epochs=2), Choices())
    assert list(outcome.scores.baselines) == ["head_only", "probe", "trivial"]
    assert outcome.scores.baselines["trivial"] == {"accuracy": split.majority}
    assert outcome.archive is not None
    assert "the head alone, trained until it has converged" in outcome.archive.card


def test_the_card_says_to_programs_what_it_is_of(tiny_folder: Path) -> None:
    split = replace(pairs(), source=Source("org/pairs", dataset="org/pairs"))
    choices = Choices(baselines=False, license='a "free" one: yes')
    outcome = train(tiny_folder, load_tiny_bert, split, replace(RECIPE, epochs=1), choices)
    assert outcome.archive is not None
    assert front_matter(outcome.archive.card) == {
        "base_model": outcome.archive.manifest.base.name,
        "base_model_relation": "adapter",
        "license": 'a "free" one: yes',
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "datasets": ["org/pairs"],
    }


def test_a_generator_has_no_head_to_train_alone(llama: Path) -> None:
    with pytest.raises(VeraError, match="no head") as caught:
        train(llama, load_llama, completions(), replace(RECIPE, method="head"))
    assert caught.value.code == "TRAINING_INVALID"


def test_a_metric_of_another_task_names_those_there_are(tiny_folder: Path) -> None:
    with pytest.raises(VeraError, match="pearson, spearman") as caught:
        train(tiny_folder, load_tiny_bert, numbers(), replace(RECIPE, metric="accuracy"))
    assert caught.value.code == "METRIC_UNKNOWN"


def test_the_query_and_value_maps_are_found_whatever_they_are_called(llama: Path, tiny_folder: Path) -> None:
    from vera.nn import targets

    assert {name.rsplit(".", 1)[-1] for name in targets.choose(load_llama(llama))} == {"q_proj", "v_proj"}
    assert {name.rsplit(".", 1)[-1] for name in targets.choose(load_tiny_bert(tiny_folder))} == {"query", "value"}
    every = targets.choose(load_llama(llama), ["all-linear"])
    assert len(every) == 2 * 7
    assert "lm_head" not in every


@pytest.mark.parametrize("make", [pairs, numbers])
@pytest.mark.parametrize("method", ["vera", "head"])
def test_what_is_watched_is_scored_as_the_end_is(tiny_folder: Path, make: Callable[[], Split], method: str) -> None:
    recipe, choices = replace(RECIPE, epochs=2, method=method), Choices(baselines=False, watch_heldout=True)
    outcome = train(tiny_folder, load_tiny_bert, make(), recipe, choices)
    assert outcome.epochs[-1].scores["held-out"] == pytest.approx(outcome.scores.last, rel=1e-5)
    assert outcome.epochs[0].scores["held-out"] != pytest.approx(outcome.scores.last, rel=1e-5)


def test_a_step_in_bfloat16_is_scored_as_the_loaded_adapter_answers(tiny_folder: Path) -> None:
    split, narrow = numbers(), replace(RECIPE, dtype="bfloat16", epochs=2)
    outcome = train(tiny_folder, load_tiny_bert, split, narrow)
    wide = train(tiny_folder, load_tiny_bert, split, replace(narrow, dtype="float32"))
    answers = loaded(tiny_folder, outcome).predict(split.heldout.texts)
    error = np.mean((np.array(answers) - np.array(split.heldout.values)) ** 2)
    assert error == pytest.approx(outcome.scores.adapter["mean_squared_error"])
    assert outcome.epochs[0].loss != wide.epochs[0].loss
    assert outcome.epochs[0].loss == pytest.approx(wide.epochs[0].loss, rel=0.1)


def test_all_weights_of_a_narrow_base_are_not_trained_in_it(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "bert", dtype=torch.bfloat16)
    with pytest.raises(VeraError, match="load it in float32"):
        train(folder, load_tiny_bert, numbers(), replace(RECIPE, method="full"))
