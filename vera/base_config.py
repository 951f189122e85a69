"""What a base's configuration says of how it computes, in one form whoever wrote the configuration.

The fingerprint of a base is its weights. Two models of the same weights compute otherwise under another activation,
epsilon, number of heads or rotary base, so an adapter's manifest may record those settings, and a load compares them.
A setting counts unless it is known not to change what a model in evaluation computes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from vera import canonical_json
from vera.errors import BaseMismatch

if TYPE_CHECKING:
    from vera.base_identity import BaseIdentity

Setting = object  # JSON: a string, a number, a boolean, or a list of such

MAX_SETTINGS = 1024
MAX_NAME = 200
MAX_VALUE_BYTES = 1000  # in canonical JSON; of what is longer the hash is kept
_MOST_SAID = 8

_ROPE, _OLD_ROPE = "rope_parameters", "rope_scaling"
_LATER_POSITIONS = "original_max_position_embeddings"
# Of these the angles depend on the rotary base alone; those of others on how many positions the model is said to have.
_ROPE_OF_ANY_LENGTH = ("default", "linear", "llama3")
_DEFAULT_POSITIONS = "absolute"  # was written of every BERT before transformers 5, and is the only kind since

# Who wrote it, how it is held, what is given back beside the answer, how it is trained or generated with. The names and
# labels of a head are the manifest's own, and what weights are tied or shaped like is proven by the weights.
_HARMLESS = frozenset(
    """
    architectures auto_map transformers_version transformers_weights tokenizer_class processor_class feature_extractor_type
    torch_dtype dtype use_bfloat16 quantization_config compression_config attn_implementation experts_implementation
    torchscript gradient_checkpointing pretraining_tp chunk_size_feed_forward tie_word_embeddings tie_encoder_decoder
    use_cache output_attentions output_hidden_states return_dict use_return_dict output_past output_router_logits
    return_dict_in_generate output_scores is_encoder_decoder
    num_labels _num_labels id2label label2id problem_type finetuning_task task_specific_params
    name_or_path prefix language license languages stage_names
    vocab_size type_vocab_size n_positions n_ctx pruned_heads
    initializer_range initializer_factor initializer_cutoff_factor init_std init_xavier_std rescale_prenorm_residual
    layerdrop encoder_layerdrop decoder_layerdrop drop_path_rate router_jitter_noise
    router_aux_loss_coef router_z_loss_coef label_smoothing semantic_loss_ignore_index
    directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty
    suppress_tokens begin_suppress_tokens max_len
    """.split()
)
# Older words that transformers 5 reads into rope_parameters and layer_types, which are compared, and may leave lying about.
_READ_ELSEWHERE = frozenset(
    "rotary_pct rotary_emb_base rope_local_base_freq global_rope_theta local_rope_theta sliding_window_pattern".split()
)
# ESM scales its embeddings by it when it answers, too.
_DROPOUT_OF_ANSWERS = "token_dropout"
_SPELLINGS = {"swish": "silu"}
# Of an image processor: who wrote it, on what it computes, and how what it gives is arranged. Images are RGB when they come to it.
_HARMLESS_OF_PROCESSORS = frozenset(
    """
    processor_class feature_extractor_type auto_map transformers_version device return_tensors data_format input_data_format
    disable_grouping default_to_square backend do_convert_rgb
    """.split()
)


@dataclass(frozen=True)
class BaseConfig:
    """The settings of a base when an adapter was trained on it, by dotted names.

    `default` are those that its class would have had without being told: a version of transformers that does not know
    one of them computes as if it had that value.
    """

    set: Mapping[str, Setting] = field(hash=False)
    default: Mapping[str, Setting] = field(default_factory=dict, hash=False)

    @property
    def all(self) -> dict[str, Setting]:
        return {**self.default, **self.set}


@dataclass(frozen=True)
class SettingDifference:
    """A setting that is not as it was in training. None is one that is not there."""

    name: str
    trained: Setting
    found: Setting

    def __str__(self) -> str:
        return f"{self.name} is {_shown(self.found)} here and was {_shown(self.trained)} in training"


def settings_of(config: Mapping[str, Any]) -> dict[str, Setting]:
    """Of a configuration as config.json has it, old or new, the settings that change what the model computes, by dotted names.

    Those that are null are left out: they are as if they were not there.
    """
    return dict(_flat(_modern(config)))


def processor_settings(processor: Mapping[str, Any]) -> dict[str, Setting]:
    """Of an image processor as preprocessor_config.json has it, the settings that decide the pixels, by dotted names.

    Its class has one name, whatever it computes on and however old the file is.
    """
    kind = processor.get("image_processor_type") or processor.get("feature_extractor_type")
    kept = {key: value for key, value in processor.items() if key not in _HARMLESS_OF_PROCESSORS}
    if isinstance(kind, str):
        named = kind.removesuffix("Fast").removesuffix("Pil")
        kept["image_processor_type"] = named.replace("FeatureExtractor", "ImageProcessor")
    return dict(_flat_plain(kept))


def differences(
    trained: BaseConfig, found: Mapping[str, Setting], unsaid: Mapping[str, Setting] | None = None
) -> list[SettingDifference]:
    """What of `found` is not as it was in training.

    `unsaid` are the values that settings have of which the record says nothing. Where nobody knows them (None), `found` is what a
    file spells out, and only what both sides spell out is compared.
    """
    recorded = part_like(trained.all, found)
    seen = part_like(found, recorded)
    both = [name for name in recorded if name in seen and not _is_kind_of_part(name)]
    differing = [SettingDifference(n, recorded[n], seen[n]) for n in both if not is_same(recorded[n], seen[n])]
    if unsaid is None:
        return differing
    optional = part_like(trained.default, found, of=trained.all).keys()
    gone = [n for n in recorded if n not in seen and n not in optional and not _is_off(n, recorded[n])]
    new = [n for n in seen if n not in recorded and not is_same(unsaid.get(n, False), seen[n]) and not _is_id(n)]
    return [
        *differing,
        *(SettingDifference(n, recorded[n], None) for n in gone),
        *(SettingDifference(n, unsaid.get(n), seen[n]) for n in new),
    ]


def is_spelled(trained: BaseConfig, config: Mapping[str, Any]) -> bool:
    """Whether `config`, as config.json has it, spells out every setting that its class would not have had by itself, all of what
    it spells out is as it was in training, and nothing is beside it: then nobody need be asked for what it leaves out."""
    found = settings_of(config)
    return (
        trained.set.keys() <= found.keys() <= trained.all.keys()
        and "model_type" in found
        and not differences(trained, found)
    )


def refusal(what: str, base: BaseIdentity, differing: Sequence[SettingDifference]) -> BaseMismatch:
    """The refusal of `what`, which names each setting with both values."""
    at = f" at revision {base.revision}" if base.revision else ""
    return BaseMismatch(
        f"{what} is configured otherwise than {base.name} was when the adapter was trained, and would answer otherwise with the "
        f"very same weights: {_said(differing)}. Nothing was changed; open the base with the config.json of {base.name}{at}, and leave "
        "these settings as they are there.",
        code="BASE_CONFIG_MISMATCH",
        fingerprint=base.fingerprint,
        settings={each.name: {"trained": each.trained, "found": each.found} for each in differing},
    )


def processor_refusal(what: str, base: BaseIdentity, differing: Sequence[SettingDifference]) -> BaseMismatch:
    """The refusal of `what`, an image processor, which names each setting with both values."""
    at = f" at revision {base.revision}" if base.revision else ""
    return BaseMismatch(
        f"{what} prepares images otherwise than that of {base.name} did when the adapter was trained, which would be given other "
        f"pixels for the very same images: {_said(differing)}. Put the preprocessor_config.json of {base.name}{at} beside the "
        "weights, and open the base again.",
        code="BASE_PROCESSOR_MISMATCH",
        fingerprint=base.fingerprint,
        settings={each.name: {"trained": each.trained, "found": each.found} for each in differing},
    )


def part_like(
    settings: Mapping[str, Setting], other: Mapping[str, Setting], *, of: Mapping[str, Setting] | None = None
) -> Mapping[str, Setting]:
    """`settings`, or the part of them that is the model `other`: of a text and image model, say, the text model alone.

    `of` are all the settings among which the part is looked for.
    """
    whole, wanted = settings if of is None else of, other.get("model_type")
    if wanted is None or whole.get("model_type") in (None, wanted):
        return settings
    ends = [n.removesuffix("model_type") for n, v in whole.items() if n.endswith(".model_type") and v == wanted]
    if len(ends) != 1:
        return settings
    return {name.removeprefix(ends[0]): value for name, value in settings.items() if name.startswith(ends[0])}


def is_same(one: Setting, other: Setting) -> bool:
    """Whether they are one JSON value: 1 and 1.0 are, 1 and true are not."""
    if type(one) is type(other) and not isinstance(one, list):
        return one == other
    return canonical_json.dumps(one) == canonical_json.dumps(other)


def is_setting(value: object) -> bool:
    """Whether `value` can stand in a record: JSON without objects and null, no longer than what is kept of one."""
    if not _is_plain(value):
        return False
    try:
        return len(canonical_json.dumps(value)) <= MAX_VALUE_BYTES
    except ValueError:
        return False


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, int | float):
        return abs(value) < 2**53  # which NaN is not
    return isinstance(value, str)


def _is_off(name: str, value: Setting) -> bool:
    """Whether a model that does not know the setting is as if it had this value."""
    return value is False or (name.endswith("position_embedding_type") and value == _DEFAULT_POSITIONS) or _is_id(name)


def _is_kind_of_part(name: str) -> bool:
    """Whether it is what transformers calls a part, which one version has renamed (of Qwen2-VL); its settings say what it computes."""
    return name.endswith(".model_type")


def _is_id(name: str) -> bool:
    """Whether it names a token, which people fill in where a base has none."""
    return name.endswith("_token_id")


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if value is None or _is_harmless(str(key), config) or len(name) > MAX_NAME:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, _plain(value)


def _is_harmless(key: str, config: Mapping[str, Any]) -> bool:
    if key == "max_position_embeddings":
        return not _depends_on_length(config.get(_ROPE))
    if key == "position_embedding_type":
        return bool(config[key] == _DEFAULT_POSITIONS)
    is_dropout = ("dropout" in key or key.endswith(("_pdrop", "_drop"))) and key != _DROPOUT_OF_ANSWERS
    return key in _HARMLESS or key in _READ_ELSEWHERE or is_dropout or key.startswith("_")


def _depends_on_length(rope: object) -> bool:
    if not isinstance(rope, Mapping):
        return False
    kind = rope.get("rope_type")
    return (kind is not None and kind not in _ROPE_OF_ANY_LENGTH) or any(map(_depends_on_length, rope.values()))


def _flat_plain(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat_plain(value, f"{prefix}{key}.")
        elif value is not None and len(prefix) + len(key) <= MAX_NAME:
            yield f"{prefix}{key}", _plain(value)


def _said(differing: Sequence[SettingDifference]) -> str:
    more = f"; and {len(differing) - _MOST_SAID} more" if len(differing) > _MOST_SAID else ""
    return "; ".join(map(str, differing[:_MOST_SAID])) + more


def _modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its rotary positions in one place, as transformers 5 has them; older ones have them in several."""
    parts = {key for key, value in config.items() if isinstance(value, Mapping) and key not in (_ROPE, _OLD_ROPE)}
    modern = {key: _modern(value) if key in parts else value for key, value in config.items()}
    old = modern.pop(_OLD_ROPE, None)
    rope = modern.pop(_ROPE, None) or old or {}
    if isinstance(rope, Mapping):
        rope = (
            {k: _one_rope(dict(v), {}) for k, v in rope.items()}
            if _is_by_layer(rope)
            else _one_rope(dict(rope), modern)
        )
    return {**modern, _ROPE: rope} if rope else modern


def _one_rope(rope: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    if "type" in rope:
        rope.setdefault("rope_type", rope["type"])
        del rope["type"]
    for key in ("rope_theta", "partial_rotary_factor", _LATER_POSITIONS):
        outside = config.pop(key, None) if rope or key != _LATER_POSITIONS else None
        if outside is not None:
            rope.setdefault(key, outside)
    if rope:
        rope.setdefault("rope_type", "default")
    return rope


def _is_by_layer(rope: Mapping[str, Any]) -> bool:
    """Whether each kind of layer has positions of its own."""
    return bool(rope) and all(isinstance(value, Mapping) for value in rope.values())


def _plain(value: Any) -> Setting:
    """The value as JSON that any reader holds exactly; what is long, by its hash."""
    plain = _jsonable(value)
    data = canonical_json.dumps(plain)
    if len(data) > MAX_VALUE_BYTES or not _is_plain(plain):
        return f"sha256:{hashlib.sha256(data).hexdigest()}"
    return plain


def _jsonable(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _SPELLINGS.get(value, value)
    if isinstance(value, Enum):
        return _jsonable(value.value)
    if isinstance(value, int | float):
        is_exact = math.isfinite(value) and abs(value) < 2**53
        return value if is_exact else repr(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [_jsonable(each) for each in (value if isinstance(value, Sequence) else sorted(value, key=repr))]
    return None if value is None else str(value)


def _shown(value: Setting) -> str:
    return "not set" if value is None else repr(value)[:80]
