"""Which modules of a model are adapted: those that somebody names, and those that are meant when nobody does."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vera.errors import TargetError
from vera.nn.linear import is_linear, is_target

ALL_LINEAR = "all-linear"
# The query and value maps of an attention layer, as architectures call them: what the paper adapts.
_QUERY_AND_VALUE = (
    ("query", "value"),  # BERT, RoBERTa, ViT
    ("q_proj", "v_proj"),  # Llama, Mistral, Qwen, OPT, BART, CLIP, DINOv2
    ("attn.q", "attn.v"),  # MPNet
    ("q", "v"),  # T5
    ("q_lin", "v_lin"),  # DistilBERT
    ("c_attn",),  # GPT-2: query, key and value in one
    ("query_key_value",),  # GPT-NeoX, BLOOM, Falcon
    ("qkv_proj",),  # Phi-3
)


def choose(model: nn.Module, suffixes: Sequence[str] = ()) -> dict[str, nn.Module]:
    """The modules of `model` that `suffixes` name, by their names: `find_targets`, and two words more.

    None is the query and value maps, and `all-linear` every linear layer but the output's. Raises
    TargetError when there are no such modules.
    """
    if list(suffixes) == [ALL_LINEAR]:
        return all_linear(model)
    return find_targets(model, suffixes or query_and_value(model))


def find_targets(model: nn.Module, suffixes: Sequence[str]) -> dict[str, nn.Module]:
    """The linear modules and embeddings of `model` whose names end with one of `suffixes`, by name.

    Raises TargetError when a suffix matches nothing.
    """
    linear = {name: module for name, module in model.named_modules() if is_target(module)}
    for suffix in suffixes:
        if not any(_ends(name, [suffix]) for name in linear):
            last = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise TargetError(
                f"No linear module of this model ends with {suffix!r}: there are {', '.join(last)}.", target=suffix
            )
    return {name: module for name, module in linear.items() if _ends(name, suffixes)}


def _ends(name: str, suffixes: Sequence[str]) -> bool:
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes)


def query_and_value(model: nn.Module) -> tuple[str, ...]:
    """What the query and value maps of `model` are called. Raises TargetError for an unknown architecture."""
    names = [f".{name}" for name, _ in model.named_modules()]
    for suffixes in _QUERY_AND_VALUE:
        if all(any(name.endswith(f".{suffix}") for name in names) for suffix in suffixes):
            return suffixes
    raise TargetError(
        f"The query and value maps of a {type(model).__name__} are not known here: name the modules to adapt, "
        f"or take {ALL_LINEAR}."
    )


def all_linear(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer of `model` but the one that makes the outputs (the language-modelling head)."""
    outputs = getattr(model, "get_output_embeddings", None)  # of transformers
    top = outputs() if callable(outputs) else None
    return {name: module for name, module in model.named_modules() if is_linear(module) and module is not top}
