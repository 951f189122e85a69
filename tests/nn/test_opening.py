"""A checkpoint that transformers would open as something else, or not at all, is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import write_tiny_bert
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.errors import BaseUnreadable
from vera.manifest import Manifest
from vera.nn.opening import open_base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bert(tmp_path / "base")


def manifest_of(folder: Path) -> Manifest:
    return make_tiny(fingerprint.of_files(folder)).manifest


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_adapter_of_peft_beside_a_base_does_not_put_another_base_in_its_place(folder: Path, tmp_path: Path) -> None:
    """transformers opens what `base_model_name_or_path` names; the files that were proven would be others."""
    other = write_tiny_bert(tmp_path / "other", seed=1)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(other)})
    )

    with pytest.raises(BaseUnreadable, match=r"would be opened as another model: move that file away"):
        open_base(folder, manifest_of(folder))


@pytest.mark.parametrize(
    "changes", [{"transformers_weights": "extra.safetensors"}, {"text_config": {"transformers_weights": "e"}}]
)
def test_a_configuration_that_names_other_weights_than_those_that_were_hashed_is_refused(
    folder: Path, changes: dict[str, Any]
) -> None:
    """Rounded or quantised, nothing would be left by which the other weights could be told."""
    configure(folder, **changes)

    with pytest.raises(
        BaseUnreadable, match=r"and model\.safetensors is what was proven: take transformers_weights out"
    ):
        open_base(folder, manifest_of(folder), {"dtype": "bfloat16"})


def test_a_configuration_that_names_the_weights_that_were_hashed_is_opened(folder: Path) -> None:
    configure(folder, transformers_weights="model.safetensors")

    assert open_base(folder, manifest_of(folder)).config.model_type == "bert"


def test_code_that_a_checkpoint_brings_is_not_run_and_nobody_is_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("somebody was asked"))
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    configure(folder, model_type="own", auto_map={"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model"})

    with pytest.raises(BaseUnreadable, match=r"code of its own, which is not run here: .* give the live model"):
        open_base(folder, manifest_of(folder))

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["{", "{}", None], ids=["broken", "empty", "none"])
def test_a_checkpoint_without_a_configuration_says_so(folder: Path, text: str | None) -> None:
    manifest = manifest_of(folder)
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)

    with pytest.raises(BaseUnreadable, match=r"base cannot be opened as a model: .*config"):
        open_base(folder, manifest)
