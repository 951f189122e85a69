"""Pickle checkpoints have the fingerprint of their tensors, and nothing in them is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.nn.small_models import normal
from vera import fingerprint
from vera.errors import BaseUnreadable
from vera.nn.pickled import of_pickles

TENSORS = {
    "a.weight": normal(4, 3),
    "b.weight": normal(2, 3).to(torch.bfloat16),
    "ids": torch.arange(5),
    "mask": torch.tensor([True, False]),
    "scale": torch.tensor(1.5),
    "turned": normal(3, 4).T,
}


@pytest.fixture
def expected(tmp_path: Path) -> fingerprint.BaseFingerprint:
    folder = tmp_path / "safe"
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, folder / fingerprint.SINGLE_FILE)
    return fingerprint.of_files(folder)


@pytest.mark.parametrize("is_zip", [True, False])
def test_it_is_the_fingerprint_of_the_same_tensors_in_a_safetensors_file(
    tmp_path: Path, expected: fingerprint.BaseFingerprint, is_zip: bool
) -> None:
    torch.save(TENSORS, tmp_path / fingerprint.PICKLE_FILE, _use_new_zipfile_serialization=is_zip)
    assert of_pickles(fingerprint.pickle_files(tmp_path)) == expected


def test_shards_are_those_of_the_index(tmp_path: Path, expected: fingerprint.BaseFingerprint) -> None:
    names = list(TENSORS)
    weight_map = {name: f"part-{i % 2}.bin" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        torch.save({name: TENSORS[name] for name in names if weight_map[name] == file}, tmp_path / file)
    (tmp_path / fingerprint.PICKLE_INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    assert of_pickles(fingerprint.pickle_files(tmp_path)) == expected


def test_tied_tensors_count_once_under_the_name_that_safetensors_keeps(tmp_path: Path) -> None:
    from safetensors.torch import save_model

    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 4), "head": torch.nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    torch.save(model.state_dict(), tmp_path / fingerprint.PICKLE_FILE)
    save_model(model, str(tmp_path / "model.safe.safetensors"))
    assert of_pickles([tmp_path / fingerprint.PICKLE_FILE]) == fingerprint.of_files(tmp_path / "model.safe.safetensors")


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("held", [{"a": Runs()}, {"a": {"b": torch.ones(1)}}, [torch.ones(1)], {1: torch.ones(1)}, {}])
def test_a_pickle_of_anything_else_is_refused_and_not_run(
    tmp_path: Path, held: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(held, fingerprint.PICKLE_FILE)
    with pytest.raises(BaseUnreadable, match=r"pickle of tensors alone|more than tensors|no tensors"):
        of_pickles([Path(fingerprint.PICKLE_FILE)])
    assert not Path("was-run").exists()


@pytest.mark.parametrize("data", [b"", b"\x80\x02.", b"PK\x03\x04", b"not a pickle"])
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / fingerprint.PICKLE_FILE).write_bytes(data)
    with pytest.raises(BaseUnreadable):
        of_pickles(fingerprint.pickle_files(tmp_path))


def test_safetensors_files_come_first(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / fingerprint.PICKLE_FILE)
    save_file({"x": torch.ones(1)}, tmp_path / fingerprint.SINGLE_FILE)
    assert fingerprint.pickle_files(tmp_path) == []
