"""The reason for a difference is told from names, shapes and hashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from vera.base_difference import compare_bases
from vera.fingerprint import BaseFingerprint, TensorRecord

KINDS = ("attention.query", "attention.value", "output.dense", "output.LayerNorm")
NAMES = [
    "embeddings.word.weight",
    *(f"layer.{n}.{kind}.{leaf}" for n in range(3) for kind in KINDS for leaf in ("weight", "bias")),
    "pooler.dense.weight",
]
BASE = BaseFingerprint.of_records(TensorRecord(name, "F32", (8, 8), "0" * 64) for name in NAMES)

Spoil = Callable[[TensorRecord], TensorRecord]


def other(record: TensorRecord) -> TensorRecord:
    return replace(record, sha256="1" * 64)


def where(is_meant: Callable[[str], bool], spoil: Spoil) -> BaseFingerprint:
    return BaseFingerprint.of_records(spoil(r) if is_meant(r.name) else r for r in BASE.tensors)


def named(*parts: str) -> Callable[[str], bool]:
    return lambda name: any(part in name for part in parts)


def without(*parts: str) -> BaseFingerprint:
    return BaseFingerprint.of_records(r for r in BASE.tensors if not named(*parts)(r.name))


def and_more(*names: str) -> BaseFingerprint:
    return BaseFingerprint.of_records([*BASE.tensors, *(TensorRecord(name, "F32", (8,), "2" * 64) for name in names)])


@pytest.mark.parametrize(
    ("found", "story"),
    [
        (BASE, "the same base"),
        (where(named(""), other), "another training run or revision"),
        (where(lambda name: not named("bias", "Norm")(name), other), "another training run or revision"),
        (where(named("query.weight", "value.weight"), other), "merged into query, value: all 6 weights"),
        (where(named("query.weight", "value.bias"), other), "a fine-tune of the base"),
        (where(named("layer.1.attention.query.weight"), other), "a fine-tune of the base"),
        (where(named("query", "dense", "LayerNorm"), other), "a fine-tune of the base"),
        (where(named("pooler"), other), "Only its head differs"),
        (where(named("embeddings"), lambda r: replace(r, shape=(9, 8))), "resized vocabulary"),
        (where(named(""), lambda r: replace(r, shape=(4, 4))), "another size of the model."),
        (where(named(""), lambda r: replace(r, dtype="BF16", sha256="3" * 64)), "another dtype"),
        (without("layer.2."), "fewer layers"),
        (without("pooler"), "A part of the base is missing"),
        (and_more("layer.3.attention.query.weight"), "a deeper model"),
        (and_more("layer.0.query.vera_lambda_b.default", "vera_A.default"), "give the model it wraps"),
        (and_more("layer.0.query.lora_A.default.weight"), "give the model it wraps"),
        (
            BaseFingerprint.of_records([*map(other, BASE.tensors), TensorRecord("layer.3.query.weight", "F32", (8,), "1" * 64)]),
            "more layers",
        ),
        (BaseFingerprint.of_records([TensorRecord("conv.weight", "F32", (3,), "0" * 64)]), "another architecture"),
    ],
)  # fmt: skip
def test_a_difference_tells_its_likeliest_reason(found: BaseFingerprint, story: str) -> None:
    assert story in compare_bases(BASE, found).story


def test_what_differs_is_counted_in_words() -> None:
    assert compare_bases(BASE, where(named("attention.query.weight"), other)).counts == (
        "3 tensors have other values (layer.0.attention.query.weight, layer.1.attention.query.weight, "
        f"layer.2.attention.query.weight); {len(NAMES) - 3} of its tensors are equal"
    )
    missing = compare_bases(BASE, without("layer.2.")).counts
    assert missing.startswith("8 tensors are missing (layer.2.")
    assert ", …); " in missing
    assert compare_bases(BASE, without("pooler")).counts.startswith("pooler.dense.weight is missing; ")
    assert compare_bases(BASE, BASE).counts == f"{len(NAMES)} of its tensors are equal"
