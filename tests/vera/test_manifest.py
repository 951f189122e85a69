"""`vera.json`: one manifest, one byte string, and nothing in it that this version does not know."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import make_archive
from tests.vera import golden
from tests.vera.strategies import manifests, objects_in
from vera.errors import ManifestError, RecipeError
from vera.manifest import DVORA, MAX_MODULES, VERA, AdaptedModule, FileEntry, HeadTensor, Manifest, Task
from vera.peft_format import config_of
from vera.projection import STORED, ProjectionRecipe

Path = tuple[Any, ...]

MANIFEST = make_archive(training={"seed": 1, "accuracy": 0.5}).manifest
VALUE: dict[str, Any] = json.loads(MANIFEST.to_bytes())


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def spoiled(path: Path, change: Callable[[Any], None]) -> bytes:
    """The canonical bytes of the valid manifest after `change` to the object at `path`."""
    value = copy.deepcopy(VALUE)
    change(at(value, path))
    return rfc8785.dumps(value)


def with_value(path: Path, new: Any) -> bytes:
    return spoiled(path[:-1], lambda parent: parent.__setitem__(path[-1], new))


# Every object of the format, and every field in one. `training` is free, `files` is keyed by file.
OBJECTS = [path for path in objects_in(VALUE) if path[:1] != ("training",) and path != ("files",)]
FIELDS = [(*path, key) for path in OBJECTS for key in at(VALUE, path)]
WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53 - 1,
    1.5,
    "",
    "x",
    "\x1b[31m",
    [],
    [[]],
    {},
    {"a": 1},
    ["x", "x"],
    "x" * 300,
]


def dotted(path: object) -> str:
    return ".".join(map(str, path)) or "top" if isinstance(path, tuple) else repr(path)[:20]


# -- round trips ----------------------------------------------------------------------------------


@given(manifest=manifests())
def test_a_manifest_reads_back_from_its_bytes(manifest: Manifest) -> None:
    data = manifest.to_bytes()

    read = Manifest.from_bytes(data)

    assert read == manifest
    assert read.to_bytes() == data
    assert read.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


@settings(max_examples=20)
@given(manifest=manifests(), ascii_only=st.booleans())
def test_the_same_manifest_in_other_bytes_is_refused(manifest: Manifest, ascii_only: bool) -> None:
    value = json.loads(manifest.to_bytes())
    for other in (
        json.dumps(value, ensure_ascii=ascii_only),
        json.dumps(dict(reversed(value.items())), separators=(",", ":")),
        manifest.to_bytes().decode() + "\n",
    ):
        with pytest.raises(ManifestError) as refused:
            Manifest.from_bytes(other.encode())
        assert refused.value.code == "MANIFEST_NOT_CANONICAL"


@pytest.mark.parametrize("kept_bytes", [0, 1, 100, -1])
def test_of_a_manifest_that_is_cut_off_it_is_said_what_to_do(kept_bytes: int) -> None:
    with pytest.raises(ManifestError, match=r"damaged or cut off .*: pull the adapter again, or train it again"):
        Manifest.from_bytes(MANIFEST.to_bytes()[:kept_bytes])


def test_the_digest_of_a_manifest_never_changes() -> None:
    published = golden.load("manifest")
    manifest = Manifest.from_bytes(published["canonical"].encode())
    assert manifest.digest == published["digest"]
    assert manifest.base.name == "tests/tiny-encoder"
    assert manifest.recipe.rank == 4
    assert manifest.parameters == 32 + 64 + 2 * 4
    assert manifest.task == Task("text-classification", ("no", "sí"), "mean", 128)


def test_the_digest_of_a_manifest_with_a_stored_pair_and_a_head_of_transformers_never_changes() -> None:
    published = golden.load("manifest-stored")
    manifest = Manifest.from_bytes(published["canonical"].encode())
    assert manifest.digest == published["digest"]
    assert manifest.recipe == ProjectionRecipe(STORED, None, 4, 32, 64)
    assert [tensor.name for tensor in manifest.head] == [
        f"classifier.{name}" for name in ("dense.bias", "dense.weight", "out_proj.bias", "out_proj.weight")
    ]
    assert manifest.task == Task("text-classification", ("no", "sí"))
    assert json.loads(config_of(manifest))["projection_prng_key"] is None


def test_a_lora_of_the_same_modules_is_counted_by_its_two_factors() -> None:
    # r·(in + out) float32 values for each of 12x12 and 12x20
    assert MANIFEST.lora_bytes() == 4 * 8 * ((12 + 12) + (12 + 20))
    assert MANIFEST.lora_bytes(rank=1) == 4 * ((12 + 12) + (12 + 20))


def test_sealing_other_files_changes_the_digest_and_nothing_else() -> None:
    sealed = MANIFEST.with_files({"README.md": b"# Hello\n"})
    assert sealed.files == {"README.md": FileEntry(hashlib.sha256(b"# Hello\n").hexdigest(), 8)}
    assert dataclasses.replace(sealed, files=MANIFEST.files) == MANIFEST
    assert sealed.digest != MANIFEST.digest


# -- lies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OBJECTS, ids=dotted)
@pytest.mark.parametrize("field", ["auto_mapping", "save_projection", "base_path", "", "\x1b[2J"], ids=repr)
def test_an_unknown_field_is_refused_wherever_it_stands(path: Path, field: str) -> None:
    with pytest.raises(ManifestError) as refused:
        Manifest.from_bytes(spoiled(path, lambda value: value.update({field: 1})))
    assert refused.value.code == "MANIFEST_UNKNOWN_FIELD"
    assert repr(field) in str(refused.value)


@pytest.mark.parametrize("path", FIELDS, ids=dotted)
def test_a_missing_field_is_named(path: Path) -> None:
    with pytest.raises(ManifestError) as refused:
        Manifest.from_bytes(spoiled(path[:-1], lambda parent: parent.pop(path[-1])))
    if path == ("schema",):
        assert refused.value.code == "SCHEMA_UNSUPPORTED"
    elif path[0] != "files" or len(path) > 2:
        assert repr(path[-1]) in str(refused.value)


@pytest.mark.parametrize("path", FIELDS, ids=dotted)
def test_a_wrong_value_is_refused_cleanly_or_is_another_valid_manifest(path: Path) -> None:
    for wrong in WRONG:
        data = with_value(path, wrong)
        error = refusal(data)
        if error is None:
            assert Manifest.from_bytes(data).to_bytes() == data
        else:
            assert error.code != "MANIFEST_NOT_CANONICAL"  # it is: the value is what is wrong
            assert len(str(error)) < 1000
            assert str(error).isprintable()


def refusal(data: bytes) -> ManifestError | None:
    try:
        Manifest.from_bytes(data)
    except ManifestError as error:
        return error
    return None


TEXTS = [("base", "name"), ("base", "revision"), ("license",), ("task", "labels", 0)]


@pytest.mark.parametrize("path", TEXTS, ids=dotted)
@pytest.mark.parametrize(
    "text",
    ["", "x" * 201, "a\nb", "a\tb", "\x00", "\x7f", "\x1b[31mred", "\x9b31m", "a\u202eb", "\u2066", "\u200f", "\u2028", "\u061c"],
    ids=repr,
)  # fmt: skip
def test_text_that_deceives_a_terminal_or_a_reader_is_refused(path: Path, text: str) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_bytes(with_value(path, text))


@pytest.mark.parametrize("path", TEXTS, ids=dotted)
@pytest.mark.parametrize("text", ["x" * 200, "Ångström", "मराठी", "日本語", "👩‍🚀", "a b"])
def test_people_may_write_in_their_own_language(path: Path, text: str) -> None:
    assert at(json.loads(Manifest.from_bytes(with_value(path, text)).to_bytes()), path) == text


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("schema",), "vera-adapter/2", "SCHEMA_UNSUPPORTED"),
        (("schema",), ["vera-adapter/1"], "SCHEMA_UNSUPPORTED"),
        (("method",), "lora", "METHOD_UNSUPPORTED"),
        (("method",), "VeRA", "METHOD_UNSUPPORTED"),
        (("method",), ["vera"], "MANIFEST_INVALID"),
        (("method",), "dvora", "MANIFEST_INVALID"),  # the sizes say that there are no magnitudes
        (("projection", "stream"), "torch", "STREAM_UNKNOWN"),
        (("projection", "rank"), 1_000_000, "RANK_INVALID"),
        (("projection", "digest"), "sha256:" + "0" * 63, "MANIFEST_INVALID"),
        (("projection", "digest"), "0" * 64, "MANIFEST_INVALID"),
        (("projection", "seed"), 2**53 - 1, None),
        (("projection", "seed"), None, "SEED_INVALID"),
        (("projection", "stream"), "stored", "SEED_INVALID"),  # and a seed beside it
        (("projection", "seed"), True, "SEED_INVALID"),
        (("projection", "seed"), "0", "SEED_INVALID"),
        (("projection", "seed"), 0.5, "SEED_INVALID"),
        (("projection", "in_features"), 13, "DIMS_MISMATCH"),
        (("projection", "out_features"), 19, "DIMS_MISMATCH"),
        (("projection", "out_features"), 2**21, "DIMS_INVALID"),
        (("modules", 0, "out_features"), 2**40, "DIMS_MISMATCH"),
        (("modules", 0, "name"), "(a+)+$", "MANIFEST_INVALID"),
        (("modules", 0, "name"), "../../etc/passwd", "MANIFEST_INVALID"),
        (("modules", 0, "name"), "a..b", "MANIFEST_INVALID"),
        (("modules", 0, "name"), "a" * 161, "MANIFEST_INVALID"),
        (("modules", 0, "name"), "zzz", "MANIFEST_INVALID"),  # out of order
        (("modules", 0, "name"), VALUE["modules"][1]["name"], "MANIFEST_INVALID"),
        (("modules", 0, "tensor"), "embeddings.word_embeddings.weight", None),
        (("modules", 0, "tensor"), "a tensor", "MANIFEST_INVALID"),
        (("modules", 0, "tensor"), VALUE["modules"][0]["name"] + ".weight", "MANIFEST_INVALID"),  # null says that
        (("modules",), [], "MANIFEST_INVALID"),
        (("weights", "vector_bytes"), VALUE["weights"]["vector_bytes"] + 4, "MANIFEST_INVALID"),
        (("weights", "head_bytes"), 0, "MANIFEST_INVALID"),
        (("weights", "bytes"), VALUE["weights"]["vector_bytes"], "MANIFEST_INVALID"),
        (("weights", "bytes"), 2**50, "MANIFEST_INVALID"),
        (("weights", "dtype"), "float64", "MANIFEST_INVALID"),
        (("weights", "sha256"), "A" * 64, "MANIFEST_INVALID"),
        (("head", 0, "shape"), [], "MANIFEST_INVALID"),
        (("head", 0, "shape"), [1, 1, 2], "MANIFEST_INVALID"),
        (("head", 0, "shape"), [-2], "MANIFEST_INVALID"),
        (("head", 0, "shape"), [2.5], "MANIFEST_INVALID"),
        (("base", "fingerprint"), "vbf2:" + "0" * 64, "MANIFEST_INVALID"),
        (("base", "dtype"), "Float 32", "MANIFEST_INVALID"),
        (("task", "kind"), "Text Classification", "MANIFEST_INVALID"),
        (("task", "labels"), ["a", "a"], "MANIFEST_INVALID"),
        (("task", "pooling"), "max", "MANIFEST_INVALID"),
        (("task", "max_length"), 0, "MANIFEST_INVALID"),
        (("files", "../evil"), {"bytes": 1, "sha256": "0" * 64}, "MANIFEST_INVALID"),
        (("files", "README.md", "bytes"), -1, "MANIFEST_INVALID"),
        (("files", "README.md", "bytes"), 2**20 + 1, "MANIFEST_INVALID"),
        (("files", "README.md", "bytes"), 2**20, None),
        (("files", "README.md", "bytes"), 0, None),
        (("training", "notes"), "x" * 20_000, "MANIFEST_INVALID"),
    ],
    ids=dotted,
)  # fmt: skip
def test_each_lie_has_its_code(path: Path, value: Any, code: str | None) -> None:
    data = with_value(path, value)
    if code is None:
        assert Manifest.from_bytes(data).to_bytes() == data
        return
    with pytest.raises(ManifestError) as refused:
        Manifest.from_bytes(data)
    assert refused.value.code == code


TENSOR_BYTES = VALUE["weights"]["vector_bytes"] + VALUE["weights"]["head_bytes"]
NOTES_BYTES = len('{"accuracy":0.5,"notes":"","seed":1}')


@pytest.mark.parametrize(
    ("path", "last_good", "first_bad"),
    [
        (("modules", 1, "name"), "f" * 160, "f" * 161),
        (("modules", 1, "tensor"), "t" * 200, "t" * 201),
        (("head", 1, "name"), "d" * 160, "d" * 161),
        (("task", "kind"), "k" * 64, "k" * 65),
        (("task", "max_length"), 1, 0),
        (("task", "max_length"), 2**20, 2**20 + 1),
        (("task", "labels"), [str(i) for i in range(10_000)], [str(i) for i in range(10_001)]),
        (("weights", "bytes"), TENSOR_BYTES + 8 + 2, TENSOR_BYTES + 8 + 1),
        (("weights", "bytes"), TENSOR_BYTES + 8 + 2**19, TENSOR_BYTES + 8 + 2**19 + 1),
        (("training", "notes"), "x" * (16 * 1024 - NOTES_BYTES), "x" * (16 * 1024 - NOTES_BYTES + 1)),
        (("license",), "x" * 200, "x" * 201),
    ],
    ids=dotted,
)  # fmt: skip
def test_the_last_value_that_is_allowed(path: Path, last_good: Any, first_bad: Any) -> None:
    assert refusal(with_value(path, last_good)) is None
    assert refusal(with_value(path, first_bad)) is not None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace('"seed":0', '"seed":0,"seed":0'), "MANIFEST_INVALID"),
        (lambda text: text.replace('"seed":0', '"\\u0073eed":0'), "MANIFEST_NOT_CANONICAL"),
        (lambda text: text.replace('"seed":0', '"seed":0.0'), "SEED_INVALID"),
        (lambda text: text.replace('"seed":0', '"seed":-0'), "MANIFEST_NOT_CANONICAL"),
        (lambda text: text.replace('"seed":0', '"seed":0e0'), "SEED_INVALID"),
        (lambda text: text.replace('"seed":0', '"seed":NaN'), "MANIFEST_INVALID"),
        (lambda text: text.replace('"seed":0', '"seed":' + "9" * 5000), "MANIFEST_INVALID"),
        (lambda text: text.replace('"seed":0', '"seed":9007199254740992'), "SEED_INVALID"),
        (lambda text: text.replace('"accuracy":0.5', '"accuracy":0.50'), "MANIFEST_NOT_CANONICAL"),
        (lambda text: text.replace('"accuracy":0.5', '"accuracy":1e999'), "MANIFEST_INVALID"),
        (lambda text: text.replace('"accuracy":0.5', '"accuracy":9007199254740993'), "MANIFEST_INVALID"),
        (lambda text: text.replace('"accuracy":0.5', '"accuracy":' + "[" * 7 + "]" * 7), "MANIFEST_INVALID"),
        (lambda text: text.replace('"accuracy":0.5', '"accuracy":"\\ud800"'), "MANIFEST_INVALID"),
        (lambda text: "[" * 100_000, "MANIFEST_INVALID"),
        (lambda text: f"\ufeff{text}", "MANIFEST_INVALID"),
        (lambda text: text[:-1], "MANIFEST_INVALID"),
        (lambda text: "", "MANIFEST_INVALID"),
        (lambda text: "[]", "SCHEMA_UNSUPPORTED"),
        (lambda text: "null", "SCHEMA_UNSUPPORTED"),
        (lambda text: text.ljust((1 << 20) + 1), "MANIFEST_TOO_LARGE"),
        (lambda text: text.ljust(1 << 20), "MANIFEST_NOT_CANONICAL"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_canonical_manifest(change: Callable[[str], str], code: str) -> None:
    spoiled_text = change(MANIFEST.to_bytes().decode())
    assert spoiled_text != MANIFEST.to_bytes().decode()
    with pytest.raises(ManifestError) as refused:
        Manifest.from_bytes(spoiled_text.encode())
    assert refused.value.code == code


def test_a_newer_schema_is_met_with_the_ones_that_are_known() -> None:
    with pytest.raises(ManifestError, match="newer vera-hub") as refused:
        Manifest.from_bytes(with_value(("schema",), "vera-adapter/2"))
    assert refused.value.facts == {"supported": ["vera-adapter/1"]}


def test_a_newer_method_is_met_before_the_fields_it_may_bring() -> None:
    newer = spoiled((), lambda value: value.update(method="gvera", groups=4))
    with pytest.raises(ManifestError, match="newer vera-hub") as refused:
        Manifest.from_bytes(newer)
    assert (refused.value.code, refused.value.facts) == ("METHOD_UNSUPPORTED", {"supported": ["vera", "dvora"]})


def test_dvora_learns_a_magnitude_per_output_more() -> None:
    dvora = make_archive(method=DVORA).manifest
    assert dvora.parameters - MANIFEST.parameters == 12 + 20
    assert dvora.weights.vector_bytes - MANIFEST.weights.vector_bytes == 4 * (12 + 20)


@pytest.mark.parametrize(
    "training",
    [
        {"x": 2**53},
        {"x": 2.0**60},  # its digits read back as an integer beyond 2^53
        {"x": 1e20},
        {"x": float("nan")},
        {"x": "\ud800"},
        {"\ud800": 1},
        {1: 2},
        {"x": b"bytes"},
        {"x": [[[[[[[[1]]]]]]]]},
    ],
    ids=repr,
)
def test_training_notes_that_could_not_be_read_back_are_refused_when_written(training: dict[Any, Any]) -> None:
    with pytest.raises(ManifestError, match="training"):
        dataclasses.replace(MANIFEST, training=training)


def test_a_manifest_made_in_code_is_held_to_the_same_rules() -> None:
    with pytest.raises(ManifestError, match="vector_bytes"):
        dataclasses.replace(MANIFEST, modules=MANIFEST.modules[1:])
    with pytest.raises(RecipeError):
        dataclasses.replace(MANIFEST, recipe=dataclasses.replace(MANIFEST.recipe, rank=0))
    with pytest.raises(ManifestError, match="two dimensions"):
        dataclasses.replace(MANIFEST, head=(HeadTensor("classifier.bias", ()),))


def consistent(modules: tuple[AdaptedModule, ...], head: tuple[HeadTensor, ...], dtype: str = "float32") -> Manifest:
    """A manifest in which every size adds up, whatever else is wrong with it."""
    item = 4 if dtype == "float32" else 2
    vector_bytes = item * sum(module.out_features + MANIFEST.recipe.rank for module in modules)
    head_bytes = item * sum(math.prod(tensor.shape) for tensor in head)
    weights = dataclasses.replace(
        MANIFEST.weights,
        dtype=dtype,
        vector_bytes=vector_bytes,
        head_bytes=head_bytes,
        size_bytes=8 + 500 + vector_bytes + head_bytes,
    )
    return dataclasses.replace(MANIFEST, modules=modules, head=head, weights=weights)


@pytest.mark.parametrize(
    ("modules", "head", "dtype"),
    [
        ((AdaptedModule("a", 0, 12), AdaptedModule("b", 12, 20)), (), "float32"),
        ((AdaptedModule("a", -1, 12), AdaptedModule("b", 12, 20)), (), "float32"),
        ((AdaptedModule("a", 12, 0), AdaptedModule("b", 12, 20)), (), "float32"),
        (MANIFEST.modules[::-1], (), "float32"),
        (MANIFEST.modules, MANIFEST.head[::-1], "float32"),
        (MANIFEST.modules, (MANIFEST.head[0],) * 2, "float32"),
        (MANIFEST.modules, (HeadTensor("a b", (2,)),), "float32"),
        (MANIFEST.modules, (HeadTensor("a", (0,)),), "float32"),
        (MANIFEST.modules, (HeadTensor("a", (2, 0)),), "float32"),
        (MANIFEST.modules, (HeadTensor("a", (-2, -2)),), "float32"),
        (MANIFEST.modules, tuple(HeadTensor(f"h{i:02}", (1,)) for i in range(65)), "float32"),
        (MANIFEST.modules, MANIFEST.head, "int16"),
        (MANIFEST.modules, MANIFEST.head, ""),
    ],
)
def test_a_lie_that_adds_up_is_a_lie_all_the_same(
    modules: tuple[AdaptedModule, ...], head: tuple[HeadTensor, ...], dtype: str
) -> None:
    with pytest.raises(ManifestError):
        consistent(modules, head, dtype)


def test_what_adds_up_and_is_no_lie_is_a_manifest() -> None:
    consistent(MANIFEST.modules, MANIFEST.head)
    consistent(MANIFEST.modules, MANIFEST.head, "bfloat16")
    consistent(MANIFEST.modules, tuple(HeadTensor(f"h{i:02}", (1, 3)) for i in range(64)))


@pytest.mark.parametrize(("method", "limit", "vector_items"), [(VERA, 2048, 20 + 8), (DVORA, 1365, 2 * 20 + 8)])
def test_more_modules_than_a_tensor_file_can_hold_are_refused(method: str, limit: int, vector_items: int) -> None:
    assert MAX_MODULES[method] == limit
    most = tuple(AdaptedModule(f"m{i:04}", 12, 20) for i in range(limit))
    vector_bytes = 4 * limit * vector_items
    weights = dataclasses.replace(
        MANIFEST.weights, vector_bytes=vector_bytes, size_bytes=vector_bytes + MANIFEST.weights.head_bytes + 500_000
    )
    full = dataclasses.replace(MANIFEST, method=method, modules=most, weights=weights)
    with pytest.raises(ManifestError, match=str(limit)):
        dataclasses.replace(full, modules=(*most, AdaptedModule("n", 12, 20)))
