"""An adapter in another form: folded into the base's weights, or written as the LoRA it is.

ΔW = (λb · B)(λd · A)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vera.errors import TargetError, VeraError
from vera.nn.bank import Bank
from vera.nn.dvora import DvoraDelta
from vera.nn.hanging import MERGED
from vera.nn.linear import is_conv1d, is_quantized, weight_of, weight_rows
from vera.nn.offloading import check_at_hand
from vera.peft_format import KEY_PREFIX


@torch.no_grad()
def merge(bank: Bank, name: str) -> None:
    """Fold adapter `name` into the weights of the model: the same answers at the base's own cost.

    W' is computed in float32, or the weight's dtype when that is wider, and rounded once. The
    original weights are kept beside the merged ones until `unmerge` and counted in
    `bank.size_bytes`. Until then no other adapter can be used, and the model no longer proves to be
    its base. Raises VeraError, and changes nothing, when an adapter is merged already, or when a
    weight is quantised or used by another module too.
    """
    with bank.turns:
        _merge(bank, name)


def _merge(bank: Bank, name: str) -> None:
    slot = bank.slot(name)
    bank.check_free()
    bank.check_alone()
    for module_name in slot.deltas:
        check_mergeable(bank, module_name)
    active = dict(bank.weights)
    bank.activate(None)
    try:
        for module_name, delta in slot.deltas.items():
            weight = weight_of(bank.targets[module_name])
            bank.originals[module_name] = weight.detach().clone()
            MERGED.add(bank.targets[module_name])
            rows = weight_rows(bank.targets[module_name])
            rows.copy_(delta.adapted(rows))
    except BaseException:
        bank.restore()
        bank.combine(active)
        raise
    bank.merged = name
    bank.keep_heads(name)


def unmerge(bank: Bank) -> None:
    """Put the original weights back, bit for bit, from the copies `merge` kept. The adapter stays active, beside them."""
    with bank.turns:
        name = bank.merged
        if name is None:
            raise VeraError("No adapter is merged into this model.", code="NOT_MERGED")
        bank.restore()
        bank.activate(name)


def lora_tensors(bank: Bank, name: str) -> dict[str, Tensor]:
    """Adapter `name` as a LoRA of its rank, float32, under PEFT's keys: lora_A = λd·A, lora_B = λb·B.

    DVoRA's magnitudes go along: with them PEFT calls a LoRA a DoRA (`use_dora`), and computes the
    same. It is exact, and far larger: each module gets its own copy of what the adapters of a
    projection share. Module names are those of the live model. Raises TargetError (MERGE_TIED) for one of several names.
    """
    tensors: dict[str, Tensor] = {}
    for module_name, delta in bank.slot(name).deltas.items():
        check_one_name(bank, module_name)
        name_there = live_name(bank, module_name)
        key_A, key_B = lora_keys(name_there, bank.targets[module_name])
        A_RI, B_OR = (factor.detach().clone().cpu() for factor in delta.factors())
        tensors[key_A], tensors[key_B] = A_RI, B_OR
        if isinstance(delta, DvoraDelta):
            tensors[f"{KEY_PREFIX}{name_there}.lora_magnitude_vector"] = delta.magnitude.detach().clone().cpu()
    return tensors


def lora_keys(name: str, module: nn.Module) -> tuple[str, str]:
    """PEFT's keys of the two factors of a LoRA of `module`, which is called `name` in the model it loads on."""
    kinds = (
        ("lora_embedding_A", "lora_embedding_B")
        if isinstance(module, nn.Embedding)
        else ("lora_A.weight", "lora_B.weight")
    )
    return f"{KEY_PREFIX}{name}.{kinds[0]}", f"{KEY_PREFIX}{name}.{kinds[1]}"


def lora_config(bank: Bank, name: str) -> dict[str, Any]:
    """What PEFT's LoraConfig must say for `lora_tensors`: a scaling of 1, and these modules alone."""
    deltas = bank.slot(name).deltas
    rank = len(next(iter(deltas.values())).factors()[0])
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "use_dora": any(isinstance(delta, DvoraDelta) for delta in deltas.values()),
        "target_modules": sorted(live_name(bank, module_name) for module_name in deltas),
        "fan_in_fan_out": any(is_conv1d(bank.targets[module_name]) for module_name in deltas),
        "bias": "none",
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
        "task_type": None,
    }


def live_name(bank: Bank, module_name: str) -> str:
    """A module of the base checkpoint under its name in the model, which may have a prefix more or fewer."""
    target = bank.targets[module_name]
    return next(str(name) for name, module in bank.model.named_modules() if module is target)


def check_mergeable(bank: Bank, module_name: str) -> None:
    """Raises TargetError when the weight is quantised (MERGE_QUANTIZED), another module's too or one module's of
    several names (MERGE_TIED), or offloaded."""
    check_at_hand(bank.targets[module_name], module_name, needed_for="a merge")
    weight = weight_of(bank.targets[module_name])
    if is_quantized(bank.targets[module_name]):
        raise TargetError(
            f"The weight of {module_name} is quantised ({type(weight).__name__}, {weight.dtype}), and a sum would not fit "
            "its grid: use the adapter unmerged, or merge it into the base in a float dtype.",
            code="MERGE_QUANTIZED",
            module=module_name,
        )
    check_one_name(bank, module_name)
    if sharers := _sharers(bank, bank.targets[module_name]):
        raise _tied(
            f"The weight of {module_name} is tied to {', '.join(sharers)}, which the adapter does not adapt: "
            "use the adapter unmerged.",
            module_name,
            sharers,
        )


def check_one_name(bank: Bank, module_name: str) -> None:
    """Raises TargetError (MERGE_TIED) for a module that is in the model under several names: each may have a delta, or a tensor in the
    checkpoint, and what is written under one of them would leave the others out."""
    target = bank.targets[module_name]
    names = [name for name, module in bank.model.named_modules(remove_duplicate=False) if module is target]
    if len(names) > 1:
        raise _tied(
            f"{' and '.join(names[:3])} are one module in this {type(bank.model).__name__}, and what is adapted under one name would be "
            "left out under another: use the adapter unmerged.",
            module_name,
            names,
        )


def check_head_writable(bank: Bank, name: str) -> None:
    """Raises TargetError (MERGE_TIED) when a module of the head of adapter `name` shares a weight with another module: a
    checkpoint keeps such a weight once, and the other module would get the head's."""
    for module_name, head in bank.slot(name).heads.items():
        if sharers := _sharers(bank, head.live):
            raise _tied(
                f"{module_name}, which the adapter has trained whole, is tied to {', '.join(sharers)} in this model, and a "
                "merged checkpoint would hold one weight for both: export it for PEFT (--peft or --lora), or use it unmerged.",
                module_name,
                sharers,
            )


def _sharers(bank: Bank, target: nn.Module) -> list[str]:
    """The names of other modules' parameters in the memory of those of `target`."""
    memory = [_memory_of(parameter) for parameter in target.parameters(recurse=False)]
    return [
        f"{name}.{parameter_name}"
        for name, module in bank.model.named_modules()
        if module is not target
        for parameter_name, parameter in module.named_parameters(recurse=False)
        if type(parameter) is nn.Parameter and any(_overlap(_memory_of(parameter), own) for own in memory)
    ]


def _memory_of(parameter: nn.Parameter) -> range:
    """The addresses of its numbers, which others may stand beside in one storage (a stack has the weights of a group); none where
    it is offloaded."""
    first = parameter.data_ptr()
    if first == 0 or parameter.numel() == 0:
        return range(0)
    last = sum((size - 1) * stride for size, stride in zip(parameter.shape, parameter.stride(), strict=True))
    return range(first, first + (last + 1) * parameter.itemsize)


def _overlap(one: range, other: range) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)


def _tied(what: str, module_name: str, sharers: list[str]) -> TargetError:
    return TargetError(what, code="MERGE_TIED", module=module_name, tied=sharers)
