"""A checkpoint of PEFT becomes an adapter and is pushed, as typed into a shell."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.functional.conftest import BASE_NAME, machine_of
from tests.functional.machines import Machine, RunningHub
from tests.peft_folders import recipe_of, write_peft_folder
from vera import archive as archives
from vera.fingerprint import BaseFingerprint
from vera.peft_checkpoint import SAVED_A, SAVED_B
from vera.peft_format import HEAD_FILE, KEY_PREFIX
from vera.projection import prove


def test_a_checkpoint_of_peft_is_imported_and_pushed(
    machine: Machine, base: BaseFingerprint, base_folder: Path
) -> None:
    write_peft_folder(machine.folder / "from-peft")

    done = machine.run("import", "from-peft", "imported", "--base", base_folder)

    assert done.status == 0, done.err
    archive = archives.read_folder(machine.folder / "imported")
    assert archive.manifest.base.fingerprint == base.value
    assert archive.manifest.recipe == recipe_of()
    assert done.out.splitlines()[0] == f"imported  {archive.manifest.digest}"
    assert f"{recipe_of().size_bytes:,} of them matrices" in done.out
    assert "equal bit for bit" in done.out

    pushed = machine.run("push", "imported")
    assert pushed.out.splitlines()[:2] == ["demo/imported@v1", f"  {archive.manifest.digest}"]
    assert BASE_NAME in machine.run("list", "--search", "imported").out


def test_an_imported_adapter_names_its_base_as_it_was_typed_and_a_head_beside_it_is_not_passed_over_in_silence(
    machine: Machine, base_folder: Path
) -> None:
    write_peft_folder(machine.folder / "from-peft")
    (machine.folder / "from-peft" / HEAD_FILE).write_bytes(b"")
    for name in ("acme/a", "acme/b"):
        assert machine.run("base", "add", base_folder, "--name", name).status == 0

    done = machine.run("import", "from-peft", "imported", "--base", "acme/b")

    assert done.status == 0, done.err
    assert archives.read_folder(machine.folder / "imported").manifest.base.name == "acme/b"
    assert f"The head in {HEAD_FILE}" in done.err


def test_a_checkpoint_that_proves_nothing_is_imported_with_a_note(machine: Machine, base_folder: Path) -> None:
    write_peft_folder(machine.folder / "from-peft", saved=False)
    command = ("import", "from-peft", "imported", "--base", base_folder)

    assert "--trained-in" in machine.run(*command).err
    assert machine.run(*command, "--trained-in", "bfloat16").err == ""
    assert archives.read_folder(machine.folder / "imported").manifest.recipe.rounding == "bfloat16"


def test_matrices_that_follow_no_recipe_and_a_head_travel_from_peft_to_another_machine(
    machine: Machine, hub: RunningHub, base: BaseFingerprint, base_folder: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    pair = {SAVED_A: rng.standard_normal((8, 12), np.float32), SAVED_B: rng.standard_normal((20, 8), np.float32)}
    head = {
        f"{KEY_PREFIX}classifier.weight": rng.standard_normal((2, 12), np.float32),
        f"{KEY_PREFIX}classifier.bias": np.zeros(2, np.float32),
    }
    options = {"task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]}
    write_peft_folder(machine.folder / "from-peft", tensors={**pair, **head}, **options)

    done = machine.run("import", "from-peft", "kept", "--base", base_folder, "--labels", "no,yes")
    pushed = machine.run("push", "kept")
    other = machine_of(hub, tmp_path / "other")
    pulled = other.run("pull", "demo/kept", "--to", "kept")

    assert (done.status, pushed.status, pulled.status) == (0, 0, 0), (done.err, pushed.err, pulled.err)
    assert "a hub keeps once" in done.out
    assert "labels      no, yes" in done.out
    theirs = archives.read_folder(other.folder / "kept")
    assert theirs == archives.read_folder(machine.folder / "kept")
    proven = prove(theirs.manifest.recipe, theirs.manifest.projection_digest, source=theirs.projection)
    assert np.array_equal(proven.A, pair[SAVED_A])
    assert "stored (1,024 bytes)" in other.run("info", "demo/kept").out
    assert "of a stored pair" in other.run("verify", "demo/kept").out


def test_what_cannot_be_imported_leaves_nothing(machine: Machine, base_folder: Path) -> None:
    write_peft_folder(machine.folder / "from-peft", peft_type="LORA")

    done = machine.run("import", "from-peft", "imported", "--base", base_folder)

    assert (done.status, done.out) == (1, "")
    assert "it is a LORA adapter of PEFT, and the hub keeps VeRA adapters: `vera-hub train --method vera`" in done.err
    assert not (machine.folder / "imported").exists()


def test_a_checkpoint_is_not_written_over_itself(machine: Machine, base_folder: Path) -> None:
    folder = write_peft_folder(machine.folder / "from-peft")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    done = machine.run("import", "from-peft", "./from-peft", "--base", base_folder)

    assert done.status == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
