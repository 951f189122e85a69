"""Adapters with random vectors for the tiny BERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vera.archive import Archive, Vectors, pack, seal
from vera.fingerprint import BaseFingerprint
from vera.manifest import DVORA, VERA, WEIGHTS_FILE, AdaptedModule, BaseIdentity, Manifest, Task
from vera.projection import PEFT_MT19937, STORED, ProjectionRecipe, digest_of, rebuild

QUERY = "encoder.layer.0.attention.self.query"
WIDE = "encoder.layer.1.intermediate.dense"
SIZES: Mapping[str, tuple[int, int]] = {QUERY: (32, 32), WIDE: (32, 64)}
RANK = 8


def make_tiny(
    base: BaseFingerprint,
    *,
    seed: int = 0,
    rank: int = RANK,
    sizes: Mapping[str, tuple[int, int]] = SIZES,
    modules: Sequence[AdaptedModule] = (),
    head: bool = False,
    pooling: str | None = "mean",
    card: str = "# tiny\n",
    method: str = VERA,
    task: Task | None = None,
    pair_seed: int | None = None,
) -> Archive:
    """An adapter of the tiny BERT, or of `modules`; with `head`, one that tells cats from dogs (badly), or that does
    `task`.

    The matrices are drawn from `pair_seed`, or from `seed` too. Without `pooling` its head is that of a BertForSequenceClassification.
    """
    task = task or Task("text-classification", ("cat", "dog"), pooling, 32)
    outputs = max(1, len(task.labels))
    rng = np.random.default_rng(seed)
    modules = tuple(modules) or tuple(AdaptedModule(name, *sizes[name]) for name in sorted(sizes))
    recipe = ProjectionRecipe(
        PEFT_MT19937,
        seed if pair_seed is None else pair_seed,
        rank,
        max(m.in_features for m in modules),
        max(m.out_features for m in modules),
    )
    heads = {"classifier.weight": _normal(rng, outputs, 32), "classifier.bias": np.zeros(outputs, np.float32)}
    vectors = Vectors(
        {m.name: _normal(rng, m.out_features) for m in modules},
        {m.name: _normal(rng, rank) for m in modules},
        heads if head else {},
    )
    if method == DVORA:
        vectors = replace(vectors, magnitude={m.name: np.abs(_normal(rng, m.out_features)) for m in modules})
    data, weights, head_tensors = pack(vectors)
    manifest = Manifest(
        base=BaseIdentity("tests/tiny-bert", base.value, "float32"),
        recipe=recipe,
        projection_digest=digest_of(rebuild(recipe)),
        modules=modules,
        weights=weights,
        method=method,
        head=head_tensors,
        task=task if head else None,
    )
    return seal(manifest, data, card)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def with_stored_pair(drawn: Archive) -> Archive:
    """The same adapter, its pair not drawn but stored: it must answer alike."""
    manifest = drawn.manifest
    old, pair = manifest.recipe, rebuild(manifest.recipe)
    recipe = ProjectionRecipe(STORED, None, old.rank, old.in_features, old.out_features)
    archive = seal(replace(manifest, recipe=recipe), drawn.files[WEIGHTS_FILE], drawn.card)
    return replace(archive, projection=pair)
