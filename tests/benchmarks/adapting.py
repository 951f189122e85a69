"""One model, adapted by us and by PEFT: forward passes, mixed batches and training steps.

Weights are random and of the model's shape: what they are changes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from tests.benchmarks.measuring import Row, matmul_rate, medians
from vera.manifest import AdaptedModule
from vera.nn.bank import Bank
from vera.nn.linear import linear_size
from vera.nn.targets import find_targets
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, rebuild

RANK = 256
ADAPTERS = 16


# A model and what of it is trained.
Side = tuple[nn.Module, Sequence[nn.Parameter]]


@dataclass(frozen=True)
class Case:
    """A model, what of it is adapted, and a batch for it."""

    name: str
    make: Callable[[], nn.Module]
    targets: Sequence[str]
    rows: int
    tokens: int
    device: str
    dtype: torch.dtype
    runs: int


def cases(device: str) -> Iterator[Case]:
    runs = 20 if device == "cuda" else 7
    for targets, names in (("q,v", ["query", "value"]), ("all linear", ["query", "key", "value", "dense"])):
        for rows, tokens in ((16, 64), (64, 128)) if device == "cuda" else ((16, 24), (16, 64)):
            name = f"MiniLM-L6 float32, {targets} r={RANK}, {rows}x{tokens}"
            yield Case(name, _minilm, names, rows, tokens, device, torch.float32, runs)
    if device == "cuda":
        for targets, names in (("q,v", ["q_proj", "v_proj"]), ("all linear", _LLAMA_LINEAR)):
            name = f"4 layers of Llama-2-7B bfloat16, {targets} r={RANK}, 4x512"
            yield Case(name, _llama, names, 4, 512, device, torch.bfloat16, runs)


_LLAMA_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows() -> Iterator[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = {dtype: matmul_rate(device, dtype) for dtype in {case.dtype for case in cases(device)}}
    for case in cases(device):
        yield from _compare(case, rates[case.dtype])


def _compare(case: Case, rate: float) -> Iterator[Row]:
    """Forward and step of one case. The floor is the bare base: what both would cost if adapters were free."""
    ours, bank = _ours(case)
    theirs, bare = _theirs(case), _model(case)
    ids = torch.randint(1, 1000, (case.rows, case.tokens), device=case.device)
    names = [str(row % ADAPTERS) for row in range(case.rows)]

    def mixed() -> None:
        with bank.rows(names):
            _forward(ours, ids)

    passes = {
        name: partial(_forward, model, ids) for name, model in (("ours", ours), ("theirs", theirs), ("base", bare))
    }
    ms = medians(case.runs, **passes, mixed=mixed)
    base, added = _operations(bank, case.rows * case.tokens)
    floor = f"the bare base; products alone {(base + added) / rate:.3g}"
    yield Row(f"forward: {case.name}", "ms", ms["ours"], ms["theirs"], ms["base"], floor)
    yield Row(f"  {ADAPTERS} adapters in the batch (PEFT: one)", "ms", ms["mixed"], ms["theirs"], ms["base"], floor)
    sides = {"ours": (ours, bank.parameters("0")), "theirs": (theirs, _trained(theirs)), "base": (bare, _trained(bare))}
    yield from _compare_steps(case, ids, sides, 2 * (base + added) / rate)


def _compare_steps(case: Case, ids: Tensor, sides: Mapping[str, Side], products_ms: float) -> Iterator[Row]:
    """Forward, backward and optimiser; of the base, back to its first layer."""
    bare: Any = sides["base"][0]
    bare.enable_input_require_grads()
    step = {name: partial(_step, model, torch.optim.AdamW(found), ids) for name, (model, found) in sides.items()}
    ms = medians(case.runs, **step)
    floor = f"the bare base; products alone {products_ms:.3g}"
    yield Row(f"training step: {case.name}", "ms", ms["ours"], ms["theirs"], ms["base"], floor)
    memory = {name: _memory(run, case) for name, run in step.items()}
    yield Row("  memory beyond the weights", "MB", memory["ours"], memory["theirs"], memory["base"], "the bare base")


def _minilm() -> nn.Module:
    options: Any = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=1000, **options
    )
    return BertModel(config, add_pooling_layer=False)


def _llama() -> nn.Module:
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=11_008, num_attention_heads=32, num_hidden_layers=4, vocab_size=1000
    )
    return LlamaModel(config)


def _model(case: Case) -> nn.Module:
    torch.manual_seed(0)
    with torch.device(case.device):
        return case.make().to(case.dtype).requires_grad_(False).eval()


def _ours(case: Case) -> tuple[nn.Module, Bank]:
    model = _model(case)
    bank = Bank(find_targets(model, case.targets), model)
    modules = [AdaptedModule(name, *linear_size(module)) for name, module in bank.targets.items()]
    widths = max(m.in_features for m in modules), max(m.out_features for m in modules)
    pair = rebuild(ProjectionRecipe(PEFT_MT19937, 0, RANK, *widths))
    for name in range(ADAPTERS):
        bank.add_vera(str(name), modules, digest_of(pair), lambda: pair)
        for parameter in bank.parameters(str(name)):
            nn.init.normal_(parameter)
    bank.activate("0")
    return model, bank


def _theirs(case: Case) -> nn.Module:
    from peft import VeraConfig, get_peft_model

    config = VeraConfig(r=RANK, target_modules=list(case.targets), projection_prng_key=0)
    model: nn.Module = get_peft_model(_model(case), config).eval()
    return model


def _trained(model: nn.Module) -> list[nn.Parameter]:
    """The vectors; of a bare base, a number that is not in it, for an optimiser to have something."""
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return found or [nn.Parameter(torch.zeros(1))]


def _operations(bank: Bank, tokens: int) -> tuple[float, float]:
    """Floating-point operations of a forward pass in every linear module, and in A and B of the adapted ones."""
    every = [module for module in bank.model.modules() if isinstance(module, nn.Linear)]
    base = sum(m.in_features * m.out_features for m in every)
    added = sum(RANK * (m.in_features + m.out_features) for m in bank.targets.values() if isinstance(m, nn.Linear))
    return 2.0 * tokens * base, 2.0 * tokens * added


@torch.no_grad()
def _forward(model: nn.Module, ids: Tensor) -> None:
    model(input_ids=ids)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, ids: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    hidden = model(input_ids=ids).last_hidden_state
    hidden.float().square().mean().backward()
    optimizer.step()


def _memory(step: Callable[[], None], case: Case) -> float:
    """MB alive at the peak of a step beyond what was before it; on a CPU, what autograd keeps for the backward pass."""
    if case.device == "cpu":
        return kept_bytes(step) / 1e6
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def kept_bytes(step: Callable[[], object]) -> int:
    """Bytes of the tensors that autograd keeps in `step`, each storage once, parameters and buffers among them."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(storages.values())
