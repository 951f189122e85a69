"""`vera-hub train` as it is typed: its help, its recipes, and a training that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdk.cli.train import train
from tests.sdk.commands import run
from tests.tiny import WORDS, write_tiny_bert
from vera.nn.quantising import QUANTIZATIONS

URL = "http://127.0.0.1:1"  # nobody is asked
DEADLINE_S = 120


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    rows = [f"the {animal} {a} {b},{animal}" for animal in ("cat", "dog") for a in WORDS[10:18] for b in WORDS[10:16]]
    data = tmp_path / "animals.csv"
    data.write_text("\n".join(["text,label", *rows]) + "\n")
    return data


def typed(base: Path, data: Path, *options: str) -> list[str]:
    return ["train", "--base", str(base), "--data", str(data), "--rank", "8", "--batch-size", "4", *options]


def test_what_everybody_needs_stands_first_in_the_help() -> None:
    lines = run(URL, "train", "--help").stdout.splitlines()
    sections = [line for line in lines if line.endswith(":") and not line.startswith((" ", "Usage"))]
    assert sections == ["What to train:", "The data:", "The adapter:", "The steps:", "The machine:", "Beside them:"]
    assert all(line.strip() for line in lines if line.startswith("  --"))


def test_recipes_are_listed_without_a_base(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(URL, "train", "--list-recipes")
    assert done.exit_code == 0
    (mrpc,) = [line.split() for line in done.stdout.splitlines() if line.startswith("glue-base/mrpc")]
    assert mrpc[1:7] == ["1024", "30", "64", "0.01", "0.004", "linear"]


def test_an_option_overrides_the_recipe_and_a_method_brings_its_own_rank(
    base: Path, animals: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    options = ("--recipe", "glue-base/mrpc", "--method", "lora", "--epochs", "1", "--no-baselines")
    done = run(URL, "train", str(made), "--base", str(base), "--data", str(animals), *options)
    assert done.exit_code == 0, done.stderr
    recipe = json.loads((made / "training.json").read_bytes())["recipe"]
    assert (recipe["method"], recipe["rank"], recipe["epochs"], recipe["head_learning_rate"]) == ("lora", 8, 1, 4e-3)


def test_a_base_can_be_held_in_8_bits(base: Path, animals: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = run(URL, *typed(base, animals, "--quantize", "int8", "--epochs", "1", "--no-baselines"), str(made))
    assert done.exit_code == 0, done.stderr
    assert json.loads((made / "vera.json").read_bytes())["training"]["quantization"] == "int8"


def test_the_quantisations_that_are_offered_are_those_there_are() -> None:
    offered = next(option.type for option in train.params if option.name == "quantize")
    assert tuple(offered.choices) == QUANTIZATIONS


def test_an_unknown_recipe_says_how_to_see_them(base: Path, animals: Path, tmp_path: Path) -> None:
    done = run(URL, *typed(base, animals, "--recipe", "glue/mrpc"), str(tmp_path / "made"))
    assert done.exit_code == 1
    assert "--list-recipes" in done.stderr


def test_the_best_and_the_last_epoch_are_told(base: Path, animals: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = run(URL, *typed(base, animals, "--epochs", "3", "--keep", "best", "--no-baselines"), str(made))
    assert done.exit_code == 0, done.stderr
    assert "the best by validation, which is kept" in done.stdout
    assert "epoch 3, the last" in done.stdout
    assert (made / "loss.svg").read_bytes().startswith(b"<svg")
    assert "of memory" in done.stdout


@pytest.mark.parametrize(("rate", "is_warned"), [("1e-9", True), ("2e-2", False)])
def test_a_training_that_learned_nothing_is_said_to_have(
    base: Path, animals: Path, tmp_path: Path, rate: str, is_warned: bool
) -> None:
    rates = ("--lr", rate, "--head-lr", rate)
    done = run(URL, *typed(base, animals, *rates, "--epochs", "4", "--no-baselines"), str(tmp_path / "made"))
    assert done.exit_code == 0, done.stderr
    assert ("nothing to do with the truth" in done.stderr) == is_warned
    assert ("(this was 1e-09)" in done.stderr) == is_warned


def test_the_splits_and_columns_that_are_named_are_the_ones_read(base: Path, animals: Path, tmp_path: Path) -> None:
    data = tmp_path / "sets"
    data.mkdir()
    header, *rows = animals.read_text().splitlines()
    mixed = [
        row for cat_and_dog in zip(rows[: len(rows) // 2], rows[len(rows) // 2 :], strict=True) for row in cat_and_dog
    ]
    for part, its_rows in (
        ("train_a", mixed[:40]),
        ("train_b", mixed[40:80]),
        ("test_a", mixed[80:]),
        ("test_b", mixed[80:]),
    ):
        lines = [f"words,{header}", *(f"x,{row}" for row in its_rows)]
        (data / f"{part}-00000-of-00001.csv").write_text("\n".join(lines))
    named = ("--train", "train_b", "--heldout", "test_a", "--text", "text", "--label", "label", "--limit", "10")
    done = run(URL, *typed(base, data, *named, "--epochs", "1", "--no-baselines"), str(tmp_path / "made"))
    assert done.exit_code == 0, done.stderr
    assert "sets: 10 texts to train on, 10 held out, 2 labels" in done.stdout
    assert "the first 10 rows of train_b read" in done.stdout


def test_without_the_network_a_data_set_of_hugging_face_is_not_asked_for(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERA_HUB_OFFLINE", "1")
    done = run(URL, "train", str(tmp_path / "made"), "--base", str(base), "--data", "nobody/knows")
    assert done.exit_code == 1
    assert "hf download nobody/knows --repo-type dataset" in done.stderr


def test_a_gpu_that_is_not_there_says_so(base: Path, animals: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = run(URL, *typed(base, animals, "--device", "cuda"), str(tmp_path / "made"))
    assert done.exit_code == 1
    assert "finds no GPU" in done.stderr


def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(URL, *typed(base, tmp_path / "no such data", str(tmp_path / "file" / "made")))
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr
    assert "no such data" not in done.stderr


@pytest.mark.parametrize(
    ("saves", "said"),
    [(True, "The same command goes on from the last checkpoint"), (False, "the same command begins anew")],
    ids=["after a checkpoint", "before"],
)
def test_ctrl_c_says_how_to_go_on(
    base: Path, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: bool, said: str
) -> None:
    from vera.nn.training.checkpoints import Checkpoints

    def interrupted(*_: object, work: Path, **__: object) -> None:
        if saves:
            Checkpoints(work, "key").save({})
        raise KeyboardInterrupt

    monkeypatch.setattr("vera.nn.experiment.run", interrupted)
    done = run(URL, *typed(base, animals, str(tmp_path / "made")))
    assert done.exit_code == 130
    assert said in done.stderr


def test_a_training_that_cannot_be_written_at_its_end_is_kept(
    base: Path, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vera.nn.experiment import Outcome

    def full(_outcome: Outcome, _folder: Path) -> None:
        raise OSError(28, "No space left on device")

    options = [*typed(base, animals, "--no-baselines"), str(tmp_path / "made")]
    with monkeypatch.context() as patched:
        patched.setattr(Outcome, "write", full)
        done = run(URL, *options)
    again = run(URL, *options)

    assert (done.exit_code, again.exit_code) == (1, 0), again.stderr
    assert "No space left on device" in done.stderr
    assert "the same command ends it" in done.stderr
    assert "from where it was interrupted" in again.stderr


def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    base: Path, animals: Path, tmp_path: Path
) -> None:
    killed, whole = tmp_path / "killed" / "made", tmp_path / "whole" / "made"
    options = typed(base, animals, "--epochs", "20", "--dropout", "--no-baselines")
    kill_after_a_checkpoint([*options, str(killed)], killed.with_name(".made.training"))

    resumed, straight = run(URL, *options, str(killed)), run(URL, *options, str(whole))

    assert "from where it was interrupted" in resumed.stderr
    assert "from where it was interrupted" not in straight.stderr
    assert {f.name: f.read_bytes() for f in killed.iterdir()} == {f.name: f.read_bytes() for f in whole.iterdir()}
    assert not killed.with_name(".made.training").exists()


def kill_after_a_checkpoint(arguments: list[str], work: Path) -> None:
    """Starts `vera-hub` with `arguments`, saving often, and kills it (SIGKILL) when it has saved."""
    code = (
        "import sys, vera.nn.training.checkpoints as c; c.EVERY_S = 0.2; "
        "from sdk.cli.main import cli; cli(sys.argv[1:], prog_name='vera-hub')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + DEADLINE_S
    while not (work / "checkpoint.pt").exists():
        assert process.poll() is None, "it ended before it was killed: it must train longer"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (work / "checkpoint.pt").exists()


def test_an_adapter_is_trained_again_in_its_folder_and_another_one_is_not_lost_for_it(
    base: Path, animals: Path, tmp_path: Path
) -> None:
    made, quick = tmp_path / "made", ("--epochs", "1", "--no-baselines")
    assert run(URL, *typed(base, animals, *quick), str(made)).exit_code == 0
    assert run(URL, *typed(base, animals, *quick, "--lr", "0.01"), str(made)).exit_code == 0
    before = (made / "vera.json").read_bytes()
    other_base = write_tiny_bert(tmp_path / "other" / "tiny", seed=1)
    other_data = tmp_path / "beasts.csv"
    other_data.write_text(animals.read_text().replace("the cat", "a cat", 1))
    same_name = tmp_path / "again" / "animals.csv"
    same_name.parent.mkdir()
    other_data.replace(same_name)
    other_data.write_text(same_name.read_text())
    digest = json.loads(before)["training"]["data_digest"]

    for command, said in (
        (typed(base, other_data, *quick), ["trained on animals", "trained on beasts"]),
        (typed(base, same_name, *quick), [f"trained on animals.csv ({digest})", "trained on animals.csv (sha256:"]),
        (typed(other_base, other_data, *quick), ["of tiny", json.loads(before)["base"]["fingerprint"]]),
    ):
        done = run(URL, *command, str(made))
        assert done.exit_code == 1
        assert all(words in done.stderr for words in (*said, "holds another adapter", "choose another folder")), (
            done.stderr
        )
    assert (made / "vera.json").read_bytes() == before


def test_rows_that_were_added_are_trained_on_in_the_same_folder_when_that_is_said(
    base: Path, animals: Path, tmp_path: Path
) -> None:
    made, quick = tmp_path / "made", ("--epochs", "1", "--no-baselines")
    assert run(URL, *typed(base, animals, *quick), str(made)).exit_code == 0
    before = (made / "vera.json").read_bytes()
    with animals.open("a") as file:
        file.write("the bird sings,cat\n")

    refused = run(URL, *typed(base, animals, *quick), str(made))
    assert refused.exit_code == 1
    assert "add --replace" in refused.stderr
    assert (made / "vera.json").read_bytes() == before

    assert run(URL, *typed(base, animals, *quick, "--replace"), str(made)).exit_code == 0
    after = json.loads((made / "vera.json").read_bytes())
    assert after["training"]["data_digest"] != json.loads(before)["training"]["data_digest"]


def test_another_base_or_task_is_not_replaced_even_when_that_is_said(base: Path, animals: Path, tmp_path: Path) -> None:
    made, quick = tmp_path / "made", ("--epochs", "1", "--no-baselines")
    assert run(URL, *typed(base, animals, *quick), str(made)).exit_code == 0
    before = (made / "vera.json").read_bytes()
    other_base = write_tiny_bert(tmp_path / "other" / "tiny", seed=1)
    numbers = tmp_path / "numbers.csv"
    numbers.write_text(animals.read_text().replace(",cat", ",1.5").replace(",dog", ",2.5"))
    for command in (typed(other_base, animals, *quick), typed(base, numbers, *quick, "--task", "text-regression")):
        done = run(URL, *command, "--replace", str(made))
        assert done.exit_code == 1
        assert "holds another adapter" in done.stderr
        assert "--replace" not in done.stderr
        assert (made / "vera.json").read_bytes() == before


def test_the_same_items_under_another_name_and_with_a_tenth_set_aside_are_the_same_data(
    base: Path, animals: Path, tmp_path: Path
) -> None:
    made, quick = tmp_path / "made", ("--epochs", "1", "--no-baselines")
    assert run(URL, *typed(base, animals, *quick, "--validate"), str(made)).exit_code == 0
    renamed = animals.rename(tmp_path / "beasts.csv")
    for more in ((), ("--validate",), ()):
        done = run(URL, *typed(base, renamed, *quick, *more), str(made))
        assert done.exit_code == 0, done.output


def test_what_was_trained_to_compare_with_is_not_lost_for_other_data_either(
    base: Path, animals: Path, tmp_path: Path
) -> None:
    made, quick = tmp_path / "made", ("--epochs", "1", "--no-baselines", "--method", "lora")
    for _ in range(2):
        assert run(URL, *typed(base, animals, *quick), str(made)).exit_code == 0
    animals.write_text(animals.read_text().replace("the cat", "a cat", 1))
    done = run(URL, *typed(base, animals, *quick), str(made))
    assert done.exit_code == 1
    assert "holds another adapter" in done.stderr
