"""What clients of this wire print once, whatever they do: `X-HF-Warning: topic; sentence`."""

from __future__ import annotations

from hub.domain.snapshots import Snapshot
from hub.hf.errors import header_line


def warning(topic: str, sentence: str) -> dict[str, str]:
    """The header. Clients print one sentence for each topic, so that says what it is of."""
    return {"X-HF-Warning": header_line(f"{topic}; {sentence}")}


def warning_of(found: Snapshot) -> dict[str, str]:
    """What is to be known of a version that its author has taken back, or advises against."""
    version = found.version
    if version is None:
        return {}
    if version.yanked is not None:
        said = f"{version.ref} was yanked ({version.yanked}): move to another version when you can."
        return warning(f"yanked {version.ref}", said)
    if version.deprecated is not None:
        instead = f" Use {version.deprecated.replacement} instead." if version.deprecated.replacement else ""
        said = f"{version.ref} is deprecated: {version.deprecated.message.rstrip('.')}.{instead}"
        return warning(f"deprecated {version.ref}", said)
    return {}
