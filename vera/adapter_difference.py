"""What changed between two adapters: computed from their own files, and nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vera.archive import Archive, Vectors, vectors_of
from vera.manifest import BaseIdentity

Array = NDArray[np.float32]

# Finding what two texts share can take the square of their lines, and cards are strangers'.
MAX_CARD_LINES = 2000


@dataclass(frozen=True)
class VectorChange:
    """How one vector (or head tensor, flattened) changed. `norms` are Euclidean, before and after.

    `cosine` is None where there is none: on one side only, of another length, or all zeros.
    """

    name: str
    norms: tuple[float | None, float | None]
    cosine: float | None
    is_equal: bool


@dataclass(frozen=True)
class FieldChange:
    """A field of the manifest that differs."""

    name: str
    before: object
    after: object


@dataclass(frozen=True)
class AdapterDiff:
    """What differs between two adapters.

    `same_projection` is False when they scale other matrices: then vectors can be compared in size,
    and their directions mean nothing. `card` is a unified diff; of cards with very many lines only that they differ.
    `added` and `removed` are the modules that only one of them adapts.
    """

    same_projection: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    vectors: tuple[VectorChange, ...]
    fields: tuple[FieldChange, ...]
    card: str

    @property
    def changed(self) -> tuple[VectorChange, ...]:
        return tuple(change for change in self.vectors if not change.is_equal)


def compare_adapters(before: Archive, after: Archive, *, names: tuple[str, str] = ("a", "b")) -> AdapterDiff:
    """What changed from `before` to `after`, called `names` in the diff of the cards."""
    one, other = _flat(vectors_of(before)), _flat(vectors_of(after))
    return AdapterDiff(
        same_projection=before.manifest.projection_digest == after.manifest.projection_digest,
        vectors=tuple(_change(name, one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys())),
        fields=_field_changes(_fields(before), _fields(after)),
        added=tuple(sorted(_modules(after) - _modules(before))),
        removed=tuple(sorted(_modules(before) - _modules(after))),
        card=_card_diff(before.card, after.card, names),
    )


def _modules(archive: Archive) -> set[str]:
    return {module.name for module in archive.manifest.modules}


def _card_diff(before: str, after: str, names: tuple[str, str]) -> str:
    lines = before.splitlines(), after.splitlines()
    if before != after and max(map(len, lines)) > MAX_CARD_LINES:
        return f"The cards differ. They have {len(lines[0]):,} and {len(lines[1]):,} lines, too many to be compared."
    return "\n".join(difflib.unified_diff(*lines, *names, lineterm="", n=1))


def _flat(vectors: Vectors) -> dict[str, Array]:
    """Every learned array by a name that says what it is."""
    kinds: Mapping[str, Mapping[str, Array]] = {
        "λb": vectors.lambda_b,
        "λd": vectors.lambda_d,
        "magnitude": vectors.magnitude,
    }
    named = {f"{module} {kind}": array for kind, by_module in kinds.items() for module, array in by_module.items()}
    return named | {f"head {name}": array.reshape(-1) for name, array in vectors.head.items()}


def _change(name: str, before: Array | None, after: Array | None) -> VectorChange:
    norms = (_norm(before), _norm(after))
    is_equal = before is not None and after is not None and np.array_equal(before, after)
    return VectorChange(name, norms, _cosine(before, after), is_equal)


def _norm(array: Array | None) -> float | None:
    return None if array is None else float(np.linalg.norm(array.astype(np.float64)))


def _cosine(before: Array | None, after: Array | None) -> float | None:
    if before is None or after is None or before.shape != after.shape:
        return None
    one, other = before.astype(np.float64), after.astype(np.float64)
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.clip(one @ other / scale, -1.0, 1.0)) if scale else None


def _fields(archive: Archive) -> dict[str, object]:
    """What the manifest says, by dotted names, without what follows from the files themselves."""
    manifest = archive.manifest
    return {
        "base.name": manifest.base.name,
        "base.revision": manifest.base.revision,
        "base.fingerprint": manifest.base.fingerprint,
        "base.dtype": manifest.base.dtype,
        **{f"base.config.{n}": v for n, v in (manifest.base.config.all if manifest.base.config else {}).items()},
        **_reading(manifest.base),
        **{f"projection.{name}": value for name, value in manifest.recipe.to_dict().items()},
        "projection.digest": manifest.projection_digest,
        "method": manifest.method,
        "modules": [module.name for module in manifest.modules],
        "weights.dtype": manifest.weights.dtype,
        "head": [tensor.name for tensor in manifest.head],
        "task.kind": manifest.task.kind if manifest.task else None,
        "task.labels": list(manifest.task.labels) if manifest.task else None,
        "task.pooling": manifest.task.pooling if manifest.task else None,
        "task.max_length": manifest.task.max_length if manifest.task else None,
        **_dotted("training", manifest.training),
        "license": manifest.license,
    }


def _reading(base: BaseIdentity) -> dict[str, object]:
    """How texts and images were read in training, example by example and setting by setting."""
    read, images = base.tokenizer, {f"base.processor.{name}": value for name, value in (base.processor or {}).items()}
    if read is None:
        return images
    return {
        **{f"base.tokenizer.{example}": list(example.ids) for example in read.examples},
        "base.tokenizer.end": read.end,
        "base.tokenizer.words": read.words,
        **{f"base.tokenizer.added.{token!a}": number for token, number in (read.added or {}).items()},
        "base.tokenizer.chat": list(read.chat.ids) if read.chat else None,
        **images,
    }


def _dotted(prefix: str, values: Mapping[str, Any]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}"
        flat |= _dotted(key, value) if isinstance(value, Mapping) else {key: value}
    return flat


def _field_changes(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[FieldChange, ...]:
    names = sorted(before.keys() | after.keys())
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    return tuple(FieldChange(name, one, other) for name, one, other in pairs if one != other)
