"""Whatever PEFT 0.21 trained is imported to the same outputs, or refused with the reason."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, VeraConfig, get_peft_model
from transformers import BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from tests.builders import MODULES, make_base
from tests.peft_folders import RANK, SEED, recipe_of, write_peft_folder
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.vera import torch_draw
from vera import archive as archives
from vera import fingerprint, peft_matrices
from vera.errors import VeraError
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.manifest import CONFIG_FILE, WEIGHTS_FILE, AdaptedModule
from vera.nn.attach import attach
from vera.peft_checkpoint import MAX_CHECKPOINT_BYTES, SAVED_A, SAVED_B, read_checkpoint
from vera.peft_format import KEY_PREFIX, LAMBDA_B, LAMBDA_D
from vera.peft_import import Imported, import_checkpoint
from vera.peft_matrices import Evidence
from vera.projection import (
    PEFT_MT19937,
    ROUNDINGS,
    STORED,
    Projection,
    ProjectionRecipe,
    digest_of,
    prove,
    rebuild,
    round_to,
)
from vera.tensorfile import parse

pytestmark = [
    # PEFT warns about every checkpoint without projections; that it need not worry is the point here.
    pytest.mark.filterwarnings("ignore:Specified to not (save|load) vera_A and vera_B"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False but the target module is `Conv1D`"),
]

QUERY, DENSE = (name for name, *_ in MODULES)
TARGETS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense", "pooler.dense")
# What torch's kernels of this machine leave in a checkpoint.
DRAWN_HERE = Evidence.SAVED if torch_draw.fuses_multiply_add() else Evidence.SAVED_UNFUSED


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same tiny BERT, stored in each dtype."""
    folder = tmp_path_factory.mktemp("bases")
    return {dtype: write_tiny_bert(folder / dtype, dtype=getattr(torch, dtype)) for dtype in ROUNDINGS}


def read(folder: Path, base: BaseFingerprint | None = None, **options: Any) -> Imported:
    return import_checkpoint(read_checkpoint(folder), base or make_base(), base_name="tests/tiny-encoder", **options)


def refused(folder: Path, base: BaseFingerprint | None = None, **options: Any) -> VeraError:
    with pytest.raises(VeraError) as caught:
        read(folder, base, **options)
    return caught.value


def outputs_of(model: Any) -> list[torch.Tensor]:
    ids = torch.arange(2, 14).reshape(2, 6)
    with torch.no_grad():
        answer = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return [answer.last_hidden_state, answer.pooler_output]


def adapted_by_peft(model: Any, config: VeraConfig, *, autocast: bool = True) -> PeftModel:
    """`model` with vectors that leave no adapted layer's output alone, as after a training."""
    adapted = get_peft_model(model, config, autocast_adapter_dtype=autocast).eval()
    randomise(adapted)
    return adapted


def randomise(adapted: Any) -> None:
    """Gives every vector random values, as training would."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, vector in adapted.named_parameters():
            if LAMBDA_B in name or LAMBDA_D in name:
                vector.copy_(torch.randn(vector.shape, generator=draw))


# -- Any adapter of PEFT gives PEFT's own outputs -------------------------------------------------


@settings(max_examples=14)
@given(
    rank=st.integers(1, 24),
    seed=st.integers(-(2**63) + 1, 2**63 - 1),
    targets=st.sets(st.sampled_from(TARGETS), min_size=1).map(sorted),
    saved=st.booleans(),
    dtype=st.sampled_from(ROUNDINGS),
    autocast=st.booleans(),
)
def test_an_adapter_of_peft_answers_here_and_there_alike(
    checkpoints: dict[str, Path], rank: int, seed: int, targets: list[str], saved: bool, dtype: str, autocast: bool
) -> None:
    """Trained on a base held in `dtype`, imported, attached; then written by us and loaded by PEFT again."""
    config = VeraConfig(r=rank, target_modules=targets, projection_prng_key=seed, save_projection=saved)
    theirs = adapted_by_peft(load_tiny_bert(checkpoints[dtype]), config, autocast=autocast)
    base = fingerprint.of_files(checkpoints[dtype])
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(f"{folder}/theirs")
        imported = read(Path(folder, "theirs"), base, trained_in=None if saved else dtype)
        archives.write_folder(imported.archive, Path(folder, "ours"))
        again = PeftModel.from_pretrained(
            load_tiny_bert(checkpoints[dtype]), f"{folder}/ours", autocast_adapter_dtype=autocast
        ).eval()

    assert imported.evidence == (DRAWN_HERE if saved else Evidence.SEED)
    assert imported.archive.manifest.recipe.rounding == dtype
    for back, before in zip(outputs_of(again), outputs_of(theirs), strict=True):
        assert torch.equal(back, before)
    # Both in float32, which holds the 16-bit values exactly: what is compared is the adapter, not its arithmetic.
    model = load_tiny_bert(checkpoints[dtype], dtype=torch.float32)
    attach(model, imported.archive, base)
    for mine, expected in zip(outputs_of(model), outputs_of(theirs.float()), strict=True):
        # Layer-normed values of order 1 after two layers of float32 sums of up to 64 products, in another order.
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_trained_by_peft_on_a_bfloat16_base_answers_as_it_did(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """Really trained, its matrices not saved: the rounding has to be said, and the wrong one shows."""
    config = VeraConfig(r=RANK, target_modules=["query", "value"], projection_prng_key=SEED, save_projection=False)
    theirs = get_peft_model(load_tiny_bert(checkpoints["bfloat16"]), config)
    optimizer = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], lr=50.0)
    ids = torch.arange(2, 14).reshape(2, 6)
    for _ in range(10):
        optimizer.zero_grad()
        theirs(input_ids=ids).last_hidden_state.float()[..., 0].mean().backward()
        optimizer.step()
    theirs.eval().save_pretrained(tmp_path)
    base = fingerprint.of_files(checkpoints["bfloat16"])

    expected = outputs_of(theirs.float())[0]
    off = {}
    for rounding in ("bfloat16", "float32"):
        model = load_tiny_bert(checkpoints["bfloat16"], dtype=torch.float32)
        attach(model, read(tmp_path, base, trained_in=rounding).archive, base)
        off[rounding] = float((outputs_of(model)[0] - expected).abs().max())
    # Layer-normed values of order 1, float32 sums of up to 64 products in another order; rounding moves A by 2^-9.
    assert off["bfloat16"] < 1e-5 < 1e-4 < off["float32"]


def test_the_second_adapter_on_a_model_of_peft_keeps_the_matrices_it_was_trained_with(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """PEFT gives it the first one's, which are made for wider modules, and says nothing."""
    wide, narrow = (
        VeraConfig(r=RANK, target_modules=targets, projection_prng_key=SEED)
        for targets in (["intermediate.dense", "output.dense"], ["query", "value"])
    )
    theirs = adapted_by_peft(load_tiny_bert(checkpoints["float32"]), wide)
    theirs.add_adapter("second", narrow)
    theirs.set_adapter("second")
    randomise(theirs)
    theirs.eval().save_pretrained(tmp_path)
    base = fingerprint.of_files(checkpoints["float32"])

    imported = read(tmp_path / "second", base)
    model = load_tiny_bert(checkpoints["float32"])
    attach(model, imported.archive, base)

    assert imported.evidence is Evidence.STORED
    for mine, expected in zip(outputs_of(model), outputs_of(theirs), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_modules_are_found_under_the_names_of_the_base_checkpoint(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """BertForMaskedLM calls `bert.encoder…` what the checkpoint of a BertModel calls `encoder…`."""
    model = BertForMaskedLM.from_pretrained(checkpoints["float32"])
    adapted_by_peft(model, VeraConfig(r=RANK, target_modules=["query"])).save_pretrained(tmp_path)

    imported = read(tmp_path, fingerprint.of_files(checkpoints["float32"]))

    assert [m.name for m in imported.archive.manifest.modules] == [
        f"encoder.layer.{i}.attention.self.query" for i in range(2)
    ]


def test_layers_that_store_their_weight_the_other_way_round_are_adapted_alike(tmp_path: Path) -> None:
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=40, n_positions=16, embd_pdrop=0, attn_pdrop=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    base, targets = fingerprint.of_files(tmp_path / "base"), ["c_attn", "mlp.c_proj"]
    theirs = adapted_by_peft(
        GPT2LMHeadModel.from_pretrained(tmp_path / "base"), VeraConfig(r=RANK, target_modules=targets)
    )
    theirs.save_pretrained(tmp_path / "theirs")

    imported = read(tmp_path / "theirs", base)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "base").eval()
    attach(model, imported.archive, base)

    assert imported.evidence == DRAWN_HERE
    assert imported.archive.manifest.modules == (
        AdaptedModule("transformer.h.0.attn.c_attn", 32, 96),
        AdaptedModule("transformer.h.0.mlp.c_proj", 128, 32),
    )
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        # Logits of order 1 from float32 sums of up to 128 products, possibly in another order.
        torch.testing.assert_close(model(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True but the target module is `torch.nn.Linear`")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_a_layer_that_its_flag_does_not_tell_of_says_how_to_set_it(tmp_path: Path) -> None:
    """PEFT's flag is that of the last module, a head that is stored the usual way."""
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=40, n_positions=16, tie_word_embeddings=False)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    base = fingerprint.of_files(tmp_path / "base")
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    adapted_by_peft(model, VeraConfig(r=RANK, target_modules=["c_attn", "lm_head"])).save_pretrained(
        tmp_path / "theirs"
    )

    assert "set fan_in_fan_out to true" in str(refused(tmp_path / "theirs", base))

    settings_file = tmp_path / "theirs" / CONFIG_FILE
    settings_file.write_text(settings_file.read_text().replace('"fan_in_fan_out": false', '"fan_in_fan_out": true'))
    modules = {module.name: module for module in read(tmp_path / "theirs", base).archive.manifest.modules}
    assert modules["transformer.h.0.attn.c_attn"] == AdaptedModule("transformer.h.0.attn.c_attn", 32, 96)


HEAD = ("lm_head", 32, 64)
COPY = "base_model.model.lm_head.base_layer.weight"


def base_and_copy(name: str, dtype: str = "F32") -> tuple[BaseFingerprint, np.ndarray]:
    """A base in which `name` has the weight that a checkpoint holds a copy of, and the copy in float32."""
    copy = np.random.Generator(np.random.PCG64(5)).standard_normal((64, 32), np.float32)
    if dtype == "BF16":
        copy = round_to(copy, "bfloat16")
    stored = {"F32": copy, "BF16": (copy.view(np.uint32) >> 16).astype(np.uint16), "F16": copy.astype(np.float16)}[
        dtype
    ]
    if dtype == "F16":
        copy = stored.astype(np.float32)
    record = TensorRecord(name, dtype, (64, 32), hashlib.sha256(stored.tobytes()).hexdigest())
    others = [r for r in make_base().tensors if r.name != name]
    return BaseFingerprint.of_records([*others, record]), copy


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize(
    ("tensor", "shares"), [("lm_head.weight", None), ("embeddings.weight", "embeddings.weight")], ids=["own", "tied"]
)
def test_peft_s_copy_of_an_adapted_head_must_be_the_base_s_and_is_left_out(
    tmp_path: Path, dtype: str, tensor: str, shares: str | None
) -> None:
    base, copy = base_and_copy(tensor, dtype)
    folder = write_peft_folder(tmp_path, modules=(*MODULES, HEAD), tensors={COPY: copy})

    imported = read(folder, base).archive

    assert imported.manifest.modules[-1] == AdaptedModule("lm_head", 32, 64, shares)
    assert not [name for name in parse(imported.files[WEIGHTS_FILE]) if "base_layer" in name]


def test_another_copy_of_an_adapted_head_is_that_of_another_base(tmp_path: Path) -> None:
    base, copy = base_and_copy("lm_head.weight")
    copy[3, 3] = np.nextafter(copy[3, 3], 2)
    error = refused(write_peft_folder(tmp_path, modules=(*MODULES, HEAD), tensors={COPY: copy}), base)
    assert (error.code, error.facts["module"]) == ("BASE_MISMATCH", "lm_head")


def test_a_copy_that_no_tensor_of_the_base_is_says_so(tmp_path: Path) -> None:
    base, copy = base_and_copy("embeddings.weight")
    error = refused(write_peft_folder(tmp_path, modules=(*MODULES, HEAD), tensors={COPY: 2 * copy}), base)
    assert (error.code, error.facts["module"], error.facts["same"]) == ("TARGET_UNKNOWN", "lm_head", [])


def test_a_tied_head_without_its_copy_says_how_to_save_it(tmp_path: Path) -> None:
    base, _ = base_and_copy("embeddings.weight")
    error = refused(write_peft_folder(tmp_path, modules=(*MODULES, HEAD)), base)
    assert error.code == "TARGET_UNKNOWN"
    assert "save_embedding_layers=True" in str(error)


def test_a_model_that_finds_none_of_its_weights_in_the_base_says_what_to_train_instead(tmp_path: Path) -> None:
    """transformers draws all weights of a LlamaForQuestionAnswering of a language model's checkpoint, which begin otherwise."""
    base = BaseFingerprint.of_records([replace(record, name=f"model.{record.name}") for record in make_base().tensors])
    modules = tuple((f"transformer.{name}", *sizes) for name, *sizes in MODULES)

    error = refused(write_peft_folder(tmp_path, modules=modules), base)

    assert (error.code, error.facts["in_base"]) == ("TARGET_UNKNOWN", f"model.{MODULES[0][0]}")
    assert "AutoModel.from_pretrained(BASE).save_pretrained(FOLDER)" in str(error)


def test_modules_that_were_trained_whole_say_how_large_they_are(tmp_path: Path) -> None:
    """As the lm_head of a language model is."""
    head = {"base_model.model.lm_head.weight": np.zeros((17_000, 1024), np.float32)}

    error = refused(write_peft_folder(tmp_path, tensors=head, modules_to_save=["lm_head"]))

    assert error.code == "FILE_TOO_LARGE"
    assert (error.facts["head_bytes"], error.facts["max_bytes"]) == (4 * 17_000 * 1024, 64 << 20)
    assert "69,632,000 of them a head" in str(error)
    assert "target_modules" in str(error)


# -- The recipe -----------------------------------------------------------------------------------


def test_saved_matrices_prove_the_recipe_and_are_left_out(tmp_path: Path) -> None:
    imported = read(write_peft_folder(tmp_path))

    manifest = imported.archive.manifest
    assert (manifest.recipe, imported.evidence) == (recipe_of(), Evidence.SAVED)
    assert manifest.projection_digest == digest_of(rebuild(recipe_of()))
    assert imported.matrix_bytes == recipe_of().size_bytes
    assert imported.checkpoint_bytes - len(imported.archive.files[WEIGHTS_FILE]) >= imported.matrix_bytes
    assert {name.rpartition(".")[2] for name in parse(imported.archive.files[WEIGHTS_FILE])} == {LAMBDA_B, LAMBDA_D}


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_saved_matrices_tell_what_they_were_rounded_to(tmp_path: Path, rounding: str) -> None:
    recipe = replace(recipe_of(), rounding=rounding)
    A, B = rebuild(recipe)
    imported = read(write_peft_folder(tmp_path, tensors={SAVED_A: A, SAVED_B: B}))
    assert (imported.archive.manifest.recipe, imported.evidence) == (recipe, Evidence.SAVED)
    assert imported.archive.manifest.projection_digest == digest_of(rebuild(recipe))


def test_a_recipe_is_drawn_once_for_all_checkpoints_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[ProjectionRecipe] = []
    monkeypatch.setattr(
        peft_matrices, "rebuild", lambda recipe, **rest: drawn.append(recipe) or rebuild(recipe, **rest)
    )
    other = replace(recipe_of(), seed=SEED + 100)  # a seed of this test alone
    A, B = rebuild(other)
    for name, saved in (("a", {SAVED_A: A, SAVED_B: B}), ("b", {SAVED_A: A, SAVED_B: B}), ("c", {})):
        folder = write_peft_folder(tmp_path / name, saved=bool(saved), tensors=saved, projection_prng_key=other.seed)
        assert read(folder).archive.manifest.projection_digest == digest_of(Projection(A, B))
    assert drawn == [other]


@pytest.fixture(scope="module")
def without_fma(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The pair of `write_peft_folder` from torch's portable kernels, which round the product before they add."""
    path = tmp_path_factory.mktemp("portable") / "pair.npz"
    recipe = recipe_of()
    script = (
        "import sys, numpy\n"
        "from tests.vera.torch_draw import pair\n"
        f"a, b = pair({recipe.seed}, {recipe.rank}, {recipe.in_features}, {recipe.out_features})\n"
        "numpy.savez(sys.argv[1], A=a, B=b)\n"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment)
    with np.load(path) as pair:
        return dict(pair)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_draw_without_fused_multiply_add_is_the_same_recipe(
    tmp_path: Path, without_fma: dict[str, np.ndarray], rounding: str
) -> None:
    portable = {SAVED_A: round_to(without_fma["A"], rounding), SAVED_B: round_to(without_fma["B"], rounding)}
    recipe = replace(recipe_of(), rounding=rounding)

    imported = read(write_peft_folder(tmp_path, tensors=portable))

    assert imported.archive.manifest.recipe == recipe
    assert imported.archive.manifest.projection_digest == digest_of(rebuild(recipe))
    if rounding == "float32":  # after a rounding to 16 bits so small a pair may well be the same
        assert imported.evidence is Evidence.SAVED_UNFUSED


@pytest.mark.parametrize("matrix", [SAVED_A, SAVED_B])
def test_one_changed_bit_in_a_saved_matrix_is_another_projection(tmp_path: Path, matrix: str) -> None:
    pair = dict(zip((SAVED_A, SAVED_B), rebuild(recipe_of()), strict=True))
    spoiled = pair[matrix].copy()
    spoiled.view(np.uint32)[-1, -1] ^= 2  # by two units in the last place: fused or not, no draw gives it

    imported = read(write_peft_folder(tmp_path, tensors={matrix: spoiled}))

    pair[matrix] = spoiled
    manifest, expected = imported.archive.manifest, Projection(pair[SAVED_A], pair[SAVED_B])
    assert imported.evidence is Evidence.STORED
    assert manifest.recipe == replace(recipe_of(), stream=STORED, seed=None)
    proven = prove(manifest.recipe, manifest.projection_digest, source=imported.archive.projection)
    assert digest_of(proven) == digest_of(expected) == manifest.projection_digest
    assert str(Evidence.STORED) in imported.archive.card


def test_matrices_that_are_wider_than_the_modules_need_are_cut_to_what_is_used(tmp_path: Path) -> None:
    """PEFT gives the second adapter on a model the matrices of the first, which may adapt wider modules."""
    wider = rebuild(ProjectionRecipe(PEFT_MT19937, SEED, RANK, 40, 50))

    archive = read(write_peft_folder(tmp_path, tensors={SAVED_A: wider.A, SAVED_B: wider.B})).archive

    assert archive.manifest.recipe.is_stored
    pair = prove(archive.manifest.recipe, archive.manifest.projection_digest, source=archive.projection)
    assert np.array_equal(pair.A, wider.A[:, :12])
    assert np.array_equal(pair.B, wider.B[:20])


def test_matrices_that_are_only_higher_are_those_of_the_recipe(tmp_path: Path) -> None:
    """B is drawn row by row after A: its first rows do not depend on how many follow."""
    higher = rebuild(replace(recipe_of(), out_features=50))
    imported = read(write_peft_folder(tmp_path, tensors={SAVED_A: higher.A, SAVED_B: higher.B}))
    assert (imported.archive.manifest.recipe, imported.evidence) == (recipe_of(), Evidence.SAVED)


def test_an_edited_seed_does_no_harm_where_the_matrices_were_saved(tmp_path: Path) -> None:
    """The matrices are those of training, whatever the configuration says: they are kept."""
    imported = read(write_peft_folder(tmp_path, projection_prng_key=SEED + 1))
    assert imported.evidence is Evidence.STORED
    assert imported.archive.manifest.projection_digest == digest_of(rebuild(recipe_of()))


def test_matrices_with_values_of_no_draw_are_refused(tmp_path: Path) -> None:
    spoiled = rebuild(recipe_of()).A.copy()
    spoiled[0, 0] = np.inf
    assert refused(write_peft_folder(tmp_path, tensors={SAVED_A: spoiled})).code == "TENSOR_NONFINITE"


def test_a_dtype_that_saved_matrices_contradict_is_refused(tmp_path: Path) -> None:
    assert refused(write_peft_folder(tmp_path), trained_in="bfloat16").code == "PROJECTION_UNKNOWN"


def test_without_saved_matrices_the_dtype_of_training_is_asked_for_where_nothing_tells_it(tmp_path: Path) -> None:
    folder, stored_in_bfloat16 = write_peft_folder(tmp_path, saved=False), make_base(dtype="BF16")

    error = refused(folder, stored_in_bfloat16)
    assert error.code == "ROUNDING_UNKNOWN"
    assert "--trained-in" in str(error)

    for dtype in ROUNDINGS:
        imported = read(folder, stored_in_bfloat16, trained_in=dtype)
        assert imported.archive.manifest.recipe == replace(recipe_of(), rounding=dtype)
    assert read(folder).archive.manifest.recipe == recipe_of()  # a base stored in float32


def test_a_recipe_that_nothing_proves_says_so(tmp_path: Path) -> None:
    archive = read(write_peft_folder(tmp_path, saved=False)).archive
    assert archive.manifest.training == {"imported": {"from": "peft", "projection": str(Evidence.SEED)}}
    assert str(Evidence.SEED) in archive.card


def test_matrices_beyond_the_budget_are_refused(tmp_path: Path) -> None:
    assert refused(write_peft_folder(tmp_path, saved=False), budget_bytes=1000).code == "ADAPTER_TOO_LARGE"


# -- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "code", "word"),
    [
        ({"peft_type": "LORA"}, "PEFT_UNSUPPORTED", "LORA"),
        ({"peft_type": None}, "PEFT_UNSUPPORTED", "None"),
        ({"bias": "vera_only"}, "PEFT_UNSUPPORTED", "train it with bias='none'"),
        ({"modules_to_save": ["classifier", "score"]}, "PEFT_INVALID", "classifier, score"),
        ({"modules_to_save": "classifier"}, "PEFT_INVALID", "modules_to_save"),
        ({"modules_to_save": [""]}, "PEFT_INVALID", "modules_to_save"),
        ({"task_type": 3}, "PEFT_INVALID", "task_type"),
        ({"task_type": "SEQ_CLS"}, "PEFT_UNSUPPORTED", "classifier.weight"),
        ({"r": RANK + 1}, "RANK_MISMATCH", "9"),
        ({"r": 10**6}, "RANK_MISMATCH", "1000000"),
        ({"r": "8"}, "PEFT_INVALID", "r in"),
        ({"r": True}, "PEFT_INVALID", "r in"),
        ({"projection_prng_key": 7.0}, "PEFT_INVALID", "projection_prng_key"),
        ({"projection_prng_key": 2**64}, "PEFT_INVALID", "integer"),
        ({"fan_in_fan_out": 1}, "PEFT_INVALID", "fan_in_fan_out"),
        ({"target_modules": "(a+)+$"}, None, ""),  # a pattern is not even looked at
    ],
    ids=str,
)
def test_a_configuration_is_not_believed(
    tmp_path: Path, config: dict[str, object], code: str | None, word: str
) -> None:
    folder = write_peft_folder(tmp_path, **config)
    if code is None:
        assert read(folder).archive.manifest.recipe == recipe_of()
        return
    error = refused(folder)
    assert error.code == code
    assert word in str(error)


ONES = np.ones(RANK, np.float32)


@pytest.mark.parametrize(
    ("tensors", "code", "word"),
    [
        ({f"{KEY_PREFIX}classifier.weight": np.ones((2, 12), np.float32)}, "PEFT_UNSUPPORTED", "classifier.weight"),
        ({f"{KEY_PREFIX}{QUERY}.lora_A.weight": np.ones((8, 12), np.float32)}, "PEFT_UNSUPPORTED", "lora_A"),
        ({f"{KEY_PREFIX}{QUERY}.{LAMBDA_D}": None}, "PEFT_INVALID", QUERY),
        ({f"{KEY_PREFIX}{QUERY}.{LAMBDA_D}": np.ones((1, RANK), np.float32)}, "PEFT_INVALID", QUERY),
        ({f"{KEY_PREFIX}{QUERY}.{LAMBDA_D}": np.ones(RANK - 1, np.float32)}, "RANK_MISMATCH", QUERY),
        ({f"{KEY_PREFIX}{QUERY}.{LAMBDA_B}": np.full(12, np.nan, np.float32)}, "TENSOR_NONFINITE", QUERY),
        ({f"{KEY_PREFIX}{QUERY}.{LAMBDA_B}": np.ones(13, np.float32)}, "DIMS_MISMATCH", QUERY),
        ({f"{KEY_PREFIX}{DENSE}.{LAMBDA_B}": np.ones(12, np.float32)}, "DIMS_MISMATCH", DENSE),  # (out, in) was asked for
        ({SAVED_A: None}, "PEFT_INVALID", SAVED_A),
        ({SAVED_A: None, SAVED_B: None}, "PEFT_INVALID", "save_projection"),
        ({SAVED_A: ONES}, "PEFT_INVALID", "pair of matrices"),
        ({SAVED_A: np.ones((RANK, 11), np.float32)}, "PEFT_INVALID", "8 × 11"),
        ({SAVED_A: np.ones((RANK + 1, 12), np.float32)}, "PEFT_INVALID", "9 × 12"),
        ({SAVED_B: np.ones((19, RANK), np.float32)}, "PEFT_INVALID", "19 × 8"),
        ({f"{KEY_PREFIX}nowhere.{kind}": ONES for kind in (LAMBDA_B, LAMBDA_D)}, "TARGET_UNKNOWN", "nowhere"),
        ({f"{KEY_PREFIX}bert.{QUERY}.{kind}": np.ones(size, np.float32) for kind, size in ((LAMBDA_B, 12), (LAMBDA_D, RANK))}, "TARGET_UNKNOWN", QUERY),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else str(value),
)  # fmt: skip
def test_tensors_are_not_believed(tmp_path: Path, tensors: dict[str, np.ndarray | None], code: str, word: str) -> None:
    error = refused(write_peft_folder(tmp_path, tensors=tensors))
    assert error.code == code
    assert word in str(error)


def test_a_checkpoint_without_vectors_is_refused(tmp_path: Path) -> None:
    none = {f"{KEY_PREFIX}{name}.{kind}": None for name, *_ in MODULES for kind in (LAMBDA_B, LAMBDA_D)}
    assert "no VeRA vectors" in str(refused(write_peft_folder(tmp_path, tensors=none)))


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x02}q\x00." + bytes(64))


def a_large_file(path: Path) -> None:
    os.truncate(path, MAX_CHECKPOINT_BYTES + 1)  # sparse


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (Path.unlink, "FILE_MISSING"),
        (a_link, "SOURCE_UNSAFE"),
        (a_pipe, "SOURCE_UNSAFE"),
        (a_large_file, "FILE_TOO_LARGE"),
        (a_pickle, "UNSUPPORTED_FORMAT"),
    ],
)
def test_the_tensor_file_is_a_plain_one_of_bounded_size(
    tmp_path: Path, change: Callable[[Path], None], code: str
) -> None:
    folder = write_peft_folder(tmp_path / "p")
    change(folder / WEIGHTS_FILE)
    assert refused(folder).code == code


def test_the_folder_of_several_adapters_says_which_there_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_peft_folder(tmp_path / name)
    assert "a folder of its own: give one of one, two." in str(refused(tmp_path))


def test_a_pickle_in_place_of_the_tensor_file_says_how_to_save_it_again(tmp_path: Path) -> None:
    folder = write_peft_folder(tmp_path)
    (folder / WEIGHTS_FILE).rename(folder / "adapter_model.bin")
    assert "its save_pretrained(NEW_FOLDER) writes what is read here" in str(refused(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"peft_type": "VERA", "peft_type": "LORA"}', "[" * 10_000])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_peft_folder(tmp_path)
    (folder / CONFIG_FILE).write_text(text)
    assert refused(folder).code == "PEFT_INVALID"
