"""A base whose weights are right and whose tokenizer or image processor is not, by every way to one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, ViTImageProcessorPil

import sdk
from sdk.client import Hub
from sdk.config import Config
from tests.peft_folders import write_peft_folder
from tests.sdk.commands import run
from tests.sdk.fakes import FakeHub
from tests.tiny import load_tiny_bert, write_tiny_llama, write_tiny_vit
from tests.tiny_adapters import SIZES, make_tiny
from vera import archive as archives
from vera.archive import Archive
from vera.errors import BaseMismatch, VeraWarning
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE
from vera.nn import processed, tokenized

NO_HUB = "http://127.0.0.1:9"
FEW = ("--epochs", "1", "--rank", "2", "--no-baselines", "--device", "cpu")


def recorded(archive: Archive, folder: Path) -> Archive:
    record = tokenized.record_of(AutoTokenizer.from_pretrained(folder))
    manifest = replace(archive.manifest, base=replace(archive.manifest.base, tokenizer=record))
    return archives.seal(manifest, archive.files[WEIGHTS_FILE], archive.card)


@pytest.fixture
def known(published: FakeHub, tiny_folder: Path, tiny_base: BaseFingerprint) -> FakeHub:
    """The hub with two versions of demo/set, of which the second records how texts were read, and a classifier that does."""
    published.publish("demo/set", make_tiny(tiny_base, seed=1))
    published.publish("demo/set", recorded(make_tiny(tiny_base, seed=1), tiny_folder))
    published.publish("demo/cats", recorded(make_tiny(tiny_base, seed=2, head=True), tiny_folder))
    return published


@pytest.fixture
def swapped(tiny_folder: Path, tmp_path: Path) -> Path:
    """The very weights beside a tokenizer that knows two words by each other's names."""
    folder = shutil.copytree(tiny_folder, tmp_path / "swapped")
    state = json.loads((folder / "tokenizer.json").read_text())
    words = state["model"]["vocab"]
    words["cat"], words["dog"] = words["dog"], words["cat"]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


def test_a_folder_is_refused_and_the_right_one_loads(
    known: FakeHub, hub: Hub, swapped: Path, tiny_folder: Path
) -> None:
    for check in (sdk.load, sdk.verify):
        with pytest.raises(BaseMismatch, match="reads texts otherwise") as refused:
            check(swapped, "demo/set@v2", hub=hub)
        assert refused.value.code == "BASE_TOKENIZER_MISMATCH"
        check(tiny_folder, "demo/set@v2", hub=hub)
        check(swapped, "demo/set@v1", hub=hub)  # as ever: it says nothing of it
    with pytest.raises(BaseMismatch, match="reads texts otherwise"):
        sdk.export(swapped, "demo/set@v2", swapped.parent / "out", hub=hub)


def test_each_of_several_is_held_to_its_own_record(known: FakeHub, hub: Hub, swapped: Path, tiny_folder: Path) -> None:
    with pytest.raises(BaseMismatch, match="reads texts otherwise"):
        sdk.load_many(swapped, ["demo/set@v1", "demo/set@v2"], hub=hub)
    assert len(sdk.load_many(tiny_folder, ["demo/set@v2", "demo/set@v1", "demo/cats"], hub=hub)) == 3


def test_a_classifier_on_a_live_model_answers_nothing(
    known: FakeHub, hub: Hub, swapped: Path, tiny_folder: Path
) -> None:
    wrong = sdk.load(load_tiny_bert(swapped), "demo/cats", hub=hub)
    with pytest.raises(BaseMismatch, match="reads texts otherwise"):
        wrong.classify(["the cat sleeps"])
    with pytest.raises(BaseMismatch, match="reads texts otherwise"):
        sdk.verify(load_tiny_bert(swapped), "demo/cats", hub=hub)
    right = sdk.load(load_tiny_bert(tiny_folder), "demo/cats", hub=hub)
    assert right.classify(["the cat sleeps"])
    for verify in ("warn", "off"):
        asked = sdk.load(load_tiny_bert(swapped), "demo/cats", hub=hub, verify=verify)
        if verify == "warn":
            with pytest.warns(VeraWarning, match="reads texts otherwise"):
                asked.classify(["the cat sleeps"])
        else:
            asked.classify(["the cat sleeps"])


def test_a_training_records_how_its_texts_are_read(
    tiny_folder: Path, swapped: Path, tmp_path: Path, config: Config
) -> None:
    made = tmp_path / "made"
    done = run(NO_HUB, "train", str(made), "--base", str(tiny_folder), "--data", "demo/topics", *FEW)
    assert done.exit_code == 0, done.output
    record = archives.read_folder(made).manifest.base.tokenizer
    assert record == tokenized.record_of(AutoTokenizer.from_pretrained(tiny_folder))
    sdk.load(tiny_folder, made, config=config).classify(["the cat"])
    with pytest.raises(BaseMismatch, match="reads texts otherwise"):
        sdk.load(swapped, made, config=config)


def test_a_generator_is_held_to_the_token_that_ends_and_to_its_template(tmp_path: Path, config: Config) -> None:
    base, data = write_tiny_llama(tmp_path / "llama"), tmp_path / "said.jsonl"
    rows = [{"prompt": f"the {n} cat runs", "completion": "far and near"} for n in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, more in (("plain", ()), ("chat", ("--chat",))):
        done = run(NO_HUB, "train", str(tmp_path / name), "--base", str(base), "--data", str(data), *FEW, *more)
        assert done.exit_code == 0, done.output
        model = sdk.load(base, tmp_path / name, config=config)
        tokenizer = AutoTokenizer.from_pretrained(base)
        model.vera.check_tokenizer(tokenizer)
        tokenizer.eos_token = "[BOT]"
        with pytest.raises(BaseMismatch, match="the token that ends a completion is 5 here and was 3 in training"):
            model.vera.check_tokenizer(tokenizer)
    (base / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }} {% endfor %}")
    sdk.load(base, tmp_path / "plain", config=config)
    with pytest.raises(BaseMismatch, match="a conversation in the chat template"):
        sdk.load(base, tmp_path / "chat", config=config)


def test_images_are_held_to_the_settings_of_training(tmp_path: Path, config: Config) -> None:
    base, images = write_tiny_vit(tmp_path / "vit"), tmp_path / "images"
    rng = np.random.default_rng(0)
    for label in ("dark", "light"):
        (images / label).mkdir(parents=True)
        for n in range(20):
            pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8) + (0 if label == "dark" else 130)
            Image.fromarray(pixels.astype(np.uint8)).save(images / label / f"{n}.png")
    made = tmp_path / "made"
    done = run(NO_HUB, "train", str(made), "--base", str(base), "--data", str(images), *FEW)
    assert done.exit_code == 0, done.output
    record = archives.read_folder(made).manifest.base.processor
    assert record == processed.record_of(AutoImageProcessor.from_pretrained(base, backend="pil"))  # type: ignore[no-untyped-call]  # transformers
    model = sdk.load(base, made, config=config)
    assert model.classify([images / "dark" / "0.png"])

    ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.4, 0.5, 0.5]).save_pretrained(base)
    with pytest.raises(BaseMismatch, match=r"image_mean is \[0.4, 0.5, 0.5\] here and was \[0.5") as refused:
        sdk.load(base, made, config=config)
    assert refused.value.code == "BASE_PROCESSOR_MISMATCH"
    live = sdk.load(model.backbone, made, config=config)
    with pytest.raises(BaseMismatch, match="prepares images otherwise"):
        live.classify([images / "dark" / "0.png"])


def test_an_import_records_it_and_says_so(tiny_folder: Path, swapped: Path, tmp_path: Path) -> None:
    write_peft_folder(tmp_path / "peft", modules=tuple((name, *SIZES[name]) for name in sorted(SIZES)))
    done = run(NO_HUB, "import", str(tmp_path / "peft"), str(tmp_path / "made"), "--base", str(tiny_folder))
    assert done.exit_code == 0, done.output
    record = archives.read_folder(tmp_path / "made").manifest.base.tokenizer
    assert record == tokenized.record_of(AutoTokenizer.from_pretrained(tiny_folder))
    assert f"  reads       texts as the base's tokenizer does now: {len(record.examples)} examples" in done.stdout
    with pytest.raises(BaseMismatch, match="reads texts otherwise"):
        sdk.load(swapped, tmp_path / "made")
    for file in swapped.glob("*token*"):
        file.unlink()
    (swapped / "vocab.txt").unlink(missing_ok=True)
    done = run(NO_HUB, "import", str(tmp_path / "peft"), str(tmp_path / "bare"), "--base", str(swapped))
    assert "  reads       not recorded" in done.stdout
    assert archives.read_folder(tmp_path / "bare").manifest.base.tokenizer is None
