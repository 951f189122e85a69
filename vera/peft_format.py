"""PEFT's names and configuration for a VeRA adapter, so that `PeftModel.from_pretrained` reads ours."""

from __future__ import annotations

import json

from vera.manifest import VERA, Manifest
from vera.streams import PEFT_MT19937

# PEFT's task_type for models that answer for a whole sequence, and what we call the two tasks they have.
SEQUENCE_TASK_TYPE = "SEQ_CLS"
SEQUENCE_CLASSIFICATION, REGRESSION = "text-classification", "text-regression"

KEY_PREFIX = "base_model.model."
LAMBDA_B = "vera_lambda_b"
LAMBDA_D = "vera_lambda_d"
MAGNITUDE = "vera_magnitude_vector"  # no key of PEFT, which has no DVoRA; after its lora_magnitude_vector
LAMBDA_D_INITIAL = 0.1  # Kopiczko et al. 2024, Table 8


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
    PEFT has one way to draw the matrices, and no DVoRA. For an adapter with other matrices, or with
    magnitudes that it would leave out, it must not find a seed to draw from, and so refuses before
    it touches a model; where somebody fills one in, it still asks for the matrices of training,
    which are in no file.
    The bytes are part of the schema: an archive whose configuration differs is refused, so other
    bytes here would make every version published so far invalid.
    """
    own_head = _modules_of_head(manifest)
    is_of_sequences = manifest.task is not None and manifest.task.kind in (SEQUENCE_CLASSIFICATION, REGRESSION)
    peft_can_load = manifest.recipe.stream == PEFT_MT19937 and manifest.method == VERA
    fields = {
        "base_model_name_or_path": manifest.base.name,
        "bias": "none",
        "d_initial": LAMBDA_D_INITIAL,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "modules_to_save": own_head or None,
        "peft_type": "VERA",
        "projection_prng_key": manifest.recipe.seed if peft_can_load else None,
        "r": manifest.recipe.rank,
        "revision": manifest.base.revision,
        "save_projection": not peft_can_load,
        "target_modules": [module.name for module in manifest.modules],
        "task_type": SEQUENCE_TASK_TYPE if own_head and is_of_sequences else None,
        "vera_dropout": 0.0,
    }
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()


def _modules_of_head(manifest: Manifest) -> list[str]:
    """The modules of a model of transformers that the head tensors belong to, which PEFT is to replace whole.

    A head of `pooling` is not among them: it stands on the bare base, where PEFT knows no place for it.
    """
    if manifest.task is not None and manifest.task.pooling is not None:
        return []
    return sorted({_module_of_head(tensor.name) for tensor in manifest.head})


def _module_of_head(tensor: str) -> str:
    """PEFT itself takes a sequence model's `classifier` and `score` whole, and no module within another."""
    first = tensor.partition(".")[0]
    return first if first in ("classifier", "score") else tensor.rpartition(".")[0]
