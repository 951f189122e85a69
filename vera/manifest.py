"""`vera.json`: what an adapter is, and the exact base and matrices its vectors mean something with.

The manifest is RFC 8785 canonical JSON, and the SHA-256 of its bytes is the version's digest. It
holds the hash of every other file, so the digest pins every byte of a version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from functools import cached_property
from json import JSONDecodeError
from typing import Any

from vera import canonical_json, strict_json
from vera.base_identity import BaseIdentity as BaseIdentity  # noqa: PLC0414  # a part of the manifest, as those below
from vera.base_identity import base_to_json, check_base, parse_base
from vera.errors import ManifestError, RecipeError
from vera.manifest_fields import Fields
from vera.manifest_rules import check_text, require
from vera.projection import ProjectionRecipe
from vera.tensorfile import ADAPTER_LIMITS, PREFIX_BYTES

SCHEMA = "vera-adapter/1"
VERA = "vera"  # Kopiczko et al. 2024
DVORA = "dvora"  # the same as the direction of DoRA (Liu et al. 2024), with a learned magnitude per output
BEGUN = "begun"  # in `training`, of an adapter before its first step
METHODS = {VERA: "VeRA", DVORA: "DVoRA"}  # and how they are written
MANIFEST_FILE = "vera.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
CARD_FILE = "README.md"
EXTRA_FILES = (CONFIG_FILE, CARD_FILE)

MAX_MANIFEST_BYTES = 1 << 20
MAX_EXTRA_BYTES = 1 << 20  # each of EXTRA_FILES
MAX_TRAINING_BYTES = 16 * 1024
MAX_MODULES = {VERA: ADAPTER_LIMITS.max_tensors // 2, DVORA: ADAPTER_LIMITS.max_tensors // 3}  # λb, λd, magnitude
MAX_HEAD_TENSORS = 64
MAX_LABELS = 10_000
MAX_TENSOR_NAME = 200
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
POOLINGS = ("mean", "cls")

_MODULE_NAME = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_PROJECTION_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class AdaptedModule:
    """One adapted linear map, by its name in the base checkpoint.

    A module that has no weight of its own there, such as a language model's head tied to the
    embedding, goes by its name in the model, and `tensor` is the checkpoint's tensor it shares.
    """

    name: str
    in_features: int
    out_features: int
    tensor: str | None = None

    @property
    def weight(self) -> str:
        """The checkpoint's tensor that holds its weight."""
        return self.tensor or f"{self.name}.weight"


@dataclass(frozen=True)
class HeadTensor:
    """One tensor of the task head that was trained beside the vectors."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, data: bytes) -> FileEntry:
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Weights:
    """The tensor file. `vector_bytes` and `head_bytes` count tensor data, without the header."""

    sha256: str
    size_bytes: int
    vector_bytes: int
    head_bytes: int
    dtype: str


@dataclass(frozen=True)
class Task:
    """What the adapted model answers. `labels[i]` names output i; empty for a generator."""

    kind: str
    labels: tuple[str, ...] = ()
    pooling: str | None = None
    max_length: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The parsed manifest. Valid by construction: ManifestError or RecipeError otherwise."""

    base: BaseIdentity
    recipe: ProjectionRecipe
    projection_digest: str
    modules: tuple[AdaptedModule, ...]
    weights: Weights
    method: str = VERA
    head: tuple[HeadTensor, ...] = ()
    task: Task | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    license: str | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The manifest in `data`, which must be its canonical form. Raises ManifestError."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestError(
                f"vera.json is {len(data):,} bytes and {MAX_MANIFEST_BYTES:,} are allowed.", code="MANIFEST_TOO_LARGE"
            )
        try:
            value = strict_json.loads(data)
        except JSONDecodeError as error:
            raise ManifestError(
                f"vera.json is damaged or cut off ({error}): pull the adapter again, or train it again."
            ) from error
        except ValueError as error:
            raise ManifestError(f"vera.json cannot be read: {error}.") from error
        manifest = _parse(value)
        if manifest.to_bytes() != data:
            raise ManifestError(
                "vera.json is not in canonical form (RFC 8785), so its digest would not be the version's: "
                "write it with vera.manifest.Manifest.to_bytes.",
                code="MANIFEST_NOT_CANONICAL",
            )
        vars(manifest)["digest"] = _digest_of(data)  # which need not be written a second time to be hashed
        return manifest

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785): one manifest, one byte string."""
        return canonical_json.dumps(_to_json(self))

    @cached_property
    def digest(self) -> str:
        """The version digest, `sha256:…` of the canonical bytes."""
        return _digest_of(self.to_bytes())

    @property
    def parameters(self) -> int:
        """Trained vector elements, heads not counted: Σ(out_features + rank), and for DVoRA Σ out_features more."""
        per_output = 2 if self.has_magnitude else 1
        return sum(per_output * module.out_features + self.recipe.rank for module in self.modules)

    @property
    def has_magnitude(self) -> bool:
        """Whether each module has a learned magnitude (out_features) beside λb and λd."""
        return self.method == DVORA

    def lora_bytes(self, rank: int = 8) -> int:
        """Bytes of the float32 factors of a LoRA of `rank` on the same modules."""
        return 4 * rank * sum(module.in_features + module.out_features for module in self.modules)

    def with_files(self, files: Mapping[str, bytes]) -> Manifest:
        """This manifest, sealing `files` (the card and the PEFT configuration)."""
        return replace(self, files={path: FileEntry.of(data) for path, data in files.items()})


def _check(manifest: Manifest) -> None:
    _check_method(manifest.method)
    check_base(manifest.base)
    require(
        _PROJECTION_DIGEST.fullmatch(manifest.projection_digest), "projection.digest is not sha256: and 64 hex digits"
    )
    _check_modules(manifest.modules, manifest.recipe, MAX_MODULES[manifest.method])
    _check_weights(manifest)
    _check_task(manifest.task)
    _check_training(manifest.training)
    if manifest.license is not None:
        check_text("license", manifest.license)
    require(set(manifest.files) <= set(EXTRA_FILES), f"files may only name {', '.join(EXTRA_FILES)}")
    for path, entry in manifest.files.items():
        require(0 <= entry.size_bytes <= MAX_EXTRA_BYTES, f"{path} cannot have {entry.size_bytes} bytes")


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ManifestError(
            f"The method {str(method)[:80]!r} is not supported here (supported: {', '.join(METHODS)}): "
            "a newer vera-hub may know it.",
            code="METHOD_UNSUPPORTED",
            supported=list(METHODS),
        )


def _check_modules(modules: tuple[AdaptedModule, ...], recipe: ProjectionRecipe, most: int) -> None:
    require(0 < len(modules) <= most, f"it must adapt 1 to {most} modules and adapts {len(modules)}")
    names = [module.name for module in modules]
    require(names == sorted(set(names)), "modules must be sorted by name, each once")
    for module in modules:
        require(
            len(module.name) <= 160 and _MODULE_NAME.fullmatch(module.name), f"{module.name[:80]!r} is no module name"
        )
        require(module.in_features >= 1 and module.out_features >= 1, f"{module.name} has no size")
        if module.tensor is not None:
            _check_shared_tensor(module.name, module.tensor)
    widest = max(m.in_features for m in modules), max(m.out_features for m in modules)
    if widest != (recipe.in_features, recipe.out_features):
        raise ManifestError(
            f"The projection is made for {recipe.in_features} x {recipe.out_features} and the widest modules are "
            f"{widest[0]} x {widest[1]}: the matrices would not be those of training.",
            code="DIMS_MISMATCH",
        )


def _check_shared_tensor(module: str, tensor: str) -> None:
    require(
        len(tensor) <= MAX_TENSOR_NAME and _MODULE_NAME.fullmatch(tensor), f"{tensor[:80]!r} is no name of a tensor"
    )
    require(tensor != f"{module}.weight", f"the tensor of {module} is its own, which null says")


def _check_weights(manifest: Manifest) -> None:
    weights = manifest.weights
    require(weights.dtype in DTYPES, f"weights.dtype is {weights.dtype[:80]!r}, not one of {', '.join(DTYPES)}")
    item = 4 if weights.dtype == "float32" else 2
    vectors = item * manifest.parameters
    require(
        weights.vector_bytes == vectors,
        f"weights.vector_bytes is {weights.vector_bytes} and the modules need {vectors}",
    )
    heads = [tensor.name for tensor in manifest.head]
    require(
        heads == sorted(set(heads)) and len(heads) <= MAX_HEAD_TENSORS,
        f"head must be sorted by name, each once, at most {MAX_HEAD_TENSORS}",
    )
    for tensor in manifest.head:
        require(
            _MODULE_NAME.fullmatch(tensor.name) and len(tensor.name) <= 160, f"{tensor.name[:80]!r} is no tensor name"
        )
        require(
            1 <= len(tensor.shape) <= 2 and min(tensor.shape) >= 1, f"{tensor.name} must have one or two dimensions"
        )
    size = item * sum(_items(tensor.shape) for tensor in manifest.head)
    require(weights.head_bytes == size, f"weights.head_bytes is {weights.head_bytes} and the head tensors need {size}")
    header_bytes = weights.size_bytes - PREFIX_BYTES - vectors - size
    require(
        2 <= header_bytes <= ADAPTER_LIMITS.max_header_bytes,
        f"weights.bytes is {weights.size_bytes}, which leaves {header_bytes} for a header of 2 to "
        f"{ADAPTER_LIMITS.max_header_bytes} bytes beside {vectors + size} of tensors",
    )


def _check_task(task: Task | None) -> None:
    if task is None:
        return
    require(re.fullmatch(r"[a-z][a-z0-9-]{0,63}", task.kind), f"task.kind {task.kind[:80]!r} is no task name")
    require(
        task.pooling is None or task.pooling in POOLINGS,
        f"task.pooling is {str(task.pooling)[:80]!r}, not one of {', '.join(POOLINGS)}",
    )
    require(
        len(task.labels) <= MAX_LABELS and len(set(task.labels)) == len(task.labels), "task.labels must be different"
    )
    for label in task.labels:
        check_text("each of task.labels", label)
    require(task.max_length is None or 1 <= task.max_length <= 1 << 20, "task.max_length is out of range")


def _check_training(training: Mapping[str, Any]) -> None:
    """What is said of the training is free, but must read back as it was written.

    A float such as 2.0**60 is written as digits that read back as an integer RFC 8785 cannot write.
    """
    try:
        canonical = canonical_json.dumps(dict(training))
        read = strict_json.loads(canonical, max_depth=strict_json.MAX_DEPTH - 1)  # it lies one deep in the manifest
        canonical_json.dumps(read)
    except ValueError as error:
        raise ManifestError(
            f"vera.json is not valid: training cannot be written as canonical JSON: {error}."
        ) from error
    require(len(canonical) <= MAX_TRAINING_BYTES, f"training may hold at most {MAX_TRAINING_BYTES} bytes")


def _items(shape: tuple[int, ...]) -> int:
    items = 1
    for n in shape:
        items *= n
    return items


# -- JSON in and out ------------------------------------------------------------------------------


def _to_json(manifest: Manifest) -> dict[str, Any]:
    weights, task = manifest.weights, manifest.task
    return {
        "schema": SCHEMA,
        "method": manifest.method,
        "base": base_to_json(manifest.base),
        "projection": {**manifest.recipe.to_dict(), "digest": manifest.projection_digest},
        "modules": [
            {"name": m.name, "in_features": m.in_features, "out_features": m.out_features, "tensor": m.tensor}
            for m in manifest.modules
        ],
        "weights": {
            "sha256": weights.sha256,
            "bytes": weights.size_bytes,
            "vector_bytes": weights.vector_bytes,
            "head_bytes": weights.head_bytes,
            "dtype": weights.dtype,
        },
        "head": [{"name": tensor.name, "shape": list(tensor.shape)} for tensor in manifest.head],
        "task": task
        and {"kind": task.kind, "labels": list(task.labels), "pooling": task.pooling, "max_length": task.max_length},
        "training": dict(manifest.training),
        "license": manifest.license,
        "files": {path: {"sha256": entry.sha256, "bytes": entry.size_bytes} for path, entry in manifest.files.items()},
    }


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _parse(value: object) -> Manifest:
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA:
        raise ManifestError(
            f"The schema {str(schema)[:80]!r} is not supported here (supported: {SCHEMA}): a newer vera-hub may read it.",
            code="SCHEMA_UNSUPPORTED",
            supported=[SCHEMA],
        )
    top = Fields(value, "the manifest")
    top.string("schema")
    method = top.string("method")
    _check_method(method)  # first: a newer method may have fields of its own
    recipe, projection_digest = _parse_projection(top.object("projection"))
    manifest = Manifest(
        base=parse_base(top.object("base")),
        recipe=recipe,
        projection_digest=projection_digest,
        modules=tuple(_parse_module(m) for m in top.objects("modules")),
        weights=_parse_weights(top.object("weights")),
        method=method,
        head=tuple(_parse_head(h) for h in top.objects("head")),
        task=_parse_task(task) if (task := top.optional_object("task")) else None,
        training=top.object("training").rest(),
        license=top.optional_string("license"),
        files=_parse_files(top.object("files")),
    )
    top.end()
    return manifest


def _parse_projection(projection: Fields) -> tuple[ProjectionRecipe, str]:
    fields: dict[str, Any] = {field.name: projection.take(field.name) for field in fields_of(ProjectionRecipe)}
    digest = projection.string("digest")
    projection.end()
    try:
        return ProjectionRecipe(**fields), digest
    except RecipeError as error:
        raise ManifestError(f"vera.json is not valid: {error}", code=error.code, **error.facts) from error


def _parse_module(module: Fields) -> AdaptedModule:
    parsed = AdaptedModule(
        module.string("name"),
        module.integer("in_features"),
        module.integer("out_features"),
        module.optional_string("tensor"),
    )
    module.end()
    return parsed


def _parse_weights(weights: Fields) -> Weights:
    parsed = Weights(
        sha256=weights.sha256("sha256"),
        size_bytes=weights.integer("bytes"),
        vector_bytes=weights.integer("vector_bytes"),
        head_bytes=weights.integer("head_bytes"),
        dtype=weights.string("dtype"),
    )
    weights.end()
    return parsed


def _parse_head(head: Fields) -> HeadTensor:
    shape = head.take("shape")
    if not (isinstance(shape, list) and all(type(n) is int for n in shape)):
        raise ManifestError("vera.json is not valid: the shape of a head tensor must be a list of integers.")
    parsed = HeadTensor(head.string("name"), tuple(shape))
    head.end()
    return parsed


def _parse_task(task: Fields) -> Task:
    labels = task.take("labels")
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ManifestError("vera.json is not valid: task.labels must be a list of strings.")
    parsed = Task(
        task.string("kind"), tuple(labels), task.optional_string("pooling"), task.optional_integer("max_length")
    )
    task.end()
    return parsed


def _parse_files(files: Fields) -> dict[str, FileEntry]:
    entries = {}
    for path in files.names():
        entry = files.object(path)
        entries[path] = FileEntry(entry.sha256("sha256"), entry.integer("bytes"))
        entry.end()
    return entries
