"""Small models and modules with random weights, and random adapters on them: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from vera.archive import Vectors
from vera.manifest import VERA, AdaptedModule
from vera.nn.bank import Bank
from vera.nn.linear import linear_size
from vera.nn.slots import fill, read
from vera.nn.targets import find_targets
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, rebuild

RANK = 8
RECIPE = ProjectionRecipe(PEFT_MT19937, 3, RANK, 128, 128)


def adapted(model: nn.Module, *suffixes: str, names: tuple[str, ...] = ("a",), method: str = VERA) -> Bank:
    """A bank with random adapters of one projection on `model`; the first is active."""
    bank = Bank(find_targets(model, suffixes), model)
    modules = [AdaptedModule(name, *linear_size(module)) for name, module in bank.targets.items()]
    pair = rebuild(RECIPE)
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        slot = bank.add_vera(name, modules, digest_of(pair), lambda: pair, method=method)
        lambda_b = {m.name: rng.normal(size=m.out_features).astype(np.float32) for m in modules}
        lambda_d = {m.name: rng.normal(size=RANK).astype(np.float32) for m in modules}
        # A magnitude is of the size of the weights it stands for: as it is when new, and some per cent more or less.
        magnitude = {
            name: vector * rng.uniform(0.9, 1.1, vector.shape).astype(np.float32)
            for name, vector in read(slot).magnitude.items()
        }
        fill(slot, Vectors(lambda_b, lambda_d, {}, magnitude))
    bank.activate(names[0])
    return bank


def tiny_llama(**options: Any) -> Any:
    """Three query heads on one key and value head: q is 48 wide, v 16."""
    config = LlamaConfig(
        vocab_size=40, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, eos_token_id=None, **options,
    )  # fmt: skip
    return seeded(lambda: LlamaForCausalLM(config))


def tiny_gpt2() -> Any:
    config = GPT2Config(
        vocab_size=40, n_positions=64, n_embd=32, n_layer=2, n_head=2, pad_token_id=0, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    return seeded(lambda: GPT2LMHeadModel(config))


def seeded(make: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def two_layers() -> Any:
    return seeded(lambda: nn.Sequential(nn.Linear(48, 80), nn.ReLU(), nn.Linear(80, 16)))


def tokens(rows: int, width: int = 7) -> torch.Tensor:
    return torch.randint(1, 40, (rows, width), generator=torch.Generator().manual_seed(rows))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(kind: str) -> nn.Sequential:
    module = nn.Linear(48, 80) if kind == "Linear" else Conv1D(80, 48)
    with torch.no_grad():
        module.weight.copy_(0.1 * normal(*module.weight.shape, seed=1))
        module.bias.copy_(normal(80, seed=2))
    return nn.Sequential(module)


class Int8Linear(nn.Linear):
    """As libraries for quantised bases have them: a Linear whose weight is integers and a scale."""

    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.register_buffer("scale", linear.weight.detach().abs().amax() / 127)
        self.weight = nn.Parameter((linear.weight.detach() / self.scale).round().to(torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype))
