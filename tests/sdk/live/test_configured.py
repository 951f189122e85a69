"""A base whose weights are right and whose configuration is not, by every way to one: a folder, a live model, a packed bank."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sdk
from sdk.client import Hub
from sdk.config import Config
from tests.peft_folders import write_peft_folder
from tests.sdk.commands import run
from tests.sdk.fakes import FakeHub
from tests.tiny import load_tiny_bert
from tests.tiny_adapters import SIZES, make_tiny
from vera import archive as archives
from vera.archive import Archive
from vera.errors import BaseMismatch, VeraWarning
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE
from vera.nn.configured import config_at, record_of

NO_HUB = "http://127.0.0.1:9"


def recorded(archive: Archive, folder: Path) -> Archive:
    base = replace(archive.manifest.base, config=record_of(config_at(folder)))
    return archives.seal(replace(archive.manifest, base=base), archive.files[WEIGHTS_FILE], archive.card)


@pytest.fixture
def known(published: FakeHub, tiny_folder: Path, tiny_base: BaseFingerprint) -> FakeHub:
    """The hub with demo/set, of which two versions of one pair record how the base was set; the first version does not."""
    for seed in (1, 2, 3):
        plain = make_tiny(tiny_base, seed=seed, pair_seed=9)
        published.publish("demo/set", plain if seed == 1 else recorded(plain, tiny_folder))
    return published


@pytest.fixture
def edited(tiny_folder: Path, tmp_path: Path) -> Path:
    """The very weights, with another activation in config.json."""
    return edit(tiny_folder, tmp_path / "edited", hidden_act="relu")


def edit(folder: Path, to: Path, **changes: Any) -> Path:
    shutil.copytree(folder, to)
    fields = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**fields, **changes}))
    return to


def test_a_folder_is_refused_and_the_right_one_loads(known: FakeHub, hub: Hub, edited: Path, tiny_folder: Path) -> None:
    for check in (sdk.load, sdk.verify):
        with pytest.raises(BaseMismatch, match="hidden_act is 'relu' here and was 'gelu' in training") as refused:
            check(edited, "demo/set@v2", hub=hub)
        assert refused.value.code == "BASE_CONFIG_MISMATCH"
        check(tiny_folder, "demo/set@v2", hub=hub)
    with pytest.raises(BaseMismatch, match="hidden_act"):
        sdk.export(edited, "demo/set@v2", edited.parent / "out", hub=hub)
    sdk.load(edited, "demo/set@v1", hub=hub)  # as ever: it says nothing of it


def test_what_a_file_leaves_out_is_asked_of_its_class(
    known: FakeHub, hub: Hub, tiny_folder: Path, tmp_path: Path
) -> None:
    bare = edit(tiny_folder, tmp_path / "bare")
    fields = json.loads((bare / "config.json").read_text())
    needed = (
        "model_type",
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "max_position_embeddings",
    )
    for more, refused in (({"num_attention_heads": 2}, False), ({}, True)):
        (bare / "config.json").write_text(json.dumps({**{name: fields[name] for name in needed}, **more}))
        if refused:
            with pytest.raises(BaseMismatch, match="num_attention_heads is 12 here and was 2 in training"):
                sdk.verify(bare, "demo/set@v2", hub=hub)
        else:
            sdk.verify(bare, "demo/set@v2", hub=hub)


def test_a_live_model_is_refused_and_left_alone(known: FakeHub, hub: Hub, tiny_folder: Path) -> None:
    model = load_tiny_bert(tiny_folder, layer_norm_eps=1e-3)
    for check in (sdk.load, sdk.verify):
        with pytest.raises(BaseMismatch, match=r"layer_norm_eps is 0.001 here and was 1e-12"):
            check(model, "demo/set@v2", hub=hub)
    assert not hasattr(model, "vera")
    with pytest.warns(VeraWarning, match="may answer wrongly"):
        sdk.load(model, "demo/set@v2", hub=hub, verify="warn")


def test_what_was_changed_on_a_live_model_since_is_seen_at_the_next_load(
    known: FakeHub, hub: Hub, tiny_folder: Path
) -> None:
    model = load_tiny_bert(tiny_folder)
    sdk.load(model, "demo/set@v2", hub=hub)
    norm, dropout = model.encoder.layer[0].output.LayerNorm, model.encoder.layer[0].output.dropout
    dropout.p = 0.9
    sdk.load(model, "demo/set@v3", hub=hub)
    norm.eps = 0.1
    for check in (sdk.load, sdk.verify):
        with pytest.raises(BaseMismatch, match=r"encoder\.layer\.0\.output\.LayerNorm\.eps is 0\.1 and was 1e-12"):
            check(model, "demo/set@v3", hub=hub)
    sdk.load(model, "demo/set@v1", hub=hub)  # which is held to nothing
    norm.eps = 1e-12
    model.config.hidden_act = "relu"
    for check in (sdk.load, sdk.verify):
        with pytest.raises(BaseMismatch, match="hidden_act is 'relu' here and was 'gelu' in training"):
            check(model, "demo/set@v3", hub=hub)
    sdk.activate(model, "demo/set@v2")  # reads nothing, as docs/loading.md says


def test_a_packed_bank_holds_each_adapter_to_its_own_record(known: FakeHub, hub: Hub, tiny_folder: Path) -> None:
    wrong, right = load_tiny_bert(tiny_folder, hidden_act="relu"), load_tiny_bert(tiny_folder)
    for model in (wrong, right):
        sdk.load(model, "demo/set@v1", hub=hub)
    with sdk.pack(right, "demo/set@v1") as packed:
        packed.load("demo/set@v2", hub=hub)
    with sdk.pack(wrong, "demo/set@v1") as packed, pytest.raises(BaseMismatch, match="hidden_act"):
        packed.load("demo/set@v2", hub=hub)


def test_a_training_records_it_and_its_folder_is_refused_on_another_base(
    tiny_folder: Path, edited: Path, tmp_path: Path, config: Config
) -> None:
    options = (
        "--data",
        "demo/topics",
        "--epochs",
        "1",
        "--rank",
        "2",
        "--no-baselines",
        "--device",
        "cpu",
    )
    done = run(NO_HUB, "train", str(tmp_path / "made"), "--base", str(tiny_folder), *options)
    assert done.exit_code == 0, done.output
    record = archives.read_folder(tmp_path / "made").manifest.base.config
    assert record == record_of(config_at(tiny_folder))
    sdk.load(tiny_folder, tmp_path / "made", config=config)
    with pytest.raises(BaseMismatch, match="hidden_act"):
        sdk.load(edited, tmp_path / "made", config=config)


def test_an_import_records_it(tiny_folder: Path, edited: Path, tmp_path: Path) -> None:
    write_peft_folder(tmp_path / "peft", modules=tuple((name, *SIZES[name]) for name in sorted(SIZES)))
    done = run(NO_HUB, "import", str(tmp_path / "peft"), str(tmp_path / "made"), "--base", str(tiny_folder))
    assert done.exit_code == 0, done.output
    record = archives.read_folder(tmp_path / "made").manifest.base.config
    assert record == record_of(config_at(tiny_folder))
    assert f"  settings    {len(record.all)} of the base are recorded" in done.stdout
    with pytest.raises(BaseMismatch, match="hidden_act"):
        sdk.load(edited, tmp_path / "made")
    (edited / "config.json").unlink()
    done = run(NO_HUB, "import", str(tmp_path / "peft"), str(tmp_path / "bare"), "--base", str(edited))
    assert "  settings    not recorded" in done.stdout
    assert archives.read_folder(tmp_path / "bare").manifest.base.config is None
