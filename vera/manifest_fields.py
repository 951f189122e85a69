"""The fields of a JSON object, taken one by one: each is there and of its type, and none is left over."""

from __future__ import annotations

import re
from typing import Any

from vera.errors import ManifestError

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Fields:
    """Takes the fields of a JSON object one by one; whatever is left over at the end is refused."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ManifestError(f"vera.json is not valid: {where} must be an object.")
        self._left, self._where = dict(value), where

    def has(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str) -> object:
        if key not in self._left:
            raise ManifestError(f"vera.json is not valid: {self._where} has no {key!r}.", field=key)
        return self._left.pop(key)

    def _typed(self, key: str, kind: type, what: str) -> Any:
        value = self.take(key)
        if type(value) is not kind:
            raise ManifestError(f"vera.json is not valid: {key!r} in {self._where} must be {what}.", field=key)
        return value

    def string(self, key: str) -> str:
        return str(self._typed(key, str, "a string"))

    def integer(self, key: str) -> int:
        return int(self._typed(key, int, "an integer"))

    def sha256(self, key: str) -> str:
        value = self.string(key)
        if not _SHA256.fullmatch(value):
            raise ManifestError(f"vera.json is not valid: {key!r} in {self._where} must be 64 hex digits.", field=key)
        return value

    def optional_string(self, key: str) -> str | None:
        return None if self._takes_null(key) else self.string(key)

    def optional_integer(self, key: str) -> int | None:
        return None if self._takes_null(key) else self.integer(key)

    def _takes_null(self, key: str) -> bool:
        is_null = key in self._left and self._left[key] is None
        if is_null:
            del self._left[key]
        return is_null

    def object(self, key: str) -> Fields:
        return Fields(self.take(key), key)

    def optional_object(self, key: str) -> Fields | None:
        value = self.take(key)
        return None if value is None else Fields(value, key)

    def values(self, key: str) -> list[Any]:
        return list(self._typed(key, list, "a list"))

    def optional_values(self, key: str) -> list[Any] | None:
        return None if self._takes_null(key) else self.values(key)

    def objects(self, key: str) -> list[Fields]:
        return [Fields(item, f"{key}[{i}]") for i, item in enumerate(self._typed(key, list, "a list"))]

    def names(self) -> list[str]:
        return list(self._left)

    def rest(self) -> dict[str, Any]:
        left, self._left = self._left, {}
        return left

    def end(self) -> None:
        if self._left:
            unknown = [key[:80] for key in sorted(self._left)[:20]]
            raise ManifestError(
                f"vera.json is not valid: {self._where} has unknown fields: {', '.join(map(repr, unknown[:5]))}.",
                code="MANIFEST_UNKNOWN_FIELD",
                fields=unknown,
            )
