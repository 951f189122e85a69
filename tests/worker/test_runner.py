"""The child process: it answers, it refuses with a reason, and its death is only its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.worker.runner import ChildDied, JobRefused, Runner
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import make_tiny
from vera import archive, fingerprint
from vera.nn.attach import attach

TEXTS = ["the cat sleeps", "a dog runs near the fish", "old blue bird"]


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.stop()


def request_of(base_folder: Path, adapter_folder: Path, *, named_base: Path | None = None) -> dict[str, Any]:
    base = fingerprint.of_files(named_base or base_folder)
    archive.write_folder(make_tiny(base, head=True), adapter_folder)
    return {
        "base": {"path": str(base_folder), "fingerprint": base.value, "tensors": base.to_rows()},
        "adapter": str(adapter_folder),
        "inputs": TEXTS,
        "batch_size": 2,
    }


def test_the_child_answers_what_the_adapter_answers_here(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    request = request_of(tiny_folder, tmp_path / "adapter")
    reply = runner.run(request)
    base = fingerprint.of_files(tiny_folder)
    here = attach(load_tiny_bert(tiny_folder), archive.read_folder(tmp_path / "adapter"), base)
    assert reply["outputs"] == here.classify(TEXTS, batch_size=2)
    assert reply["environment"]["torch"]
    assert runner.run(request)["outputs"] == reply["outputs"]


def test_a_wrong_base_is_refused_and_the_child_lives_on(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(JobRefused, match="is not the base") as caught:
        runner.run(request_of(tiny_folder, tmp_path / "wrong", named_base=other))
    assert caught.value.code == "BASE_MISMATCH"
    assert runner.run(request_of(tiny_folder, tmp_path / "right"))["outputs"]


def test_a_killed_child_is_an_error_and_the_next_job_runs(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    request = request_of(tiny_folder, tmp_path / "adapter")

    def kill_when_started() -> None:
        while runner._child is None:
            time.sleep(0.01)
        os.kill(runner._child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_started)
    killer.start()
    with pytest.raises(ChildDied, match="no answer"):
        runner.run(request)
    killer.join()
    assert runner.run(request)["outputs"]


def test_stopping_from_another_thread_ends_the_wait(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    timer = threading.Timer(0.2, runner.stop)
    timer.start()
    with pytest.raises(ChildDied):
        runner.run(request_of(tiny_folder, tmp_path / "adapter"))
    timer.join()


def test_the_child_has_no_token(
    runner: Runner, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERA_HUB_TOKEN", "vhw_secret")
    runner.run(request_of(tiny_folder, tmp_path / "adapter"))
    assert runner._child is not None
    environment = Path(f"/proc/{runner._child.pid}/environ").read_bytes()
    assert b"vhw_secret" not in environment
    assert b"HF_HUB_OFFLINE=1" in environment
