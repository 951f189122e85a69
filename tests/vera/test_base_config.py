"""What of a base's configuration counts, whoever wrote it, and what is a difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.vera import golden
from vera.base_config import MAX_SETTINGS, BaseConfig, differences, is_setting, is_spelled, refusal, settings_of
from vera.errors import ManifestError
from vera.manifest import Manifest


def manifest() -> Manifest:
    return Manifest.from_bytes(golden.load("manifest")["canonical"].encode())


OLD_LLAMA = {
    "_name_or_path": "/home/somebody/llama", "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
    "transformers_version": "4.31.0", "use_cache": True, "hidden_act": "silu", "num_attention_heads": 4, "rms_norm_eps": 1e-5,
    "vocab_size": 100, "max_position_embeddings": 64, "rope_theta": 500000.0, "rope_scaling": None, "pretraining_tp": 1,
    "initializer_range": 0.02, "attention_dropout": 0.0,
}  # fmt: skip
NEW_LLAMA = {
    "architectures": None, "model_type": "llama", "dtype": "bfloat16", "transformers_version": "5.23.0", "hidden_act": "silu",
    "num_attention_heads": 4, "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "id2label": {"0": "no"}, "is_decoder": None,
    "rope_parameters": {"rope_theta": 500000, "rope_type": "default"}, "quantization_config": {"bits": 4},
}  # fmt: skip


def test_an_older_and_a_newer_configuration_of_one_model_say_the_same() -> None:
    assert settings_of(OLD_LLAMA) == settings_of(NEW_LLAMA)
    assert settings_of(NEW_LLAMA) == {
        "model_type": "llama", "hidden_act": "silu", "num_attention_heads": 4, "rms_norm_eps": 1e-5,
        "rope_parameters.rope_theta": 500000, "rope_parameters.rope_type": "default",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 10000}},
        ),
        (
            {"rope_theta": 1e4, "partial_rotary_factor": 0.5},
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5, "rope_theta": 1e4}},
        ),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}, "original_max_position_embeddings": 4096},
            {"rope_parameters": {"rope_type": "longrope", "short_factor": [1], "original_max_position_embeddings": 4096}},
        ),
        (
            {"text_config": {"rope_theta": 1e4}},
            {"text_config": {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}},
        ),
        ({"hidden_act": "swish", "position_embedding_type": "absolute"}, {"hidden_act": "silu"}),
    ],
)  # fmt: skip
def test_rotary_positions_are_one_thing_in_either_spelling(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert settings_of(old) == settings_of(new)


def test_the_length_counts_where_the_angles_depend_on_it() -> None:
    plain = {"max_position_embeddings": 64, "rope_parameters": {"rope_type": "llama3"}}
    dynamic = {"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    assert "max_position_embeddings" not in settings_of(plain)
    assert settings_of(dynamic)["max_position_embeddings"] == 64


def test_dropout_does_not_count_but_where_it_scales_answers() -> None:
    assert settings_of({"attention_dropout": 0.1, "resid_pdrop": 0.2, "token_dropout": True}) == {"token_dropout": True}


def test_what_json_cannot_hold_and_what_is_long_is_still_told_apart() -> None:
    found = settings_of({"limit": float("inf"), "layers": ["full_attention"] * 200, "blocks": [{"heads": 2}]})
    assert found["limit"] == "inf"
    assert all(is_setting(value) for value in found.values())
    assert found != settings_of({"limit": float("inf"), "layers": ["full_attention"] * 199, "blocks": [{"heads": 2}]})
    assert found != settings_of({"limit": float("inf"), "layers": ["full_attention"] * 200, "blocks": [{"heads": 4}]})


RECORD = BaseConfig({"num_attention_heads": 4}, {"model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12})


@pytest.mark.parametrize(
    ("found", "unsaid", "said"),
    [
        ({}, {}, []),
        ({"num_attention_heads": 2}, {}, ["num_attention_heads is 2 here and was 4 in training"]),
        ({"hidden_act": "relu"}, {}, ["hidden_act is 'relu' here and was 'gelu' in training"]),
        ({"num_attention_heads": None}, {}, ["num_attention_heads is not set here and was 4 in training"]),
        ({"layer_norm_eps": None}, {}, []),  # a default that this version does not know
        ({"scale": 2.0}, {}, ["scale is 2.0 here and was not set in training"]),
        ({"scale": 2.0}, {"scale": 2}, []),  # what it would be by itself
        ({"scale": 2.0}, {"scale": 1}, ["scale is 2.0 here and was 1 in training"]),
        ({"is_decoder": False}, {}, []),
        ({"is_decoder": True}, {}, ["is_decoder is True here and was not set in training"]),
        ({"pad_token_id": 3}, {}, []),  # filled in by who uses a base that has none
        ({"num_attention_heads": 2, "scale": 2.0}, None, ["num_attention_heads is 2 here and was 4 in training"]),
    ],
)  # fmt: skip
def test_a_difference_is_named_with_both_values(
    found: dict[str, Any], unsaid: dict[str, Any] | None, said: list[str]
) -> None:
    settings = {name: value for name, value in {**RECORD.all, **found}.items() if value is not None}
    assert list(map(str, differences(RECORD, settings, unsaid))) == said


def test_one_and_true_differ_and_one_and_one_point_zero_do_not() -> None:
    assert differences(BaseConfig({"n": 1}), {"n": 1.0}, {}) == []
    assert len(differences(BaseConfig({"n": 1}), {"n": True}, {})) == 1


def test_of_a_model_of_several_parts_the_one_that_was_adapted_is_compared() -> None:
    whole = {
        "model_type": "clip",
        "text_config.model_type": "clip_text_model",
        "text_config.act": "gelu",
        "vision_config.n": 2,
    }
    part = {"model_type": "clip_text_model", "act": "gelu"}
    assert differences(BaseConfig(whole), part, {}) == differences(BaseConfig(part), whole, {}) == []
    [one] = differences(BaseConfig(whole), {**part, "act": "relu"}, {})
    [other] = differences(BaseConfig(part), {**whole, "text_config.act": "relu"}, {})
    assert str(one) == str(other) == "act is 'relu' here and was 'gelu' in training"
    assert differences(BaseConfig(whole), {"model_type": "bert"}, {})[0].name == "model_type"


def test_a_part_that_transformers_calls_otherwise_is_no_difference_and_a_model_is_one() -> None:
    old = BaseConfig(
        {"model_type": "qwen2_vl", "vision_config.model_type": "qwen2_vl", "vision_config.hidden_act": "gelu"}
    )
    renamed = {**old.all, "vision_config.model_type": "qwen2_vl_vision"}
    assert differences(old, renamed, {}) == []
    assert [each.name for each in differences(old, {**renamed, "vision_config.hidden_act": "relu"}, {})] == [
        "vision_config.hidden_act"
    ]
    assert [each.name for each in differences(old, {**renamed, "model_type": "qwen3_vl"}, {})] == ["model_type"]


def test_a_file_that_spells_out_what_is_no_default_and_nothing_else_needs_no_second_look() -> None:
    spelled = {"model_type": "bert", "num_attention_heads": 4, "transformers_version": "4.0", "vocab_size": 9}
    assert is_spelled(RECORD, spelled)
    assert not is_spelled(RECORD, {**spelled, "num_attention_heads": 2})
    assert not is_spelled(RECORD, {**spelled, "scale": 1})
    assert not is_spelled(RECORD, {"model_type": "bert"})
    assert not is_spelled(RECORD, {"num_attention_heads": 4})


def test_a_manifest_without_a_record_has_the_bytes_it_always_had_and_one_with_it_reads_back() -> None:
    plain = manifest()
    assert b'"config":' not in plain.to_bytes()
    recorded = replace(plain, base=replace(plain.base, config=RECORD))
    read = Manifest.from_bytes(recorded.to_bytes())
    assert read == recorded
    assert read.base.config == RECORD
    assert read.digest != plain.digest


@pytest.mark.parametrize(
    "config",
    [
        BaseConfig({"a": 1}, {"a": 1}),
        BaseConfig({"": 1}),
        BaseConfig({"a\n": 1}),
        BaseConfig({"a": "x\x1b[31m"}),
        BaseConfig({"a": None}),
        BaseConfig({"a": {"b": 1}}),
        BaseConfig({"a": 2.0**60}),
        BaseConfig({"a": float("nan")}),
        BaseConfig({"a": "x" * 2000}),
        BaseConfig({str(n): n for n in range(MAX_SETTINGS + 1)}),
    ],
    ids=lambda config: repr(config)[:40],
)  # fmt: skip
def test_a_record_that_says_nothing_or_lies_is_refused(config: BaseConfig) -> None:
    plain = manifest()
    with pytest.raises(ManifestError):
        replace(plain, base=replace(plain.base, config=config))


def test_many_differences_are_counted_and_the_first_named() -> None:
    plain = manifest()
    differing = differences(BaseConfig({f"n{i}": i for i in range(20)}), {}, {})
    error = refusal("This Bert", replace(plain.base, revision="abc"), differing)
    assert error.code == "BASE_CONFIG_MISMATCH"
    assert "n7 is not set here and was 7 in training; and 12 more." in str(error)
    assert "tests/tiny-encoder at revision abc" in str(error)
    assert len(error.facts["settings"]) == 20  # type: ignore[arg-type]  # facts are JSON
