"""Bases and archives for tests: valid by default, kilobytes small, and without any real model.

A test takes a valid one and spoils one thing:

    files = spoil(make_archive(), WEIGHTS_FILE, flip_byte)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import rfc8785

from vera.archive import Archive, Vectors, pack, seal
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.manifest import DVORA, MANIFEST_FILE, VERA, WEIGHTS_FILE, AdaptedModule, BaseIdentity, Manifest, Task
from vera.projection import PEFT_MT19937, STORED, Projection, ProjectionRecipe, digest_of, rebuild

BASE_NAME = "tests/tiny-encoder"
LABELS = ("a", "b")
# (name, in_features, out_features): one square map and one that is wider than high.
MODULES = (
    ("encoder.layer.0.attention.self.query", 12, 12),
    ("encoder.layer.0.intermediate.dense", 12, 20),
)

Modules = Sequence[tuple[str, int, int]]


def make_base(
    modules: Modules = MODULES, *, dtype: str = "F32", salt: str = "", transposed: bool = False
) -> BaseFingerprint:
    """The tensor table of a base that has `modules` (weight and bias each) and an embedding.

    Another `salt` is another base of the same shapes. `transposed` stores weights as GPT-2's
    Conv1D does, (in, out).
    """
    records = [_record("embeddings.word_embeddings.weight", dtype, (32, modules[0][1]), salt)]
    for name, in_features, out_features in modules:
        shape = (in_features, out_features) if transposed else (out_features, in_features)
        records.append(_record(f"{name}.weight", dtype, shape, salt))
        records.append(_record(f"{name}.bias", dtype, (out_features,), salt))
    return BaseFingerprint.of_records(records)


def make_archive(
    *,
    rank: int = 8,
    modules: Modules = MODULES,
    labels: Sequence[str] = LABELS,
    seed: int = 0,
    scale: float = 0.1,
    base: BaseFingerprint | None = None,
    base_name: str = BASE_NAME,
    card: str = "# A tiny adapter\n",
    dtype: str = "float32",
    head: bool = True,
    training: Mapping[str, object] | None = None,
    method: str = VERA,
) -> Archive:
    """A sealed, valid adapter. Another `seed` gives other vectors over the same projection.

    `labels=()` gives one without a task (and without a head). The head is one linear layer on the
    first module's output.
    """
    modules = sorted(modules)
    recipe = ProjectionRecipe(
        PEFT_MT19937, 0, rank, max(width for _, width, _ in modules), max(height for *_, height in modules)
    )
    vectors = _vectors(rank, modules, labels if head else (), seed, scale)
    if method == DVORA:
        ones = {name: np.ones(height, np.float32) for name, _, height in modules}
        vectors = replace(vectors, magnitude=ones)
    weights, sizes, head_tensors = pack(vectors, dtype=dtype)
    base = base or make_base(modules)
    manifest = Manifest(
        base=BaseIdentity(base_name, base.value, base.dtype),
        recipe=recipe,
        projection_digest=digest_of(rebuild(recipe)),
        modules=tuple(AdaptedModule(*module) for module in modules),
        weights=sizes,
        method=method,
        head=head_tensors,
        task=Task("text-classification", tuple(labels), "mean", 128) if labels else None,
        training=dict(training or {}),
        license="apache-2.0",
    )
    return seal(manifest, weights, card)


def make_stored(seed: int = 0, *, pair_seed: int = 0, card: str = "# A tiny adapter\n") -> Archive:
    """An adapter like `make_archive` gives, whose pair follows no recipe: it is at hand as `projection`.

    Another `pair_seed` gives another pair, another `seed` other vectors over the same one.
    """
    drawn = make_archive(seed=seed, card=card)
    old, draw = drawn.manifest.recipe, np.random.Generator(np.random.PCG64(pair_seed))
    pair = Projection(
        draw.standard_normal((old.rank, old.in_features), np.float32),
        draw.standard_normal((old.out_features, old.rank), np.float32),
    )
    manifest = replace(
        drawn.manifest,
        recipe=ProjectionRecipe(STORED, None, old.rank, old.in_features, old.out_features),
        projection_digest=digest_of(pair),
    )
    return replace(seal(manifest, drawn.files[WEIGHTS_FILE], card), projection=pair)


def make_suite(
    name: str = "demo/topics", *, labels: Sequence[str] = LABELS, items: int = 8, **definition: object
) -> dict[str, object]:
    """A suite as a worker registers it."""
    return {
        "name": name,
        "definition": {"dataset": f"sha256:{_hash(name)}", "split": "held-out", **definition},
        "title": f"Suite {name}",
        "metric": "accuracy",
        "items": items,
        "labels": list(labels),
        "baselines": {"majority": 1 / len(labels)},
    }


def spoil(archive: Archive, path: str, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """The files of `archive` with `change` made to one of them."""
    return {**archive.files, path: change(archive.files[path])}


def edit_manifest(archive: Archive, change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    """The files of `archive` with `change` made to the parsed manifest, which is canonical again after."""
    manifest = json.loads(archive.files[MANIFEST_FILE])
    change(manifest)
    return {**archive.files, MANIFEST_FILE: rfc8785.dumps(manifest)}


def edit_weights(archive: Archive, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """The files of `archive` with `change` made to the tensor file, and a manifest that promises just that."""
    weights = change(archive.files[WEIGHTS_FILE])
    promise = {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
    return {**edit_manifest(archive, lambda manifest: manifest["weights"].update(promise)), WEIGHTS_FILE: weights}


def flip_byte(data: bytes, at: int = -1) -> bytes:
    """`data` with the lowest bit of one byte turned."""
    spoiled = bytearray(data)
    spoiled[at] ^= 1
    return bytes(spoiled)


def _vectors(rank: int, modules: Modules, labels: Sequence[str], seed: int, scale: float) -> Vectors:
    draw = np.random.Generator(np.random.PCG64(seed))

    def normal(*shape: int) -> np.ndarray:
        return (scale * draw.standard_normal(shape)).astype(np.float32)

    head = (
        {"classifier.weight": normal(len(labels), modules[0][2]), "classifier.bias": normal(len(labels))}
        if labels
        else {}
    )
    return Vectors(
        lambda_b={name: normal(height) for name, _, height in modules},
        lambda_d={name: normal(rank) for name, *_ in modules},
        head=head,
    )


def _record(name: str, dtype: str, shape: tuple[int, ...], salt: str) -> TensorRecord:
    return TensorRecord(name, dtype, shape, _hash(f"{salt}{name}{dtype}{shape}"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
