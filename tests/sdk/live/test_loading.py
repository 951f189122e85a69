"""`sdk.load` and what comes after it, on a real model that is tiny and a hub that is in memory."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

import sdk
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import NotFound, Offline
from sdk.resolving import resolve
from tests.sdk.fakes import FakeHub, hub_for, serve
from tests.sdk.live.published import REFS, output_of, serve_base
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.errors import AdapterTooLarge, BaseMismatch, BaseUnreadable, RefError, VeraError
from vera.fingerprint import BaseFingerprint


def alone(folder: Path, ref: str, hub: Hub) -> torch.Tensor:
    """What `ref` gives on a model of its own."""
    return output_of(sdk.load(load_tiny_bert(folder), ref, hub=hub))


# -- What a base can be ---------------------------------------------------------------------------


def test_a_live_model_comes_back_as_itself_with_the_adapter_active(model: Any, hub: Hub) -> None:
    plain, keys = output_of(model), list(model.state_dict())

    loaded = sdk.load(model, "demo/a@v1", hub=hub)

    assert loaded is model
    assert model.vera.ref == "demo/a@v1"
    assert list(model.state_dict()) == keys
    assert not torch.equal(output_of(model), plain)


def test_a_folder_is_opened_quietly_and_gives_what_the_live_model_gives(
    tiny_folder: Path, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = alone(tiny_folder, "demo/a@v1", hub)
    capfd.readouterr()

    loaded = sdk.load(tiny_folder, "demo/a@v1", hub=hub)

    assert capfd.readouterr() == ("", "")
    assert torch.equal(output_of(loaded), expected)


def test_a_folder_is_held_in_the_dtype_that_is_asked_for_and_its_files_are_the_proof(
    tiny_folder: Path, hub: Hub
) -> None:
    loaded = sdk.load(tiny_folder, "demo/a@v1", dtype="bfloat16", hub=hub)

    assert output_of(loaded).dtype == torch.bfloat16
    assert loaded.vera.base.kind == "source"
    sdk.load(loaded, "demo/b", hub=hub)  # the model is proven already
    with pytest.raises(BaseMismatch, match="checkpoint's folder"):
        sdk.load(load_tiny_bert(tiny_folder, dtype=torch.bfloat16), "demo/a@v1", hub=hub)


def test_a_folder_is_held_quantised(tiny_folder: Path, hub: Hub) -> None:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    loaded = sdk.load(tiny_folder, "demo/a@v1", quantization=TorchAoConfig(Int8WeightOnlyConfig(version=2)), hub=hub)

    assert "held quantised" in str(loaded.vera)
    # int8 steps of the largest weight of a row, through two layers: outputs of order 1 move by hundredths.
    torch.testing.assert_close(output_of(loaded), alone(tiny_folder, "demo/a@v1", hub), atol=0.2, rtol=0)


def test_a_folder_of_another_base_is_refused_however_it_is_held(tmp_path: Path, hub: Hub) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(BaseMismatch, match="The adapter needs"):
        sdk.load(other, "demo/a@v1", dtype="bfloat16", hub=hub)


@pytest.mark.parametrize(
    "base", [None, 3, {"encoder.weight": torch.ones(2, 2)}], ids=["nothing", "a number", "a state"]
)
def test_what_is_no_model_is_refused_before_anybody_is_asked(base: Any, hub: Hub, published: FakeHub) -> None:
    with pytest.raises(
        BaseUnreadable, match=rf"The base is a {type(base).__name__}, which is no model: give a torch module"
    ):
        sdk.load(base, REFS[0], hub=hub)
    assert published.requests == []


@pytest.mark.parametrize("ref", [None, 3, ["demo/a"]])
def test_what_names_no_adapter_is_refused_with_how_to_write_one(model: Any, ref: Any, hub: Hub) -> None:
    with pytest.raises(RefError, match="names no adapter: write owner/name@v3"):
        sdk.load(model, ref, hub=hub)


def test_one_adapter_in_place_of_a_list_is_told_how_to_be_written(model: Any, hub: Hub) -> None:
    with pytest.raises(RefError, match=r"takes a list .* or use sdk\.load"):
        sdk.load_many(model, REFS[0], hub=hub)


def test_a_dtype_that_torch_does_not_have_is_refused_before_the_base_is_read(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(VeraError, match="'float33', which is no dtype of torch") as refused:
        sdk.load(tmp_path, REFS[0], dtype="float33", hub=hub)
    assert refused.value.code == "DTYPE_INVALID"


def test_the_bars_of_transformers_are_as_they_were_afterwards(tiny_folder: Path, hub: Hub) -> None:
    from transformers.utils import logging

    for switch in (logging.enable_progress_bar, logging.disable_progress_bar):
        switch()
        was = logging.is_progress_bar_enabled()
        sdk.load(tiny_folder, "demo/a@v1", hub=hub)
        assert logging.is_progress_bar_enabled() == was
    logging.enable_progress_bar()


def test_a_hugging_face_id_is_downloaded_at_the_commit_the_adapter_names(
    tiny_folder: Path, tiny_base: BaseFingerprint, fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = []

    def snapshot_download(repo: str, *, revision: str | None, **_: object) -> str:
        asked.append((repo, revision))
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    archive = make_tiny(tiny_base)
    from vera import archive as archives
    from vera.manifest import WEIGHTS_FILE

    base = replace(archive.manifest.base, revision="c" * 40)
    fake.publish("demo/pinned", archives.seal(replace(archive.manifest, base=base), archive.files[WEIGHTS_FILE], ""))

    sdk.load("tests/tiny-bert", "demo/pinned", hub=hub)
    sdk.load("mirror/tiny-bert", "demo/pinned", hub=hub)

    assert asked == [("tests/tiny-bert", "c" * 40), ("mirror/tiny-bert", None)]


def test_the_progress_of_reading_the_base_is_reported(model: Any, hub: Hub) -> None:
    reported: list[tuple[int, int]] = []

    sdk.load(model, "demo/a@v1", hub=hub, progress=lambda done, total: reported.append((done, total)))

    assert reported[-1][0] == reported[-1][1] > 0


# -- Several on one model -------------------------------------------------------------------------


def test_loading_again_adds_and_each_is_activated_by_its_reference(model: Any, tiny_folder: Path, hub: Hub) -> None:
    plain = output_of(model)
    for ref in REFS:
        model = sdk.load(model, ref, hub=hub)

    for ref in REFS:
        assert torch.equal(output_of(sdk.activate(model, ref)), alone(tiny_folder, ref, hub))
        assert model.vera.ref == ref
    assert torch.equal(output_of(sdk.activate(model, None)), plain)


def test_what_is_loaded_through_a_wrapper_is_not_added_to_and_is_no_bare_base(model: Any, hub: Hub) -> None:
    wrapped = torch.compile(model, backend="eager")
    sdk.load(model, "demo/a@v1", hub=hub)
    sdk.activate(model, None)
    sdk.load(wrapped, "demo/a@v1", hub=hub)
    for use in (lambda: sdk.load(model, "demo/b@v1", hub=hub), lambda: sdk.activate(model, None)):
        with pytest.raises(VeraError, match="answers would go through both") as refused:
            use()
        assert refused.value.code == "TARGET_TAKEN"
    sdk.activate(wrapped, None)
    sdk.load(model, "demo/b@v1", hub=hub)


def test_many_load_as_one_after_the_other_would(model: Any, tiny_folder: Path, hub: Hub) -> None:
    models = sdk.load_many(model, REFS, hub=hub)

    assert models == [model] * 3
    assert torch.equal(output_of(model), alone(tiny_folder, REFS[2], hub))
    assert sdk.load_many(model, [], hub=hub) == []


def test_many_that_were_fetched_before_take_no_request(model: Any, hub: Hub, published: FakeHub) -> None:
    sdk.load_many(model, REFS, hub=hub)
    published.requests.clear()

    sdk.load_many(model, REFS, hub=hub)

    assert published.requests == []


def test_many_moving_references_take_one_request_each_once_they_are_cached(
    model: Any, hub: Hub, published: FakeHub
) -> None:
    moving = ["demo/a", "demo/a@prod", "demo/b"]
    sdk.load_many(model, moving, hub=hub)
    published.requests.clear()

    sdk.load_many(model, moving, hub=hub)

    assert len(published.requests) == len(moving)


def test_when_one_of_many_is_refused_none_is_added_and_what_was_active_stays(
    model: Any, hub: Hub, fake: FakeHub, tmp_path: Path
) -> None:
    other = fingerprint.of_files(write_tiny_bert(tmp_path / "other", seed=1))
    fake.publish("demo/foreign", make_tiny(other))
    serve_base(fake, other)
    sdk.load(model, "demo/a@v1", hub=hub)
    before = output_of(model)

    for last, error in (("demo/nowhere", NotFound), ("demo/foreign", BaseMismatch)):
        with pytest.raises(error):
            sdk.load_many(model, ["demo/b", last], hub=hub)

    assert list(model.vera.bank.slots) == [model.vera.name]
    assert model.vera.ref == "demo/a@v1"
    assert torch.equal(output_of(model), before)


def test_a_first_load_that_is_refused_leaves_nothing_on_the_model(model: Any, hub: Hub, fake: FakeHub) -> None:
    other = make_tiny(fingerprint.BaseFingerprint.of_records([]))
    fake.publish("demo/foreign", other)
    plain = output_of(model)

    with pytest.raises(NotFound):
        sdk.load_many(model, ["demo/a@v1", "demo/foreign"], hub=hub)

    assert not hasattr(model, "vera")
    assert torch.equal(output_of(model), plain)


def test_rows_go_through_adapters_of_their_own(model: Any, tiny_folder: Path, hub: Hub) -> None:
    plain = output_of(model)
    sdk.load_many(model, REFS[:2], hub=hub)

    with sdk.rows(model, ["demo/a@v1", None]):
        first = output_of(model)
    with sdk.rows(model, [None, "demo/a@v2"]):
        second = output_of(model)

    # One row at a time instead of two: a few units in the last place of values of order 1.
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(first[0], alone(tiny_folder, "demo/a@v1", hub)[0], **close)
    torch.testing.assert_close(first[1], plain[1], **close)
    torch.testing.assert_close(second[1], alone(tiny_folder, "demo/a@v2", hub)[1], **close)


def test_unloading_gives_the_base_back_bit_for_bit(model: Any, hub: Hub) -> None:
    plain = output_of(model)
    sdk.load_many(model, REFS[:2], hub=hub)

    sdk.unload(model, "demo/a@v2")
    assert torch.equal(output_of(model), plain)
    sdk.activate(model, "demo/a@v1")
    sdk.unload(model, "demo/a@v1")

    assert torch.equal(output_of(model), plain)
    assert not hasattr(model, "vera")
    with pytest.raises(VeraError) as caught:
        sdk.activate(model, "demo/a@v1")
    assert caught.value.code == "ADAPTER_NOT_LOADED"


def test_a_model_with_adapters_on_it_is_freed(tiny_folder: Path, hub: Hub) -> None:
    model = sdk.load(load_tiny_bert(tiny_folder), "demo/a@v1", hub=hub)
    gone = weakref.ref(model)

    del model
    gc.collect()

    assert gone() is None


# -- What a reference means on a model ------------------------------------------------------------


def test_an_id_alone_means_the_one_version_that_is_loaded(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    assert sdk.activate(model, "demo/a").vera.ref == "demo/a@v1"

    sdk.load(model, "demo/a@v2", hub=hub)
    with pytest.raises(VeraError, match=r"demo/a@v1, demo/a@v2: say which version") as caught:
        sdk.activate(model, "demo/a")
    assert caught.value.code == "ADAPTER_AMBIGUOUS"


def test_a_moving_reference_means_what_it_meant_when_it_was_loaded(model: Any, hub: Hub, published: FakeHub) -> None:
    sdk.load(model, "demo/a@prod", hub=hub)
    sdk.load(model, "demo/a", hub=hub)
    published.aliases["prod"] = 2
    assert sdk.activate(model, "demo/a@prod").vera.ref == "demo/a@v1"
    assert sdk.activate(model, "demo/a@latest").vera.ref == "demo/a@v2"

    sdk.load(model, "demo/a@prod", hub=hub)

    assert sdk.activate(model, "demo/a@prod").vera.ref == "demo/a@v2"
    assert sdk.activate(model, "demo/a@v1").vera.ref == "demo/a@v1"


def test_every_fixed_name_of_the_version_names_it(model: Any, hub: Hub, published: FakeHub) -> None:
    sdk.load(model, "demo/b", hub=hub)
    digest, commit = published.versions["demo/b"][0].manifest.digest, resolve("demo/b", hub=hub).commit

    for name in ("demo/b@v1", f"demo/b@{digest}", f"demo/b@v1@{digest}", f"demo/b@{commit}"):
        assert sdk.activate(model, name).vera.name == digest
    for name in ("demo/b@v2", f"demo/b@v1@sha256:{'0' * 64}", "demo/a"):
        with pytest.raises(VeraError, match=r"there are: demo/b@v1"):
            sdk.activate(model, name)


def test_adapters_of_one_name_on_two_hubs_are_told_apart(model: Any, hub: Hub, tiny_base: BaseFingerprint) -> None:
    other = FakeHub()
    other.publish("demo/a", make_tiny(tiny_base, seed=7))
    with serve(other) as url:
        there = f"vera://{url.removeprefix('http://')}/demo/a@v1"
        here = output_of(sdk.load(model, "demo/a@v1", hub=hub))
        elsewhere = output_of(sdk.load(model, there, hub=hub))

    assert torch.equal(output_of(sdk.activate(model, "demo/a@v1")), here)
    assert torch.equal(output_of(sdk.activate(model, there)), elsewhere)
    assert torch.equal(output_of(sdk.activate(model, "demo/a")), here)
    assert not torch.equal(here, elsewhere)


def test_a_model_without_adapters_says_so(model: Any) -> None:
    for use in (lambda: sdk.activate(model, "a/b"), lambda: sdk.unload(model, "a/b"), lambda: sdk.rows(model, ["a/b"])):
        with pytest.raises(VeraError, match="No adapter was ever loaded on this BertModel") as caught:
            use()
        assert caught.value.code == "ADAPTER_NOT_LOADED"


def test_what_load_many_gives_is_no_model(model: Any, hub: Hub) -> None:
    loaded: Any = sdk.load_many(model, ["demo/a@v1"], hub=hub)
    for use in (lambda: sdk.rows(loaded, ["demo/a@v1"]), lambda: sdk.activate(loaded, None)):
        with pytest.raises(VeraError, match=r"the model that adapters were loaded on, .* a list"):
            use()


def test_rows_of_one_reference_say_that_a_list_is_wanted(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    with pytest.raises(RefError, match=r"write \['demo/a@v1', …\]"):
        sdk.rows(model, "demo/a@v1")


def test_nothing_is_loaded_into_a_block_of_rows(model: Any, hub: Hub) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)

    with sdk.rows(model, ["demo/a@v1", None]), pytest.raises(VeraError) as caught:
        sdk.load(model, "demo/b", hub=hub)

    assert caught.value.code == "ROWS_ACTIVE"
    assert len(model.vera.bank.slots) == 1


# -- Classifiers ----------------------------------------------------------------------------------


def test_each_classifier_answers_with_its_own_head_and_adapter(model: Any, hub: Hub) -> None:
    ids, mask = torch.arange(2, 14).reshape(2, 6), torch.ones(2, 6, dtype=torch.long)
    first = sdk.load(model, "demo/c", hub=hub)
    expected = first(ids, mask)

    second = sdk.load(first, "demo/d", hub=hub)

    assert second.backbone is first.backbone is model
    assert not torch.equal(second(ids, mask), expected)
    assert torch.equal(sdk.activate(second, "demo/c")(ids, mask), expected)
    assert sdk.activate(second, None) is model


def test_a_classifier_is_refused_within_rows_and_says_what_takes_the_batch(model: Any, hub: Hub) -> None:
    ids, mask = torch.arange(2, 14).reshape(2, 6), torch.ones(2, 6, dtype=torch.long)
    classifier = sdk.load(model, "demo/c", hub=hub)

    with sdk.rows(classifier, ["demo/c", None]):
        with pytest.raises(VeraError, match=r"model\.backbone\(\*\*batch\)") as caught:
            classifier(ids, mask)
        states = classifier.backbone(input_ids=ids, attention_mask=mask).last_hidden_state

    assert caught.value.code == "ROWS_ACTIVE"
    torch.testing.assert_close(
        states[0], classifier.hidden(input_ids=ids, attention_mask=mask)[0], rtol=1e-5, atol=1e-5
    )


def test_a_model_of_another_size_is_another_base_before_its_head_is_looked_at(hub: Hub) -> None:
    smaller = BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=50)
    )

    with pytest.raises(VeraError) as caught:
        sdk.load(smaller, "demo/c", hub=hub)

    assert caught.value.code == "BASE_MISMATCH"


def test_a_classifier_that_is_unloaded_says_so_instead_of_answering(model: Any, hub: Hub) -> None:
    classifier = sdk.load(model, "demo/c", hub=hub)
    sdk.unload(classifier, "demo/c")

    with pytest.raises(VeraError) as caught:
        classifier.classify(["the cat"])

    assert caught.value.code == "ADAPTER_NOT_LOADED"


@pytest.fixture
def sequences(published: FakeHub, tiny_base: BaseFingerprint) -> None:
    """Two classifiers on the hub whose heads are in a model of transformers, as those of PEFT are."""
    for seed, name in ((6, "demo/s"), (7, "demo/t")):
        published.publish(name, make_tiny(tiny_base, seed=seed, head=True, pooling=None))


@pytest.mark.usefixtures("sequences")
def test_a_classifier_of_transformers_is_opened_from_a_folder_with_its_head(tiny_folder: Path, hub: Hub) -> None:
    generator = torch.random.get_rng_state()

    classifier = sdk.load(tiny_folder, "demo/s", hub=hub)

    assert torch.equal(torch.random.get_rng_state(), generator)  # its untrained head was drawn apart
    assert type(classifier.backbone).__name__ == "BertForSequenceClassification"
    again = sdk.load(tiny_folder, "demo/s", hub=hub)
    texts = ["the cat sleeps", "a dog runs near the old bird"]
    assert set(classifier.classify(texts)) <= {"cat", "dog"}
    assert classifier.outputs(classifier.encode(texts)).tolist() == again.outputs(again.encode(texts)).tolist()


@pytest.mark.usefixtures("sequences")
def test_classifiers_of_transformers_share_a_model_and_answer_with_their_own_heads(tiny_folder: Path, hub: Hub) -> None:
    ids, mask = torch.arange(2, 14).reshape(2, 6), torch.ones(2, 6, dtype=torch.long)
    alone = [sdk.load(tiny_folder, ref, hub=hub)(ids, mask) for ref in ("demo/s", "demo/t")]

    first, second = sdk.load_many(tiny_folder, ["demo/s", "demo/t"], hub=hub)

    assert first.backbone is second.backbone
    assert torch.equal(first(ids, mask), alone[0])
    assert torch.equal(second(ids, mask), alone[1])
    assert torch.equal(sdk.activate(second, "demo/s")(ids, mask), alone[0])
    with sdk.rows(first, ["demo/t", "demo/s"]):
        mixed = first.backbone(input_ids=ids, attention_mask=mask).logits
    # One row of a batch, and the same row beside another: float32 sums of 64 products in another order.
    torch.testing.assert_close(mixed, torch.stack([alone[1][0], alone[0][1]]), rtol=1e-4, atol=1e-5)
    sdk.unload(first, "demo/s")
    with pytest.raises(VeraError) as caught:
        first.classify(["the cat"])
    assert caught.value.code == "ADAPTER_NOT_LOADED"


@pytest.mark.usefixtures("sequences")
def test_a_classifier_of_transformers_has_no_answers_for_no_texts(tiny_folder: Path, hub: Hub) -> None:
    assert sdk.load(tiny_folder, "demo/s", hub=hub).classify([]) == []


@pytest.mark.usefixtures("sequences")
def test_a_head_of_transformers_is_not_left_out_on_a_bare_base(model: Any, hub: Hub) -> None:
    with pytest.raises(VeraError) as caught:
        sdk.load(model, "demo/s", hub=hub)
    assert caught.value.code == "HEAD_UNSUPPORTED"


# -- Refusals -------------------------------------------------------------------------------------


def test_matrices_beyond_the_budget_are_refused_before_the_base_is_even_opened(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(AdapterTooLarge, match="budget"):
        sdk.load(tmp_path / "nothing is here", "demo/a@v1", hub=hub, budget_bytes=100)


def test_offline_a_cached_adapter_loads_and_a_new_one_says_how_to_get_it(
    model: Any, hub: Hub, config: Config, published: FakeHub
) -> None:
    sdk.load(model, "demo/a@v1", hub=hub)
    published.requests.clear()
    offline = hub_for(published, replace(config, offline=True))

    sdk.load(model, "demo/a@v1", hub=offline)
    with pytest.raises(Offline, match="vera-hub pull demo/b@v1"):
        sdk.load(model, "demo/b@v1", hub=offline)

    assert published.requests == []
