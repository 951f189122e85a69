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
    """Whether `module` is a linear layer. An embedding is a linear map, and no layer one means by that word."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def is_target(module: nn.Module) -> bool:
    return is_linear(module) or isinstance(module, nn.Embedding)


def linear_size(module: nn.Module) -> tuple[int, int]:
    """(in_features, out_features) of a linear module, an embedding being one from one-hot vectors.

    Raises TargetError (TARGET_UNSUPPORTED) for anything that computes something else.
    """
    if isinstance(module, NonDynamicallyQuantizableLinear):
        raise TargetError(
            "torch's MultiheadAttention reads the weight of its out_proj and never calls it, so an adapter on it "
            "would do nothing: adapt other modules.",
            code="TARGET_UNSUPPORTED",
        )
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.Embedding):
        _check_lookup(module)
        return module.num_embeddings, module.embedding_dim
    if is_conv1d(module):
        in_features, out_features = weight_of(module).shape
        return in_features, out_features
    raise TargetError(f"{type(module).__name__} is not a linear map and cannot be adapted.", code="TARGET_UNSUPPORTED")


def lookup_scale(module: nn.Embedding) -> float | Tensor | None:
    """What `module` multiplies its rows by, the `embed_scale` of transformers' scaled word embeddings; None for a plain one."""
    scale: float | Tensor | None = getattr(module, "embed_scale", None) if _is_scaled(module) else None
    return scale


def is_transposed(module: nn.Module) -> bool:
    """Whether `module` keeps its weight as (in, out): an embedding, or a Conv1D of transformers (GPT-2)."""
    return isinstance(module, nn.Embedding) or is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether `module` is a Conv1D of transformers (GPT-2).

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
    return as_rows(module, weight_of(module))


def as_rows(module: nn.Module, weight: Tensor) -> Tensor:
    """`weight`, laid out as `module` keeps its own, as (out_features x in_features); and back."""
    return weight.T if is_transposed(module) else weight


def is_quantized(module: nn.Module) -> bool:
    """Whether the weight holds something else than the numbers the module multiplies by.

    A quantised weight is an integer tensor or, in torchao and bitsandbytes, a parameter of another type.
    """
    weight = weight_of(module)
    return type(weight) is not nn.Parameter or weight.dtype not in _FLOATS


def _check_lookup(module: nn.Embedding) -> None:
    """Raises TargetError for an embedding that does more than look up the rows it is asked for."""
    is_lookup = type(module).forward is nn.Embedding.forward or _is_scaled(module)
    if not is_lookup or module.max_norm is not None:
        does = "renormalises its rows" if is_lookup else "does not just look rows up"
        raise TargetError(
            f"{type(module).__name__} {does}, so it is no linear map of what it is given: adapt other modules.",
            code="TARGET_UNSUPPORTED",
        )


def _is_scaled(module: nn.Embedding) -> bool:
    """One of transformers' scaled word embeddings: W[i] · embed_scale. One with further parameters computes more."""
    return (
        type(module).__name__.endswith("ScaledWordEmbedding")
        and hasattr(module, "embed_scale")
        and len(list(module.parameters(recurse=False))) == 1
    )
