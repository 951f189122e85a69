"""PEFT's VeRA checkpoints, read as adapters of ours: hostile until checked, their matrices held to a recipe.

PEFT names the base and its modules by strings, and A and B by a seed that decides them only together
with the rank, the widest adapted layer and the dtype the base was held in. Here the base's own tensor
table gives the sizes, and saved matrices prove the recipe: they are recognised and dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vera import archive as archives
from vera import strict_json, tensorfile
from vera.archive import Archive, Vectors
from vera.errors import ArchiveError, ProjectionMismatch, RecipeError, TargetError
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.manifest import (
    CONFIG_FILE,
    DTYPES,
    MAX_EXTRA_BYTES,
    MAX_MODULES,
    VERA,
    WEIGHTS_FILE,
    AdaptedModule,
    BaseIdentity,
    Manifest,
)
from vera.peft_format import KEY_PREFIX, LAMBDA_B, LAMBDA_D
from vera.plain_files import read_plain
from vera.projection import (
    DEFAULT_BUDGET_BYTES,
    MAX_SEED,
    ROUNDINGS,
    Projection,
    ProjectionRecipe,
    digest_of,
    rebuild,
    round_to,
)
from vera.streams import PEFT_MT19937, kaiming_bound

SAVED_A, SAVED_B = "base_model.vera_A", "base_model.vera_B"
# An adapter's own tensors, and the pair a load allows by default.
MAX_CHECKPOINT_BYTES = archives.MAX_WEIGHTS_BYTES + DEFAULT_BUDGET_BYTES
LIMITS = replace(tensorfile.ADAPTER_LIMITS, max_tensors=2 * MAX_MODULES[VERA] + 2)

# Matrices are compared in runs of this many values: the first run that differs ends it, and none is held twice.
_RUN = 1 << 16

Array = NDArray[np.float32]


class Evidence(StrEnum):
    """What says that the recipe is the one of training."""

    SAVED = "saved matrices, equal bit for bit"
    SAVED_UNFUSED = "saved matrices, equal to the draw without fused multiply-add"
    SEED = "the seed in the configuration; no matrices were saved"


@dataclass(frozen=True)
class Imported:
    """A PEFT checkpoint as a sealed adapter. `matrix_bytes` is what its saved matrices took."""

    archive: Archive
    evidence: Evidence
    checkpoint_bytes: int
    matrix_bytes: int


def import_folder(
    folder: Path,
    base: BaseFingerprint,
    *,
    base_name: str,
    base_revision: str | None = None,
    trained_in: str | None = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
) -> Imported:
    """The VeRA checkpoint that PEFT wrote to `folder`, trained on `base`, as a sealed adapter.

    `trained_in` is the dtype the base was held in during training, to which PEFT rounds A and B. It
    is asked for (ROUNDING_UNKNOWN) only where neither saved matrices nor the dtypes of the vectors
    and of the base tell. The vectors keep their dtype.

    Raises ArchiveError for what is no such checkpoint or cannot be said in our format, TargetError
    for another base, RecipeError, and ProjectionMismatch (PROJECTION_UNKNOWN) for saved matrices
    that follow no recipe.
    """
    checkpoint = _read_checkpoint(folder)
    modules = _find_modules(checkpoint, base)
    recipe, evidence = _find_recipe(checkpoint, modules, base, trained_in, budget_bytes)
    vectors = Vectors(
        lambda_b={module.name: checkpoint.lambda_b[name] for name, module in modules.items()},
        lambda_d={module.name: checkpoint.lambda_d[name] for name, module in modules.items()},
        head={},
    )
    data, weights, _ = archives.pack(vectors, dtype=checkpoint.dtype)
    manifest = Manifest(
        base=BaseIdentity(base_name, base.value, base.dtype, base_revision),
        recipe=recipe,
        projection_digest=digest_of(rebuild(recipe, budget_bytes=budget_bytes)),
        modules=tuple(sorted(modules.values(), key=lambda module: module.name)),
        weights=weights,
        training={"imported": {"from": "peft", "projection": str(evidence)}},
    )
    saved = checkpoint.saved
    return Imported(
        archives.seal(manifest, data, _card(manifest, evidence)),
        evidence,
        checkpoint.size_bytes,
        checkpoint.item_bytes_of_saved * (saved.A.size + saved.B.size) if saved else 0,
    )


# -- The checkpoint -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Config:
    """Those fields of PEFT's configuration that decide what the adapter computes."""

    rank: int
    seed: int
    is_transposed: bool  # some layers store their weight as (in, out): GPT-2's Conv1D
    saves_matrices: bool


@dataclass(frozen=True)
class _Checkpoint:
    """What PEFT wrote, under PEFT's module names. `dtype` is one that holds every vector exactly."""

    config: _Config
    lambda_b: Mapping[str, Array]
    lambda_d: Mapping[str, Array]
    dtype: str
    saved: Projection | None
    item_bytes_of_saved: int
    size_bytes: int


def _read_checkpoint(folder: Path) -> _Checkpoint:
    config = _parse_config(_read_theirs(folder, CONFIG_FILE, MAX_EXTRA_BYTES))
    data = _read_theirs(folder, WEIGHTS_FILE, MAX_CHECKPOINT_BYTES)
    tensors = tensorfile.parse(data, LIMITS)
    matrices = {name: tensors.pop(name) for name in (SAVED_A, SAVED_B) if name in tensors}
    lambda_b, lambda_d = _take_vectors(tensors, LAMBDA_B), _take_vectors(tensors, LAMBDA_D)
    if tensors:
        raise _beyond_the_vectors(sorted(name.removeprefix(KEY_PREFIX) for name in tensors))
    _check_vectors(lambda_b, lambda_d, config)
    dtypes = {_dtype_of(vector) for vector in (*lambda_b.values(), *lambda_d.values())}
    return _Checkpoint(
        config=config,
        lambda_b={name: _decode(vector) for name, vector in lambda_b.items()},
        lambda_d={name: _decode(vector) for name, vector in lambda_d.items()},
        dtype=dtypes.pop() if len(dtypes) == 1 else "float32",
        saved=_saved_pair(matrices, config),
        item_bytes_of_saved=max((matrix.dtype.itemsize for matrix in matrices.values()), default=0),
        size_bytes=len(data),
    )


def _parse_config(data: bytes) -> _Config:
    try:
        fields = strict_json.loads(data)
    except ValueError as error:
        raise _invalid(f"{CONFIG_FILE} cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise _invalid(f"{CONFIG_FILE} is not an object")
    kind = fields.get("peft_type")
    if kind != "VERA":
        raise _unsupported(f"it is a {str(kind)[:40]} adapter, not a VERA one", peft_type=str(kind)[:40])
    if fields.get("bias", "none") != "none":
        raise _unsupported("biases of the base were trained with it (bias is not 'none'), and an adapter here has none")
    if heads := fields.get("modules_to_save"):
        raise _beyond_the_vectors([str(head)[:80] for head in heads] if isinstance(heads, list) else [str(heads)[:80]])
    seed = _integer(fields, "projection_prng_key")
    return _Config(
        rank=_integer(fields, "r"),
        # PEFT's generator counts seeds modulo 2^32, negative ones too.
        seed=seed if 0 <= seed <= MAX_SEED else seed % (1 << 32),
        is_transposed=_flag(fields, "fan_in_fan_out", default=False),
        saves_matrices=_flag(fields, "save_projection", default=True),
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


def _take_vectors(tensors: dict[str, NDArray[np.generic]], kind: str) -> dict[str, NDArray[np.generic]]:
    """Takes the vectors of one kind out of `tensors`, by PEFT's name of the module."""
    keys = [key for key in tensors if key.startswith(KEY_PREFIX) and key.endswith(f".{kind}")]
    return {key.removeprefix(KEY_PREFIX).removesuffix(f".{kind}"): tensors.pop(key) for key in keys}


def _check_vectors(
    lambda_b: Mapping[str, NDArray[np.generic]], lambda_d: Mapping[str, NDArray[np.generic]], config: _Config
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


def _saved_pair(matrices: Mapping[str, NDArray[np.generic]], config: _Config) -> Projection | None:
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
        missing=f"{folder} holds no PEFT adapter that can be imported: there is no {name} in it. PEFT's save_pretrained "
        "writes it; older pickles (adapter_model.bin) can run code and are not read.",
    )


# -- Its modules, in the base ---------------------------------------------------------------------


def _find_modules(checkpoint: _Checkpoint, base: BaseFingerprint) -> dict[str, AdaptedModule]:
    """PEFT's name of each adapted module to the module of the base, its sizes from the base's own table."""
    weights = {
        record.name.removesuffix(".weight"): record for record in base.tensors if record.name.endswith(".weight")
    }
    longer: dict[str, list[str]] = {}
    for name in weights:
        longer.setdefault(name.partition(".")[2], []).append(name)
    found: dict[str, AdaptedModule] = {}
    for name in checkpoint.lambda_b:
        in_base = _name_in_base(name, weights, longer)
        size = checkpoint.lambda_b[name].size
        found[name] = AdaptedModule(in_base, *_sizes(weights[in_base], size, checkpoint.config.is_transposed))
    names = [module.name for module in found.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TargetError(
            f"Two modules of the checkpoint would be {twice[0]} of the base: it was trained on another base.",
            module=twice[0],
        )
    return found


def _name_in_base(name: str, weights: Mapping[str, TensorRecord], longer: Mapping[str, Sequence[str]]) -> str:
    """`name` as the base checkpoint spells it: with one leading part (such as `bert.`) more or fewer, or as it is."""
    candidates = [name, name.partition(".")[2], *(longer[name] if len(longer.get(name, ())) == 1 else ())]
    for candidate in candidates:
        if candidate in weights:
            return candidate
    raise TargetError(
        f"The base has no module {name}, which the checkpoint adapts: give the base it was trained on.", module=name
    )


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
    raise TargetError(
        f"{weight.name} has the shape {weight.shape} in this base, and the checkpoint adapts a linear map with "
        f"{out_features} outputs there: give the base it was trained on.",
        code="DIMS_MISMATCH",
        tensor=weight.name,
        shape=list(weight.shape),
        out_features=out_features,
    )


# -- Its matrices, by recipe ----------------------------------------------------------------------


def _find_recipe(
    checkpoint: _Checkpoint,
    modules: Mapping[str, AdaptedModule],
    base: BaseFingerprint,
    trained_in: str | None,
    budget_bytes: int,
) -> tuple[ProjectionRecipe, Evidence]:
    recipe = ProjectionRecipe(
        PEFT_MT19937,
        checkpoint.config.seed,
        checkpoint.config.rank,
        max(module.in_features for module in modules.values()),
        max(module.out_features for module in modules.values()),
    )
    if checkpoint.saved is not None:
        return _recognise(checkpoint.saved, recipe, (trained_in,) if trained_in else ROUNDINGS, budget_bytes)
    rounding = trained_in or _rounding_of(checkpoint, modules.values(), base)
    return replace(recipe, rounding=rounding), Evidence.SEED


def _recognise(
    saved: Projection, recipe: ProjectionRecipe, roundings: Sequence[str], budget_bytes: int
) -> tuple[ProjectionRecipe, Evidence]:
    """The rounding of `recipe` that gives the saved matrices. Raises ProjectionMismatch when none does."""
    widest = (recipe.rank, recipe.in_features), (recipe.out_features, recipe.rank)
    shapes = saved.A.shape, saved.B.shape
    if shapes != widest:
        raise _unknown(
            f"they are {_times(shapes[0])} and {_times(shapes[1])}, and PEFT draws {_times(widest[0])} and "
            f"{_times(widest[1])} for these modules. It uses the matrices of whichever adapter was on the model first",
            recipe,
        )
    drawn = rebuild(recipe, budget_bytes=budget_bytes)
    for evidence in (Evidence.SAVED, Evidence.SAVED_UNFUSED):
        for rounding in roundings:
            is_unfused = evidence is Evidence.SAVED_UNFUSED
            if all(_agree(*pair, rounding, or_unfused=is_unfused) for pair in zip(saved, drawn, strict=True)):
                return replace(recipe, rounding=rounding), evidence
    raise _unknown(
        f"seed {recipe.seed} gives others, also without fused multiply-add and after rounding to {' or '.join(roundings)}. "
        "The seed was changed after training, or the matrices were drawn in another way",
        recipe,
    )


def _agree(saved: Array, drawn: Array, rounding: str, *, or_unfused: bool) -> bool:
    """Whether every saved value is the drawn one after `rounding`, bit for bit, or the one drawn without FMA."""
    bound = kaiming_bound(drawn.shape[1])
    theirs, ours = saved.reshape(-1), drawn.reshape(-1)
    for start in range(0, ours.size, _RUN):
        run, bits = ours[start : start + _RUN], _bits(theirs[start : start + _RUN])
        agrees = bits == _bits(round_to(run, rounding))
        if or_unfused:
            agrees |= bits == _bits(round_to(_without_fma(run, bound), rounding))
        if not agrees.all():
            return False
    return True


def _without_fma(values: Array, bound: np.float32) -> Array:
    """`values` of the stream as torch's portable kernels compute them: the product is rounded before the sum.

    The 24 bits that were drawn can be read off a value exactly: they are at least a unit in the
    last place of the bound apart.
    """
    units = np.rint((values.astype(np.float64) + float(bound)) / (2 * float(bound)) * 2.0**24) * 2.0**-24
    return units.astype(np.float32) * (bound + bound) - bound


def _bits(values: Array) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


def _rounding_of(checkpoint: _Checkpoint, modules: Iterable[AdaptedModule], base: BaseFingerprint) -> str:
    """The dtype the base was held in during training, as far as dtypes tell: PEFT rounds its draw to it.

    PEFT keeps the vectors in float32 unless it is told otherwise, so vectors of 16 bits tell and
    those of 32 do not; a base stored in float32 is taken to have been held so.
    """
    if checkpoint.dtype != "float32":
        return checkpoint.dtype
    weights = {f"{module.name}.weight" for module in modules}
    stored = {record.dtype for record in base.tensors if record.name in weights}
    if stored == {DTYPES["float32"]}:
        return "float32"
    raise RecipeError(
        "PEFT rounds its matrices to the dtype the base was held in during training, and this checkpoint holds neither "
        f"the matrices nor that dtype (the base is stored in {', '.join(sorted(stored))}). Say it with --trained-in: "
        "bfloat16 or float16 if it was loaded so, float32 if it was loaded so or quantised.",
        code="ROUNDING_UNKNOWN",
        stored=sorted(stored),
    )


# -- What is said of it ---------------------------------------------------------------------------


def _card(manifest: Manifest, evidence: Evidence) -> str:
    recipe, weights = manifest.recipe, manifest.weights
    return f"""# A VeRA adapter of {manifest.base.name}

Imported from a PEFT checkpoint.

- vectors: {weights.vector_bytes:,} bytes ({manifest.parameters:,} parameters) on {len(manifest.modules)} modules
- projection: {recipe}
- what says so: {evidence}
"""


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _invalid(what: str) -> ArchiveError:
    return ArchiveError(f"This is no VeRA checkpoint as PEFT writes it: {what}.", code="PEFT_INVALID")


def _unsupported(what: str, **facts: object) -> ArchiveError:
    return ArchiveError(f"This PEFT checkpoint cannot be imported: {what}.", code="PEFT_UNSUPPORTED", **facts)


def _beyond_the_vectors(names: Sequence[str]) -> ArchiveError:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return _unsupported(
        f"more than VeRA's vectors was trained ({', '.join(names[:3])}{more}), and a head as transformers builds it has "
        "no place in an adapter here. Without it the answers would not be the trained ones",
        found=list(names[:20]),
    )


def _unknown(what: str, recipe: ProjectionRecipe) -> ProjectionMismatch:
    return ProjectionMismatch(
        f"The matrices saved in the checkpoint are not those of its configuration: {what}. "
        "Stored projections are not supported yet, so it cannot be imported.",
        code="PROJECTION_UNKNOWN",
        recipe=recipe.to_dict(),
    )
