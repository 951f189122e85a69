"""The modules that a PEFT checkpoint adapts, in the base: found by name, their sizes from the base's own table.

Of an adapted head PEFT saves the base's own weight too (`save_embedding_layers`). That copy must be the base's byte for
byte, and is left out; and it alone says which tensor of the base a tied head shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vera.errors import TargetError
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.manifest import DTYPES, AdaptedModule
from vera.peft_checkpoint import PeftCheckpoint

_WEIGHT = ".weight"


def find_modules(checkpoint: PeftCheckpoint, base: BaseFingerprint) -> dict[str, AdaptedModule]:
    """PEFT's name of each adapted module to the module of the base.

    Raises TargetError for a module that the base does not have, or has in another size or with another weight.
    """
    tensors = {record.name: record for record in base.tensors}
    weights = {name.removesuffix(_WEIGHT): record for name, record in tensors.items() if name.endswith(_WEIGHT)}
    longer: dict[str, list[str]] = {}
    for name in weights:
        longer.setdefault(name.partition(".")[2], []).append(name)
    found: dict[str, AdaptedModule] = {}
    for name, lambda_b in checkpoint.lambda_b.items():
        in_base = _name_in_base(name, weights, longer)
        weight = weights[in_base] if in_base else _shared_weight(name, checkpoint, base)
        sizes = _sizes(weight, lambda_b.size, checkpoint.config.is_transposed)
        found[name] = AdaptedModule(in_base or name, *sizes, None if in_base else weight.name)
        _check_copies(name, {"weight": weight, "bias": tensors.get(f"{in_base or name}.bias")}, checkpoint)
    names = [module.name for module in found.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TargetError(
            f"Two modules of the checkpoint would be {twice[0]} of the base: it was trained on another base.",
            module=twice[0],
        )
    return found


def _name_in_base(name: str, weights: Mapping[str, TensorRecord], longer: Mapping[str, Sequence[str]]) -> str | None:
    """`name` as the base checkpoint spells it: with one leading part (such as `bert.`) more or fewer, or as it is."""
    candidates = [name, name.partition(".")[2], *(longer[name] if len(longer.get(name, ())) == 1 else ())]
    return next((candidate for candidate in candidates if candidate in weights), None)


def _shared_weight(name: str, checkpoint: PeftCheckpoint, base: BaseFingerprint) -> TensorRecord:
    """The one tensor of the base that PEFT's copy of the weight of `name`, which has none of its own there, is."""
    copy = checkpoint.base_layers.get(f"{name}{_WEIGHT}")
    if elsewhere := _under_another_prefix(name, base):
        raise TargetError(
            f"The checkpoint adapts {name}, which this base calls {elsewhere}. Such a model (LlamaForQuestionAnswering, say) finds "
            "none of its weights in this base, and transformers draws them all at random: what is trained so belongs to no base. "
            "Save the bare base (AutoModel.from_pretrained(BASE).save_pretrained(FOLDER)), train on FOLDER, and give it here.",
            module=name,
            in_base=elsewhere,
        )
    if copy is None:
        raise TargetError(
            f"The base has no module {name}, which the checkpoint adapts: give the base it was trained on. If it is a head "
            "tied to the embedding, save it again with save_pretrained(…, save_embedding_layers=True): the copy of the "
            "weight says which tensor of the base it shares.",
            module=name,
        )
    same = [record for record in base.tensors if _is_copy(copy, record)]
    if len(same) != 1:
        raise TargetError(
            f"The base has no module {name}, and {len(same)} tensors of it are the weight that the checkpoint holds of it "
            "(one must be, of a head tied to the embedding): give the base it was trained on, in the dtype it was "
            "trained in.",
            module=name,
            same=[record.name for record in same[:20]],
        )
    return same[0]


def _under_another_prefix(name: str, base: BaseFingerprint) -> str | None:
    """The module of the base that has the name of `name` but for its leading part."""
    rest = name.partition(".")[2]
    names = (record.name.removesuffix(_WEIGHT) for record in base.tensors if record.name.endswith(_WEIGHT))
    return next((each for each in names if rest and each.partition(".")[2] == rest), None)


def _check_copies(name: str, of_base: Mapping[str, TensorRecord | None], checkpoint: PeftCheckpoint) -> None:
    """Raises TargetError where the checkpoint holds another tensor of the module `name` than the base does."""
    for kind, record in of_base.items():
        copy = checkpoint.base_layers.get(f"{name}.{kind}")
        if copy is not None and (record is None or not _is_copy(copy, record)):
            raise TargetError(
                f"The checkpoint holds the {kind} of {name} that it was trained with, and it is not the one of this base: "
                "give the base it was trained on. Where that was held in a narrower dtype, save the adapter again with "
                "save_pretrained(…, save_embedding_layers=False).",
                code="BASE_MISMATCH",
                module=name,
                tensor=record.name if record else None,
            )


def _is_copy(copy: NDArray[np.float32], record: TensorRecord) -> bool:
    """Whether the tensor of `record` has these very numbers."""
    if copy.shape != record.shape:
        return False
    stored = _as_stored(copy, record.dtype)
    return stored is not None and hashlib.sha256(stored).hexdigest() == record.sha256


def _as_stored(values: NDArray[np.float32], dtype: str) -> bytes | None:
    """`values` as a file of this dtype holds them; None where it cannot hold them exactly."""
    if dtype == DTYPES["bfloat16"]:
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        return None if (bits & 0xFFFF).any() else (bits >> 16).astype("<u2").tobytes()
    kinds = {DTYPES["float32"]: "<f4", DTYPES["float16"]: "<f2"}
    if dtype not in kinds:
        return None
    with np.errstate(over="ignore"):  # what overflows is not equal
        narrowed = values.astype(kinds[dtype])
    return narrowed.tobytes() if np.array_equal(narrowed.astype(np.float32), values) else None


def _sizes(weight: TensorRecord, out_features: int, is_transposed: bool) -> tuple[int, int]:
    """(in_features, out_features) of a module, which the length of its λb must agree with.

    PEFT's flag is that of the last layer it met, so it allows (in, out) and does not ask for it;
    where the weight is square there is nothing to tell apart.
    """
    match weight.shape:
        case (height, width) if height == out_features:
            return width, height
        case (height, width) if width == out_features and is_transposed:
            return height, width
    transposed = (
        " If the module keeps its weight as (in, out), as GPT-2's Conv1D does, set fan_in_fan_out to true in adapter_config.json: PEFT "
        "writes there what held for the last module it met."
        if weight.shape[-1] == out_features
        else ""
    )
    raise TargetError(
        f"{weight.name} has the shape {weight.shape} in this base, and the checkpoint adapts a linear map with "
        f"{out_features} outputs there: give the base it was trained on.{transposed}",
        code="DIMS_MISMATCH",
        tensor=weight.name,
        shape=list(weight.shape),
        out_features=out_features,
    )
