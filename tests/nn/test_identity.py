"""A live model is the base, or loading says what it is instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nn.small_models import seeded, tiny_gpt2
from tests.tiny import load_tiny_bert, write_tiny_bert
from vera import fingerprint
from vera.errors import BaseMismatch
from vera.fingerprint import BaseFingerprint
from vera.nn.identity import prove_base
from vera.nn.live_tensors import sample_of
from vera.parallel_digest import DigestBook


def test_the_model_loaded_from_the_files_is_proven(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    proof = prove_base(tiny_model, tiny_base)
    assert proof.kind == "content"
    assert proof.tensors == len(tiny_base.tensors)
    assert proof.extra == ()
    assert "every byte equal" in str(proof)


def test_one_changed_weight_is_found_and_named(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    with torch.no_grad():
        tiny_model.encoder.layer[1].output.dense.weight[3, 5] += 1e-6
    with pytest.raises(BaseMismatch, match="fine-tune") as caught:
        prove_base(tiny_model, tiny_base)
    assert caught.value.facts["differing"] == ["encoder.layer.1.output.dense.weight"]


def test_a_change_after_the_proof_is_noticed(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    prove_base(tiny_model, tiny_base)
    with torch.no_grad():
        tiny_model.encoder.layer[0].attention.self.query.weight.mul_(1.5)
    with pytest.raises(BaseMismatch):
        prove_base(tiny_model, tiny_base)


def test_a_proven_model_is_not_read_again(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    first = prove_base(tiny_model, tiny_base)
    read: list[int] = []
    assert prove_base(tiny_model, tiny_base, progress=lambda done, _total: read.append(done)) is first
    assert read == []


def test_a_change_during_the_proof_is_noticed_by_the_next(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    weight = tiny_model.encoder.layer[0].attention.self.query.weight

    def change(done: int, total: int) -> None:
        if done == total:
            with torch.no_grad():
                weight.mul_(1.5)

    prove_base(tiny_model, tiny_base, progress=change)
    with pytest.raises(BaseMismatch):
        prove_base(tiny_model, tiny_base)


def test_a_change_behind_torchs_back_is_noticed(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    """PEFT merges a LoRA by `weight.data +=`, which torch does not count as a write."""
    prove_base(tiny_model, tiny_base)
    tiny_model.encoder.layer[1].attention.self.value.weight.data += 1e-3
    with pytest.raises(BaseMismatch) as caught:
        prove_base(tiny_model, tiny_base)
    assert caught.value.facts["differing"] == ["encoder.layer.1.attention.self.value.weight"]


@pytest.mark.parametrize("name", ["encoder.layer.1.output.LayerNorm.weight", "encoder.layer.0.intermediate.dense.bias"])
def test_a_vector_that_changes_behind_torchs_back_is_noticed(
    tiny_model: Any, tiny_base: BaseFingerprint, name: str
) -> None:
    prove_base(tiny_model, tiny_base)
    tiny_model.get_parameter(name).data += 0.5
    with pytest.raises(BaseMismatch) as caught:
        prove_base(tiny_model, tiny_base)
    assert caught.value.facts["differing"] == [name]


def test_any_tensor_that_a_model_may_keep_is_sampled_or_left_out() -> None:
    kinds = (torch.bool, torch.int64, torch.bfloat16, torch.complex64, torch.complex128, torch.float8_e4m3fn)
    live = {str(kind): torch.ones(3).to(kind) for kind in kinds} | {"scalar": torch.tensor(2.0), "none": torch.empty(0)}
    sampled = sample_of(live)
    assert sum(numbers.numel() for numbers in sampled.values()) == 5 * 3 + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="recognises what lies on a GPU")
def test_what_was_hashed_once_is_recognised_on_a_gpu(tiny_folder: Path, tiny_base: BaseFingerprint) -> None:
    book = DigestBook()
    first = prove_base(load_tiny_bert(tiny_folder).cuda(), tiny_base, digests=book)
    again = prove_base(load_tiny_bert(tiny_folder).cuda(), tiny_base, digests=book)
    wide = prove_base(load_tiny_bert(tiny_folder).double().cuda(), tiny_base, digests=book)
    assert (first.recognised, again.recognised, wide.recognised) == (0, again.tensors, wide.tensors)
    other = load_tiny_bert(tiny_folder).cuda()
    with torch.no_grad():
        other.encoder.layer[0].attention.self.query.weight[0, 0] += 1e-6
    with pytest.raises(BaseMismatch):
        prove_base(other, tiny_base, digests=book)


def test_a_model_of_the_same_shapes_is_refused(tmp_path: Path, tiny_base: BaseFingerprint) -> None:
    other = load_tiny_bert(write_tiny_bert(tmp_path / "other", seed=1))
    with pytest.raises(BaseMismatch, match=r"\d+ tensors have other values") as caught:
        prove_base(other, tiny_base)
    table = fingerprint.of_files(tmp_path / "other")
    assert caught.value.found == {record.name: record.sha256 for record in table.tensors}


def test_a_merged_adapter_is_said_to_be_one(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    with torch.no_grad():
        for layer in tiny_model.encoder.layer:
            layer.attention.self.query.weight += 0.01
    with pytest.raises(BaseMismatch, match="merged into query: all 2 weights"):
        prove_base(tiny_model, tiny_base)


def test_a_model_with_fewer_layers_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "deep", layers=3)
    deep = fingerprint.of_files(folder)
    shallow = load_tiny_bert(folder, num_hidden_layers=2)
    with pytest.raises(BaseMismatch, match="fewer layers"):
        prove_base(shallow, deep)


def test_a_deeper_model_that_begins_like_the_base_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "shallow")
    deeper = load_tiny_bert(folder, num_hidden_layers=3)
    with pytest.raises(BaseMismatch, match="deeper") as caught:
        prove_base(deeper, fingerprint.of_files(folder))
    assert all(name.startswith("encoder.layer.2.") for name in caught.value.facts["foreign"])


def test_another_architecture_is_said_to_be_one(tiny_base: BaseFingerprint) -> None:
    with pytest.raises(BaseMismatch, match="another architecture"):
        prove_base(torch.nn.Sequential(torch.nn.Linear(4, 4)), tiny_base)


def test_a_resized_vocabulary_is_said_to_be_one(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    tiny_model.resize_token_embeddings(64)
    with pytest.raises(BaseMismatch, match="resized vocabulary"):
        prove_base(tiny_model, tiny_base)


def test_a_task_head_and_a_prefix_do_not_matter(tiny_folder: Path, tiny_base: BaseFingerprint) -> None:
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(tiny_folder, local_files_only=True)
    proof = prove_base(model, tiny_base)
    assert proof.extra == ("classifier.bias", "classifier.weight")
    assert proof.module("encoder.layer.0.attention.self.query") == "bert.encoder.layer.0.attention.self.query"


def test_a_part_the_model_class_leaves_out_is_said_and_not_missed(
    tiny_folder: Path, tiny_base: BaseFingerprint
) -> None:
    from transformers import BertModel

    model = BertModel.from_pretrained(tiny_folder, local_files_only=True, add_pooling_layer=False)
    assert prove_base(model, tiny_base).absent == ("pooler.dense.bias", "pooler.dense.weight")


def test_a_part_that_was_taken_out_of_a_model_is_missed(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel, GPT2Model

    whole = tiny_gpt2()
    base = saved(whole.transformer, tmp_path)  # bare: each of its parts is one of the top
    prove_base(GPT2Model.from_pretrained(tmp_path, local_files_only=True), base)
    for model in (GPT2Model.from_pretrained(tmp_path), GPT2LMHeadModel.from_pretrained(tmp_path)):
        model.base_model.ln_f = torch.nn.Identity()
        state = torch.get_rng_state()
        with pytest.raises(
            BaseMismatch, match=r"its ln_f was taken out, and a GPT2.*Model of this configuration"
        ) as caught:
            prove_base(model, base)
        assert caught.value.facts["missing"] == ["ln_f.bias", "ln_f.weight"]
        assert torch.equal(torch.get_rng_state(), state)


def test_a_part_that_a_class_does_not_build_for_this_configuration_is_not_missed(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3)
    base = saved(seeded(lambda: ViTForImageClassification(config)), tmp_path)
    model = ViTForImageClassification.from_pretrained(tmp_path, local_files_only=True, num_labels=0)
    assert isinstance(model.classifier, torch.nn.Identity)
    assert prove_base(model, base).absent == ("classifier.bias", "classifier.weight")


def test_a_bfloat16_base_held_in_float32_is_proven(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "bf16", dtype=torch.bfloat16)
    proof = prove_base(load_tiny_bert(folder, dtype=torch.float32), fingerprint.of_files(folder))
    assert proof.kind == "content"


def test_a_lossy_cast_is_refused_with_the_reason(tiny_folder: Path, tiny_base: BaseFingerprint) -> None:
    with pytest.raises(BaseMismatch, match="cannot contain the stored F32"):
        prove_base(load_tiny_bert(tiny_folder, dtype=torch.bfloat16), tiny_base)


def test_a_float32_weight_that_no_bfloat16_equals_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "bf16", dtype=torch.bfloat16)
    model = load_tiny_bert(folder, dtype=torch.float32)
    with torch.no_grad():
        model.encoder.layer[0].attention.self.query.weight[0, 0] += 1e-5  # rounds back to the stored value
    with pytest.raises(BaseMismatch):
        prove_base(model, fingerprint.of_files(folder))


# What transformers renames, ties, leaves out or fuses


def saved(model: Any, folder: Path) -> BaseFingerprint:
    model.save_pretrained(folder)
    return fingerprint.of_files(folder)


def tiny_vit(layers: int = 2) -> Any:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=8
    )  # fmt: skip
    return seeded(lambda: ViTModel(config))


def test_renamed_modules_are_found_by_the_bytes_of_all_their_tensors(tmp_path: Path) -> None:
    base = saved(tiny_vit(), tmp_path)
    proof = prove_base(tiny_vit(), base)
    assert proof.tensors == len(base.tensors)
    assert proof.module("encoder.layer.1.attention.attention.query") == "layers.1.attention.q_proj"


def test_modules_that_are_alike_are_counted_and_never_taken_for_each_other(tmp_path: Path) -> None:
    model = tiny_vit()
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.q_proj.weight.zero_()
    base = saved(model, tmp_path)
    proof = prove_base(model, base)
    assert proof.tensors == len(base.tensors)
    assert proof.module("encoder.layer.0.attention.attention.query") is None
    assert proof.module("encoder.layer.0.attention.attention.key") == "layers.0.attention.k_proj"
    with torch.no_grad():
        model.layers[1].attention.q_proj.weight[0, 0] = 1.0
    with pytest.raises(BaseMismatch):
        prove_base(model, base)


def test_a_deeper_model_is_refused_under_other_names_too(tmp_path: Path) -> None:
    base = saved(tiny_vit(layers=2), tmp_path)
    deeper = tiny_vit(layers=3)
    deeper.load_state_dict(tiny_vit(layers=2).state_dict(), strict=False)
    with pytest.raises(BaseMismatch, match="deeper") as caught:
        prove_base(deeper, base)
    assert all(name.startswith("layers.2.") for name in caught.value.facts["foreign"])


def test_a_part_of_fresh_weights_does_not_count_as_the_checkpoints_own(tmp_path: Path) -> None:
    """BertModel makes up a pooler, whose zeros are also those of the head that it leaves out."""
    from transformers import BertConfig, BertForMaskedLM, BertModel

    config = BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    base = saved(seeded(lambda: BertForMaskedLM(config)), tmp_path)
    proof = prove_base(BertModel.from_pretrained(tmp_path, local_files_only=True), base)
    assert all(name.startswith("cls.predictions.") for name in proof.absent)
    assert proof.extra == ("pooler.dense.bias", "pooler.dense.weight")


def test_tensors_that_were_fused_are_said_to_be(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, num_local_experts=2,
    )  # fmt: skip
    model = seeded(lambda: MixtralForCausalLM(config))
    with pytest.raises(BaseMismatch, match="fused"):
        prove_base(model, saved(model, tmp_path))


# Other dtypes than those of most weights


class Stored(torch.nn.Module):
    """A module with a buffer of whole numbers and a float8 weight, as checkpoints have them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("position_ids", torch.arange(8))
        weight = torch.linspace(-2, 2, 32).view(8, 4).to(torch.float8_e4m3fn)
        self.weight = torch.nn.Parameter(weight, requires_grad=False)


def stored() -> Any:
    return torch.nn.ModuleDict({"inner": Stored()})


@pytest.fixture
def stored_base(tmp_path: Path) -> BaseFingerprint:
    from safetensors.torch import save_file

    save_file(stored().state_dict(), tmp_path / fingerprint.SINGLE_FILE)
    return fingerprint.of_files(tmp_path)


def test_float8_and_whole_numbers_are_proven(stored_base: BaseFingerprint) -> None:
    proof = prove_base(stored(), stored_base)
    assert (proof.kind, proof.tensors) == ("content", 2)


@pytest.mark.parametrize("name", ["weight", "position_ids"])
def test_one_changed_byte_of_them_is_found(stored_base: BaseFingerprint, name: str) -> None:
    model = stored()
    with torch.no_grad():
        getattr(model["inner"], name)[3] = 1
    with pytest.raises(BaseMismatch) as caught:
        prove_base(model, stored_base)
    assert caught.value.facts["differing"] == [f"inner.{name}"]


def test_numbers_that_a_model_computes_instead_of_loading_are_not_missed(stored_base: BaseFingerprint) -> None:
    model = stored()
    del model["inner"].position_ids
    assert prove_base(model, stored_base).tensors == 1


def test_a_model_without_values_is_no_other_training_run(tiny_folder: Path, tiny_base: BaseFingerprint) -> None:
    """As one that was made under `torch.device("meta")` and never filled."""
    model = load_tiny_bert(tiny_folder)
    model.encoder.layer[1].to("meta")

    with pytest.raises(BaseMismatch, match=r"16 of its 39 tensors .* on the device meta, without values") as caught:
        prove_base(model, tiny_base)

    assert caught.value.code == "BASE_UNPROVABLE"
