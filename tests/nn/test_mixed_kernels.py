"""The kernels of a mixed batch against the equation in float64: on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU, and TRITON_INTERPRET is not 1", allow_module_level=True)
pytest.importorskip("triton")

from vera.nn.kernels import RANK_STEP, mixed  # noqa: E402  # after it is known to be there
from vera.nn.kernels.mixed import Activation, Module, Packed, Tiles  # noqa: E402

# The interpreter multiplies bfloat16 wrongly.
DTYPES = [torch.float16, torch.bfloat16] if DEVICE == "cuda" else [torch.float16]
TOLERANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Problem:
    """A group of modules with random weights, and a batch whose rows are of random adapters."""

    rows: int
    tokens: int
    in_features: int
    outputs: tuple[int, ...]
    adapted: tuple[bool, ...]
    rank: int
    bias: bool
    dtype: torch.dtype
    seed: int = 0
    adapters: int = 5
    made: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)

        def random(*shape: int, scale: float = 1.0) -> Tensor:
            return (torch.randn(*shape, generator=generator) * scale).to(DEVICE, self.dtype)

        count, width = sum(self.adapted), self.rank * sum(self.adapted) + sum(-(-o // 8) * 8 for o in self.outputs)
        self.made.update(
            x=random(self.rows * self.tokens, self.in_features),
            A=random(self.rank, self.in_features + 16, scale=self.in_features**-0.5)[:, : self.in_features],
            B=random(max(self.outputs) + 3, self.rank, scale=self.rank**-0.5),
            bank=random(self.adapters + 1, width),
        )
        self.made["bank"][0] = 0
        self.made["index"] = torch.randint(0, self.adapters + 1, (self.rows + 2,), generator=generator).to(
            DEVICE, torch.int32
        )
        at = self.rank * count
        for g, size in enumerate(self.outputs):
            self.made[f"W{g}"], self.made[f"c{g}"] = (
                random(size, self.in_features, scale=self.in_features**-0.5),
                random(size),
            )
            self.made[f"b{g}"] = torch.tensor(at)
            at += -(-size // 8) * 8

    @property
    def packed(self) -> Packed:
        return Packed(self.made["bank"], self.made["index"], self.tokens)

    @property
    def places_d(self) -> list[int]:
        return [n * self.rank for n in range(sum(self.adapted))]

    @property
    def places_b(self) -> list[int]:
        return [int(self.made[f"b{g}"]) for g, is_adapted in enumerate(self.adapted) if is_adapted]

    @property
    def modules(self) -> list[Module]:
        return [
            Module(
                self.made[f"W{g}"],
                self.made[f"c{g}"] if self.bias else None,
                int(self.made[f"b{g}"]) if is_adapted else None,
            )
            for g, is_adapted in enumerate(self.adapted)
        ]

    def expected(self) -> list[Tensor]:
        """The equation, module by module, in float64."""
        x, A, B = (self.made[name].double() for name in ("x", "A", "B"))
        rows = self.made["bank"].double()[self.made["index"][: self.rows].long()].repeat_interleave(self.tokens, 0)
        answers, n = [], 0
        for g, (size, is_adapted) in enumerate(zip(self.outputs, self.adapted, strict=True)):
            y = x @ self.made[f"W{g}"].double().T + (self.made[f"c{g}"].double() if self.bias else 0)
            if is_adapted:
                d, b_at = rows[:, n * self.rank : (n + 1) * self.rank], int(self.made[f"b{g}"])
                y = y + rows[:, b_at : b_at + size] * ((d * (x @ A.T)) @ B[:size].T)
                n += 1
            answers.append(y)
        return answers

    def check(self, answers: list[Tensor]) -> None:
        for answer, expected in zip(answers, self.expected(), strict=True):
            assert answer.shape == expected.shape
            assert (answer.double() - expected).abs().max() <= TOLERANCE[self.dtype] * expected.abs().max()


def _with_adapted(made: Problem) -> st.SearchStrategy[Problem]:
    count = len(made.outputs)
    fields = {
        n: getattr(made, n) for n in ("rows", "tokens", "in_features", "outputs", "rank", "bias", "dtype", "seed")
    }
    masks = st.lists(st.booleans(), min_size=count, max_size=count).filter(any)
    return masks.map(lambda mask: Problem(adapted=tuple(mask), **fields))


problems = st.builds(
    Problem,
    rows=st.integers(1, 9),
    tokens=st.integers(1, 4),
    in_features=st.sampled_from([16, 48, 272, 512]),
    outputs=st.lists(st.integers(1, 150), min_size=1, max_size=3).map(tuple),
    adapted=st.just(()),
    rank=st.sampled_from([32, 64, 96, 256]),
    bias=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1 << 30),
).flatmap(_with_adapted)


def _aligned(made: Problem) -> Problem:
    """With outputs whose rows begin at multiples of 16 bytes, as descriptors need it."""
    fields = {
        n: getattr(made, n) for n in ("rows", "tokens", "in_features", "adapted", "rank", "bias", "dtype", "seed")
    }
    return Problem(outputs=tuple(-(-size // 8) * 8 for size in made.outputs), **fields)


tiles = st.builds(
    Tiles, tokens=st.sampled_from([16, 32]), outputs=st.sampled_from([32, 64]), inputs=st.sampled_from([32, 128]),
    split=st.sampled_from([1, 2, 4]), warps=st.just(4), stages=st.just(2), early=st.booleans(),
)  # fmt: skip
# exp(-gate) of a gate far below zero is infinite, and what it gates zero: the interpreter's NumPy warns of the one.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp")
# Shrinking takes the interpreter minutes.
QUICK = settings(max_examples=24 if DEVICE == "cuda" else 12, deadline=None, phases=[Phase.explicit, Phase.generate])


@settings(QUICK)
@given(problems, tiles, tiles)
def test_base_and_adapters_in_one_launch(problem: Problem, first: Tiles, second: Tiles) -> None:
    h = mixed.project(problem.made["x"], problem.made["A"], problem.packed, problem.places_d, _of_rank(first))

    answers = mixed.multiply_adapted(problem.made["x"], problem.modules, h, problem.made["B"], problem.packed, second)

    problem.check(answers)


@settings(QUICK)
@given(problems, tiles, tiles)
def test_adapters_added_to_products_that_are_there(problem: Problem, first: Tiles, second: Tiles) -> None:
    x, A = problem.made["x"], problem.made["A"]
    h = mixed.project(x, A, problem.packed, problem.places_d, _of_rank(first))
    y = [torch.nn.functional.linear(x, m.weight, m.bias) for m in problem.modules]

    mixed.add_adapted(
        [part for part, is_adapted in zip(y, problem.adapted, strict=True) if is_adapted], h, problem.made["B"],
        problem.packed, problem.places_b, second,
    )  # fmt: skip

    problem.check(y)


@settings(QUICK)
@given(problems, tiles)
def test_adapters_added_to_products_with_those_of_A_beside_them(problem: Problem, cut: Tiles) -> None:
    x, A = problem.made["x"], problem.made["A"]
    Ax = torch.nn.functional.linear(x, torch.cat([A, A]))[:, len(A) :]  # with a stride that is not its size
    y = [torch.nn.functional.linear(x, m.weight, m.bias) for m in problem.modules]

    mixed.add_adapted(
        [part for part, is_adapted in zip(y, problem.adapted, strict=True) if is_adapted],
        mixed.scale(Ax, problem.packed, problem.places_d), problem.made["B"], problem.packed, problem.places_b, cut,
    )  # fmt: skip

    problem.check(y)


@settings(QUICK)
@given(problems, tiles)
def test_adapters_added_to_products_in_the_launch_that_scales_those_of_A(problem: Problem, cut: Tiles) -> None:
    x, A = problem.made["x"], problem.made["A"]
    Ax = torch.nn.functional.linear(x, torch.cat([A, A]))[:, len(A) :]  # with a stride that is not its size
    y = [torch.nn.functional.linear(x, m.weight, m.bias) for m in problem.modules]

    mixed.scale_and_add(
        [part for part, is_adapted in zip(y, problem.adapted, strict=True) if is_adapted],
        Ax, problem.made["B"], problem.packed, problem.places_d, problem.places_b, cut,
    )  # fmt: skip

    problem.check(y)


@settings(QUICK)
@given(problems.map(_aligned), st.sampled_from([(16, 32), (32, 64)]))
def test_a_sum_that_begins_with_what_the_adapter_adds(problem: Problem, sides: tuple[int, int]) -> None:
    x, A, count = problem.made["x"], problem.made["A"], sum(problem.adapted)
    h = mixed.project(x, A, problem.packed, problem.places_d, Tiles(16, RANK_STEP, 32, 1, 4, 2))
    cut = Tiles(*sides, 32, 1, 4, 2)
    adapted = [g for g, is_adapted in enumerate(problem.adapted) if is_adapted]
    expected = problem.expected()

    for n, g in enumerate(adapted):
        part = h.view(len(x), count, problem.rank)[:, n]
        y = mixed.accumulate_adapted(x, problem.modules[g], part, problem.made["B"], problem.packed, cut)
        assert (y.double() - expected[g]).abs().max() <= TOLERANCE[problem.dtype] * expected[g].abs().max()


@settings(QUICK)
@given(problems, tiles)
def test_products_that_are_there_are_scaled_as_project_scales_its_own(problem: Problem, first: Tiles) -> None:
    x, A = problem.made["x"], problem.made["A"]
    expected = mixed.project(x, A, problem.packed, problem.places_d, _of_rank(first)).double()

    h = mixed.scale(x @ A.T, problem.packed, problem.places_d)

    assert (h.double() - expected).abs().max() <= TOLERANCE[problem.dtype] * max(1.0, expected.abs().max())


@pytest.mark.parametrize("split", [2, 4])
def test_equal_inputs_give_equal_bits(split: int) -> None:
    problem = Problem(7, 3, 512, (150, 40), (True, True), 64, True, torch.float16)
    cut = Tiles(16, 32, 32, split, 4, 2)
    answers = []
    for _ in range(4):
        h = mixed.project(problem.made["x"], problem.made["A"], problem.packed, problem.places_d, cut)
        answers.append(
            mixed.multiply_adapted(problem.made["x"], problem.modules, h, problem.made["B"], problem.packed, cut)
        )
    for again in answers[1:]:
        assert all(torch.equal(one, other) for one, other in zip(answers[0], again, strict=True))


def _of_rank(cut: Tiles) -> Tiles:
    return Tiles(cut.tokens, RANK_STEP, cut.inputs, cut.split, cut.warps, cut.stages)


# act(gate) ⊙ up, whose parts are never written

ACTIVATIONS = {
    Activation.SILU: torch.nn.functional.silu,
    Activation.GELU: torch.nn.functional.gelu,
    Activation.GELU_TANH: partial(torch.nn.functional.gelu, approximate="tanh"),
}


def _pair(made: Problem) -> Problem:
    """Two modules of one size, both adapted: a gate and what it gates."""
    fields = {n: getattr(made, n) for n in ("rows", "tokens", "in_features", "rank", "bias", "dtype", "seed")}
    return Problem(outputs=(made.outputs[0],) * 2, adapted=(True, True), **fields)


def _check_gated(problem: Problem, activation: Activation, answer: Tensor) -> None:
    gate, up = problem.expected()
    expected = ACTIVATIONS[activation](gate) * up
    assert answer.shape == expected.shape
    assert (answer.double() - expected).abs().max() <= TOLERANCE[problem.dtype] * expected.abs().max()


@settings(QUICK)
@given(problems.map(_pair), tiles, tiles, st.sampled_from(Activation))
def test_gate_and_up_in_one_launch(problem: Problem, first: Tiles, second: Tiles, activation: Activation) -> None:
    h = mixed.project(problem.made["x"], problem.made["A"], problem.packed, problem.places_d, _of_rank(first))

    answer = mixed.multiply_gated(
        problem.made["x"], *problem.modules, h, problem.made["B"], problem.packed, activation, second
    )

    _check_gated(problem, activation, answer)


@settings(QUICK)
@given(problems.map(_pair), tiles, st.sampled_from(Activation))
def test_gate_and_up_of_products_that_are_there(problem: Problem, cut: Tiles, activation: Activation) -> None:
    gate, up = (torch.nn.functional.linear(problem.made["x"], m.weight, m.bias) for m in problem.modules)
    wide = torch.cat([up, gate], 1)  # with a stride that is not its size
    h = mixed.scale(problem.made["x"] @ problem.made["A"].T, problem.packed, problem.places_d)

    answer = mixed.add_gated(
        wide[:, len(gate[0]) :], up, h, problem.made["B"], problem.packed, problem.places_b, activation, cut
    )

    _check_gated(problem, activation, answer)


def test_a_module_without_a_bias_beside_one_that_has_one() -> None:
    problem = Problem(5, 2, 64, (40, 48), (True, True), 32, True, torch.float16)
    first, second = problem.modules
    problem.made["c1"].zero_()
    h = mixed.project(
        problem.made["x"], problem.made["A"], problem.packed, problem.places_d, Tiles(16, 32, 32, 1, 4, 2)
    )
    modules = [first, Module(second.weight, None, second.place_b)]

    problem.check(
        mixed.multiply_adapted(
            problem.made["x"], modules, h, problem.made["B"], problem.packed, Tiles(16, 32, 32, 1, 4, 2)
        )
    )


@settings(QUICK)
@given(problems.map(_pair).map(_aligned), st.sampled_from([(16, 32), (32, 64)]), st.sampled_from(Activation))
def test_gate_and_up_of_many_tokens(problem: Problem, sides: tuple[int, int], activation: Activation) -> None:
    h = mixed.scale(problem.made["x"] @ problem.made["A"].T, problem.packed, problem.places_d)

    answer = mixed.accumulate_gated(
        problem.made["x"],
        *problem.modules,
        h,
        problem.made["B"],
        problem.packed,
        activation,
        Tiles(*sides, 32, 1, 4, 2),
    )

    _check_gated(problem, activation, answer)
