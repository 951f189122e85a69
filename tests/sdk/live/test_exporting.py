"""`sdk.export` and `vera-hub export`: from a reference or a folder to files that others read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sdk
from sdk.client import Hub
from tests.sdk.commands import run
from tests.sdk.fakes import URL
from tests.sdk.live.published import output_of
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import make_tiny
from vera import archive as archives
from vera import fingerprint
from vera.errors import BaseMismatch, BaseUnreadable, VeraError
from vera.fingerprint import BaseFingerprint


def test_a_reference_becomes_a_merged_model(tiny_folder: Path, hub: Hub, tmp_path: Path) -> None:
    exported = sdk.export(tiny_folder, "demo/a@prod", tmp_path / "out", hub=hub, config=hub.config)

    adapted = sdk.load(tiny_folder, "demo/a@v1", hub=hub, config=hub.config)
    torch.testing.assert_close(output_of(load_tiny_bert(exported.folder)), output_of(adapted), rtol=1e-4, atol=1e-4)
    said = json.loads((tmp_path / "out" / "vera_export.json").read_text())
    assert said["adapter"]["ref"] == "demo/a@v1"
    assert said["fingerprint"] == exported.fingerprint == fingerprint.of_files(tmp_path / "out").value


@pytest.fixture
def folder(tiny_base: BaseFingerprint, tmp_path: Path) -> Path:
    archives.write_folder(make_tiny(tiny_base, head=True), tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_command_writes_both_forms_and_says_how_large_they_are(
    folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    merged, lora = tmp_path / "merged", tmp_path / "lora"

    done = run(URL, "export", str(folder), "--base", str(tiny_folder), "--merged", str(merged), "--lora", str(lora))

    assert done.exit_code == 0, done.stderr
    assert f"{merged}  {fingerprint.of_files(merged).value}" in done.stdout
    assert f"{lora}  a LoRA checkpoint of PEFT" in done.stdout
    assert done.stdout.count("the head is in vera_head.safetensors") == 2
    lora_bytes = (lora / "adapter_model.safetensors").stat().st_size
    vector_bytes = archives.read_folder(folder).manifest.weights.vector_bytes
    assert (
        f"{lora_bytes:,} bytes, {lora_bytes / vector_bytes:.0f} times the {vector_bytes:,} of the vectors"
        in done.stderr
    )


def test_the_command_writes_the_form_of_peft(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    done = run(URL, "export", str(folder), "--base", str(tiny_folder), "--peft", str(tmp_path / "peft"))

    assert done.exit_code == 0, done.stderr
    assert f"{tmp_path / 'peft'}  a VeRA checkpoint of PEFT" in done.stdout
    assert "the matrices are in it" in done.stderr
    assert (tmp_path / "peft" / "adapter_config.json").is_file()


def test_another_base_is_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(BaseMismatch):
        sdk.export(other, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_base_is_told_which_one_it_should_be_and_by_which_command(
    folder: Path, tmp_path: Path, hub: Hub
) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(BaseMismatch) as refused:
        sdk.export(other, "demo/a", tmp_path / "out", hub=hub, config=hub.config)
    assert "The adapter needs tests/tiny-bert" in str(refused.value)
    assert "`--base tests/tiny-bert`" in str(refused.value)


def test_the_dtype_is_that_of_the_merged_checkpoint_alone(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    command = ("export", str(folder), "--base", str(tiny_folder), "--dtype", "bfloat16")

    done = run(URL, *command, "--merged", str(tmp_path / "merged"), "--lora", str(tmp_path / "lora"))
    alone = run(URL, *command, "--lora", str(tmp_path / "second"))

    assert done.exit_code == 0, done.stderr
    assert load_tiny_bert(tmp_path / "merged", dtype="auto").dtype == torch.bfloat16
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()
    assert (alone.exit_code, "--dtype is for --merged" in alone.stderr) == (2, True)
    for form, dtype in (("lora", "float32"), ("merged", "int8")):
        with pytest.raises(VeraError, match="dtype"):
            sdk.export(tiny_folder, folder, tmp_path / "third", form=form, dtype=dtype)


def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = ("export", str(folder), "--base", "no such base", "--merged", str(tmp_path / "merged"))

    done = run(URL, *command, "--lora", str(tmp_path / "file" / "deep" / "lora"))

    assert done.exit_code == 1
    assert "cannot be written" in done.stderr
    assert not (tmp_path / "merged").exists()


def test_the_command_asks_which_form(folder: Path, tiny_folder: Path) -> None:
    done = run(URL, "export", str(folder), "--base", str(tiny_folder))
    assert done.exit_code == 2
    assert "--merged OUT" in done.stderr


def test_a_model_in_memory_is_not_exported(model: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseUnreadable, match="written by sdk"):
        sdk.export(model, folder, tmp_path / "out")


def test_a_form_nobody_knows_is_named(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VeraError, match="'gguf'") as refused:
        sdk.export(tiny_folder, folder, tmp_path / "out", form="gguf")
    assert refused.value.code == "FORM_UNKNOWN"
