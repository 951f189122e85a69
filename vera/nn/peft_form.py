"""An adapter on a live model as PEFT's own VeRA checkpoint, which PEFT loads whatever the stream of its matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vera.errors import TargetError
from vera.manifest import VERA, Manifest
from vera.nn.bank import Bank
from vera.nn.layer import VeraDelta
from vera.nn.linear import is_conv1d
from vera.nn.merge import check_one_name, live_name
from vera.peft_checkpoint import SAVED_A, SAVED_B
from vera.peft_format import LAMBDA_D_INITIAL, head_key, peft_head, vector_keys

# PEFT's generator counts seeds modulo this. With saved matrices no draw is used, but a seed must stand there.
_SEEDS = 1 << 32


def check_sayable(bank: Bank, manifest: Manifest) -> None:
    """Raises TargetError (TARGET_UNSUPPORTED) for what PEFT's VeRA has no words for."""
    embeddings = [module.name for module in manifest.modules if isinstance(bank.targets[module.name], nn.Embedding)]
    if manifest.method == VERA and not embeddings:
        return
    what = f"adapts an embedding ({embeddings[0]})" if embeddings else "has the magnitudes of DVoRA"
    raise TargetError(
        f"The adapter {what}, which PEFT's VeRA does not know: export it as a LoRA (--lora) or merged (--merged).",
        code="TARGET_UNSUPPORTED",
    )


def peft_tensors(bank: Bank, name: str) -> dict[str, Tensor]:
    """The matrices, vectors and head of adapter `name` under PEFT's keys, by the module names of the live model, float32."""
    tensors: dict[str, Tensor] = {}
    for module_name, delta in bank.slot(name).deltas.items():
        assert isinstance(delta, VeraDelta)
        check_one_name(bank, module_name)
        key_b, key_d = vector_keys(live_name(bank, module_name))
        tensors[key_b], tensors[key_d] = _plain(delta.lambda_b), _plain(delta.lambda_d)
        tensors[SAVED_A], tensors[SAVED_B] = _plain(delta.shared.A_RI), _plain(delta.shared.B_OR)
    return tensors | head_tensors(bank, name)


def head_tensors(bank: Bank, name: str) -> dict[str, Tensor]:
    """The head of adapter `name` in the model's own modules, under PEFT's keys; nothing when it has none there."""
    return {
        head_key(f"{module}.{key}"): _plain(tensor)
        for module, head in bank.slot(name).heads.items()
        for key, tensor in head.trained.named_parameters()
    }


def peft_config(bank: Bank, manifest: Manifest) -> dict[str, Any]:
    """What PEFT's VeraConfig must say for `peft_tensors`."""
    targets = {live_name(bank, module.name): bank.targets[module.name] for module in manifest.modules}
    return {
        "peft_type": "VERA",
        "base_model_name_or_path": manifest.base.name,
        "revision": manifest.base.revision,
        "r": manifest.recipe.rank,
        "projection_prng_key": (manifest.recipe.seed or 0) % _SEEDS,
        "save_projection": True,
        "target_modules": sorted(targets),
        "fan_in_fan_out": any(is_conv1d(module) for module in targets.values()),
        "bias": "none",
        "d_initial": LAMBDA_D_INITIAL,
        "vera_dropout": 0.0,
        "init_weights": True,
        "inference_mode": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        **peft_head(manifest),
    }


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
