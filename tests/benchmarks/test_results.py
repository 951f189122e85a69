"""Results: what a file says becomes cells, cells are kept and published, and published adapters score what the numbers say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import AutoModelForCausalLM

from tests.benchmarks.results import cells, prompting, publish, rescore, table
from tests.benchmarks.results.experiments import (
    Cell,
    Experiment,
    Group,
    Method,
    Model,
    Prompting,
    Task,
    Writes,
    all_experiments,
)
from tests.benchmarks.results.kept import Kept, NotComparable, facts_of
from tests.benchmarks.results.texts import measure
from tests.tiny import WORDS, write_tiny_bert, write_tiny_llama
from vera.archive import read_folder

MODEL = Model("tiny", "tests/tiny-bert")
TASK = Task("animals", "Animals", "animals", "tests/animals", "accuracy", recipe={"epochs": 4}, tuning={"epochs": 1})
TRIES = [{"learning_rate": 1e-2}, {"learning_rate": 5e-2}]
VERA = Method("vera-r16", {"method": "vera", "rank": 16}, TRIES, {"tiny": ["query", "value"]})
HEAD = Method("head", {"method": "head"}, [{"head_learning_rate": 1e-2}, {"head_learning_rate": 2e-2}], {})
RECIPE = {"batch_size": 8, "head_learning_rate": 2e-2, "max_length": 16}


def experiment(*methods: Method) -> Experiment:
    return Experiment("tiny", RECIPE, [MODEL], [TASK], methods or (VERA,), seeds=[0, 1])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the tiny base and a set; the published results go to its docs."""
    write_tiny_bert(tmp_path / "models/tiny")
    places = [f"{a} {b}" for a in WORDS[10:] for b in WORDS[10:]][:40]
    rows = [f"the {animal} {place},{animal}\n" for place in places for animal in ("cat", "dog", "bird")]
    (tmp_path / "data/animals").mkdir(parents=True)
    (tmp_path / "data/animals/train.csv").write_text("text,label\n" + "".join(rows[:90]))
    (tmp_path / "data/animals/validation.csv").write_text("text,label\n" + "".join(rows[90:]))
    monkeypatch.setenv("VERA_RESULTS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("VERA_RESULTS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(rescore, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(rescore, "all_experiments", lambda: [experiment()])
    monkeypatch.setattr(cells, "_BENCHES", {})
    return tmp_path


def run_all(folder: Path, of: Experiment) -> Kept:
    kept = Kept(folder)
    for group in of.groups():
        for cell in group.tries:
            cells.train(cell, folder, "cpu", 1)
        for cell in group.seeds(kept.chosen(group) or {}):
            cells.train(cell, folder, "cpu", 1)
    return kept


def test_the_experiments_of_the_project_can_be_read() -> None:
    for found in all_experiments():
        recipes = [cell.recipe for group in found.groups() for cell in group.tries]
        assert all(isinstance(recipe, Prompting) or recipe.validation for recipe in recipes)


def test_methods_that_are_tried_unequally_often_are_refused() -> None:
    with pytest.raises(ValueError, match="as many tries"):
        experiment(VERA, replace(HEAD, tries=TRIES[:1]))


def test_the_try_that_is_best_on_validation_is_chosen_and_a_diverged_one_never(tmp_path: Path) -> None:
    kept, group = Kept(tmp_path), next(experiment().groups())
    first, second = group.tries
    kept.keep(first, scored(0.7, first), {})
    assert kept.chosen(group) is None
    kept.keep(second, scored(0.8, second), {})
    assert kept.chosen(group) == TRIES[1]
    kept.keep(second, {**scored(0.9, second), "failed": "The loss became nan"}, {})
    assert kept.chosen(group) == TRIES[0]


def test_what_was_tried_in_one_experiment_chooses_for_another_and_is_published_once(tmp_path: Path) -> None:
    kept, first = Kept(tmp_path), experiment()
    further = replace(first, name="further", seeds=[2], tried_in=first.name)
    for cell, score in zip(next(first.groups()).tries, (0.7, 0.8), strict=True):
        kept.keep(cell, scored(score, cell), {})
    group = next(further.groups())
    assert kept.chosen(group) == TRIES[1]
    cell = group.seeds(TRIES[1])[0]
    kept.keep(cell, scored(0.9, cell), {})
    publish.publish(kept, further, tmp_path / "docs")
    assert list(json.loads((tmp_path / "docs/further.json").read_text())) == [cell.path]


def test_tries_that_were_measured_through_other_tokenizers_are_not_compared(tmp_path: Path) -> None:
    kept, group = Kept(tmp_path), next(experiment().groups())
    for cell, tokenizer in zip(group.tries, ("one", "other"), strict=True):
        kept.keep(cell, {**scored(0.7, cell), "cell": cell.path, "tokenizer": tokenizer}, {})
    with pytest.raises(NotComparable, match=r"try0 was measured with the tokenizer one, and .*try1 with other"):
        kept.chosen(group)


def test_of_losses_the_lower_is_chosen(tmp_path: Path) -> None:
    kept, group = Kept(tmp_path), next(experiment().groups())
    for cell, loss in zip(group.tries, (1.5, 1.2), strict=True):
        epochs = [{"epoch": 1, "loss": loss, "validation": {"loss": loss}}]
        kept.keep(cell, {**scored(0.0, cell), "metric": "loss", "epochs": epochs}, {})
    assert kept.chosen(group) == TRIES[1]


def test_a_decoder_writes_after_each_prompt_once_trained_or_asked_with_examples(tmp_path: Path, here: Path) -> None:
    write_tiny_llama(here / "models/tiny")
    (here / "data/pairs").mkdir()
    places = [f"{a} {b}" for a in WORDS[10:] for b in WORDS[10:]][:40]
    rows = [f"{animal} {place},{place}" for place in places for animal in ("cat", "dog", "bird")]
    for name, part in (("train", rows[:-6]), ("validation", rows[-6:])):
        (here / f"data/pairs/{name}.csv").write_text("\n".join(["prompt,completion", *part]) + "\n")
    prompts = ["cat", "dog", "cat"]
    parquet.write_table(pa.table({"mr": prompts}), here / "data/asked.parquet")
    writes = Writes("asked.parquet", "mr", "e2e", max_new_tokens=3)
    task = Task("pairs", "Pairs", "pairs", "tests/pairs", "loss", {"epochs": 1}, {}, writes=writes)
    ask = Method("prompt", {"method": "prompt", "instruction": "the"}, [{"shots": 1}], {})
    lines = Experiment("tiny", RECIPE, [MODEL], [task], [replace(VERA, targets={}), ask], seeds=[0])
    kept = run_all(tmp_path / "kept", lines)
    for group in lines.groups():
        cell = group.seeds(kept.chosen(group) or {})[0]
        result = kept.result(cell)
        assert result is not None
        assert result["scores"]["items"] == 6
        texts = json.loads((kept.of(cell) / "adapter" / cells.TEXTS).read_text())
        assert len(texts) == len(set(prompts))
        assert all(isinstance(text, str) for text in texts)
        kept.write(cell, {**result, "written": {"bleu": 0.5}})
        assert measure(kept, cell) is None  # it is measured


def test_an_example_is_of_the_training_set_and_stands_before_the_prompt(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(write_tiny_llama(tmp_path))
    (text,) = prompting.in_chat(model, ["the cat"], [("the dog", "the bird")], "the red")
    assert text.index("the red") < text.index("the dog") < text.index("the bird") < text.index("the cat")


def test_a_result_of_another_recipe_does_not_count(tmp_path: Path) -> None:
    kept, cell = Kept(tmp_path), next(experiment().groups()).tries[0]
    kept.keep(cell, scored(0.7, cell), {})
    assert kept.result(cell) is not None
    assert kept.result(replace(cell, recipe=replace(cell.recipe, epochs=9))) is None


def test_a_result_of_another_cell_of_that_name_does_not_count(tmp_path: Path) -> None:
    kept, cell = Kept(tmp_path), next(experiment().groups()).tries[0]
    kept.keep(cell, {**scored(0.7, cell), **facts_of(cell)}, {})
    assert kept.result(cell) is not None
    others = [
        replace(cell, method=replace(cell.method, targets={"tiny": ["query"]})),
        replace(cell, task=replace(cell.task, train_items=10)),
        replace(cell, task=replace(cell.task, data="others")),
        replace(cell, model=replace(cell.model, quantization="nf4")),
    ]
    assert [kept.result(each) for each in others] == [None] * 4


def test_a_run_goes_on_from_what_was_published(tmp_path: Path) -> None:
    kept, group = Kept(tmp_path / "kept"), next(experiment().groups())
    for cell in group.tries:
        kept.keep(cell, scored(0.7, cell), {})
    publish.publish(kept, experiment(), tmp_path / "docs")
    fresh = Kept(tmp_path / "fresh")
    publish.restore(fresh, experiment(), tmp_path / "docs")
    assert fresh.chosen(group) == TRIES[0]


def test_what_was_published_stays_when_more_is(tmp_path: Path) -> None:
    first, *others = next(experiment().groups()).tries
    for number, cell in enumerate([first, *others]):
        fresh = Kept(tmp_path / f"machine-{number}")
        fresh.keep(cell, scored(0.7, cell), {})
        assert publish.publish(fresh, experiment(), tmp_path / "docs") == number + 1


def test_a_try_says_nothing_of_the_heldout_set(here: Path) -> None:
    group: Group = next(experiment().groups())
    result = cells.train(group.tries[0], here / "kept", "cpu", 1)
    assert "scores" not in result
    assert list(result["epochs"][0]) == ["epoch", "loss", "validation"]


def test_a_published_adapter_scores_what_its_numbers_say_and_edited_numbers_are_found(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish.publish(run_all(here / "kept", experiment()), experiment(), here / "docs")
    adapters = list(rescore.committed())
    assert [adapter.cell.name for adapter in adapters] == ["seed0", "seed1"]
    assert rescore.run(adapters) == 0
    numbers = here / "docs/tiny.json"
    edited = json.loads(numbers.read_text())
    edited[adapters[1].cell.path]["scores"]["last"]["accuracy"] -= 0.2
    numbers.write_text(json.dumps(edited))
    assert rescore.run(list(rescore.committed())) == 1
    assert capsys.readouterr().out.count("DIFFERS") == 1


def test_a_base_that_is_missing_is_a_sentence_with_how_to_get_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.publish(run_all(here / "kept", experiment()), experiment(), here / "docs")
    monkeypatch.setenv("VERA_RESULTS_MODELS", str(here / "nothing"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert rescore.run(list(rescore.committed())) == rescore.MISSING
    assert "tests/tiny-bert is not on this machine" in capsys.readouterr().err


def test_the_page_shows_mean_and_deviation_of_the_seeds_and_keeps_what_was_written_by_hand() -> None:
    rows = {f"tiny/animals/vera-r16/seed{seed}": finished(score) for seed, score in ((0, 0.8), (1, 0.9))}
    measured = {"tiny": table.Measured(experiment(), rows)}
    page = "# Mine\n<!-- table tiny/tiny/scores -->\nold\n<!-- end -->\nmore\n"
    filled = table.filled(page, measured)
    assert "| vera-r16 | 96 | 384 | 784 | 85.0 ± 7.1 |" in filled
    assert "old" not in filled
    assert filled.startswith("# Mine\n")
    assert filled.endswith("<!-- end -->\nmore\n")
    assert table.filled(filled, measured) == filled


def test_the_page_of_the_project_says_what_its_numbers_say() -> None:
    measured = {experiment.name: table.Measured.read(experiment) for experiment in all_experiments()}
    page = table.PAGE.read_text()
    assert table.filled(page, measured) == page


def test_every_published_adapter_is_whole_and_of_the_base_its_numbers_are_of() -> None:
    adapters = list(rescore.committed())
    assert adapters
    for adapter in adapters:
        assert read_folder(adapter.folder).manifest.base.fingerprint == adapter.result["base"]


def test_the_picture_has_a_mark_per_method() -> None:
    rows = {f"tiny/animals/{method}/seed0": finished(0.8) for method in ("vera-r16", "head")}
    pictures = table.picture.all_of({"tiny": table.Measured(experiment(VERA, HEAD), rows)})
    assert pictures["tiny-tiny.svg"].count("<circle") == 2


def scored(accuracy: float, cell: Cell) -> dict[str, Any]:
    epoch = {"epoch": 1, "loss": 1.0, "validation": {"accuracy": accuracy}}
    return {"metric": "accuracy", "recipe": cell.recipe.to_dict(), "epochs": [epoch]}


def finished(accuracy: float) -> dict[str, Any]:
    scores = {"last": {"accuracy": accuracy}, "best": {"accuracy": accuracy}}
    return {"metric": "accuracy", "scores": scores, "parameters": 96, "head_parameters": 100}
