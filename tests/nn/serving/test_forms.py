"""Every form of a group's product against torch operations: on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from tests.nn.serving.test_packed_bank import NAMES, ROWS, answers, packed
from tests.nn.small_models import adapted, tiny_llama
from vera.nn.serving.bank import PackedBank

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU, and TRITON_INTERPRET is not 1", allow_module_level=True)
pytest.importorskip("triton")

from vera.nn.kernels.launching import DOES_NOT_FIT  # noqa: E402  # after it is known to be there
from vera.nn.kernels.mixed.sums import check_fits  # noqa: E402
from vera.nn.serving import forms, gated_forms  # noqa: E402
from vera.nn.serving.products import GroupProduct  # noqa: E402

NAMED = ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ON_A_SIDE_STREAM = (forms.beside, gated_forms.beside)  # which a CPU has not


@pytest.fixture(scope="module")
def many() -> PackedBank:
    model = tiny_llama().to(DEVICE, torch.float16)
    bank = adapted(model, *NAMED, names=NAMES)
    ids = torch.arange(1, 13, device=DEVICE).view(4, 3)
    made = packed(model, bank, fuse=True, stack=True, run=lambda: answers(model, ids))
    made.use(ROWS)
    return made


def _inputs(product: GroupProduct, tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(4, tokens, product.members[0].module.weight.shape[1], generator=generator)  # type: ignore[union-attr]
    return x.to(DEVICE, torch.float16)


def _runs(form: Any) -> bool:
    return DEVICE == "cuda" or form.func not in ON_A_SIDE_STREAM


def _ways(forms: Any) -> list[Any]:
    return [(form.func, form.args[-2]) for form in forms if hasattr(form, "func")]


def test_what_is_measured_once_has_the_same_ways(many: PackedBank) -> None:
    group = many.groups[0].product
    mlp = next(iter(many.mlps.values())).product
    known: dict[Any, Any] = {}
    for tokens in [*range(1, 131), 512, 513, 600, 1023, 1024, 1025, 2048]:
        x = torch.empty(1, tokens, 48, dtype=torch.float16, device=DEVICE)
        for product, forms_of, shape in (
            (group, group._forms, group.shape_of(x)),
            (mlp, mlp._forms, mlp.product.shape_of(x)),
        ):
            assert known.setdefault((id(product), shape), _ways(forms_of(x))) == _ways(forms_of(x)), tokens


def test_a_split_without_room_for_its_sums_is_no_way() -> None:
    with pytest.raises(DOES_NOT_FIT):
        check_fits(1 << 25, 8)


@pytest.mark.parametrize("tokens", [1, 5, 40])
@torch.no_grad()
def test_every_form_of_a_group_answers_as_torch_operations_do(many: PackedBank, tokens: int) -> None:
    for group in many.groups[:4]:
        product = group.product
        x = _inputs(product, tokens)
        used = set()
        for form in [form for form in product._forms(x)[1:] if _runs(form)]:  # the first is plain
            used.add(form.func)  # type: ignore[attr-defined]  # of a partial
            for again in (x, x.flip(0), -3 * x):  # what was launched once is repeated with other addresses
                for answer, other in zip(form(again), product.plain(again), strict=True):
                    assert answer.shape == other.shape
                    assert (answer - other).abs().max() <= 6e-3 * other.abs().max()
        assert {forms.joined, forms.stacked, forms.stacked_at_once} <= used


@pytest.mark.parametrize("tokens", [1, 5, 40])
@torch.no_grad()
def test_every_form_of_an_mlp_answers_as_torch_operations_do(many: PackedBank, tokens: int) -> None:
    for mlp in many.mlps.values():
        product = mlp.product.product
        x = _inputs(product, tokens)
        for form in [form for form in mlp.product._forms(x) if _runs(form)]:
            for again in (x, x.flip(0), -3 * x):
                gate, up = product.plain(again)
                expected, answer = torch.nn.functional.silu(gate) * up, form(again)
                assert answer.shape == expected.shape
                assert (answer - expected).abs().max() <= 6e-3 * expected.abs().max()
