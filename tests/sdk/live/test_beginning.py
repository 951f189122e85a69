"""`sdk.new` and `sdk.training`: from nothing to an adapter by a loop of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sdk
from sdk.client import Hub
from sdk.config import Config
from tests.sdk.live.published import output_of
from tests.tiny import write_tiny_llama
from vera import archive as archives
from vera.errors import ArchiveError, BaseUnreadable, TargetError, VeraError
from vera.manifest import DVORA, VERA
from vera.projection import PHILOX


@pytest.mark.parametrize("method", [VERA, DVORA])
def test_a_new_adapter_changes_nothing_and_what_a_loop_trains_is_what_loads(
    method: str, model: Any, tiny_folder: Path, hub: Hub, config: Config, tmp_path: Path
) -> None:
    bare = output_of(model)
    folder = sdk.new(tiny_folder, tmp_path / "mine", rank=4, seed=7, stream=PHILOX, method=method, config=config)
    model = sdk.load(model, folder, hub=hub)
    torch.testing.assert_close(output_of(model), bare, rtol=0, atol=0 if method == VERA else 1e-6)
    with sdk.training(model) as vectors:
        assert {id(each) for each in model.parameters() if each.requires_grad} == {id(each) for each in vectors}
        optimizer = torch.optim.SGD(vectors, lr=0.5)
        model(input_ids=torch.arange(12).reshape(2, 6)).last_hidden_state[..., 0].mean().backward()
        optimizer.step()
    trained = output_of(model)
    assert not torch.equal(trained, bare)

    assert sdk.save(model, folder, hub=hub) == folder

    assert torch.equal(output_of(sdk.load(tiny_folder, folder, hub=hub)), trained)
    with pytest.raises(ArchiveError, match="an adapter that was trained"):  # the same script again
        sdk.new(tiny_folder, folder, rank=4, config=config)
    saved = archives.read_folder(folder)
    assert (saved.manifest.recipe.rank, saved.manifest.recipe.seed, saved.manifest.method) == (4, 7, method)
    assert "trained by a loop of its author's own" in saved.card
    assert "from" not in saved.manifest.training["continued"]


def test_a_new_adapter_says_that_it_is_not_trained_and_of_which_base_it_is(
    tiny_folder: Path, config: Config, tmp_path: Path
) -> None:
    sdk.new(tiny_folder, tmp_path / "mine", config=config)
    folder = sdk.new(str(tiny_folder), tmp_path / "mine", rank=4, targets="all-linear", license="mit", config=config)
    begun = archives.read_folder(folder)
    assert "not trained yet" in begun.card
    assert (begun.manifest.base.name, begun.manifest.license) == (tiny_folder.name, "mit")
    assert begun.manifest.base.config is not None
    assert begun.manifest.base.tokenizer is not None
    assert len(begun.manifest.modules) == 13  # six of each of two layers, and the pooler
    assert begun.manifest.task is not None
    assert begun.manifest.task.kind == "feature-extraction"


def test_an_adapter_of_a_decoder_generates(config: Config, hub: Hub, tmp_path: Path) -> None:
    base = write_tiny_llama(tmp_path / "base")
    folder = sdk.new(base, tmp_path / "mine", rank=4, config=config)
    begun = archives.read_folder(folder).manifest
    assert begun.task is not None
    assert begun.task.kind == "text-generation"
    assert sdk.load(base, folder, hub=hub)(torch.arange(6)[None]).logits.shape[-1] > 1


def test_nothing_is_written_where_modules_are_unknown_or_something_else_lies(
    tiny_folder: Path, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match="q_proj"):
        sdk.new(tiny_folder, tmp_path / "mine", targets=["q_proj"], config=config)
    assert not (tmp_path / "mine").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArchiveError) as refused:
        sdk.new(tiny_folder, tmp_path, config=config)
    assert refused.value.code == "FOLDER_TAKEN"


def test_what_no_adapter_can_be_begun_from_says_what_to_give(
    model: Any, tiny_folder: Path, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(BaseUnreadable, match=r"The base is a BertModel: .* the live model to sdk.load"):
        sdk.new(model, tmp_path / "mine", config=config)
    for wrong in ({"method": "lora"}, {"rank": 0}):
        with pytest.raises(VeraError) as refused:
            sdk.new(tiny_folder, tmp_path / "mine", config=config, **wrong)  # type: ignore[arg-type]
        assert refused.value.code == "TRAINING_INVALID"
    with pytest.raises(VeraError, match="stream"):
        sdk.new(tiny_folder, tmp_path / "mine", stream="mine", config=config)
    assert not (tmp_path / "mine").exists()


def test_another_adapter_than_the_one_shown_is_trained_when_it_is_named(model: Any, hub: Hub) -> None:
    sdk.load_many(model, ["demo/a@v1", "demo/b"], hub=hub)
    with sdk.training(model, "demo/a") as vectors, torch.no_grad():
        vectors[0].add_(1.0)
    assert model.vera.bank.active == sdk.activate(model, "demo/a").vera.name


def test_nothing_is_trained_on_the_bare_base_unless_it_is_named(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    sdk.activate(model, None)
    with pytest.raises(VeraError, match="say which one") as refused, sdk.training(model):
        pass
    assert refused.value.code == "ADAPTER_NOT_LOADED"
    with sdk.training(model, "demo/a") as vectors:
        assert vectors
