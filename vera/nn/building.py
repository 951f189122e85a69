"""What a class of transformers builds from a configuration, without a byte for its weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


def names_built(model: nn.Module) -> set[str]:
    """The names of the tensors that a model of the class and the configuration of `model` begins with; none where that is no
    model of transformers, or cannot be built by its configuration alone."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        return set()
    try:
        with torch.random.fork_rng([]), torch.device("meta"):
            return set(type(model)(copy.deepcopy(model.config)).state_dict())
    except Exception:  # whatever a class wants beside its configuration
        return set()
