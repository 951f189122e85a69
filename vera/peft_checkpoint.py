"""A VeRA checkpoint as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`, hostile until checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vera import archive as archives
from vera import strict_json, tensorfile
from vera.errors import ArchiveError
from vera.manifest import CONFIG_FILE, MAX_EXTRA_BYTES, MAX_HEAD_TENSORS, MAX_MODULES, VERA, WEIGHTS_FILE
from vera.peft_format import KEY_PREFIX, LAMBDA_B, LAMBDA_D
from vera.plain_files import read_plain
from vera.projection import DEFAULT_BUDGET_BYTES, MAX_SEED, Projection

_OF_A_LAYER = ("weight", "bias")
SAVED_A, SAVED_B = "base_model.vera_A", "base_model.vera_B"
_PICKLE = "adapter_model.bin"  # what PEFT writes with safe_serialization=False, and wrote before it had safetensors
_MOST_NAMED = 10
# An adapter's own tensors, and the pair a load allows by default.
MAX_CHECKPOINT_BYTES = archives.MAX_WEIGHTS_BYTES + DEFAULT_BUDGET_BYTES
LIMITS = replace(tensorfile.ADAPTER_LIMITS, max_tensors=2 * MAX_MODULES[VERA] + 2 + MAX_HEAD_TENSORS)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class PeftConfig:
    """Those fields of PEFT's configuration that decide what the adapter computes."""

    rank: int
    seed: int
    is_transposed: bool  # some layers store their weight as (in, out): GPT-2's Conv1D
    saves_matrices: bool
    task_type: str | None
    modules_to_save: tuple[str, ...]  # by the ends of their names: modules of which PEFT trained a copy of their own
    base_name: str | None = None  # as whoever trained it has called it, a folder of theirs perhaps
    base_revision: str | None = None


@dataclass(frozen=True)
class PeftCheckpoint:
    """What PEFT wrote, under PEFT's names. `dtype` is one that holds every vector and head tensor exactly."""

    config: PeftConfig
    lambda_b: Mapping[str, Array]
    lambda_d: Mapping[str, Array]
    head: Mapping[str, Array]
    dtype: str
    saved: Projection | None
    base_layers: Mapping[str, Array]  # the base's own tensors of adapted modules, where PEFT saved them too
    matrix_bytes: int  # what the saved matrices take in the file
    size_bytes: int


def read_checkpoint(folder: Path) -> PeftCheckpoint:
    """The checkpoint in `folder`. Raises ArchiveError for what is none, or holds what has no place in an adapter here."""
    config = _read_theirs(folder, CONFIG_FILE, MAX_EXTRA_BYTES)
    return parse_checkpoint(config, _read_theirs(folder, WEIGHTS_FILE, MAX_CHECKPOINT_BYTES))


def parse_checkpoint(config_data: bytes, data: bytes) -> PeftCheckpoint:
    """The checkpoint of this configuration and this tensor file. Raises ArchiveError, see `read_checkpoint`."""
    config = _parse_config(config_data)
    tensors = tensorfile.parse(data, LIMITS)
    matrices = {name: tensors.pop(name) for name in (SAVED_A, SAVED_B) if name in tensors}
    lambda_b, lambda_d = _take_vectors(tensors, LAMBDA_B), _take_vectors(tensors, LAMBDA_D)
    base_layers = _take_base_layers(tensors, lambda_b)
    head = _take_head(tensors, config)
    _check_vectors(lambda_b, lambda_d, config)
    dtypes = {_dtype_of(tensor) for part in (lambda_b, lambda_d, head) for tensor in part.values()}
    return PeftCheckpoint(
        config=config,
        lambda_b={name: _decode(vector) for name, vector in lambda_b.items()},
        lambda_d={name: _decode(vector) for name, vector in lambda_d.items()},
        head={name: _decode(tensor) for name, tensor in head.items()},
        dtype=dtypes.pop() if len(dtypes) == 1 else "float32",
        saved=_saved_pair(matrices, config),
        base_layers={name: _decode(tensor) for name, tensor in base_layers.items()},
        matrix_bytes=sum(matrix.nbytes for matrix in matrices.values()),
        size_bytes=len(data),
    )


def unsupported(what: str, **facts: object) -> ArchiveError:
    return ArchiveError(f"This PEFT checkpoint cannot be imported: {what}.", code="PEFT_UNSUPPORTED", **facts)


def foreign(peft_type: str) -> str:
    """What an adapter is that PEFT has made by another method, and what its owner can do."""
    return (
        f"a {peft_type} adapter of PEFT, and the hub keeps VeRA adapters: `vera-hub train --method vera` makes one "
        "from the same data"
    )


def _parse_config(data: bytes) -> PeftConfig:
    try:
        fields = strict_json.loads(data)
    except ValueError as error:
        raise _invalid(f"{CONFIG_FILE} cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise _invalid(f"{CONFIG_FILE} is not an object")
    kind = fields.get("peft_type")
    if kind != "VERA":
        raise unsupported(f"it is {foreign(str(kind)[:40])}", peft_type=str(kind)[:40])
    if fields.get("bias", "none") != "none":
        raise unsupported(
            "biases of the base were trained with it (bias is not 'none'), and an adapter here has none: train it with "
            "bias='none', or keep it as a model of its own, which PEFT's merge_and_unload makes of it"
        )
    seed = _integer(fields, "projection_prng_key")
    return PeftConfig(
        rank=_integer(fields, "r"),
        # PEFT's generator counts seeds modulo 2^32, negative ones too.
        seed=seed if 0 <= seed <= MAX_SEED else seed % (1 << 32),
        is_transposed=_flag(fields, "fan_in_fan_out", default=False),
        saves_matrices=_flag(fields, "save_projection", default=True),
        task_type=_text(fields, "task_type"),
        modules_to_save=_modules_to_save(fields),
        base_name=_text(fields, "base_model_name_or_path"),
        base_revision=_text(fields, "revision"),
    )


def _integer(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int:
        raise _invalid(f"{name} in {CONFIG_FILE} is {repr(value)[:40]} and must be an integer")
    return value


def _flag(fields: Mapping[str, object], name: str, *, default: bool) -> bool:
    value = fields.get(name, default)
    if type(value) is not bool:
        raise _invalid(f"{name} in {CONFIG_FILE} is {repr(value)[:40]} and must be true or false")
    return value


def _text(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise _invalid(f"{name} in {CONFIG_FILE} is {repr(value)[:40]} and must be a string or null")
    return value


def _modules_to_save(fields: Mapping[str, object]) -> tuple[str, ...]:
    value = fields.get("modules_to_save")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise _invalid(f"modules_to_save in {CONFIG_FILE} is {repr(value)[:40]} and must be a list of names or null")
    return tuple(value)


def _take_head(tensors: dict[str, NDArray[np.generic]], config: PeftConfig) -> dict[str, NDArray[np.generic]]:
    """All that is left of `tensors`, by the names in the model: those of the modules that were trained whole."""
    head = {key.removeprefix(KEY_PREFIX): tensor for key, tensor in tensors.items()}
    if config.modules_to_save and not head:
        raise _invalid(
            f"modules_to_save in {CONFIG_FILE} promises {', '.join(config.modules_to_save)[:80]}, of which nothing is in "
            f"{WEIGHTS_FILE}"
        )
    if strangers := sorted(name for name in head if not _is_of_a_saved_module(name, config.modules_to_save)):
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        raise unsupported(
            f"more than VeRA's vectors and the modules in modules_to_save was trained ({', '.join(strangers[:3])}{more}), "
            "and it has no place in an adapter here. Without it the answers would not be the trained ones",
            found=strangers[:20],
        )
    if len(head) > MAX_HEAD_TENSORS or any(tensor.ndim not in (1, 2) for tensor in head.values()):
        raise unsupported(
            f"a head here has at most {MAX_HEAD_TENSORS} tensors of one or two dimensions, and this one has {len(head)} "
            f"({', '.join(sorted(head)[:3])}, …)",
            found=sorted(head)[:20],
        )
    return head


def _is_of_a_saved_module(tensor: str, modules_to_save: Sequence[str]) -> bool:
    """Whether `tensor` belongs to a module that PEFT copied: one whose name ends as `modules_to_save` says."""
    parts = tensor.split(".")
    prefixes = [".".join(parts[:count]) for count in range(1, len(parts))]
    return any(prefix.endswith(name) for prefix in prefixes for name in modules_to_save)


def _take_vectors(tensors: dict[str, NDArray[np.generic]], kind: str) -> dict[str, NDArray[np.generic]]:
    """Takes the vectors of one kind out of `tensors`, by PEFT's name of the module."""
    keys = [key for key in tensors if key.startswith(KEY_PREFIX) and key.endswith(f".{kind}")]
    return {key.removeprefix(KEY_PREFIX).removesuffix(f".{kind}"): tensors.pop(key) for key in keys}


def _take_base_layers(
    tensors: dict[str, NDArray[np.generic]], adapted: Iterable[str]
) -> dict[str, NDArray[np.generic]]:
    """Takes what PEFT saved of the base itself out of `tensors`: weight and bias of modules that are `adapted`, by the
    names they have without PEFT. Whether they are the base's is for whoever has its table."""
    keys = {f"{KEY_PREFIX}{module}.base_layer.{kind}": f"{module}.{kind}" for module in adapted for kind in _OF_A_LAYER}
    return {name: tensors.pop(key) for key, name in keys.items() if key in tensors}


def _check_vectors(
    lambda_b: Mapping[str, NDArray[np.generic]], lambda_d: Mapping[str, NDArray[np.generic]], config: PeftConfig
) -> None:
    if not lambda_b or lambda_b.keys() != lambda_d.keys():
        alone = sorted(lambda_b.keys() ^ lambda_d.keys())
        raise _invalid(f"{alone[0]} has one of its two vectors" if alone else f"{WEIGHTS_FILE} holds no VeRA vectors")
    for name in lambda_b:
        if lambda_b[name].ndim != 1 or lambda_d[name].ndim != 1:
            raise _invalid(f"the vectors of {name} are not one-dimensional")
        if lambda_d[name].size != config.rank:
            raise ArchiveError(
                f"{CONFIG_FILE} says rank {config.rank} and {name} was trained with rank {lambda_d[name].size}: "
                "the configuration was changed after training. Ask its author for the original.",
                code="RANK_MISMATCH",
                expected=config.rank,
                got=lambda_d[name].size,
            )


def _saved_pair(matrices: Mapping[str, NDArray[np.generic]], config: PeftConfig) -> Projection | None:
    expected = {SAVED_A, SAVED_B} if config.saves_matrices else set()
    if missing := sorted(expected - matrices.keys()):
        raise _invalid(
            f"save_projection in {CONFIG_FILE} promises {missing[0]}, which is not in {WEIGHTS_FILE}: "
            "set it to false if the matrices were left out on purpose"
        )
    if not matrices:
        return None
    if len(matrices) == 1 or any(matrix.ndim != 2 for matrix in matrices.values()):
        raise _invalid(f"{SAVED_A} and {SAVED_B} are not a pair of matrices")
    return Projection(_decode(matrices[SAVED_A]), _decode(matrices[SAVED_B]))


def _decode(tensor: NDArray[np.generic]) -> Array:
    if _dtype_of(tensor) == "bfloat16":  # which NumPy does not have: `tensorfile` gives the words
        return (tensor.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return tensor.astype(np.float32, copy=False)


def _dtype_of(tensor: NDArray[np.generic]) -> str:
    return "bfloat16" if tensor.dtype == np.uint16 else tensor.dtype.name


def _read_theirs(folder: Path, name: str, max_bytes: int) -> bytes:
    return read_plain(
        folder / name,
        max_bytes,
        missing=f"{folder} holds no PEFT adapter that can be imported: there is no {name} in it. {_elsewhere(folder)}",
        too_large=archives.NARROWER if name == WEIGHTS_FILE else "",
    )


def _elsewhere(folder: Path) -> str:
    """Where what is missing in `folder` may be, or what makes it."""
    if (folder / _PICKLE).exists():
        return (
            f"A pickle ({_PICKLE}) can run code and is not read: PeftModel.from_pretrained(base, FOLDER) opens it, if you trust it, and "
            "its save_pretrained(NEW_FOLDER) writes what is read here."
        )
    if several := sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}")):
        return f"Each adapter of a model that has several is in a folder of its own: give one of {', '.join(several[:_MOST_NAMED])}."
    return "PEFT's save_pretrained writes it."


def _invalid(what: str) -> ArchiveError:
    return ArchiveError(f"This is no VeRA checkpoint as PEFT writes it: {what}.", code="PEFT_INVALID")
