"""Which adapter a pass went through, for `torch.utils.checkpoint`, which runs a part of it again in the backward pass.

That part goes through whatever is active then. After a switch its gradients would be those of another function, and
nobody would see it. A checkpoint compares the shapes of what autograd keeps the first time and the second; so a tensor
without elements is kept beside what an adapter adds, and its shape says which it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vera.nn.product import is_recording


def marked(part: Tensor, added: object) -> Tensor:
    """`part` of what `added` adds. A checkpoint that is run again through something else raises
    torch.utils.checkpoint.CheckpointError then; a reentrant one (`use_reentrant=True`) compares nothing."""
    if not is_recording(part) or not _is_checkpointing():
        return part
    same: Tensor = _Marked.apply(part, id(added))  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return same


def _is_checkpointing() -> bool:
    """Whether somebody has a say in what autograd keeps: nobody else needs a mark, which costs a node of the graph."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


class _Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, mark: int) -> Tensor:
        ctx.save_for_backward(part.new_empty(0, mark))
        return part.view_as(part)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        _ = ctx.saved_tensors  # it is when this is asked for that a checkpoint compares
        return g, None
