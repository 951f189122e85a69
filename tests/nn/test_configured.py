"""A base with the right weights that is set to compute otherwise is refused, and one that only looks different is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from tests.nn.small_models import seeded
from tests.tiny_adapters import make_tiny
from vera import archive as archives
from vera import fingerprint
from vera.archive import Archive
from vera.errors import BaseMismatch, VeraWarning
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE, BaseIdentity
from vera.nn.attach import attach
from vera.nn.configured import check_config, config_at, record_of

SIZE = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"vocab_size": 40, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
IMAGES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 8}
T5 = {
    "vocab_size": 40,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
CLIP = {
    "text_config": {**SIZE, "projection_dim": 16, "hidden_act": "gelu"},
    "vision_config": {**IMAGES, "intermediate_size": 64, "projection_dim": 16},
    "projection_dim": 16,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
CONFIGS: Mapping[str, hf.PreTrainedConfig] = {
    "bert": hf.BertConfig(**SIZE),
    "roberta": hf.RobertaConfig(**SIZE),
    "llama": hf.LlamaConfig(**SIZE, num_key_value_heads=2, rope_parameters={"rope_theta": 5e5, "rope_type": "default"}),
    "llama of any length": hf.LlamaConfig(**SIZE, rope_parameters=DYNAMIC),
    "phi3": hf.Phi3Config(**SIZE, pad_token_id=0),
    "gemma3": hf.Gemma3TextConfig(**SIZE, num_key_value_heads=1, head_dim=16),
    "neox": hf.GPTNeoXConfig(**SIZE),
    "gpt2": hf.GPT2Config(**GPT2),
    "vit": hf.ViTConfig(**IMAGES, intermediate_size=64),
    "dinov2": hf.Dinov2Config(**IMAGES),
    "t5": hf.T5Config(**T5),
    "clip": hf.CLIPConfig(**CLIP),
    "mamba": hf.MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2),
}  # fmt: skip


def identity(config: Any) -> BaseIdentity:
    return BaseIdentity("tests/base", "vbf1:" + 64 * "0", "float32", config=record_of(config))


def written(folder: Path, fields: Mapping[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def recorded(archive: Archive, config: Any) -> Archive:
    base = replace(archive.manifest.base, config=record_of(config))
    return archives.seal(replace(archive.manifest, base=base), archive.files[WEIGHTS_FILE], archive.card)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_was_saved_and_opened_is_the_recorded_one(name: str, tmp_path: Path) -> None:
    base = identity(CONFIGS[name])
    CONFIGS[name].save_pretrained(tmp_path)
    check_config(config_at(tmp_path), base, "It")
    full = {key: value for key, value in CONFIGS[name].to_dict().items() if not key.startswith("_")}
    check_config(config_at(written(tmp_path, full)), base, "It")
    assert base.config is not None
    assert len(base.config.all) > 5


OLD: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama with theta at the top": ("llama", {"model_type": "llama", **SIZE, "num_key_value_heads": 2, "rope_theta": 500000.0, "rope_scaling": None, "torch_dtype": "float16"}),
    "llama with a scaling": ("llama of any length", {"model_type": "llama", **SIZE, "rope_theta": 10000, "rope_scaling": {"type": "dynamic", "factor": 2}}),
    "bert that says what kind its positions are": ("bert", {"model_type": "bert", **SIZE, "position_embedding_type": "absolute", "gradient_checkpointing": False, "directionality": "bidi"}),
    "neox with its own words": ("neox", {"model_type": "gpt_neox", **SIZE, "rotary_pct": 0.25, "rotary_emb_base": 10000}),
    "gemma3 with two thetas": ("gemma3", {"model_type": "gemma3_text", **SIZE, "num_key_value_heads": 1, "head_dim": 16, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6}),
    "gpt2 with options of generation": ("gpt2", {"model_type": "gpt2", **GPT2, "n_ctx": 64, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_an_old_configuration_of_the_same_model_is_no_difference(name: str, tmp_path: Path) -> None:
    new, fields = OLD[name]
    old = config_at(written(tmp_path, fields))
    check_config(old, identity(CONFIGS[new]), "It")
    check_config(CONFIGS[new], identity(old), "It")


CHANGES = [
    ("bert", {"hidden_act": "relu"}),
    ("bert", {"layer_norm_eps": 1e-3}),
    ("bert", {"num_attention_heads": 2}),
    ("bert", {"is_decoder": True}),
    ("roberta", {"pad_token_id": 5}),
    ("llama", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}),
    ("llama", {"rms_norm_eps": 1e-3}),
    ("llama of any length", {"max_position_embeddings": 4096}),
    ("gemma3", {"query_pre_attn_scalar": 16}),
    ("gpt2", {"activation_function": "relu"}),
    ("gpt2", {"scale_attn_weights": False}),
    ("vit", {"hidden_act": "relu"}),
    ("dinov2", {"layer_norm_eps": 1e-3}),
    ("t5", {"relative_attention_max_distance": 16}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=str)
def test_what_changes_the_answers_is_refused_both_ways(name: str, change: dict[str, Any]) -> None:
    config = CONFIGS[name]
    fields = {key: value for key, value in config.to_dict().items() if key not in change}
    changed = type(config)(**{**fields, **change})
    for one, other in ((config, changed), (changed, config)):
        with pytest.raises(BaseMismatch, match=next(iter(change))) as refused:
            check_config(other, identity(one), "It")
        assert refused.value.code == "BASE_CONFIG_MISMATCH"


def bert(tmp_path: Path) -> tuple[Path, BaseFingerprint]:
    folder = tmp_path / "bert"
    seeded(lambda: hf.BertModel(hf.BertConfig(**SIZE))).save_pretrained(folder)
    return folder, fingerprint.of_files(folder)


def opened(folder: Path, opener: Any = hf.BertModel, **options: Any) -> Any:
    return opener.from_pretrained(folder, local_files_only=True, **options).eval()


def output_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=torch.arange(2, 14).reshape(2, 6)).last_hidden_state
    return hidden


def test_a_live_model_of_the_same_weights_and_another_activation_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder, base = bert(tmp_path)
    right, wrong = opened(folder), opened(folder, hidden_act="relu", layer_norm_eps=1e-3)
    archive = recorded(make_tiny(base), right.config)
    before = output_of(wrong)

    with pytest.raises(BaseMismatch) as refused:
        attach(wrong, archive, base)

    assert refused.value.code == "BASE_CONFIG_MISMATCH"
    assert "hidden_act is 'relu' here and was 'gelu' in training" in str(refused.value)
    assert refused.value.facts["settings"]["layer_norm_eps"] == {"trained": 1e-12, "found": 1e-3}  # type: ignore[index]
    assert torch.equal(output_of(wrong), before)
    assert not hasattr(wrong, "vera")
    attach(right, archive, base)
    assert not torch.equal(output_of(right), before)


def test_it_is_a_warning_when_asked_and_nobody_looks_when_told_not_to(tmp_path: Path) -> None:
    folder, base = bert(tmp_path)
    archive = recorded(make_tiny(base), hf.BertConfig(**SIZE))
    with pytest.warns(VeraWarning, match="may answer wrongly.*hidden_act"):
        adapted = attach(opened(folder, hidden_act="relu"), archive, base, verify="warn")
    assert adapted.vera.base.kind == "content"
    attach(opened(folder, hidden_act="relu"), archive, base, verify="off")


def test_an_adapter_without_a_record_is_held_to_no_configuration(tmp_path: Path) -> None:
    folder, base = bert(tmp_path)
    attach(opened(folder, hidden_act="relu"), make_tiny(base), base)


@pytest.mark.parametrize(
    "options",
    [
        {"attn_implementation": "eager"},
        {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.0},
        {"num_labels": 7, "id2label": {0: "a"}, "problem_type": "regression"},
        {"use_cache": False, "output_hidden_states": True, "tie_word_embeddings": False},
        {"dtype": torch.float64},
        {"opener": hf.BertForSequenceClassification},
        {"opener": hf.BertForMaskedLM},
    ],
    ids=str,
)
def test_how_a_model_is_held_and_what_is_on_it_is_no_difference(options: dict[str, Any], tmp_path: Path) -> None:
    folder, base = bert(tmp_path)
    attach(opened(folder, **options), recorded(make_tiny(base), hf.BertConfig(**SIZE)), base)


def test_a_part_of_a_model_is_compared_with_that_part_of_the_record_and_the_other_way_round() -> None:
    whole = CONFIGS["clip"]
    part: Any = hf.CLIPTextConfig(**{**CLIP["text_config"]})
    check_config(part, identity(whole), "It")
    check_config(whole, identity(part), "It")
    part.hidden_act = "relu"
    for config, base in ((part, identity(whole)), (whole, identity(part))):
        with pytest.raises(BaseMismatch, match=r"hidden_act is '\w+' here"):
            check_config(config, base, "It")


def test_the_encoder_of_an_encoder_decoder_is_the_same_base() -> None:
    model = seeded(lambda: hf.T5EncoderModel(hf.T5Config(**T5)))
    check_config(model.config, identity(CONFIGS["t5"]), "It")


def test_a_quantised_model_says_the_same(tmp_path: Path) -> None:
    fields = {
        **CONFIGS["llama"].to_dict(),
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    }
    check_config(config_at(written(tmp_path, fields)), identity(CONFIGS["llama"]), "It")


def test_what_is_no_configuration_is_not_recorded_and_passes(tmp_path: Path) -> None:
    assert record_of(None) is None
    assert record_of({"hidden_act": "gelu"}) is None
    assert config_at(tmp_path) is None
    check_config(None, identity(CONFIGS["bert"]), "It")


def test_a_setting_that_follows_from_others_is_a_default_and_one_that_was_said_is_not() -> None:
    follows, said = record_of(hf.LlamaConfig(**SIZE)), record_of(hf.LlamaConfig(**SIZE, head_dim=128))
    assert follows is not None
    assert said is not None
    assert follows.default["head_dim"] == 8
    assert said.set["head_dim"] == 128  # the default of the class, of other sizes
    assert set(follows.set) == {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
