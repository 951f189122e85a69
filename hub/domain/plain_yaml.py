"""YAML of strangers: as much of it as a card needs, and nothing that grows while it is read."""

from __future__ import annotations

from typing import Any

import yaml

YAMLError = yaml.YAMLError

# With each bracket that is open the parser looks at all others once more.
_MAX_DEPTH = 16


def load(text: str) -> Any:
    """What `text` says. Raises YAMLError, and ValueError or RecursionError for some of what is no YAML."""
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506  # a SafeLoader
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # The loader takes a tag at its word: `!!bool maybe` is looked up in a table of booleans.
        raise yaml.YAMLError("it has a value that is not what its tag says") from error


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: with them, a kilobyte becomes gigabytes as soon as it is written as JSON."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which are not read here")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= _MAX_DEPTH:
            raise yaml.YAMLError(f"it has brackets within brackets, more than {_MAX_DEPTH} deep")
        super().fetch_flow_collection_start(token)
