"""`demo/topics`: which topic does a line of small talk belong to?

The lines are those of the wheel `chatterbot-corpus` (BSD), read from its YAML files without
importing it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import replace
from pathlib import Path

from vera.data.dividing import split_by_hash
from vera.data.examples import Source, Split
from vera.errors import DataError

NAME = "demo/topics"
PACKAGE = "chatterbot-corpus"
MIN_LINES = 40


def load_topics() -> Split:
    """The topics set. The same on every machine. Raises DataError when the wheel is not installed."""
    rows = [(line, file.stem) for file in sorted(_corpus().glob("*.yml")) for line in _lines(file)]
    split = split_by_hash(NAME, rows, min_per_label=MIN_LINES)
    return replace(split, source=Source(NAME, package=f"{PACKAGE}=={importlib.metadata.version(PACKAGE)}"))


def _corpus() -> Path:
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{NAME} reads the package {PACKAGE}, which is not installed: pip install 'vera-hub[demo]'.")
    return Path(spec.submodule_search_locations[0]) / "data" / "english"


def _lines(file: Path) -> list[str]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is six times as fast, where PyYAML has it
    conversations = yaml.load(file.read_text(encoding="utf-8"), loader)["conversations"]  # noqa: S506  # a SafeLoader
    return [" ".join(str(line).split()) for conversation in conversations for line in conversation]
