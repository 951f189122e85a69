"""What each of two processes does in the test of DistributedDataParallel. The second one imports it anew: no more than needed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from vera.nn.bank import Bank
from vera.nn.parameters import as_parameters
from vera.nn.targets import find_targets
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, rebuild

GIVE_UP_AFTER = timedelta(minutes=2)  # half an hour otherwise, when the other process died
BATCH = torch.arange(4 * 12, dtype=torch.float32).view(4, 12).sin()


def adapted_model() -> tuple[nn.Module, Bank]:
    """A model of random weights with an adapter of random vectors, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 8))
    bank = Bank(find_targets(model, ["0", "2"]), model)
    pair = rebuild(ProjectionRecipe(PEFT_MT19937, 0, 4, 20, 20))
    bank.add_vera("a", bank.modules(), digest_of(pair), lambda: pair)
    bank.activate("a")
    with torch.no_grad():
        for parameter in (*model.parameters(), *bank.parameters("a")):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return model, bank


def gradients_of_half(rank: int, folder: str) -> None:
    """Saves the gradients of the vectors after a backward pass of two of the four rows of the batch."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=GIVE_UP_AFTER
    )
    model, bank = adapted_model()
    if rank == 1:
        with torch.no_grad():  # DDP begins with what the first process has
            bank.parameters("a")[0].add_(1.0)
    with as_parameters(bank, "a") as vectors:
        parallel = DistributedDataParallel(model)
        parallel(BATCH[2 * rank : 2 * rank + 2]).square().mean().backward()
        torch.save([vector.grad for vector in vectors], Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()
