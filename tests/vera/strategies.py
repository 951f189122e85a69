"""Hypothesis strategies for manifests: valid ones, of every shape the format allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from vera.base_config import BaseConfig
from vera.base_tokenizer import BaseTokenizer, ChatExample, TextExample
from vera.manifest import (
    DVORA,
    METHODS,
    AdaptedModule,
    BaseIdentity,
    FileEntry,
    HeadTensor,
    Manifest,
    Task,
    Weights,
)
from vera.projection import ROUNDINGS, STORED, STREAMS, ProjectionRecipe

HEX64 = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
DOTTED = st.from_regex(r"[A-Za-z0-9_]{1,12}(\.[A-Za-z0-9_]{1,12}){0,3}", fullmatch=True)
# Any characters but controls, surrogates, line separators and formatting marks.
LINE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"]), min_size=1, max_size=40)
SMALL = st.integers(1, 64)

# From 2^53 to 1e21 a float is written as the digits of an integer that RFC 8785 cannot write back.
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not 2**53 <= abs(x) < 1e21)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | FLOATS | LINE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LINE, inner, max_size=3),
    max_leaves=6,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


TRAINING = st.dictionaries(LINE, JSON, max_size=4).filter(lambda value: depth_of(value) <= 7)
MODULES = st.lists(
    st.builds(AdaptedModule, DOTTED, SMALL, SMALL, st.none() | DOTTED.map("{}.shared".format)),
    min_size=1,
    max_size=4,
    unique_by=lambda module: module.name,
)
HEADS = st.lists(
    st.builds(HeadTensor, DOTTED, st.lists(SMALL, min_size=1, max_size=2).map(tuple)),
    max_size=3,
    unique_by=lambda tensor: tensor.name,
)
TASKS = st.builds(
    Task,
    st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True),
    st.lists(LINE, max_size=4, unique=True).map(tuple),
    st.sampled_from(["mean", "cls"]) | st.none(),
    st.integers(1, 1 << 20) | st.none(),
)
FILES = st.dictionaries(
    st.sampled_from(["adapter_config.json", "README.md"]), st.builds(FileEntry, HEX64, st.integers(0, 1 << 20))
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    modules = sorted(draw(MODULES), key=lambda module: module.name)
    head = sorted(draw(HEADS), key=lambda tensor: tensor.name)
    method = draw(st.sampled_from(list(METHODS)))
    stream = draw(st.sampled_from((*STREAMS, STORED)))
    recipe = ProjectionRecipe(
        stream,
        seed=None if stream == STORED else draw(st.integers(0, 2**53 - 1)),
        rank=draw(st.integers(1, 4096)),
        in_features=max(module.in_features for module in modules),
        out_features=max(module.out_features for module in modules),
        rounding="float32" if stream == STORED else draw(st.sampled_from(ROUNDINGS)),
    )
    return Manifest(
        base=draw(
            st.builds(
                BaseIdentity,
                LINE,
                HEX64.map("vbf1:{}".format),
                st.sampled_from(["float32", "bfloat16"]),
                st.none() | LINE,
                st.none() | _configs(),
                st.none() | _tokenizers(),
                st.none() | _configs().map(lambda config: config.all),
            )
        ),
        recipe=recipe,
        projection_digest=f"sha256:{draw(HEX64)}",
        modules=tuple(modules),
        weights=draw(_weights(modules, head, recipe.rank, method)),
        method=method,
        head=tuple(head),
        task=draw(st.none() | TASKS),
        training=draw(TRAINING),
        license=draw(st.none() | LINE),
        files=draw(FILES),
    )


@st.composite
def _weights(draw: st.DrawFn, modules: list[AdaptedModule], head: list[HeadTensor], rank: int, method: str) -> Weights:
    dtype = draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    item = 4 if dtype == "float32" else 2
    vector_bytes = item * sum((1 + (method == DVORA)) * module.out_features + rank for module in modules)
    head_bytes = item * sum(math.prod(tensor.shape) for tensor in head)
    header = draw(st.integers(2, 512 * 1024))
    return Weights(draw(HEX64), 8 + header + vector_bytes + head_bytes, vector_bytes, head_bytes, dtype)


def objects_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of every object in a JSON value."""
    if isinstance(value, Mapping):
        return [path, *(found for key in value for found in objects_in(value[key], (*path, key)))]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in objects_in(item, (*path, i))]
    return []


@st.composite
def _configs(draw: st.DrawFn) -> BaseConfig:
    numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2.0**52), 2.0**52)
    value = st.booleans() | numbers | LINE
    settings = draw(st.dictionaries(LINE, value | st.lists(value, max_size=3), max_size=4))
    default = draw(st.sets(st.sampled_from(sorted(settings)))) if settings else set()
    return BaseConfig(
        {name: value for name, value in settings.items() if name not in default},
        {name: settings[name] for name in default},
    )


@st.composite
def _tokenizers(draw: st.DrawFn) -> BaseTokenizer:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4).map(tuple)
    example = st.builds(TextExample, text, ids, st.none() | text, st.none() | ids, st.none() | SMALL)
    turns = st.lists(text, min_size=1, max_size=3).filter(lambda said: len(said) % 2).map(tuple)
    return BaseTokenizer(
        tuple(draw(st.lists(example, min_size=1, max_size=3))),
        draw(st.none() | SMALL),
        draw(st.none() | st.dictionaries(text.filter(bool), SMALL, max_size=3)),
        draw(st.none() | st.builds(ChatExample, turns, ids)),
        draw(st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)),
    )
