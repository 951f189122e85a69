"""The bases that are trained on in fewer bits: their weights are quantised as they are read, and only the vectors learn."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from vera.errors import VeraError


def configuration(name: str) -> Any:
    """The configuration of transformers for `name`, one of QUANTIZATIONS: integers of 8 bits with a scale per output
    (torchao), or the 4-bit NormalFloat of QLoRA (Dettmers et al. 2023, section 3; bitsandbytes).

    Raises VeraError (QUANTIZATION_UNAVAILABLE) for a name that is none, or whose library is not installed.
    """
    if name not in _MADE:
        raise _unavailable(f"There is no quantisation {name!r}: choose one of {', '.join(QUANTIZATIONS)}.")
    package, make = _MADE[name]
    if importlib.util.find_spec(package) is None:
        raise _unavailable(f"A base in {name} needs {package}, which is not installed: pip install {package}.")
    return make()


def _int8() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig(version=2))


def _nf4() -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # transformers
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )


def _unavailable(message: str) -> VeraError:
    return VeraError(message, code="QUANTIZATION_UNAVAILABLE")


_MADE: Mapping[str, tuple[str, Callable[[], Any]]] = {"int8": ("torchao", _int8), "nf4": ("bitsandbytes", _nf4)}
QUANTIZATIONS = tuple(_MADE)
