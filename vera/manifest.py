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
from typing import Any

from vera import canonical_json, strict_json
from vera.base_config import MAX_NAME as MAX_SETTING_NAME
from vera.base_config import MAX_SETTINGS, BaseConfig, Setting, is_setting
from vera.base_tokenizer import (
    MAX_ADDED,
    MAX_EXAMPLE_IDS,
    MAX_EXAMPLE_TEXT,
    MAX_EXAMPLES,
    MAX_TURNS,
    BaseTokenizer,
    ChatExample,
    TextExample,
)
from vera.errors import ManifestError, RecipeError
from vera.manifest_fields import Fields
from vera.projection import ProjectionRecipe
from vera.tensorfile import ADAPTER_LIMITS, PREFIX_BYTES

SCHEMA = "vera-adapter/1"
VERA = "vera"  # Kopiczko et al. 2024
DVORA = "dvora"  # the same as the direction of DoRA (Liu et al. 2024), with a learned magnitude per output
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
MAX_TEXT = 200
MAX_TENSOR_NAME = 200
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
POOLINGS = ("mean", "cls")

_MODULE_NAME = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_FINGERPRINT = re.compile(r"vbf1:[0-9a-f]{64}")
_PROJECTION_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DTYPE_NAME = re.compile(r"[a-z0-9_]{1,32}")
# Control characters (C0, C1), line separators and bidirectional overrides: in a terminal or a page
# they would say something else than what is written.
_DECEIVING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class BaseIdentity:
    """The base model: `fingerprint` decides, `name` and `revision` are for people and downloads.

    `config` is how it was set in training, where that was recorded: weights alone do not say what a model computes. `tokenizer` and
    `processor` are likewise how its texts were read then, and the settings its images were prepared with.
    """

    name: str
    fingerprint: str
    dtype: str
    revision: str | None = None
    config: BaseConfig | None = None
    tokenizer: BaseTokenizer | None = None
    processor: Mapping[str, Setting] | None = field(default=None, hash=False)


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
    _check_base(manifest.base)
    _require(
        _PROJECTION_DIGEST.fullmatch(manifest.projection_digest), "projection.digest is not sha256: and 64 hex digits"
    )
    _check_modules(manifest.modules, manifest.recipe, MAX_MODULES[manifest.method])
    _check_weights(manifest)
    _check_task(manifest.task)
    _check_training(manifest.training)
    if manifest.license is not None:
        _check_text("license", manifest.license)
    _require(set(manifest.files) <= set(EXTRA_FILES), f"files may only name {', '.join(EXTRA_FILES)}")
    for path, entry in manifest.files.items():
        _require(0 <= entry.size_bytes <= MAX_EXTRA_BYTES, f"{path} cannot have {entry.size_bytes} bytes")


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ManifestError(
            f"The method {str(method)[:80]!r} is not supported here (supported: {', '.join(METHODS)}): "
            "a newer vera-hub may know it.",
            code="METHOD_UNSUPPORTED",
            supported=list(METHODS),
        )


def _check_base(base: BaseIdentity) -> None:
    _require(
        _FINGERPRINT.fullmatch(base.fingerprint),
        f"base.fingerprint is {base.fingerprint[:80]!r}, not vbf1: and 64 hex digits",
    )
    _check_text("base.name", base.name)
    if base.revision is not None:
        _check_text("base.revision", base.revision)
    _require(_DTYPE_NAME.fullmatch(base.dtype), f"base.dtype {base.dtype[:80]!r} is no dtype")
    if base.config is not None:
        _require(
            not base.config.set.keys() & base.config.default.keys(), "base.config has a setting in both of its halves"
        )
        _check_settings("base.config", base.config.all)
    if base.tokenizer is not None:
        _check_tokenizer(base.tokenizer)
    if base.processor is not None:
        _check_settings("base.processor", base.processor)


def _check_settings(where: str, settings: Mapping[str, Setting]) -> None:
    _require(len(settings) <= MAX_SETTINGS, f"{where} may have at most {MAX_SETTINGS} settings")
    for name, value in settings.items():
        _require(
            0 < len(name) <= MAX_SETTING_NAME and not _DECEIVING.search(name), f"{name[:80]!r} is no name of a setting"
        )
        _require(is_setting(value) and not _DECEIVING.search(str(value)), f"{where} cannot say what {name[:80]!r} says")


def _check_tokenizer(tokenizer: BaseTokenizer) -> None:
    where, chat = "base.tokenizer", tokenizer.chat
    _require(0 < len(tokenizer.examples) <= MAX_EXAMPLES, f"{where} must have 1 to {MAX_EXAMPLES} examples")
    for example in tokenizer.examples:
        texts = (example.text,) if example.pair is None else (example.text, example.pair)
        _require(
            all(map(_is_example, texts)), f"a text of {where} is longer than {MAX_EXAMPLE_TEXT} characters, or none"
        )
        ids = (example.ids,) if example.types is None else (example.ids, example.types)
        _require(
            all(map(_are_ids, ids)), f"{where} has {MAX_EXAMPLE_IDS} ids of a text at most, each an integer from 0"
        )
        _require(
            example.max_length is None or 1 <= example.max_length <= MAX_EXAMPLE_IDS,
            f"{where} cuts a text at no length",
        )
    _require(tokenizer.end is None or _are_ids((tokenizer.end,)), f"{where}.end is no id")
    added = tokenizer.added or {}
    _require(len(added) <= MAX_ADDED, f"{where}.added may name at most {MAX_ADDED} tokens")
    _require(
        all(token and _is_example(token) for token in added) and (not added or _are_ids(tuple(added.values()))),
        f"{where}.added must give the id of each token by its text",
    )
    if chat is not None:
        _require(
            0 < len(chat.turns) <= MAX_TURNS and len(chat.turns) % 2 and all(map(_is_example, chat.turns)),
            f"{where}.chat must have an odd number of turns, at most {MAX_TURNS}",
        )
        _require(_are_ids(chat.ids), f"{where}.chat has no ids")


def _is_example(text: str) -> bool:
    return len(text) <= MAX_EXAMPLE_TEXT and not _SURROGATE.search(text)


def _are_ids(ids: tuple[int, ...]) -> bool:
    return 0 < len(ids) <= MAX_EXAMPLE_IDS and all(type(number) is int and 0 <= number < 2**31 for number in ids)


def _check_modules(modules: tuple[AdaptedModule, ...], recipe: ProjectionRecipe, most: int) -> None:
    _require(0 < len(modules) <= most, f"it must adapt 1 to {most} modules and adapts {len(modules)}")
    names = [module.name for module in modules]
    _require(names == sorted(set(names)), "modules must be sorted by name, each once")
    for module in modules:
        _require(
            len(module.name) <= 160 and _MODULE_NAME.fullmatch(module.name), f"{module.name[:80]!r} is no module name"
        )
        _require(module.in_features >= 1 and module.out_features >= 1, f"{module.name} has no size")
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
    _require(
        len(tensor) <= MAX_TENSOR_NAME and _MODULE_NAME.fullmatch(tensor), f"{tensor[:80]!r} is no name of a tensor"
    )
    _require(tensor != f"{module}.weight", f"the tensor of {module} is its own, which null says")


def _check_weights(manifest: Manifest) -> None:
    weights = manifest.weights
    _require(weights.dtype in DTYPES, f"weights.dtype is {weights.dtype[:80]!r}, not one of {', '.join(DTYPES)}")
    item = 4 if weights.dtype == "float32" else 2
    vectors = item * manifest.parameters
    _require(
        weights.vector_bytes == vectors,
        f"weights.vector_bytes is {weights.vector_bytes} and the modules need {vectors}",
    )
    heads = [tensor.name for tensor in manifest.head]
    _require(
        heads == sorted(set(heads)) and len(heads) <= MAX_HEAD_TENSORS,
        f"head must be sorted by name, each once, at most {MAX_HEAD_TENSORS}",
    )
    for tensor in manifest.head:
        _require(
            _MODULE_NAME.fullmatch(tensor.name) and len(tensor.name) <= 160, f"{tensor.name[:80]!r} is no tensor name"
        )
        _require(
            1 <= len(tensor.shape) <= 2 and min(tensor.shape) >= 1, f"{tensor.name} must have one or two dimensions"
        )
    size = item * sum(_items(tensor.shape) for tensor in manifest.head)
    _require(weights.head_bytes == size, f"weights.head_bytes is {weights.head_bytes} and the head tensors need {size}")
    header_bytes = weights.size_bytes - PREFIX_BYTES - vectors - size
    _require(
        2 <= header_bytes <= ADAPTER_LIMITS.max_header_bytes,
        f"weights.bytes is {weights.size_bytes}, which leaves {header_bytes} for a header of 2 to "
        f"{ADAPTER_LIMITS.max_header_bytes} bytes beside {vectors + size} of tensors",
    )


def _check_task(task: Task | None) -> None:
    if task is None:
        return
    _require(re.fullmatch(r"[a-z][a-z0-9-]{0,63}", task.kind), f"task.kind {task.kind[:80]!r} is no task name")
    _require(
        task.pooling is None or task.pooling in POOLINGS,
        f"task.pooling is {str(task.pooling)[:80]!r}, not one of {', '.join(POOLINGS)}",
    )
    _require(
        len(task.labels) <= MAX_LABELS and len(set(task.labels)) == len(task.labels), "task.labels must be different"
    )
    for label in task.labels:
        _check_text("each of task.labels", label)
    _require(task.max_length is None or 1 <= task.max_length <= 1 << 20, "task.max_length is out of range")


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
    _require(len(canonical) <= MAX_TRAINING_BYTES, f"training may hold at most {MAX_TRAINING_BYTES} bytes")


def _check_text(where: str, text: str) -> None:
    _require(
        0 < len(text) <= MAX_TEXT and not _DECEIVING.search(text),
        f"{where} must have 1 to {MAX_TEXT} characters, none of them a control character",
    )


def _items(shape: tuple[int, ...]) -> int:
    items = 1
    for n in shape:
        items *= n
    return items


def _require(holds: object, what: str) -> None:
    if not holds:
        raise ManifestError(f"vera.json is not valid: {what}.")


# -- JSON in and out ------------------------------------------------------------------------------


def _to_json(manifest: Manifest) -> dict[str, Any]:
    base, weights, task = manifest.base, manifest.weights, manifest.task
    return {
        "schema": SCHEMA,
        "method": manifest.method,
        "base": {
            "name": base.name,
            "revision": base.revision,
            "fingerprint": base.fingerprint,
            "dtype": base.dtype,
            # Absent where nothing was recorded, so that manifests from before it keep their bytes and their digests.
            **({"config": {"set": dict(base.config.set), "default": dict(base.config.default)}} if base.config else {}),
            **({"tokenizer": _tokenizer_to_json(base.tokenizer)} if base.tokenizer else {}),
            **({"processor": dict(base.processor)} if base.processor is not None else {}),
        },
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


def _tokenizer_to_json(tokenizer: BaseTokenizer) -> dict[str, Any]:
    chat = tokenizer.chat
    return {
        "examples": [
            {
                "text": each.text,
                "pair": each.pair,
                "max_length": each.max_length,
                "ids": list(each.ids),
                "types": None if each.types is None else list(each.types),
            }
            for each in tokenizer.examples
        ],
        "end": tokenizer.end,
        "added": None if tokenizer.added is None else dict(tokenizer.added),
        "chat": chat and {"turns": list(chat.turns), "ids": list(chat.ids)},
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
        base=_parse_base(top.object("base")),
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


def _parse_base(base: Fields) -> BaseIdentity:
    identity = BaseIdentity(
        name=base.string("name"),
        fingerprint=base.string("fingerprint"),
        dtype=base.string("dtype"),
        revision=base.optional_string("revision"),
        config=_parse_config(base.object("config")) if base.has("config") else None,
        tokenizer=_parse_tokenizer(base.object("tokenizer")) if base.has("tokenizer") else None,
        processor=base.object("processor").rest() if base.has("processor") else None,
    )
    base.end()
    return identity


def _parse_config(config: Fields) -> BaseConfig:
    parsed = BaseConfig(config.object("set").rest(), config.object("default").rest())
    config.end()
    return parsed


def _parse_tokenizer(tokenizer: Fields) -> BaseTokenizer:
    chat, added = tokenizer.optional_object("chat"), tokenizer.optional_object("added")
    parsed = BaseTokenizer(
        tuple(_parse_example(each) for each in tokenizer.objects("examples")),
        tokenizer.optional_integer("end"),
        None if added is None else added.rest(),
        _parse_chat(chat) if chat else None,
    )
    tokenizer.end()
    return parsed


def _parse_example(example: Fields) -> TextExample:
    types = example.optional_values("types")
    parsed = TextExample(
        example.string("text"),
        tuple(example.values("ids")),
        example.optional_string("pair"),
        None if types is None else tuple(types),
        example.optional_integer("max_length"),
    )
    example.end()
    return parsed


def _parse_chat(chat: Fields) -> ChatExample:
    turns = chat.values("turns")
    if not all(isinstance(turn, str) for turn in turns):
        raise ManifestError("vera.json is not valid: the turns of base.tokenizer.chat must be texts.")
    parsed = ChatExample(tuple(turns), tuple(chat.values("ids")))
    chat.end()
    return parsed


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
