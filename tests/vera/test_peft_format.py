"""PEFT 0.21 reads our folders and we read its draws: the same A, the same B, the same outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel, VeraConfig, get_peft_model
from peft.tuners.vera.model import _kaiming_init
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel

from tests.builders import make_archive
from tests.vera import torch_draw
from vera.archive import Archive, Vectors, pack, seal, vectors_of, write_folder
from vera.fingerprint import SINGLE_FILE, of_files
from vera.manifest import CONFIG_FILE, DVORA, VERA, WEIGHTS_FILE, AdaptedModule, BaseIdentity, Manifest
from vera.peft_format import vector_keys
from vera.projection import PEFT_MT19937, PHILOX, Projection, ProjectionRecipe, digest_of, rebuild
from vera.streams import kaiming_bound

pytestmark = [
    # PEFT warns about every checkpoint without projections; that it need not worry is the point here.
    pytest.mark.filterwarnings("ignore:Specified to not (save|load) vera_A and vera_B"),
]

RANK, SEED = 8, 7
# Layers of three shapes, so that the narrower ones use the leading part of the pair.
MODULES = (
    ("encoder.layer.0.attention.self.query", 32, 32),
    ("encoder.layer.0.intermediate.dense", 32, 64),
    ("encoder.layer.0.output.dense", 64, 32),
    ("encoder.layer.1.attention.self.value", 32, 32),
)
RECIPE = ProjectionRecipe(PEFT_MT19937, SEED, RANK, 64, 64)
PHILOX_RECIPE = ProjectionRecipe(PHILOX, SEED, RANK, 64, 64)


def tiny_config() -> BertConfig:
    return BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=40,
        max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


@pytest.fixture
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def base(seeded: None) -> BertModel:
    return BertModel(tiny_config()).eval()


@pytest.fixture
def adapter(base: BertModel, tmp_path: Path) -> Archive:
    return sealed_for(base, tmp_path, RECIPE)


def sealed_for(base: BertModel, folder: Path, recipe: ProjectionRecipe, method: str = VERA) -> Archive:
    """A sealed adapter for `base` with vectors that leave no layer's output alone."""
    save_file(base.state_dict(), folder / SINGLE_FILE)
    draw = np.random.Generator(np.random.PCG64(1))
    vectors = Vectors(
        lambda_b={name: draw.standard_normal(out, np.float32) for name, _, out in MODULES},
        lambda_d={name: draw.standard_normal(RANK, np.float32) for name, *_ in MODULES},
        head={},
        magnitude={name: draw.random(out, np.float32) for name, _, out in MODULES} if method == DVORA else {},
    )
    weights, sizes, _ = pack(vectors)
    manifest = Manifest(
        base=BaseIdentity("tests/tiny-bert", of_files(folder).value, "float32"),
        recipe=recipe,
        projection_digest=digest_of(rebuild(recipe)),
        modules=tuple(AdaptedModule(*module) for module in sorted(MODULES)),
        weights=sizes,
        method=method,
    )
    return seal(manifest, weights, "# Tiny\n")


def ids() -> torch.Tensor:
    return torch.arange(12).reshape(2, 6)


def in_and_out_of(model: nn.Module, names: Sequence[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What each module reads and gives during one forward."""
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0], y)}))
        for name in names
    ]
    with torch.no_grad():
        model(ids())
    for hook in hooks:
        hook.remove()
    return seen


def test_peft_loads_a_sealed_folder_and_computes_the_paper_s_equation(
    base: BertModel, adapter: Archive, tmp_path: Path
) -> None:
    """y = W x + bias + λb ⊙ B (λd ⊙ A x), eq. 2 of Kopiczko et al. 2024, with A and B from our recipe."""
    plain = {name: base.get_submodule(name) for name, *_ in MODULES}
    weights = {name: (m.weight.detach().clone(), m.bias.detach().clone()) for name, m in plain.items()}
    write_folder(adapter, tmp_path / "adapter")

    model = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))

    pair, vectors = rebuild(RECIPE), vectors_of(adapter)
    seen = in_and_out_of(model.base_model.model, [name for name, *_ in MODULES])
    for name, in_features, out_features in MODULES:
        x_BTI, y_BTO = (tensor.double().numpy() for tensor in seen[name])
        W_OI, bias_O = (tensor.double().numpy() for tensor in weights[name])
        A_RI, B_OR = pair.A[:, :in_features].astype(float), pair.B[:out_features].astype(float)
        delta_BTO = vectors.lambda_b[name] * ((vectors.lambda_d[name] * (x_BTI @ A_RI.T)) @ B_OR.T)
        # PEFT sums up to 64 products in float32: a few units in the last place of the largest.
        np.testing.assert_allclose(y_BTO, x_BTI @ W_OI.T + bias_O + delta_BTO, rtol=1e-4, atol=1e-5)
        assert np.abs(delta_BTO).max() > 0.1  # it is not the base's output that is compared


def test_peft_draws_the_matrices_of_our_recipe_from_our_configuration(
    base: BertModel, adapter: Archive, tmp_path: Path
) -> None:
    write_folder(adapter, tmp_path / "adapter")
    model = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    assert_same_pair(
        Projection(as_numpy(model.base_model.vera_A["default"]), as_numpy(model.base_model.vera_B["default"]))
    )


def test_peft_adapts_the_modules_of_the_manifest_and_no_others(
    base: BertModel, adapter: Archive, tmp_path: Path
) -> None:
    write_folder(adapter, tmp_path / "adapter")
    model = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    adapted = {
        name
        for name, module in model.base_model.model.named_modules()
        if hasattr(module, "vera_lambda_b") and hasattr(module, "base_layer")
    }
    assert adapted == {name for name, *_ in MODULES}


@pytest.mark.parametrize("targets", [["query", "value"], ["query", "intermediate.dense"]], ids=", ".join)
def test_a_checkpoint_trained_by_peft_holds_the_rebuilt_pair(
    base: BertModel, tmp_path: Path, targets: list[str]
) -> None:
    trained = train(get_peft_model(base, VeraConfig(r=RANK, target_modules=targets, projection_prng_key=SEED)))
    trained.save_pretrained(tmp_path)

    saved = {name: tensor.numpy() for name, tensor in load_file(tmp_path / WEIGHTS_FILE).items()}

    widest = max(vector.size for name, vector in saved.items() if name.endswith("lambda_b"))
    recipe = ProjectionRecipe(PEFT_MT19937, SEED, RANK, 32, widest)
    pair = Projection(saved.pop("base_model.vera_A"), saved.pop("base_model.vera_B"))
    assert_same_pair(pair, recipe)
    adapted = {
        name.removesuffix(".vera_lambda_d").removeprefix("base_model.model.") for name in saved if name.endswith("_d")
    }
    assert set(saved) == {key for module in adapted for key in vector_keys(module)}


def test_a_bfloat16_base_rounds_the_draw_as_the_recipe_says(base: BertModel) -> None:
    model = get_peft_model(
        base.to(torch.bfloat16),
        VeraConfig(r=RANK, target_modules=["query"], projection_prng_key=SEED),
        autocast_adapter_dtype=False,
    )
    layer = model.base_model.model.encoder.layer[0].attention.self.query
    used = Projection(as_numpy(layer.vera_A["default"].float()), as_numpy(layer.vera_B["default"].float()))
    rounded = rebuild(ProjectionRecipe(PEFT_MT19937, SEED, RANK, 32, 32, "bfloat16"))
    assert digest_of(used) == digest_of(rounded)
    assert digest_of(used) != digest_of(rebuild(ProjectionRecipe(PEFT_MT19937, SEED, RANK, 32, 32)))


@pytest.mark.parametrize("low_memory", [False, True], ids=["drawn", "low_cpu_mem_usage"])
def test_peft_refuses_an_adapter_whose_matrices_it_cannot_draw(
    base: BertModel, tmp_path: Path, low_memory: bool
) -> None:
    """PEFT has MT19937 alone: with a seed in the configuration it would attach other matrices, silently."""
    write_folder(sealed_for(base, tmp_path, PHILOX_RECIPE), tmp_path / "adapter")
    modules = list(base.modules())

    with pytest.raises(RuntimeError, match="manual_seed expected a long, but got NoneType"):
        PeftModel.from_pretrained(base, str(tmp_path / "adapter"), low_cpu_mem_usage=low_memory)

    assert list(base.modules()) == modules  # it refuses before it touches the model


def test_peft_refuses_magnitudes_it_would_leave_out(base: BertModel, tmp_path: Path) -> None:
    """Its matrices PEFT could draw; without m it would compute another model, with a warning at most."""
    write_folder(sealed_for(base, tmp_path, RECIPE, DVORA), tmp_path / "adapter")

    with pytest.raises(RuntimeError, match="manual_seed expected a long, but got NoneType"):
        PeftModel.from_pretrained(base, str(tmp_path / "adapter"))


def test_peft_refuses_it_as_a_second_adapter_too(base: BertModel, adapter: Archive, tmp_path: Path) -> None:
    write_folder(adapter, tmp_path / "first")
    write_folder(sealed_for(base, tmp_path, PHILOX_RECIPE), tmp_path / "second")
    model = PeftModel.from_pretrained(base, str(tmp_path / "first"))

    with pytest.raises(ValueError, match="PRNG initialisation key must be the same"):
        model.load_adapter(str(tmp_path / "second"), "second")


def test_with_a_seed_filled_in_peft_asks_for_the_matrices_of_training(base: BertModel, tmp_path: Path) -> None:
    write_folder(sealed_for(base, tmp_path, PHILOX_RECIPE), tmp_path / "adapter")
    config = tmp_path / "adapter" / CONFIG_FILE
    config.write_text(config.read_text().replace('"projection_prng_key": null', f'"projection_prng_key": {SEED}'))

    with pytest.raises(ValueError, match="load vera_A and vera_B from state dictionary however they were not present"):
        PeftModel.from_pretrained(base, str(tmp_path / "adapter"))


def test_our_draw_is_the_one_of_peft_s_own_function() -> None:
    generator = torch.Generator(device="cpu").manual_seed(SEED)
    pair = Projection(*(as_numpy(_kaiming_init(shape, generator=generator)) for shape in ((RANK, 64), (64, RANK))))
    assert_same_pair(pair)


def test_the_configuration_is_a_whitelist_and_asks_for_nothing() -> None:
    adapter = make_archive()
    config: dict[str, Any] = json.loads(adapter.files[CONFIG_FILE])
    assert config == {
        "base_model_name_or_path": "tests/tiny-encoder",
        "bias": "none",
        "d_initial": 0.1,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "modules_to_save": None,
        "peft_type": "VERA",
        "projection_prng_key": 0,
        "r": 8,
        "revision": None,
        "save_projection": False,
        "target_modules": ["encoder.layer.0.attention.self.query", "encoder.layer.0.intermediate.dense"],
        "task_type": None,
        "vera_dropout": 0.0,
    }


def assert_same_pair(pair: Projection, recipe: ProjectionRecipe = RECIPE) -> None:
    """Bit for bit where torch fuses its multiply-add; elsewhere within a unit of the bound."""
    ours = rebuild(recipe)
    assert [matrix.shape for matrix in pair] == [matrix.shape for matrix in ours]
    if torch_draw.fuses_multiply_add():
        assert digest_of(pair) == digest_of(ours)
    else:
        for theirs, mine in zip(pair, ours, strict=True):
            assert np.abs(theirs - mine).max() <= np.spacing(kaiming_bound(mine.shape[1]))


def as_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return array


def train(model: PeftModel, steps: int = 2) -> PeftModel:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(ids()).last_hidden_state.square().mean().backward()
        optimizer.step()
    return model
