"""Train, push, load, evaluate, gate and rank: real commands, a real hub with its own worker, a real (tiny) model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.functional.machines import COMMAND_TIMEOUT_S, Done, Machine, make_machine, running_hub
from tests.tiny import WORDS, write_tiny_bert

BASE = "lab/tiny-bert"
SUITE = "demo/topics"
QUICK = ("--epochs", "1", "--rank", "8")
LOADING = """
import sys, sdk
model = sdk.load(sys.argv[1], sys.argv[2])
print(model.vera)
print("answer:", model.classify(["the cat sleeps"])[0])
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a hub, a worker, and a base they all know."""
    folder = tmp_path_factory.mktemp("lab")
    with running_hub(folder, with_worker=True):
        machine = make_machine(folder)
        done = machine.run("base", "add", write_tiny_bert(folder / "bert"), "--name", BASE)
        assert done.status == 0, done.err
        rows = [f"the {animal} {place},{animal}" for animal in ("cat", "dog") for place in WORDS[6:]]
        (folder / "animals.csv").write_text("\n".join(["text,label", *rows]) + "\n")
        yield machine


def train_animals(lab: Machine, folder: str, *options: str) -> Done:
    return lab.run("train", folder, "--base", BASE, "--data", "animals.csv", *QUICK, *options)


def load(lab: Machine, base: str, ref: str) -> Done:
    """What a user's script that loads `ref` onto `base` prints."""
    own = {"VERA_HUB_CONFIG": str(lab.folder / "config"), "VERA_HUB_CACHE": str(lab.cache)}
    done = subprocess.run(
        [sys.executable, "-c", LOADING, base, ref],
        env={"PATH": "/usr/bin:/bin", "HOME": str(lab.folder), **own},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_whole_job(lab: Machine) -> None:
    for version, seed in ((1, "0"), (2, "1")):
        trained = lab.run("train", "topics", "--base", BASE, "--data", SUITE, "--seed", seed, *QUICK)
        assert "Held-out accuracy (309 texts)" in trained.out, trained.err
        pushed = lab.run("push", "topics")
        assert f"demo/topics@v{version}" in pushed.out, pushed.err

    scored = lab.run("eval", "demo/topics@v1", "--suite", SUITE, "--wait")
    gate = lab.run("eval", "demo/topics@v2", "--suite", SUITE, "--wait", "--no-regression-vs", "@v1")
    board = lab.run("leaderboard", SUITE)

    assert scored.status == 0, scored.err
    assert "309 items" in scored.out
    assert gate.status in (0, 1), gate.err
    assert "demo/topics@v1" in gate.out
    assert {"demo/topics@v1", "demo/topics@v2"} <= set(board.out.split())


def test_a_folder_evaluated_here_gets_the_numbers_of_the_hub(lab: Machine) -> None:
    for seed in ("3", "4"):
        chosen = ("--base", BASE, "--data", SUITE, "--seed", seed, *QUICK)
        lab.run("train", f"here{seed}/here", *chosen, "--no-baselines")
        lab.run("push", f"here{seed}/here")

    gate = ("--suite", SUITE, "--min", "accuracy>=0", "--json")
    hub = lab.run("eval", "demo/here@v2", "--no-regression-vs", "@v1", *gate)
    here = lab.run(
        "eval", "--local", "here4/here", "--no-regression-vs", "here3/here", *gate, VERA_HUB_URL="http://127.0.0.1:9"
    )

    assert here.status == hub.status, here.err
    there, local = json.loads(hub.out), json.loads(here.out)
    assert local["comparison"] == there["comparison"]
    for which in ("evaluation", "incumbent"):
        same = ("score", "interval", "items", "metric", "version_digest", "suite")
        assert [local[which][name] for name in same] == [there[which][name] for name in same]
    assert [gate["verdict"] for gate in local["gates"]] == [gate["verdict"] for gate in there["gates"]]


def test_a_loaded_adapter_says_what_was_proven_and_another_base_is_refused(lab: Machine) -> None:
    train_animals(lab, "loaded")
    lab.run("push", "loaded")

    done = load(lab, BASE, "demo/loaded@v1")
    refused = load(lab, str(write_tiny_bert(lab.folder / "other", seed=1)), "demo/loaded@v1")

    assert "every byte equal" in done.out, done.err
    assert "projection sha256:" in done.out
    assert "answer: " in done.out
    assert refused.status != 0
    assert "BaseMismatch" in refused.err
    assert "answer" not in refused.out


def test_the_same_training_twice_gives_the_same_folder(lab: Machine) -> None:
    for name in ("first", "second"):
        train_animals(lab, f"{name}/twin")

    first, second = ({f.name: f.read_bytes() for f in (lab.folder / n / "twin").iterdir()} for n in ("first", "second"))

    assert first == second
    assert "vera.json" in first


def test_a_lora_is_trained_to_compare_with_and_not_pushed(lab: Machine) -> None:
    train_animals(lab, "lora", "--method", "lora")

    done = lab.run("push", "lora")

    assert done.status == 1
    assert "LORA" in done.err.upper()


def test_training_never_writes_over_something_else(lab: Machine) -> None:
    (lab.folder / "notes").mkdir()
    (lab.folder / "notes" / "thesis.txt").write_text("years of work")

    done = train_animals(lab, "notes")

    assert done.status != 0
    assert "choose another place" in done.err
    assert (lab.folder / "notes" / "thesis.txt").read_text() == "years of work"
