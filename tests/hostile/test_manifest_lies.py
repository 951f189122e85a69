"""A manifest that asks for too much, names something else than it says, or says it in two ways (T16 to T25).

Each row of the threat table has a test here or, where another room owns it, is named:
T16 bombs: tests/vera/test_projection.py (in a small address space); shapes: test_archive_lies.py.
T20 the live base: tests/nn/test_identity.py. T21 sharding, dtypes: tests/vera/test_fingerprint.py. T23 PEFT's fields: test_archive_lies.py.
"""

from __future__ import annotations

import copy
import json
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rfc8785

from tests.builders import make_archive, make_base
from vera.archive import Vectors, inspect, pack, seal
from vera.errors import AdapterTooLarge, ManifestError, ProjectionMismatch
from vera.manifest import MANIFEST_FILE, MAX_MODULES, VERA, AdaptedModule, Manifest
from vera.projection import check_budget, prove

ADAPTER = make_archive()
VALUE: dict[str, Any] = json.loads(ADAPTER.files[MANIFEST_FILE])


def saying(*path: str | int, value: object) -> bytes:
    """The canonical manifest with one value changed."""
    changed: Any = copy.deepcopy(VALUE)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return rfc8785.dumps(changed)


def refused(data: bytes) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        inspect({**ADAPTER.files, MANIFEST_FILE: data})
    assert str(caught.value).isprintable()
    return caught.value


def test_t16_the_largest_pair_a_manifest_can_ask_for_is_beyond_the_budget() -> None:
    """Every number within its limit, and 32 GiB all the same: refused by arithmetic."""
    largest: Any = copy.deepcopy(VALUE)
    largest["projection"].update(rank=4096, in_features=2**20, out_features=2**20)
    largest["modules"] = [{**VALUE["modules"][0], "in_features": 2**20, "out_features": 2**20}]
    vector_bytes = 4 * (2**20 + 4096)
    size_bytes = 8 + 500 + vector_bytes + VALUE["weights"]["head_bytes"]
    largest["weights"].update(vector_bytes=vector_bytes, bytes=size_bytes)
    manifest = Manifest.from_bytes(rfc8785.dumps(largest))
    with pytest.raises(AdapterTooLarge) as caught:
        check_budget(manifest.recipe, 1 << 30)
    assert caught.value.facts["needed_bytes"] == 4 * 4096 * 2 * 2**20


def test_t17_a_flood_of_seeds_has_no_matrices_to_fill_a_server_with() -> None:
    """A few kilobytes each, over 32 MiB of matrices each: whoever inspects them draws none."""
    name = ADAPTER.manifest.modules[0].name
    weights, sizes, _ = pack(Vectors({name: np.ones(12, np.float32)}, {name: np.ones(8, np.float32)}, {}))
    recipe = replace(ADAPTER.manifest.recipe, in_features=2**20, out_features=12)
    modules = (AdaptedModule(name, 2**20, 12),)
    tracemalloc.start()
    try:
        for seed in range(20):
            manifest = replace(
                ADAPTER.manifest, recipe=replace(recipe, seed=seed), modules=modules, weights=sizes, head=(), task=None
            )
            assert inspect(seal(manifest, weights, "").files).manifest.recipe.size_bytes > 32 << 20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("seed", [-1, 2**53, 2**63, 2**64, 0.5, "0", True, [0], {"seed": 0}], ids=repr)
def test_t18_a_seed_is_an_integer_that_every_reader_reads_alike(seed: object) -> None:
    text = ADAPTER.files[MANIFEST_FILE].replace(b'"seed":0,', f'"seed":{json.dumps(seed)},'.encode(), 1)
    assert text != ADAPTER.files[MANIFEST_FILE]
    assert refused(text).code in {"SEED_INVALID", "MANIFEST_INVALID"}


@pytest.mark.parametrize(
    "stream", ["torch", "numpy", "peft-mt19937/2", "PEFT-MT19937/1", "", "\x1b[2J", None, 1], ids=repr
)
def test_t19_a_generator_nobody_here_knows_is_not_taken_for_another(stream: object) -> None:
    error = refused(saying("projection", "stream", value=stream))
    assert error.code == "STREAM_UNKNOWN"


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 1), ("stream", "philox4x32-10/1"), ("rounding", "bfloat16")], ids=str
)
def test_t19_another_recipe_under_the_same_digest_is_never_used(field: str, value: object) -> None:
    manifest = Manifest.from_bytes(saying("projection", field, value=value))
    with pytest.raises(ProjectionMismatch):
        prove(manifest.recipe, manifest.projection_digest)


def test_t20_a_well_known_name_does_not_make_another_base_that_one() -> None:
    other = make_base(salt="altered by one byte")
    manifest = inspect({**ADAPTER.files, MANIFEST_FILE: saying("base", "fingerprint", value=other.value)}).manifest
    assert manifest.base.name == ADAPTER.manifest.base.name
    assert manifest.base.fingerprint == other.value != ADAPTER.manifest.base.fingerprint
    assert manifest.digest != ADAPTER.manifest.digest


@pytest.mark.parametrize(
    "name", ["(a+)+$", ".*", "a" * 160 + "!", "a." * 80, "[a-z]*", "query|value", "a\n", "(" * 160]
)
def test_t22_a_target_is_a_name_and_never_a_pattern(name: str) -> None:
    data = saying("modules", 0, "name", value=name)
    start = time.perf_counter()
    error = refused(data)
    assert (
        time.perf_counter() - start < 0.5
    )  # a pattern that backtracks takes years; a busy machine half a second at most
    assert error.code == "MANIFEST_INVALID"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b":", b": ", 1),
        lambda text: text + b"\n",
        lambda text: text.replace(b'"license":"apache-2.0"', b'"license":"\\u0061pache-2.0"'),
        lambda text: text.replace(b'"method":"vera",', b"", 1)[:-1] + b',"method":"vera"}',
        lambda text: text.replace(b'"max_length":128', b'"max_length":1.28e2'),
        lambda text: text.replace(b'"seed":0', b'"seed":0,"seed":0', 1),
        lambda text: text.replace(b'"seed":0', b'"seed":1,"seed":0', 1),
    ],
)  # fmt: skip
def test_t24_one_manifest_has_one_spelling(change: Any) -> None:
    """Two spellings would be two digests of one adapter; a key twice, one digest of two."""
    data = change(ADAPTER.files[MANIFEST_FILE])
    assert data != ADAPTER.files[MANIFEST_FILE]
    assert refused(data).code in {"MANIFEST_NOT_CANONICAL", "MANIFEST_INVALID"}


def test_t25_what_a_newer_hub_writes_is_met_with_what_is_known_here() -> None:
    assert refused(saying("schema", value="vera-adapter/2")).facts == {"supported": ["vera-adapter/1"]}
    assert refused(saying("method", value="gvera")).facts == {"supported": ["vera", "dvora"]}


def test_t3_as_many_modules_as_fit_are_checked_in_no_time() -> None:
    crowded: Any = copy.deepcopy(VALUE)
    crowded["modules"] = [{**VALUE["modules"][0], "name": f"m{i:05}"} for i in range(MAX_MODULES[VERA] + 1)]
    data = rfc8785.dumps(crowded)
    start = time.perf_counter()
    assert refused(data).code == "MANIFEST_INVALID"
    assert time.perf_counter() - start < 2  # some twenty milliseconds, on a machine with other things to do
