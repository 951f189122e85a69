"""PEFT's names and configuration for a VeRA adapter, so that `PeftModel.from_pretrained` reads ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from vera.manifest import VERA, Manifest
from vera.projection import PEFT_MT19937

# PEFT's task_type for models that answer for a whole sequence, and what we call the two tasks they have.
SEQUENCE_TASK_TYPE = "SEQ_CLS"
SEQUENCE_CLASSIFICATION, REGRESSION = "text-classification", "text-regression"
# PEFT's task_type for models that answer for each token, and what we call that.
TAGGING_TASK_TYPE = "TOKEN_CLS"
TAGGING = "token-classification"
QUESTION_ANSWERING = "question-answering"
FEATURE_EXTRACTION = "feature-extraction"
GENERATION = "text-generation"
# PEFT's task_type for the tasks whose outputs nobody names, and what we call those.
TASKS_WITHOUT_LABELS = {
    "QUESTION_ANS": QUESTION_ANSWERING,
    "FEATURE_EXTRACTION": FEATURE_EXTRACTION,
    "CAUSAL_LM": GENERATION,
}
TASK_TYPES = {
    SEQUENCE_CLASSIFICATION: SEQUENCE_TASK_TYPE,
    REGRESSION: SEQUENCE_TASK_TYPE,
    TAGGING: TAGGING_TASK_TYPE,
    **{kind: task_type for task_type, kind in TASKS_WITHOUT_LABELS.items()},
}

HEAD_FILE = "vera_head.safetensors"  # beside an exported checkpoint: the head that PEFT has no place for
KEY_PREFIX = "base_model.model."
LAMBDA_B = "vera_lambda_b"
LAMBDA_D = "vera_lambda_d"
MAGNITUDE = "vera_magnitude_vector"  # no key of PEFT, which has no DVoRA; after its lora_magnitude_vector
LAMBDA_D_INITIAL = 0.1  # Kopiczko et al. 2024, Table 8


# The tensor whose rows are the outputs, in transformers' models for sequences, tokens and answers in a text.
OUTPUT_TENSORS = ("classifier.out_proj.weight", "classifier.weight", "score.weight", "qa_outputs.weight")


def head_outputs(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """How many outputs the head of a model of transformers with tensors of these `shapes` has; None when they do not tell."""
    return next((shapes[name][0] for name in OUTPUT_TENSORS if name in shapes), None)


def vector_keys(module: str) -> tuple[str, str]:
    """The keys of λb (out_features) and λd (rank) of `module` in the tensor file."""
    return f"{KEY_PREFIX}{module}.{LAMBDA_B}", f"{KEY_PREFIX}{module}.{LAMBDA_D}"


def magnitude_key(module: str) -> str:
    """The key of DVoRA's magnitude (out_features) of `module`."""
    return f"{KEY_PREFIX}{module}.{MAGNITUDE}"


def head_key(tensor: str) -> str:
    return f"{KEY_PREFIX}{tensor}"


def config_of(manifest: Manifest) -> bytes:
    """`adapter_config.json`: PEFT's VeraConfig, every field chosen here and none copied from a stranger.

    Target modules are whole names, so that PEFT adapts exactly the modules that were trained.
    PEFT has one way to draw the matrices, no DVoRA, and finds vectors by their names in the model,
    which a model with a head of its own prefixes. For an adapter with other matrices, magnitudes or
    such a head it must not find a seed to draw from, and so refuses before it touches a model; where
    somebody fills one in, it still asks for the matrices of training, which are in no file.
    `vera.nn.peft_form` writes a checkpoint that PEFT loads of those too.
    The bytes are part of the schema: an archive whose configuration differs is refused, so other
    bytes here would make every version published so far invalid.
    """
    peft_can_load = beyond_peft(manifest) is None
    fields = {
        "base_model_name_or_path": manifest.base.name,
        "bias": "none",
        "d_initial": LAMBDA_D_INITIAL,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "modules_to_save": None,
        "peft_type": "VERA",
        "projection_prng_key": manifest.recipe.seed if peft_can_load else None,
        "r": manifest.recipe.rank,
        "revision": manifest.base.revision,
        "save_projection": not peft_can_load,
        "target_modules": [module.name for module in manifest.modules],
        "task_type": None,
        "vera_dropout": 0.0,
    }
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()


def beyond_peft(manifest: Manifest) -> str | None:
    """What an adapter has for which PEFT's configuration of it, `config_of`, has no place, so that PEFT fails to load it; None where it loads."""
    if manifest.method != VERA:
        return "magnitudes"
    if manifest.recipe.stream != PEFT_MT19937:
        return "matrices that PEFT does not draw"
    return "a head in the model" if has_own_head(manifest) else None


def peft_head(manifest: Manifest) -> dict[str, object]:
    """What PEFT's configuration says of the task and of the head in a model of transformers; nothing of a head on pooled
    hidden states, where PEFT knows no place for it."""
    if manifest.head and not has_own_head(manifest):
        return {"modules_to_save": None, "task_type": None}
    modules = sorted({_module_of_head(tensor.name) for tensor in manifest.head})
    return {
        "modules_to_save": modules or None,
        "task_type": TASK_TYPES.get(manifest.task.kind) if manifest.task else None,
    }


def has_own_head(manifest: Manifest) -> bool:
    """Whether the head belongs to a model of transformers, and does not stand on the base's pooled hidden states."""
    return bool(manifest.head) and (manifest.task is None or manifest.task.pooling is None)


def _module_of_head(tensor: str) -> str:
    """PEFT itself takes a sequence model's `classifier` and `score` whole, and no module within another."""
    first = tensor.partition(".")[0]
    return first if first in ("classifier", "score") else tensor.rpartition(".")[0]
