"""`python -m tests.benchmarks.gpu`: a mixed batch on a GPU beside the untouched base and PEFT, in one run of one machine.

A model of the shape of Llama-2-7B with random bfloat16 weights. A step is one token for each row, captured as a CUDA
graph; the base and the others are replayed in turns. What the kernels compute is checked against float64 before anything
is timed. `--json` for the numbers, `--only` for a part, `--layers` for a smaller model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.benchmarks.measuring import Row, print_table
from vera.archive import Vectors
from vera.manifest import AdaptedModule
from vera.nn.bank import Bank
from vera.nn.linear import linear_size
from vera.nn.serving.bank import PackedBank
from vera.nn.serving.gated import GatedMlp
from vera.nn.targets import find_targets
from vera.projection import PHILOX, ProjectionRecipe, digest_of, rebuild

ATTENTION = ["q_proj", "v_proj"]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
REPLAYS = 30
_LAUNCHED_AFTER = (
    5_000_000  # cycles, some 3 ms: what the host takes to launch a graph is over when the GPU begins with it
)


@dataclass(frozen=True)
class Case:
    """What is adapted, at which rank, and by how many adapters in the bank."""

    targets: Sequence[str]
    rank: int
    adapters: int

    @property
    def name(self) -> str:
        return f"{'q,v' if len(self.targets) == 2 else 'all linear'} r={self.rank}, {self.adapters:,} adapters"


def steps(layers: int) -> Iterator[Row]:
    model = llama(layers)
    for case in (
        Case(ATTENTION, 256, 1024),
        Case(LINEAR, 256, 256),
        Case(ATTENTION, 1024, 256),
        Case(LINEAR, 1024, 64),
    ):
        batches = (1, 16, 64, 256) if case.rank == 256 else (64,)
        yield from _steps_of(case, batches, model)


def _steps_of(case: Case, batches: Sequence[int], model: Any) -> Iterator[Row]:
    with made(case, model) as many:
        graphs = {}
        for batch in batches:
            many.use(_rows(case, batch))
            check(many, batch)
            graphs[batch] = captured(model, batch)
    for batch in batches:
        base = captured(model, batch)
        with many:
            times = in_turns(base=base, ours=graphs[batch])
        yield _beside(f"graph step, {case.name}, batch {batch}", times, _floor_ms(case, batch, model))
    many.unstack()


def sizes(layers: int) -> Iterator[Row]:
    """The same batch of 64 rows with ever more adapters in the bank."""
    model = llama(layers)
    graphs, banks = {}, []
    for adapters in (1, 1024, 4096):
        case = Case(ATTENTION, 256, adapters)
        many = made(case, model, stack=False)  # only one bank at a time can have the weights
        banks.append(many)
        with many:
            many.use(_rows(case, 64))
            graphs[f"of_{adapters}"] = captured(model, 64)
    for name, ms in in_turns(**graphs).items():
        yield Row(f"graph step, q,v r=256, batch 64, {name.removeprefix('of_')} in the bank", "ms", ms)


def eager(layers: int) -> Iterator[Row]:
    model = llama(layers)
    for targets in (ATTENTION, LINEAR):
        case = Case(targets, 256, 64)
        many, run = made(case, model), partial(step, model, 64)
        yield _beside(f"eager step, {case.name}, batch 64", _by_turns(run, many, _rows(case, 64), turns=REPLAYS))
        many.unstack()


def prefill(layers: int) -> Iterator[Row]:
    model = llama(layers)
    ids = torch.randint(0, 32000, (8, 512), device="cuda")
    run = partial(answer, model, ids)
    for targets in (ATTENTION, LINEAR):
        case = Case(targets, 256, 64)
        many = made(case, model)
        yield _beside(f"prefill 8 x 512, {case.name}", _by_turns(run, many, _rows(case, 8), turns=9))
        many.unstack()


def adding(layers: int) -> Iterator[Row]:
    model = llama(layers)
    for targets in (ATTENTION, LINEAR):
        case = Case(targets, 256, 64)
        many = made(case, model)
        several = [vectors_of(many, seed) for seed in range(9)]
        times = []
        for number, vectors in enumerate(several):
            torch.cuda.synchronize()
            start = time.perf_counter()
            many.put(f"new-{number}", vectors)
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
        many.unstack()
        size_mb = 4e-6 * sum(v.size for v in several[0].lambda_b.values())
        yield Row(
            f"one more adapter, {case.name.partition(',')[0]}, {size_mb:.1f} MB of λb", "ms", statistics.median(times)
        )


def peft(layers: int) -> Iterator[Row]:
    """PEFT with one adapter for the whole batch, beside the same base."""
    from peft import VeraConfig, get_peft_model

    for targets in (ATTENTION, LINEAR):
        model = llama(layers)
        bases = {batch: in_turns(base=captured(model, batch))["base"] for batch in (1, 64, 256)}
        config = VeraConfig(r=256, target_modules=list(targets), save_projection=False)
        theirs = get_peft_model(model, config).to(torch.bfloat16).eval()
        for batch, base in bases.items():
            ours = in_turns(ours=captured(theirs, batch))["ours"]
            name = f"{'q,v' if targets == ATTENTION else 'all linear'} r=256"
            yield _beside(f"PEFT, graph step, {name}, 1 adapter, batch {batch}", {"base": base, "ours": ours})
        del theirs, model
        torch.cuda.empty_cache()


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "steps": steps, "sizes": sizes, "eager": eager, "prefill": prefill, "adding": adding, "peft": peft,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--layers", type=int, default=32)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("This needs a GPU.")
    warnings.simplefilter("ignore")
    rows = []
    for name, part in PARTS.items():
        if not arguments.only or name in arguments.only:
            for row in part(arguments.layers):
                print(f"{row.what}: {row.ours:.3f} {row.unit}, base {row.theirs or 0:.3f}", file=sys.stderr, flush=True)
                rows.append(row)
            torch.cuda.empty_cache()
    print_table(rows, as_json=arguments.json)


# -- The model and its adapters ---------------------------------------------------------------------


def llama(layers: int) -> Any:
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            return LlamaModel(LlamaConfig(num_hidden_layers=layers)).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)


def made(case: Case, model: Any, *, stack: bool = True, fuse: bool = True) -> PackedBank:
    """A packed bank full of random adapters."""
    bank = Bank(find_targets(model, case.targets), model)
    modules = [AdaptedModule(name, *linear_size(module)) for name, module in bank.targets.items()]
    recipe = ProjectionRecipe(
        PHILOX, 0, case.rank, max(m.in_features for m in modules), max(m.out_features for m in modules)
    )
    pair = rebuild(recipe)
    bank.add_vera("0", modules, digest_of(pair), lambda: pair)
    many = PackedBank(bank, "0", capacity=case.adapters, run=partial(step, model, 2), stack=stack, fuse=fuse and len(case.targets) > 2)  # fmt: skip
    many.packing.rows_SV[1:].normal_(0, 0.02)
    some = vectors_of(many, 0)
    for number in range(1, case.adapters):  # as many names; their vectors are there already
        many.packing._row_of[str(number)] = many.packing._free.pop()
    many.put("0", some)
    return many


def vectors_of(many: PackedBank, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    modules = many.packing.modules.values()
    return Vectors(
        {m.name: rng.normal(size=m.out_features).astype(np.float32) for m in modules},
        {m.name: rng.normal(size=many.packing.rank).astype(np.float32) for m in modules},
        {},
    )


def check(many: PackedBank, batch: int) -> None:
    """Every group's answer for fresh random inputs against the equation in float64."""
    for group in many.groups[:7]:
        product = group.product
        x = torch.randn(batch, 1, product.members[0].module.in_features, device="cuda", dtype=torch.bfloat16)
        rows = product.packing.rows_SV[product.index[:batch].long()].double()
        A, B = (matrix.double() for matrix in product.pair(torch.bfloat16, x.shape[-1]))
        for member, y in zip(product.members, product.outputs(x, many.choices), strict=True):
            expected = x[:, 0].double() @ member.module.weight.double().T
            if member.places:
                d, b = member.places.lambda_d, member.places.lambda_b
                h = rows[:, d : d + A.shape[0]] * (x[:, 0].double() @ A.T)
                expected += rows[:, b : b + len(member.module.weight)] * (h @ B[: len(member.module.weight)].T)
            error = (y[:, 0].double() - expected).abs().max() / expected.abs().max()
            assert error < 2e-2, f"{float(error):.3g} from float64"
    for mlp in list(many.mlps.values())[:2]:
        _check_gated(many, mlp, batch)


def _check_gated(many: PackedBank, mlp: GatedMlp, batch: int) -> None:
    x = torch.randn(batch, 1, mlp.module.gate_proj.in_features, device="cuda", dtype=torch.bfloat16)
    gate, up = (part.double() for part in mlp.product.product.outputs(x, many.choices))  # checked above
    expected = gate * torch.sigmoid(gate) * up
    error = (mlp.product.output(x, many.choices).double() - expected).abs().max() / expected.abs().max()
    assert error < 2e-2, f"{float(error):.3g} from float64"


def _rows(case: Case, batch: int) -> list[str]:
    rng = np.random.default_rng(batch)
    return [str(number) for number in rng.integers(0, case.adapters, batch)]


# -- Timing -----------------------------------------------------------------------------------------


@torch.no_grad()
def step(model: Any, batch: int) -> None:
    model(input_ids=torch.ones(batch, 1, dtype=torch.long, device="cuda"), use_cache=False)


@torch.no_grad()
def answer(model: Any, ids: Tensor) -> None:
    model(input_ids=ids, use_cache=False)


@torch.no_grad()
def captured(model: nn.Module, batch: int) -> torch.cuda.CUDAGraph:
    ids = torch.randint(0, 32000, (batch, 1), device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(input_ids=ids, use_cache=False)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(input_ids=ids, use_cache=False)
    return graph


def in_turns(**graphs: torch.cuda.CUDAGraph) -> dict[str, float]:
    """Median milliseconds of a replay of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for graph in graphs.values():
        graph.replay()
    for _ in range(REPLAYS):
        for name, graph in graphs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(_LAUNCHED_AFTER)
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end))
    return {name: statistics.median(found) for name, found in times.items()}


def median_ms(run: Callable[[], object], runs: int = 9) -> float:
    times = []
    for _ in range(runs + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def _by_turns(run: Callable[[], object], many: PackedBank, rows: list[str], *, turns: int) -> dict[str, float]:
    """Median milliseconds of the base and of ours on the wall, in turns: a host's pace changes from one second to the next, and a
    GPU's with its temperature."""
    times: dict[str, list[float]] = {"base": [], "ours": []}
    for _ in range(turns):
        times["base"].append(median_ms(run, 1))
        with many:
            many.use(rows)
            times["ours"].append(median_ms(run, 1))
    return {name: statistics.median(found) for name, found in times.items()}


def _beside(what: str, times: dict[str, float], floor: float | None = None) -> Row:
    more = 100 * (times["ours"] / times["base"] - 1)
    return Row(
        f"{what}: {more:+.1f}% over the base", "ms", times["ours"], times["base"], floor, "more bytes" if floor else ""
    )


def _floor_ms(case: Case, batch: int, model: Any) -> float:
    """Milliseconds that reading two vectors a row and module takes at 3 TB/s: what no kernel can leave out."""
    modules = find_targets(model, case.targets).values()
    columns = sum(module.out_features + case.rank for module in modules)
    return 2 * columns * batch / 3e9


if __name__ == "__main__":
    main()
