"""What the server refuses, and why.

HubError
├── Malformed           the request cannot be read
├── Unauthorized        no token, or not a valid one
├── Forbidden           a valid token that may not do this
├── NotFound            it is not there, or the caller may not see it
│   └── Moved           it has another name now
├── TooSlow             the request stopped coming
├── TooMany             too often: try again later
├── Gone                it was there and was deleted for good
├── Withheld            an admin keeps it from being given out
├── Conflict            it cannot be done in the present state
├── PreconditionFailed  it is not what the request expected: nothing was changed
├── TooLarge            more bytes than are allowed
├── Unsupported         another format than the one that is spoken
├── Invalid             well formed and wrong
├── StorageFull         nothing more can be written; reading goes on
├── Unavailable         not now: try again
│   └── BlobCorrupt     stored bytes are not what they were (trying again does not help)
└── StartRefused        the server will not start like this

Every error carries a stable `code` (part of the public contract), the facts it is about, and a
sentence that ends with what to do next. `hub.api.errors` alone knows status codes.
"""

from __future__ import annotations

from typing import ClassVar


class HubError(Exception):
    """Base of the tree. `facts` are JSON values; `is_retryable` says that the same request may work later."""

    code: str = "HUB_ERROR"
    is_retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, **facts: object) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.facts = facts


class Malformed(HubError):
    code = "BODY_INVALID"


class Unauthorized(HubError):
    code = "TOKEN_INVALID"


class Forbidden(HubError):
    code = "FORBIDDEN"


class NotFound(HubError):
    code = "NOT_FOUND"


class Moved(NotFound):
    """`facts` are the `old` and the `new` name."""

    code = "ADAPTER_MOVED"


class TooSlow(HubError):
    code = "BODY_TIMEOUT"
    is_retryable = True


class TooMany(HubError):
    """`retry_after_s` is when the next one is let in."""

    code = "RATE_LIMITED"
    is_retryable = True

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int, **facts: object) -> None:
        super().__init__(message, code=code, **facts)
        self.retry_after_s = retry_after_s


class Gone(HubError):
    code = "GONE"


class Withheld(HubError):
    code = "WITHHELD"


class Conflict(HubError):
    code = "CONFLICT"


class PreconditionFailed(HubError):
    code = "PRECONDITION_FAILED"


class TooLarge(HubError):
    code = "BODY_TOO_LARGE"


class Unsupported(HubError):
    code = "UNSUPPORTED_FORMAT"


class Invalid(HubError):
    code = "INVALID"


class StorageFull(HubError):
    code = "STORAGE_FULL"


class Unavailable(HubError):
    code = "UNAVAILABLE"
    is_retryable = True


class BlobCorrupt(Unavailable):
    code = "BLOB_CORRUPT"
    is_retryable = False


class StartRefused(HubError):
    """`exit_code` is what the process ends with, so that scripts can tell the cases apart."""

    code = "START_REFUSED"

    def __init__(self, message: str, *, code: str, exit_code: int) -> None:
        super().__init__(message, code=code)
        self.exit_code = exit_code
