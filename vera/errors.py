"""What can be wrong with an adapter, a recipe or a base, and what to do about it.

VeraError
├── RefError                a reference is not well formed
├── ManifestError           vera.json is not a manifest of a known schema
├── ArchiveError            the files of an adapter are not what the manifest promises
├── RecipeError             a projection recipe cannot be followed
├── ProjectionMismatch      the rebuilt matrices are not the ones of the manifest
├── ProjectionMissing       the matrices follow no recipe, and the file that holds them is not here
├── AdapterTooLarge         the matrices would not fit the memory budget
├── BaseUnreadable          a base checkpoint cannot be read
├── BaseMismatch            the base is not the one the adapter was trained on
├── TargetError             the modules to adapt are not in the model
├── DataError               training or evaluation data cannot be used
└── SignatureError          what is said to be signed is not, or not by this key

Every error carries a stable `code` (part of the public contract), the facts it is about, and a
sentence that ends with what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping


class VeraWarning(UserWarning):
    """Something to know of an adapter, a model or a training that stops nothing."""


class VeraError(Exception):
    """Base of the tree. `code` is stable; `facts` are JSON values."""

    code = "VERA_ERROR"

    def __init__(self, message: str, *, code: str | None = None, **facts: object) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.facts = facts


class RefError(VeraError):
    code = "REF_INVALID"


class ManifestError(VeraError):
    code = "MANIFEST_INVALID"


class ArchiveError(VeraError):
    code = "ARCHIVE_INVALID"


class RecipeError(VeraError):
    code = "RECIPE_INVALID"


class ProjectionMismatch(VeraError):
    code = "PROJECTION_MISMATCH"


class ProjectionMissing(VeraError):
    code = "PROJECTION_MISSING"


class AdapterTooLarge(VeraError):
    code = "ADAPTER_TOO_LARGE"


class BaseUnreadable(VeraError):
    code = "BASE_UNREADABLE"


class BaseMismatch(VeraError):
    """`found` is what was there instead, as far as it was read: the SHA-256 of tensors by their names in the base."""

    code = "BASE_MISMATCH"

    def __init__(
        self, message: str, *, code: str | None = None, found: Mapping[str, str] | None = None, **facts: object
    ) -> None:
        super().__init__(message, code=code, **facts)
        self.found = found or {}


class TargetError(VeraError):
    code = "TARGET_UNKNOWN"


class DataError(VeraError):
    code = "DATA_INVALID"


class SignatureError(VeraError):
    code = "SIGNATURE_INVALID"
