from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.builders import LABELS, MODULES, make_archive
from tests.functional.machines import Machine, RunningHub, make_machine, running_hub
from vera import archive as archives
from vera import fingerprint, tensorfile
from vera.archive import Archive
from vera.fingerprint import BaseFingerprint

BASE_NAME = "lab/tiny-encoder"
CARD = "# A tiny adapter\n"


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One hub for all tests: each uses adapter names of its own."""
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has the modules of `make_archive`."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    folder.mkdir()
    weights = {f"{name}.weight": np.ones((height, width), "<f4") for name, width, height in MODULES}
    (folder / "model.safetensors").write_bytes(tensorfile.serialize(weights, "F32"))
    return folder


@pytest.fixture(scope="session")
def base(base_folder: Path, hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> BaseFingerprint:
    """The base, registered at the hub by the command that does it."""
    machine = machine_of(hub, tmp_path_factory.mktemp("owner"))
    done = machine.run("base", "add", base_folder, "--name", BASE_NAME)
    assert done.status == 0, done.err
    return fingerprint.of_files(base_folder)


@pytest.fixture
def machine(hub: RunningHub, tmp_path: Path) -> Machine:
    """A machine that is logged in, with nothing in its cache."""
    return machine_of(hub, tmp_path / "machine")


@pytest.fixture
def adapter(base: BaseFingerprint, machine: Machine) -> Callable[..., Path]:
    """Makes the folder of an adapter on the machine."""

    def make(name: str, *, seed: int = 1, labels: tuple[str, ...] = LABELS, card: str = CARD) -> Path:
        folder = machine.folder / name
        archives.write_folder(make_adapter(base, seed, labels, card), folder)
        return folder

    return make


def make_adapter(base: BaseFingerprint, seed: int, labels: tuple[str, ...] = LABELS, card: str = CARD) -> Archive:
    return make_archive(seed=seed, base=base, base_name=BASE_NAME, labels=labels, card=card)


def machine_of(hub: RunningHub, folder: Path) -> Machine:
    """A machine whose user is logged in at `hub`."""
    (folder / "config").mkdir(parents=True)
    shutil.copy(hub.profile, folder / "config")
    return make_machine(folder)
