"""VeRA checkpoints as PEFT 0.21 writes them, by hand: kilobytes small, valid by default, and without torch.

A test takes a valid one and spoils one thing. `tests/vera/test_peft_import.py` holds PEFT's own to the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.builders import BASE_NAME, MODULES, Modules
from vera.manifest import CONFIG_FILE, WEIGHTS_FILE
from vera.peft_checkpoint import SAVED_A, SAVED_B
from vera.peft_format import vector_keys
from vera.projection import PEFT_MT19937, ProjectionRecipe, rebuild
from vera.tensorfile import serialize

RANK, SEED = 8, 7


def write_peft_folder(
    folder: Path,
    *,
    modules: Modules = MODULES,
    saved: bool = True,
    tensors: Mapping[str, np.ndarray | None] | None = None,
    **config: object,
) -> Path:
    """A checkpoint of rank 8 and seed 7. `tensors` and `config` replace what stands there; a tensor None is left out."""
    draw = np.random.Generator(np.random.PCG64(1))
    found: dict[str, np.ndarray | None] = {}
    for name, _, out_features in modules:
        key_b, key_d = vector_keys(name)
        found[key_b] = draw.standard_normal(out_features, np.float32)
        found[key_d] = draw.standard_normal(RANK, np.float32)
    if saved:
        found[SAVED_A], found[SAVED_B] = rebuild(recipe_of(modules))
    found |= tensors or {}
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor for name, tensor in found.items() if tensor is not None}
    (folder / WEIGHTS_FILE).write_bytes(serialize(kept, "F32"))
    (folder / CONFIG_FILE).write_text(json.dumps({**_config(modules), "save_projection": saved, **config}, indent=2))
    return folder


def recipe_of(modules: Modules = MODULES) -> ProjectionRecipe:
    """What PEFT draws for a checkpoint of `write_peft_folder`."""
    widest = max(width for _, width, _ in modules), max(height for *_, height in modules)
    return ProjectionRecipe(PEFT_MT19937, SEED, RANK, *widest)


def _config(modules: Modules) -> dict[str, object]:
    return {
        "auto_mapping": {"base_model_class": "BertModel", "parent_library": "transformers.models.bert.modeling_bert"},
        "base_model_name_or_path": BASE_NAME,
        "bias": "none",
        "d_initial": 0.1,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "modules_to_save": None,
        "peft_type": "VERA",
        "peft_version": "0.21.2",
        "projection_prng_key": SEED,
        "r": RANK,
        "revision": None,
        "target_modules": sorted({name.rpartition(".")[2] for name, *_ in modules}),
        "task_type": None,
        "vera_dropout": 0.0,
    }
