"""The linear maps that can be adapted: their sizes, and their weights the way the equations have them."""

# I in_features, O out_features

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from vera.errors import TargetError

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or is_transposed(module)


def linear_size(module: nn.Module) -> tuple[int, int]:
    """(in_features, out_features) of a linear module."""
    if isinstance(module, NonDynamicallyQuantizableLinear):
        raise TargetError(
            "torch's MultiheadAttention reads the weight of its out_proj and never calls it, so an adapter on it "
            "would do nothing: adapt other modules.",
            code="TARGET_UNSUPPORTED",
        )
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if is_transposed(module):
        in_features, out_features = weight_of(module).shape
        return in_features, out_features
    raise TargetError(f"{type(module).__name__} is not a linear map and cannot be adapted.", code="TARGET_UNSUPPORTED")


def is_transposed(module: nn.Module) -> bool:
    """Whether `module` is a Conv1D of transformers (GPT-2): a linear map that keeps its weight as (in, out).

    transformers is not imported for it: whoever has such a module has imported it.
    """
    pytorch_utils = sys.modules.get("transformers.pytorch_utils")
    return pytorch_utils is not None and isinstance(module, pytorch_utils.Conv1D)


def weight_of(module: nn.Module) -> Tensor:
    """The weight as the module keeps it."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def weight_rows(module: nn.Module) -> Tensor:
    """The weight as (out_features x in_features): a view where the module keeps it the other way round."""
    weight_OI = weight_of(module)
    return weight_OI.T if is_transposed(module) else weight_OI


def is_quantized(module: nn.Module) -> bool:
    """Whether the weight holds something else than the numbers the module multiplies by.

    A quantised weight is an integer tensor or, in torchao and bitsandbytes, a parameter of another type.
    """
    weight = weight_of(module)
    return type(weight) is not nn.Parameter or weight.dtype not in _FLOATS
