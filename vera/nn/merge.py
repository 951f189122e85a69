"""An adapter in another form: folded into the base's weights, or written as the LoRA it is.

ΔW = (λb · B)(λd · A)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vera.errors import TargetError, VeraError
from vera.nn.bank import Bank
from vera.nn.linear import is_quantized, weight_of, weight_rows
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
    slot = bank.slot(name)
    bank.check_free()
    for module_name in slot.deltas:
        _check_mergeable(bank, module_name)
    bank.activate(None)
    try:
        for module_name, delta in slot.deltas.items():
            weight = weight_of(bank.targets[module_name])
            bank.originals[module_name] = weight.detach().clone()
            rows = weight_rows(bank.targets[module_name])
            rows.copy_(delta.adapted(rows))
    except BaseException:
        bank.restore()
        raise
    bank.merged = name


def unmerge(bank: Bank) -> None:
    """Put the original weights back, bit for bit, from the copies `merge` kept. The adapter stays active, beside them."""
    name = bank.merged
    if name is None:
        raise VeraError("No adapter is merged into this model.", code="NOT_MERGED")
    bank.restore()
    bank.activate(name)


def lora_tensors(bank: Bank, name: str) -> dict[str, Tensor]:
    """Adapter `name` as a LoRA of its rank, float32, under PEFT's keys: lora_A = λd·A, lora_B = λb·B.

    To be loaded with `lora_alpha` equal to the rank. It is exact, and far larger: each module gets
    its own copy of what the adapters of a projection share.
    """
    tensors: dict[str, Tensor] = {}
    for module_name, delta in bank.slot(name).deltas.items():
        A_RI, B_OR = (factor.detach().clone() for factor in delta.factors())
        tensors[f"{KEY_PREFIX}{module_name}.lora_A.weight"] = A_RI
        tensors[f"{KEY_PREFIX}{module_name}.lora_B.weight"] = B_OR
    return tensors


def _check_mergeable(bank: Bank, module_name: str) -> None:
    weight = weight_of(bank.targets[module_name])
    if is_quantized(bank.targets[module_name]):
        raise TargetError(
            f"The weight of {module_name} is quantised ({type(weight).__name__}, {weight.dtype}), and a sum would not fit "
            "its grid: use the adapter unmerged, or merge it into the base in a float dtype.",
            code="MERGE_QUANTIZED",
            module=module_name,
        )
    if sharers := _sharers(bank, module_name):
        raise TargetError(
            f"The weight of {module_name} is tied to {', '.join(sharers)}, which the adapter does not adapt: "
            "use the adapter unmerged.",
            code="MERGE_TIED",
            module=module_name,
            tied=sharers,
        )


def _sharers(bank: Bank, module_name: str) -> list[str]:
    """The names of other modules' parameters in the memory of this module's weight."""
    target = bank.targets[module_name]
    memory = weight_of(target).untyped_storage().data_ptr()
    return [
        f"{name}.{parameter_name}"
        for name, module in bank.model.named_modules()
        if module is not target
        for parameter_name, parameter in module.named_parameters(recurse=False)
        if type(parameter) is nn.Parameter and parameter.untyped_storage().data_ptr() == memory
    ]
