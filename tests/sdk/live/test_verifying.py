"""`sdk.verify`: what it says it has proven, it has."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sdk
from sdk.bases import KnownBase, remember
from sdk.client import Hub
from sdk.errors import DigestMismatch
from tests.builders import flip_byte
from tests.sdk.fakes import FakeHub, problem
from tests.sdk.live.published import base_json, output_of, serve_base
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import make_tiny
from vera import archive as archives
from vera import fingerprint
from vera.errors import AdapterTooLarge, BaseMismatch, ProjectionMismatch
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE


def test_a_live_base_is_proven_by_its_tensors_and_nothing_is_attached(
    model: Any, hub: Hub, published: FakeHub, tiny_base: BaseFingerprint
) -> None:
    before = output_of(model)

    proven = sdk.verify(model, "demo/a@v1", hub=hub)

    manifest = published.versions["demo/a"][0].manifest
    assert (proven.ref, proven.digest) == ("demo/a@v1", manifest.digest)
    assert (proven.base.kind, proven.base.digest) == ("content", tiny_base.value)
    assert proven.projection.digest == manifest.projection_digest
    assert {file.what: file.digest for file in proven.files}[WEIGHTS_FILE] == f"sha256:{manifest.weights.sha256}"
    assert proven.is_complete
    assert not hasattr(model, "vera")
    assert torch.equal(output_of(model), before)


def test_a_base_on_disk_is_proven_by_its_files(tiny_folder: Path, hub: Hub, tiny_base: BaseFingerprint) -> None:
    proven = sdk.verify(tiny_folder, "demo/a@v1", hub=hub)

    assert (proven.base.kind, proven.base.digest) == ("files", tiny_base.value)
    assert str(tiny_folder) in proven.base.how


def test_without_a_base_the_result_says_that_nobody_looked(hub: Hub) -> None:
    proven = sdk.verify(None, "demo/a@v1", hub=hub)

    assert (proven.base.kind, proven.is_complete) == ("none", False)
    assert "not looked at" in str(proven)


def test_another_base_an_edited_seed_and_a_spoiled_file_are_refused(
    fake: FakeHub, hub: Hub, tiny_base: BaseFingerprint, tmp_path: Path
) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=1)
    honest, spoiled = make_tiny(tiny_base, seed=9), make_tiny(tiny_base, seed=10)
    edited = replace(honest.manifest, recipe=replace(honest.manifest.recipe, seed=99))
    fake.publish("demo/edited", archives.seal(edited, honest.files[WEIGHTS_FILE], "# x\n"))
    fake.publish("demo/spoiled", spoiled)
    fake.blobs[spoiled.manifest.weights.sha256] = flip_byte(spoiled.files[WEIGHTS_FILE])

    for base, ref, error in (
        (other, "demo/a@v1", BaseMismatch),
        (load_tiny_bert(other), "demo/a@v1", BaseMismatch),
        (None, "demo/edited", ProjectionMismatch),
        (None, "demo/spoiled", DigestMismatch),
    ):
        with pytest.raises(error):
            sdk.verify(base, ref, hub=hub)
    with pytest.raises(AdapterTooLarge):
        sdk.verify(None, "demo/a@v1", hub=hub, budget_bytes=100)


def test_it_is_shown_as_text_as_html_and_as_json(hub: Hub) -> None:
    proven = sdk.verify(None, "demo/a@v1", hub=hub)
    hostile = replace(proven, base=replace(proven.base, how="<script>alert(1)</script>"))

    for each in proven.evidence:
        assert each.digest in str(proven)
        assert each.digest in proven._repr_html_()
    assert json.loads(json.dumps(proven.to_dict()))["base"]["kind"] == "none"
    assert "<script>" not in hostile._repr_html_()
    with pytest.raises(FrozenInstanceError):
        proven.digest = "another"  # type: ignore[misc]


def test_what_is_on_a_model_is_shown_in_a_notebook(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    active = model.vera._repr_html_()
    sdk.activate(model, None)

    assert "demo/a@v1 (active)" in active
    assert repr(model.vera) == f"<{model.vera}>"
    assert model.vera.manifest.projection_digest in active
    assert "demo/a@v1 (loaded, not active)" in model.vera._repr_html_()


def test_a_base_that_is_another_one_of_this_machine_or_of_the_hub_is_called_by_its_name(
    published: FakeHub, hub: Hub, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = write_tiny_bert(tmp_path / "other", seed=9)
    other = fingerprint.of_files(folder)
    listed = {**base_json(other, "lab/other"), "tensors": None}
    published.canned["GET /api/v1/bases"] = [{"items": [listed], "next": None}]
    serve_base(published, other)

    for base in (load_tiny_bert(folder), folder):
        with pytest.raises(BaseMismatch) as of_hub:
            sdk.verify(base, "demo/a@v1", hub=hub)
        assert f"What is here is lab/other ({other.value})." in str(of_hub.value)
        assert "another training run or revision" in str(of_hub.value)
        assert 'sdk.load("tests/tiny-bert", "demo/a@v1") opens it' in str(of_hub.value)

    remember(KnownBase("mine", folder, other.value), config=hub.config)
    with pytest.raises(BaseMismatch, match="What is here is mine"):
        sdk.verify(load_tiny_bert(folder), "demo/a@v1", hub=hub)


def test_a_base_that_nobody_knows_is_explained_all_the_same(model: Any, published: FakeHub, hub: Hub) -> None:
    published.canned["GET /api/v1/bases"] = [problem(503, "UNAVAILABLE", "Later.")]
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight[0, 0] += 1
    with pytest.raises(BaseMismatch, match=r"fine-tune.*The adapter needs") as caught:
        sdk.verify(model, "demo/a@v1", hub=hub)
    assert "What is here" not in str(caught.value)
