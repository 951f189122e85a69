"""Who a base in a folder of this machine is: its name, how it is configured, and how it has texts or images read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import bases
from vera.base_identity import BaseIdentity

if TYPE_CHECKING:
    from sdk.config import Config
    from vera.base_config import BaseConfig
    from vera.fingerprint import BaseFingerprint

# Of a base's folder, what a tokenizer or an image processor is made of.
_READERS = ("tokenizer*", "vocab*", "*.model", "preprocessor_config.json", "processor_config.json")


def identity_of(path: Path, table: BaseFingerprint, typed: str | Path, *, config: Config) -> BaseIdentity:
    """The base at `path`, whose tensors are those of `table`, by the name it is remembered under; of several the one that was `typed`."""
    known = bases.known_as(table.value, str(typed), config=config)
    name, revision = (known.name, known.revision) if known else bases.name_of(path)
    return BaseIdentity(name, table.value, table.dtype, revision, _config_of(path), **_reading_of(path))


def _config_of(path: Path) -> BaseConfig | None:
    """How the base at `path` is configured; None where it does not say, or transformers is not there to ask."""
    if not (path / "config.json").is_file():
        return None
    from vera.nn.configured import config_at, record_of

    try:
        return record_of(config_at(path))
    except ImportError:
        return None


def _reading_of(path: Path) -> dict[str, Any]:
    """How the base at `path` has its texts read, or its images prepared; empty where nothing there says it, or transformers is not there."""
    if not any(file for pattern in _READERS for file in path.glob(pattern)):
        return {}  # which seconds of importing torch would find, too
    try:
        from vera.nn import processed, tokenized
    except ImportError:
        return {}
    if (tokenizer := tokenized.tokenizer_at(path)) is not None:
        return {"tokenizer": tokenized.record_of(tokenizer)}
    if (processor := processed.processor_at(path)) is not None:
        return {"processor": processed.record_of(processor)}
    return {}
