"""DVoRA: the direction VeRA gives and a magnitude for each output, everywhere VeRA works."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from tests.nn.small_models import RECIPE, Int8Linear, adapted, linear, normal, tiny_gpt2, tokens, two_layers
from tests.tiny_adapters import QUERY, make_tiny
from vera.archive import vectors_of
from vera.errors import TargetError
from vera.fingerprint import BaseFingerprint
from vera.manifest import DVORA, VERA, AdaptedModule
from vera.nn.attach import attach
from vera.nn.bank import Bank
from vera.nn.linear import linear_size, weight_rows
from vera.nn.merge import merge, unmerge
from vera.nn.slots import read
from vera.nn.targets import find_targets
from vera.projection import digest_of, rebuild

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
IDS = torch.arange(2, 14).reshape(2, 6)


def untrained(model: nn.Module, *suffixes: str) -> Bank:
    bank = Bank(find_targets(model, suffixes), model)
    modules = [AdaptedModule(name, *linear_size(module)) for name, module in bank.targets.items()]
    pair = rebuild(RECIPE)
    bank.add_vera("a", modules, digest_of(pair), lambda: pair, method=DVORA)
    return bank


def reference(base: Any, delta: Any, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """DoRA's equation 5 in float64 of the very numbers the modules hold, the norm without a graph;
    and x, λd, λb, m to differentiate by."""
    A, B = (torch.from_numpy(m.astype(np.float64)) for m in rebuild(RECIPE))
    leaves = [t.detach().double().requires_grad_() for t in (x, delta.lambda_d, delta.lambda_b, delta.magnitude)]
    x64, lambda_d, lambda_b, magnitude = leaves
    out_features, in_features = delta.out_features, delta.in_features
    W = weight_rows(base).detach().double()
    V = W + (lambda_b[:, None] * B[:out_features]) @ (lambda_d[:, None] * A[:, :in_features])
    adapted_weight = (magnitude / V.detach().norm(dim=1))[:, None] * V
    return functional.linear(x64, adapted_weight, base.bias.detach().double()), leaves


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.detach().double() - expected.detach()).norm() / expected.detach().norm())


# Numbers


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_untrained_adapter_adds_exactly_nothing(kind: str, dtype: torch.dtype, autocast: torch.dtype | None) -> None:
    model = linear(kind).to(dtype)
    x = normal(3, 5, 48).to(dtype)
    with torch.autocast("cpu", autocast) if autocast else nullcontext():
        before = model(x)
        untrained(model, "0").activate("a")
        assert torch.equal(model(x), before)


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_and_gradients_equal_a_float64_reference(
    kind: str, dtype: torch.dtype, autocast: torch.dtype | None
) -> None:
    model = linear(kind).to(dtype).requires_grad_(False)
    bank = adapted(model, "0", method=DVORA)
    delta: Any = bank.slots["a"].deltas["0"]
    x = normal(3, 5, 48).to(dtype).requires_grad_()
    with torch.autocast("cpu", autocast) if autocast else nullcontext():
        y = model(x)
    expected, leaves = reference(model[0], delta, x)
    upstream = normal(3, 5, 80, seed=9).to(y.dtype)
    y.backward(upstream)
    expected.backward(upstream.double())
    # Half an epsilon of 16-bit outputs, of the base's product and of x; sums of up to 80 float32 terms otherwise.
    # The norms are float32, whatever the base is.
    is_16_bit = y.dtype in (torch.bfloat16, torch.float16)
    tolerance = 2 * torch.finfo(y.dtype).eps if is_16_bit else 8 * torch.finfo(torch.float32).eps
    assert distance(y, expected) < tolerance
    for got, leaf in zip((x, delta.lambda_d, delta.lambda_b, delta.magnitude), leaves, strict=True):
        assert got.grad is not None
        assert leaf.grad is not None
        assert distance(got.grad, leaf.grad) < tolerance


def test_an_output_without_weights_stays_without_and_is_no_nan() -> None:
    model = linear("Linear")
    with torch.no_grad():
        model[0].weight[3] = 0  # as pruned models have them
    bank = untrained(model, "0")
    bank.activate("a")
    model(normal(4, 48)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in bank.parameters("a") if p.grad is not None)
    with torch.no_grad():
        bank.parameters("a")[1].fill_(0.3)  # λb
    assert torch.equal(model(normal(4, 48))[:, 3], model[0].bias[3].expand(4))


# The kept norm


@pytest.mark.parametrize("through_data", [False, True], ids=["in place", "through .data"])
def test_after_a_training_step_the_norms_are_those_of_the_new_vectors(through_data: bool) -> None:
    """Some optimisers write through `.data`, which counts as no change."""
    model = linear("Linear").requires_grad_(False)
    bank = adapted(model, "0", method=DVORA)
    delta: Any = bank.slots["a"].deltas["0"]
    x = normal(4, 48)
    with torch.no_grad():
        model(x)  # the norms are kept
    model(x).square().sum().backward()
    with torch.no_grad():
        for parameter in bank.parameters("a"):
            assert parameter.grad is not None
            (parameter.data if through_data else parameter).sub_(0.05 * parameter.grad)
        answer = model(x)
    assert distance(answer, reference(model[0], delta, x)[0]) < 1e-6


def test_the_norms_follow_the_weights_of_the_base() -> None:
    model = linear("Linear")
    bank = adapted(model, "0", method=DVORA)
    delta: Any = bank.slots["a"].deltas["0"]
    x = normal(4, 48)
    with torch.no_grad():
        model(x)
        model[0].weight.mul_(3)
        assert distance(model(x), reference(model[0], delta, x)[0]) < 1e-6


def test_answering_measures_the_norms_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear("Linear")
    bank = adapted(model, "0", method=DVORA)
    delta: Any = bank.slots["a"].deltas["0"]
    measured, measure = [], type(delta)._measured
    monkeypatch.setattr(type(delta), "_measured", lambda self: measured.append(1) or measure(self))
    x = normal(4, 48)
    with torch.inference_mode():
        first = model(x)
        assert torch.equal(model(x), first)
    with torch.no_grad():
        model(x)
    assert len(measured) == 1
    model(x).sum().backward()  # what was kept in inference mode does not get in the way of training
    assert delta.magnitude.grad is not None


# The bank


def test_a_batch_of_both_methods_gives_each_row_what_it_gets_alone() -> None:
    model = two_layers()
    bank = adapted(model, "0", "2", names=("d1", "d2"), method=DVORA)
    modules = [AdaptedModule(name, *linear_size(module)) for name, module in bank.targets.items()]
    slot = bank.add_vera("v", modules, digest_of(rebuild(RECIPE)), lambda: rebuild(RECIPE), method=VERA)
    with torch.no_grad():
        for delta in slot.deltas.values():
            delta.lambda_b.fill_(0.2)
    names = ["d1", None, "v", "d2", "d1", "v"]
    x = normal(6, 5, 48)
    with torch.no_grad(), bank.rows(names):
        mixed = model(x)
    for row, name in enumerate(names):
        bank.activate(name)
        with torch.no_grad():
            assert torch.equal(model(x[row : row + 1])[0], mixed[row]), name


def test_a_combination_sums_what_each_changes_in_the_weights() -> None:
    model = linear("Linear").requires_grad_(False)
    bank = adapted(model, "0", names=("a", "b"), method=DVORA)
    W, x = model[0].weight.double(), normal(4, 48)
    changes = {name: bank.slots[name].deltas["0"].adapted(W).detach() - W for name in ("a", "b")}
    bank.combine({"a": 0.25, "b": -1.5})
    expected = functional.linear(x.double(), W + 0.25 * changes["a"] - 1.5 * changes["b"], model[0].bias.double())
    assert distance(model(x), expected) < 1e-6


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_it_answers_the_same_and_unmerged_the_base_is_back(kind: str, dtype: torch.dtype) -> None:
    model = linear(kind).to(dtype)
    bank = adapted(model, "0", method=DVORA)
    before, x = model[0].weight.detach().clone(), normal(4, 48).to(dtype)
    with torch.no_grad():
        expected = model(x)
        merge(bank, "a")
        assert not torch.equal(model[0].weight, before)
        assert distance(model(x), expected.double()) < 4 * torch.finfo(dtype).eps
        unmerge(bank)
        assert torch.equal(model[0].weight, before)
        assert torch.equal(model(x), expected)


def test_memory_counts_the_magnitudes_and_the_norms() -> None:
    model = linear("Linear")
    with_magnitude = adapted(model, "0", method=DVORA)
    without = adapted(linear("Linear"), "0")
    assert with_magnitude.size_bytes - without.size_bytes == 4 * 80
    with torch.no_grad():
        with_magnitude.model(normal(2, 48))
    assert with_magnitude.size_bytes - without.size_bytes == 4 * (80 + 80)  # and the norms it keeps


def test_a_quantised_weight_has_no_norms_to_read() -> None:
    model = nn.Sequential(Int8Linear(two_layers()[0]))
    with pytest.raises(TargetError, match="use the method vera") as caught:
        adapted(model, "0", method=DVORA)
    assert caught.value.code == "TARGET_UNSUPPORTED"
    assert caught.value.facts == {"module": "0"}


def test_an_adapter_that_is_refused_leaves_nothing_in_memory() -> None:
    model, pair = two_layers(), rebuild(RECIPE)
    model[2] = Int8Linear(model[2])
    bank = Bank(find_targets(model, ["0", "2"]), model)
    with pytest.raises(TargetError):
        bank.add_vera("a", bank.modules(), digest_of(pair), lambda: pair, method=DVORA)
    assert bank.size_bytes == 0


# Ways a model is run


def test_it_is_compiled_whole_and_follows_its_vectors() -> None:
    model = linear("Linear").requires_grad_(False)
    bank = adapted(model, "0", method=DVORA)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = normal(4, 48)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x))
            for parameter in bank.parameters("a"):
                parameter.mul_(1.5)


def test_checkpointed_gradients_are_the_same() -> None:
    model = linear("Linear").requires_grad_(False)
    bank = adapted(model, "0", method=DVORA)
    x = normal(4, 48).requires_grad_()
    plain = torch.autograd.grad(model(x).square().sum(), bank.parameters("a"))
    again = torch.autograd.grad(checkpoint(model, x, use_reentrant=False).square().sum(), bank.parameters("a"))
    assert all(map(torch.equal, plain, again))


def test_gpt2_generates_with_it() -> None:
    model = tiny_gpt2()
    bank = adapted(model, "c_attn", "c_fc", method=DVORA)
    assert isinstance(bank.targets["transformer.h.0.mlp.c_fc"], Conv1D)
    adapted_answer = model.generate(tokens(2), max_new_tokens=4, do_sample=False)
    merge(bank, "a")
    assert torch.equal(model.generate(tokens(2), max_new_tokens=4, do_sample=False), adapted_answer)


# From its archive


def test_it_is_loaded_from_its_archive_with_its_magnitudes(tiny_model: Any, tiny_base: BaseFingerprint) -> None:
    archive = make_tiny(tiny_base, method=DVORA)
    attached = attach(tiny_model, archive, tiny_base).vera
    loaded, stored = read(attached.bank.slot(attached.name)), vectors_of(archive)
    for part in ("lambda_b", "lambda_d", "magnitude"):
        assert getattr(loaded, part).keys() == getattr(stored, part).keys()
        for name, vector in getattr(stored, part).items():
            np.testing.assert_array_equal(getattr(loaded, part)[name], vector)
    seen: dict[str, torch.Tensor] = {}
    module = tiny_model.get_submodule(QUERY)
    module.register_forward_hook(lambda _module, x, y: seen.update(x=x[0], y=y))
    with torch.no_grad():
        tiny_model(input_ids=IDS)
    A, B = rebuild(archive.manifest.recipe)
    V = module.weight.detach().double().numpy() + (stored.lambda_b[QUERY][:, None] * B[:32].astype(float)) @ (
        stored.lambda_d[QUERY][:, None] * A[:, :32]
    )
    W = (stored.magnitude[QUERY] / np.linalg.norm(V, axis=1))[:, None] * V
    expected = seen["x"].double().numpy() @ W.T + module.bias.detach().double().numpy()
    np.testing.assert_allclose(seen["y"].numpy(), expected, rtol=1e-4, atol=1e-5)
