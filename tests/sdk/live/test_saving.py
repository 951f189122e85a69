"""`sdk.save`: what a loop of one's own has trained on a live model becomes an adapter to push."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sdk
from sdk.client import Hub
from sdk.config import Config
from tests.sdk.fakes import FakeHub, hub_for
from tests.sdk.live.published import output_of, serve_base
from tests.tiny_adapters import make_tiny, with_stored_pair
from vera import archive as archives
from vera.archive import vectors_of
from vera.errors import ArchiveError, BaseMismatch, VeraError, VeraWarning
from vera.fingerprint import BaseFingerprint
from vera.manifest import DVORA
from vera.nn.merge import merge
from vera.nn.parameters import as_parameters


def output_with_gradients(model: Any) -> torch.Tensor:
    ids = torch.arange(12).reshape(2, 6)
    output: torch.Tensor = model(input_ids=ids).last_hidden_state
    return output


def step(model: Any) -> None:
    """One of somebody's own loop."""
    with as_parameters(model.vera.bank, model.vera.name) as vectors:
        optimizer = torch.optim.SGD(vectors, lr=0.5)
        output_with_gradients(model)[..., 0].mean().backward()
        optimizer.step()


def test_it_loads_as_what_was_trained_and_says_what_it_came_from(
    model: Any, tiny_folder: Path, hub: Hub, tmp_path: Path
) -> None:
    published = output_of(sdk.load(model, "demo/a@v1", hub=hub))
    first = model.vera.manifest
    step(model)
    expected = output_of(model)

    folder = sdk.save(model, tmp_path / "mine", hub=hub)

    assert not torch.equal(expected, published)
    assert torch.equal(output_of(sdk.load(tiny_folder, folder, hub=hub)), expected)
    saved = archives.read_folder(folder)
    assert saved.manifest.base == first.base
    assert (saved.manifest.modules, saved.manifest.projection_digest) == (first.modules, first.projection_digest)
    assert saved.manifest.training["continued"] == {"digest": first.digest, "from": "demo/a@v1"}
    assert "trained further from demo/a@v1" in saved.card


def test_it_is_saved_within_the_block_of_training(model: Any, tiny_folder: Path, hub: Hub, tmp_path: Path) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    with as_parameters(model.vera.bank, model.vera.name) as vectors, torch.no_grad():
        vectors[0].add_(1.0)
        folder = sdk.save(model, tmp_path / "mine", hub=hub)
    assert torch.equal(output_of(sdk.load(tiny_folder, folder, hub=hub)), output_of(model))


def test_the_active_one_is_saved_unless_another_is_named(model: Any, hub: Hub, tmp_path: Path) -> None:
    sdk.load_many(model, ["demo/a@v1", "demo/b"], hub=hub)
    active, named = sdk.save(model, tmp_path / "b", hub=hub), sdk.save(model, tmp_path / "a", "demo/a", hub=hub)
    assert [archives.read_folder(each).manifest.recipe.rank for each in (active, named)] == [4, 8]
    sdk.activate(model, None)
    with pytest.raises(VeraError, match="say which one") as refused:
        sdk.save(model, tmp_path / "none", hub=hub)
    assert refused.value.code == "ADAPTER_NOT_LOADED"


def test_a_base_that_was_trained_along_is_refused_and_nothing_is_written(model: Any, hub: Hub, tmp_path: Path) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight.add_(0.01)
    with pytest.raises(BaseMismatch):
        sdk.save(model, tmp_path / "mine", hub=hub)
    assert not (tmp_path / "mine").exists()


def test_a_rounded_base_that_was_moved_is_saved_when_that_is_said(tiny_folder: Path, hub: Hub, tmp_path: Path) -> None:
    model = sdk.load(tiny_folder, "demo/a@v1", dtype="bfloat16", hub=hub)
    step(model)
    sdk.save(model, tmp_path / "mine", hub=hub)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # as a move to a GPU does
    with pytest.raises(BaseMismatch, match=r'if it was only moved .* save with verify="warn"') as refused:
        sdk.save(model, tmp_path / "moved", hub=hub)
    assert refused.value.code == "BASE_UNPROVABLE"
    assert not (tmp_path / "moved").exists()
    with pytest.warns(VeraWarning, match="cannot be proven"):
        sdk.save(model, tmp_path / "moved", verify="warn", hub=hub)
    one, other = (archives.read_folder(tmp_path / name).manifest.weights for name in ("mine", "moved"))
    assert one == other
    sdk.save(model, tmp_path / "moved", verify="off", hub=hub)


def test_a_merged_adapter_is_not_saved(model: Any, hub: Hub, tmp_path: Path) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    merge(model.vera.bank, model.vera.name)
    with pytest.raises(VeraError, match="unmerge it first"):
        sdk.save(model, tmp_path / "mine", hub=hub)


def test_vectors_that_diverged_are_not_saved(model: Any, hub: Hub, tmp_path: Path) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    with torch.no_grad():
        model.vera.bank.parameters(model.vera.name)[0].fill_(float("nan"))
    with pytest.raises(ArchiveError) as refused:
        sdk.save(model, tmp_path / "mine", hub=hub)
    assert refused.value.code == "TENSOR_NONFINITE"


def test_a_folder_with_something_else_in_it_is_left_alone(model: Any, hub: Hub, tmp_path: Path) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArchiveError) as refused:
        sdk.save(model, tmp_path, hub=hub)
    assert refused.value.code == "FOLDER_TAKEN"


# -- Heads, magnitudes, stored pairs --------------------------------------------------------------


def test_a_classifier_is_saved_with_the_head_that_was_trained(tiny_folder: Path, hub: Hub, tmp_path: Path) -> None:
    classifier = sdk.load(tiny_folder, "demo/c", hub=hub)
    with torch.no_grad():
        classifier.classifier.bias.add_(3.0)
    folder = sdk.save(classifier, tmp_path / "mine", hub=hub)
    np.testing.assert_array_equal(vectors_of(archives.read_folder(folder)).head["classifier.bias"], [3.0, 3.0])


def test_a_base_alone_does_not_have_the_head_of_its_classifier(tiny_folder: Path, hub: Hub, tmp_path: Path) -> None:
    classifier = sdk.load(tiny_folder, "demo/c", hub=hub)
    with pytest.raises(VeraError, match="give that classifier") as refused:
        sdk.save(classifier.backbone, tmp_path / "mine", hub=hub)
    assert refused.value.code == "HEAD_UNSUPPORTED"


def test_a_head_that_was_not_trained_is_saved_as_it_was_published_and_not_as_the_model_rounds_it(
    tiny_folder: Path, tiny_base: BaseFingerprint, config: Config, tmp_path: Path
) -> None:
    adapter = make_tiny(tiny_base, head=True, pooling=None)
    archives.write_folder(adapter, tmp_path / "published")
    fake = FakeHub()
    serve_base(fake, tiny_base)
    hub = hub_for(fake, config)
    classifier = sdk.load(tiny_folder, tmp_path / "published", dtype="bfloat16", hub=hub)

    folder = sdk.save(classifier, tmp_path / "mine", hub=hub)

    expected = vectors_of(adapter)
    assert expected.head.keys() == vectors_of(archives.read_folder(folder)).head.keys()
    for name, tensor in vectors_of(archives.read_folder(folder)).head.items():
        np.testing.assert_array_equal(tensor, expected.head[name])


@pytest.mark.parametrize("kind", ["magnitudes", "stored pair"])
def test_it_is_saved_with_all_that_it_answers_by(
    kind: str, model: Any, tiny_folder: Path, tiny_base: BaseFingerprint, hub: Hub, tmp_path: Path
) -> None:
    adapter = make_tiny(tiny_base, method=DVORA) if kind == "magnitudes" else with_stored_pair(make_tiny(tiny_base))
    archives.write_folder(adapter, tmp_path / "published")
    sdk.load(model, tmp_path / "published", hub=hub)
    step(model)

    folder = sdk.save(model, tmp_path / "mine", hub=hub)

    assert torch.equal(output_of(sdk.load(tiny_folder, folder, hub=hub)), output_of(model))
    path_of_this_machine = str(tmp_path)
    assert path_of_this_machine not in str(archives.read_folder(folder).manifest.to_bytes())
    assert archives.read_folder(folder).manifest.training["continued"]["from"].startswith("sha256:")
