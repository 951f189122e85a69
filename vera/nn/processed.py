"""With which settings a base's images are prepared: recorded when an adapter is trained, and compared before one sees an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vera.base_config import BaseConfig, Setting, differences, processor_refusal, processor_settings
from vera.manifest import BaseIdentity
from vera.nn import inputs


def record_of(processor: Any) -> Mapping[str, Setting]:
    """The settings of an image processor of transformers that decide the pixels, by dotted names."""
    return processor_settings(processor.to_dict())


def check_processor(processor: Any, base: BaseIdentity, what: str | None = None) -> None:
    """Raises BaseMismatch (BASE_PROCESSOR_MISMATCH) when `processor` prepares images otherwise than when the adapter was trained.
    Without a record there is nothing to compare."""
    if base.processor is None:
        return
    if differing := differences(BaseConfig(base.processor), record_of(processor), _by_itself(processor)):
        raise processor_refusal(what or f"The {type(processor).__name__} of this base", base, differing)


def _by_itself(processor: Any) -> Mapping[str, Setting]:
    """The settings that the class has without being told any: a record from before one of them existed leaves it out."""
    try:
        return record_of(type(processor)())
    except Exception:  # of classes from anywhere
        return {}


def processor_for(backbone: nn.Module, base: BaseIdentity | None, *, verify: str = "strict") -> Any:
    """The image processor of the live base `backbone`, set as when an adapter that names `base` was trained.

    Raises BaseMismatch (BASE_PROCESSOR_MISMATCH), with `verify` as in `tokenized.tokenizer_for`; and VeraError (PROCESSOR_MISSING).
    """
    return inputs.compared(inputs.image_processor_of(backbone, base), check_processor, base, verify)


def processor_at(path: Path) -> Any:
    """The image processor beside the checkpoint at `path`; None where there is none that can be opened. Raises ImportError
    without transformers."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(path, backend="pil", local_files_only=True)  # type: ignore[no-untyped-call]  # transformers
    except Exception:  # whatever is wrong with it is said by who prepares images with it
        return None
