"""A checkpoint of PEFT becomes an adapter and is pushed, as typed into a shell."""

from __future__ import annotations

from pathlib import Path

from tests.functional.conftest import BASE_NAME
from tests.functional.machines import Machine
from tests.peft_folders import recipe_of, write_peft_folder
from vera import archive as archives
from vera.fingerprint import BaseFingerprint


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


def test_a_checkpoint_that_proves_nothing_is_imported_with_a_note(machine: Machine, base_folder: Path) -> None:
    write_peft_folder(machine.folder / "from-peft", saved=False)
    command = ("import", "from-peft", "imported", "--base", base_folder)

    assert "--trained-in" in machine.run(*command).err
    assert machine.run(*command, "--trained-in", "bfloat16").err == ""
    assert archives.read_folder(machine.folder / "imported").manifest.recipe.rounding == "bfloat16"


def test_what_cannot_be_imported_leaves_nothing(machine: Machine, base_folder: Path) -> None:
    write_peft_folder(machine.folder / "from-peft", peft_type="LORA")

    done = machine.run("import", "from-peft", "imported", "--base", base_folder)

    assert (done.status, done.out) == (1, "")
    assert "LORA" in done.err
    assert not (machine.folder / "imported").exists()


def test_a_checkpoint_is_not_written_over_itself(machine: Machine, base_folder: Path) -> None:
    folder = write_peft_folder(machine.folder / "from-peft")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    done = machine.run("import", "from-peft", "./from-peft", "--base", base_folder)

    assert done.status == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
