"""An adapter for those who have none of this: what transformers and PEFT load gives the adapted model's answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from hub.domain.front_matter import front_matter
from tests.nn.small_models import Int8Linear, tiny_gpt2, tiny_llama, tokens
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import QUERY, SIZES, WIDE, make_tiny, with_stored_pair
from vera import fingerprint
from vera.archive import Archive, seal, vectors_of
from vera.errors import ArchiveError, TargetError
from vera.fingerprint import INDEX_FILE, BaseFingerprint
from vera.manifest import DVORA, VERA, WEIGHTS_FILE
from vera.nn.attach import attach
from vera.nn.exporting import EXPORT_FILE, write_lora, write_merged, write_peft
from vera.nn.merge import merge
from vera.peft_checkpoint import read_checkpoint
from vera.peft_format import HEAD_FILE
from vera.peft_import import import_checkpoint
from vera.projection import digest_of, rebuild

IDS = torch.arange(2, 14).reshape(2, 6)
METHODS = pytest.mark.parametrize("method", [VERA, DVORA])


def output_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
    return hidden


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    # Two ways of summing the same float32 products of values of order 1, through two layers.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def attached_to(model: Any, folder: Path, **options: Any) -> tuple[Any, Archive]:
    """`model` with a random adapter of the checkpoint in `folder`."""
    base = fingerprint.of_files(folder)
    archive = make_tiny(base, **options)
    return attach(model, archive, base), archive


def about(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / EXPORT_FILE).read_text())
    return value


# Merged


@METHODS
def test_a_merged_checkpoint_is_an_ordinary_model_that_answers_as_the_adapted_one(
    tiny_folder: Path, tmp_path: Path, method: str
) -> None:
    model = load_tiny_bert(tiny_folder)
    adapted, archive = attached_to(model, tiny_folder, method=method)

    exported = write_merged(adapted, archive, tiny_folder, tmp_path / "out")

    close(output_of(load_tiny_bert(tmp_path / "out")), output_of(model))
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"{QUERY}.weight", f"{WIDE}.weight",
    }  # fmt: skip
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the cat")["input_ids"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in tiny_folder.iterdir()} | {EXPORT_FILE, "README.md"}
    assert exported.fingerprint == fingerprint.of_files(tmp_path / "out").value != archive.manifest.base.fingerprint
    assert exported.lost < 1e-5


def test_an_export_says_what_it_was_made_of(tiny_folder: Path, tiny_base: BaseFingerprint, tmp_path: Path) -> None:
    adapted, archive = attached_to(load_tiny_bert(tiny_folder), tiny_folder, head=True)

    exported = write_merged(adapted, archive, tiny_folder, tmp_path / "out")

    said = about(tmp_path / "out")
    assert said["form"] == "merged"
    assert said["adapter"] == {"ref": None, "digest": archive.manifest.digest, "method": "vera"}
    assert said["base"]["fingerprint"] == tiny_base.value
    assert said["fingerprint"] == exported.fingerprint
    assert said["projection"]["digest"] == archive.manifest.projection_digest
    assert said["task"]["labels"] == ["cat", "dog"]
    assert said["head"] == exported.head == HEAD_FILE
    head = load_file(tmp_path / "out" / HEAD_FILE)
    for name, tensor in vectors_of(archive).head.items():
        np.testing.assert_array_equal(head[name].numpy(), tensor)
    card = (tmp_path / "out" / "README.md").read_text()
    assert archive.manifest.digest in card
    assert front_matter(card) == {
        "base_model": archive.manifest.base.name,
        "base_model_relation": "finetune",
        "library_name": "transformers",
    }


def test_the_live_model_is_left_as_it_was(tiny_folder: Path, tmp_path: Path) -> None:
    model = load_tiny_bert(tiny_folder)
    adapted, archive = attached_to(model, tiny_folder)
    answer = output_of(model)
    write_merged(adapted, archive, tiny_folder, tmp_path / "out")
    assert torch.equal(output_of(model), answer)
    adapted.vera.bank.detach()
    assert torch.equal(output_of(model), output_of(load_tiny_bert(tiny_folder)))


@METHODS
def test_shards_dtype_and_layout_stay_those_of_the_base(tmp_path: Path, method: str) -> None:
    """GPT-2 keeps weights as (in, out), square ones too, and here in bfloat16 over several files."""
    base = tmp_path / "base"
    tiny_gpt2().to(torch.bfloat16).save_pretrained(base, max_shard_size="40KB")
    sizes = {"transformer.h.0.attn.c_attn": (32, 96), "transformer.h.1.attn.c_proj": (32, 32)}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    adapted, archive = attached_to(model, base, sizes=sizes, method=method)

    exported = write_merged(adapted, archive, base, tmp_path / "out")

    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == shards
    assert (tmp_path / "out" / INDEX_FILE).read_bytes() == (base / INDEX_FILE).read_bytes()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    assert merged.dtype == torch.bfloat16
    changed = missed = 0.0
    for name in sizes:
        module: Any = model.get_submodule(name)
        exact = (
            adapted.vera.bank.slot(adapted.vera.name).deltas[name].adapted(module.weight.detach().T.double()).detach().T
        )
        got = merged.get_submodule(name).weight.detach().double()
        # Once, to the nearest of 8 bits; and what float32 sums differ by.
        assert torch.all((got - exact).abs() <= exact.abs() * 2**-8 + 1e-6)
        changed += float((exact - module.weight.detach()).square().sum())
        missed += float((exact - got).square().sum())
    assert exported.lost == pytest.approx((missed / changed) ** 0.5, rel=1e-3)
    assert about(tmp_path / "out")["lost_by_rounding"] == round(exported.lost, 4) > 0
    with torch.no_grad():
        expected, got = model(tokens(2)).logits, merged.float()(tokens(2)).logits
    assert (got - expected).norm() < 0.02 * expected.norm()  # all weights of two layers in bfloat16


@METHODS
def test_merged_in_float32_a_base_in_bfloat16_loses_nothing_of_the_adapter(tmp_path: Path, method: str) -> None:
    base = tmp_path / "base"
    tiny_gpt2().to(torch.bfloat16).save_pretrained(base, max_shard_size="40KB")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    adapted, archive = attached_to(model, base, sizes={"transformer.h.0.attn.c_attn": (32, 96)}, method=method)

    exported = write_merged(adapted, archive, base, tmp_path / "out", dtype=torch.float32)

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    assert {tensor.dtype for tensor in merged.state_dict().values()} == {torch.float32}
    assert exported.lost == about(tmp_path / "out")["lost_by_rounding"] == 0
    with torch.no_grad():
        close(merged(tokens(2)).logits, model(tokens(2)).logits)
    index = json.loads((tmp_path / "out" / INDEX_FILE).read_text())
    assert index["weight_map"] == json.loads((base / INDEX_FILE).read_text())["weight_map"]
    assert index["metadata"]["total_size"] > 1.9 * json.loads((base / INDEX_FILE).read_text())["metadata"]["total_size"]


def test_a_model_with_its_own_head_is_merged_in_the_dtype_that_is_asked_for(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=2).eval()
    adapted, archive = attached_to(model, tiny_folder, head=True, pooling=None)

    write_merged(adapted, archive, tiny_folder, tmp_path / "out", dtype=torch.bfloat16)

    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype="auto")
    assert {tensor.dtype for tensor in merged.state_dict().values() if tensor.is_floating_point()} == {torch.bfloat16}
    torch.testing.assert_close(
        merged.classifier.weight.float(), torch.from_numpy(vectors_of(archive).head["classifier.weight"].copy()),
        rtol=2**-8, atol=0,
    )  # fmt: skip


def test_what_is_merged_in_the_live_model_is_not_merged_twice(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=2).eval()
    adapted, archive = attached_to(model, tiny_folder, head=True, pooling=None)
    before = write_merged(adapted, archive, tiny_folder, tmp_path / "before")
    merge(adapted.vera.bank, adapted.vera.name)
    after = write_merged(adapted, archive, tiny_folder, tmp_path / "after")
    assert after.fingerprint == before.fingerprint


def test_what_a_dtype_cannot_hold_is_not_written_as_infinity(tiny_folder: Path, tmp_path: Path) -> None:
    base = write_tiny_bert(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["pooler.dense.weight"][0, 0] = 1e5  # float16 ends at 65,504
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    adapted, archive = attached_to(load_tiny_bert(base), base)

    with pytest.raises(
        TargetError, match=r"pooler\.dense\.weight has values beyond what torch\.float16 can hold"
    ) as caught:
        write_merged(adapted, archive, base, tmp_path / "out", dtype=torch.float16)
    assert caught.value.code == "MERGE_OVERFLOW"
    assert not (tmp_path / "out").exists()


def test_a_base_under_a_prefix_is_merged_under_its_own_names(tmp_path: Path) -> None:
    base = write_prefixed(tmp_path / "base")
    model = AutoModel.from_pretrained(base).eval()
    adapted, archive = attached_to(model, base, sizes=PREFIXED)

    write_merged(adapted, archive, base, tmp_path / "out")

    names = load_file(tmp_path / "out" / "model.safetensors").keys()
    assert names == load_file(base / "model.safetensors").keys()
    close(output_of(AutoModel.from_pretrained(tmp_path / "out").eval()), output_of(model))


def test_of_what_lies_beside_the_weights_only_what_belongs_to_the_model_is_taken(tmp_path: Path) -> None:
    base = write_tiny_bert(tmp_path / "base")
    (base / "1_Pooling").mkdir()
    taken = ["1_Pooling/config.json", "LICENSE", "chat_template.jinja", "modules.json"]
    left = [
        "adapter_config.json",
        "modeling.py",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        INDEX_FILE,
        "README.md",
    ]
    for name in taken + left:
        (base / name).write_text("{}")
    adapted, archive = attached_to(load_tiny_bert(write_tiny_bert(tmp_path / "same")), tmp_path / "same")

    write_merged(adapted, archive, base, tmp_path / "out")

    written = contents(tmp_path / "out")
    assert written >= {*taken, "config.json"}
    assert not written & {*left[:-1]}
    assert (tmp_path / "out" / "README.md").read_text() != "{}"


PREFIXED = {f"bert.{name}": size for name, size in SIZES.items()}


def write_prefixed(folder: Path) -> Path:
    """The tiny BERT as a model with a task saves it, its tensors under `bert.`; transformers takes that away."""
    write_tiny_bert(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {f"bert.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


# As a LoRA


@METHODS
def test_peft_loads_the_lora_and_gives_the_same_answers(tiny_folder: Path, tmp_path: Path, method: str) -> None:
    from peft import PeftModel

    model = load_tiny_bert(tiny_folder)
    adapted, archive = attached_to(model, tiny_folder, method=method)

    exported = write_lora(adapted, archive, tmp_path / "out")

    loaded = PeftModel.from_pretrained(load_tiny_bert(tiny_folder), str(tmp_path / "out"))
    close(output_of(loaded), output_of(model))
    assert loaded.peft_config["default"].use_dora == (method == DVORA)
    assert exported.tensor_bytes == (tmp_path / "out" / "adapter_model.safetensors").stat().st_size
    assert exported.tensor_bytes > exported.vector_bytes == archive.manifest.weights.vector_bytes
    assert about(tmp_path / "out")["form"] == "lora"


def test_the_factors_are_the_scaled_matrices_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    adapted, archive = attached_to(load_tiny_bert(tiny_folder), tiny_folder)
    write_lora(adapted, archive, tmp_path / "out")
    written, vectors = load_file(tmp_path / "out" / "adapter_model.safetensors"), vectors_of(archive)
    A, B = rebuild(archive.manifest.recipe)
    assert len(written) == 2 * len(SIZES)
    for name, (width, height) in SIZES.items():
        key = f"base_model.model.{name}"
        expected_A, expected_B = (
            vectors.lambda_d[name][:, None] * A[:, :width],
            vectors.lambda_b[name][:, None] * B[:height],
        )
        np.testing.assert_array_equal(written[f"{key}.lora_A.weight"].numpy(), expected_A)
        np.testing.assert_array_equal(written[f"{key}.lora_B.weight"].numpy(), expected_B)


@METHODS
@pytest.mark.filterwarnings("error::UserWarning:peft")
def test_peft_loads_the_lora_of_a_gpt2(tmp_path: Path, method: str) -> None:
    from peft import PeftModel

    base = tmp_path / "base"
    tiny_gpt2().save_pretrained(base)
    sizes = {"transformer.h.0.attn.c_attn": (32, 96), "transformer.h.1.attn.c_proj": (32, 32)}
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    adapted, archive = attached_to(model, base, sizes=sizes, method=method)
    write_lora(adapted, archive, tmp_path / "out")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base).eval(), str(tmp_path / "out"))
    with torch.no_grad():
        close(loaded(tokens(2)).logits, model(tokens(2)).logits)


@METHODS
def test_peft_loads_the_lora_of_an_embedding(tiny_folder: Path, tmp_path: Path, method: str) -> None:
    from peft import PeftModel

    model = load_tiny_bert(tiny_folder)
    words = len(model.embeddings.word_embeddings.weight)
    sizes = {"embeddings.word_embeddings": (words, 32), QUERY: (32, 32)}
    adapted, archive = attached_to(model, tiny_folder, sizes=sizes, method=method)
    write_lora(adapted, archive, tmp_path / "lora")
    write_merged(adapted, archive, tiny_folder, tmp_path / "merged")
    loaded = PeftModel.from_pretrained(load_tiny_bert(tiny_folder), str(tmp_path / "lora"))
    close(output_of(loaded), output_of(model))
    close(output_of(load_tiny_bert(tmp_path / "merged")), output_of(model))


@pytest.mark.parametrize("stream", ["peft-mt19937/1", "philox4x32-10/1", "stored"])
def test_peft_loads_its_own_form_whatever_the_stream(tiny_folder: Path, tmp_path: Path, stream: str) -> None:
    base = fingerprint.of_files(tiny_folder)
    archive = with_stream(make_tiny(base, head=True), stream)
    model = load_tiny_bert(tiny_folder)

    exported = write_peft(attach(model, archive, base), archive, tmp_path / "peft")

    loaded = PeftModel.from_pretrained(load_tiny_bert(tiny_folder), str(tmp_path / "peft")).eval()
    close(output_of(loaded), output_of(model))
    assert exported.head == HEAD_FILE  # PEFT knows no place for a head on pooled states
    imported = import_checkpoint(read_checkpoint(tmp_path / "peft"), base, base_name="tests/tiny").archive
    assert imported.manifest.projection_digest == archive.manifest.projection_digest
    assert imported.manifest.recipe.is_stored == (stream == "philox4x32-10/1")  # PEFT draws the two others


def with_stream(archive: Archive, stream: str) -> Archive:
    """The same vectors over a pair of another stream."""
    if stream == "stored":
        return with_stored_pair(archive)
    recipe = replace(archive.manifest.recipe, stream=stream)
    manifest = replace(archive.manifest, recipe=recipe, projection_digest=digest_of(rebuild(recipe)))
    return seal(manifest, archive.files[WEIGHTS_FILE], archive.card)


def test_what_peft_has_no_words_for_is_not_written(tiny_folder: Path, tmp_path: Path) -> None:
    adapted, archive = attached_to(load_tiny_bert(tiny_folder), tiny_folder, method=DVORA)
    with pytest.raises(TargetError, match="--lora"):
        write_peft(adapted, archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_lora_goes_by_the_names_of_the_model_it_loads_on(tmp_path: Path) -> None:
    """The base has `bert.` before its names and the model that opens it has not: PEFT would find nothing, and go on."""
    from peft import PeftModel

    base = write_prefixed(tmp_path / "base")
    model = AutoModel.from_pretrained(base).eval()
    adapted, archive = attached_to(model, base, sizes=PREFIXED)
    write_lora(adapted, archive, tmp_path / "out")
    loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(base).eval(), str(tmp_path / "out"))
    close(output_of(loaded), output_of(model))
    assert about(tmp_path / "out")["loads_on"] == "BertModel"


# Refusals


def test_a_weight_that_cannot_be_merged_into_leaves_nothing(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_llama(tie_word_embeddings=False).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    name = "model.layers.0.mlp.up_proj"
    adapted, archive = attached_to(model, base, sizes={name: (48, 64)})
    adapted.vera.bank.targets = {name: Int8Linear(model.get_submodule(name))}
    with pytest.raises(TargetError) as caught:
        write_merged(adapted, archive, base, tmp_path / "out")
    assert caught.value.code == "MERGE_QUANTIZED"
    model.get_submodule("model.layers.1.mlp.up_proj").weight = model.get_submodule(name).weight
    adapted.vera.bank.targets = {name: model.get_submodule(name)}
    with pytest.raises(TargetError) as caught:
        write_merged(adapted, archive, base, tmp_path / "out")
    assert caught.value.code == "MERGE_TIED"
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_checkpoint_without_a_tensor_the_adapter_changes_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    adapted, archive = attached_to(load_tiny_bert(tiny_folder), tiny_folder)
    other = write_tiny_bert(tmp_path / "other", layers=1)  # and WIDE is in layer 1
    with pytest.raises(TargetError, match=WIDE) as caught:
        write_merged(adapted, archive, other, tmp_path / "out")
    assert caught.value.facts["missing"] == [f"{WIDE}.weight"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_nothing_is_written_over(tiny_folder: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "folder":
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir()
        out.symlink_to(tmp_path / "elsewhere")
    adapted, archive = attached_to(load_tiny_bert(tiny_folder), tiny_folder)
    for write in (
        lambda: write_merged(adapted, archive, tiny_folder, out),
        lambda: write_lora(adapted, archive, out),
    ):
        with pytest.raises(ArchiveError) as caught:
            write()
        assert caught.value.code == "FOLDER_TAKEN"
    assert contents(tmp_path) in ({"out"}, {"out", "out/notes.txt"}, {"out", "elsewhere"})


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_an_export_that_fails_half_way_leaves_nothing(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted, archive = attached_to(load_tiny_bert(tiny_folder), tiny_folder)

    def full(*_arguments: Any, **_options: Any) -> Mapping[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space"):
        write_merged(adapted, archive, tiny_folder, tmp_path / "out")
    assert not list(tmp_path.iterdir())
