"""The parts of a push: the files, and what is said beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.domain import uploads
from hub.domain.uploads import Said
from hub.errors import Invalid
from vera.archive import MAX_BYTES

# The longest text of each; of a message, a character takes up to 4 bytes, and the others are ASCII.
_CHARACTERS = {
    "message": uploads.MAX_MESSAGE,
    "visibility": 16,
    "prerelease": 16,
    "parent": 200,
    "source_commit": 64,
    "source_run": uploads.MAX_LINK,
}
PART_LIMITS = {**MAX_BYTES, **_CHARACTERS, "message": 4 * uploads.MAX_MESSAGE}

_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
PUSH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        **dict.fromkeys(MAX_BYTES, _FILE),
                        **{name: {"type": "string", "maxLength": limit} for name, limit in _CHARACTERS.items()},
                        "visibility": {"type": "string", "enum": ["public", "private"]},
                        "prerelease": {"type": "string", "enum": ["true", "false"]},
                    },
                    "required": list(MAX_BYTES),
                    "additionalProperties": False,
                }
            }
        },
    }
}


def said_in(received: Mapping[str, bytes]) -> Said:
    """What the push says beside its files. Raises Invalid."""
    return Said(
        message=_text(received, "message"),
        is_private=_choice(received, "visibility", yes="private", no="public"),
        is_prerelease=_choice(received, "prerelease", yes="true", no="false"),
        parent=_text(received, "parent"),
        commit=_text(received, "source_commit"),
        run=_text(received, "source_run"),
    )


def _text(received: Mapping[str, bytes], name: str) -> str | None:
    try:
        return received.get(name, b"").decode() or None
    except UnicodeDecodeError as error:
        raise Invalid(f"The {name} is not UTF-8 text.", code=f"{name.upper()}_INVALID") from error


def _choice(received: Mapping[str, bytes], name: str, *, yes: str, no: str) -> bool | None:
    data = received.get(name)
    if data is None:
        return None
    if data not in (yes.encode(), no.encode()):
        raise Invalid(f"The {name} is {no} or {yes}.", code=f"{name.upper()}_INVALID")
    return data == yes.encode()
