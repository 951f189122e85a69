"""What can go wrong between here and a hub, and what to do about it.

HubError
├── NotFound            there is no such thing, or it is not for you to see
├── Unauthorized        no token, or one that is not valid any more
├── Forbidden           the token is valid and does not allow this
│   └── Gated           the files of an adapter are given to whom its owners let in
├── Conflict            the hub's state does not allow it now
│   └── LeaseLost       a worker's job is no longer its own
├── Refused             the hub does not accept what was sent; `code` says what is wrong with it
├── DigestMismatch      the bytes, or the version, are not the ones that were pinned or promised
├── Yanked              its author took the version back; who names it exactly may still use it
├── Quarantined         an admin of the hub keeps the version from being given out
├── LockMismatch        vera.lock pins something else, or does not pin this
├── Unavailable         no hub answers, or it is busy or broken
├── BadAnswer           the hub answered something docs/api.md does not allow
├── Offline             VERA_HUB_OFFLINE is set and this needs the hub
└── Misconfigured       the profile, the environment or the table of bases cannot be used

Every error carries a stable `code`, `facts`, and a sentence that ends with what to do next. A code
that is not known here keeps its code and its sentence, in the class of its status.
What is wrong with an adapter itself is a `vera.errors.VeraError`, at home and from the hub alike
in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping


class HubWarning(UserWarning):
    """Something to know that stops nothing."""


class HubError(Exception):
    """Base of the tree. `status`, `request_id` and `url`, of the hub that answered, are None for what never reached one."""

    code = "HUB_ERROR"
    url: str | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.status = status
        self.request_id = request_id
        self.facts = dict(facts or {})


class NotFound(HubError):
    code = "NOT_FOUND"


class Unauthorized(HubError):
    code = "TOKEN_INVALID"


class Forbidden(HubError):
    code = "FORBIDDEN"


class Gated(Forbidden):
    """The files of an adapter are given to whom its owners let in: ask on its page."""

    code = "ADAPTER_GATED"


class Conflict(HubError):
    code = "CONFLICT"


class LeaseLost(Conflict):
    code = "LEASE_EXPIRED"


class Refused(HubError):
    code = "REFUSED"


class DigestMismatch(HubError):
    code = "DIGEST_MISMATCH"


class Yanked(HubError):
    code = "VERSION_YANKED"


class Quarantined(HubError):
    code = "VERSION_QUARANTINED"


class LockMismatch(HubError):
    code = "LOCK_MISMATCH"


class Unavailable(HubError):
    """`may_retry` says that sending the same again can help and does no harm."""

    code = "UNAVAILABLE"
    may_retry = False
    retry_after_s: float | None = None


class BadAnswer(HubError):
    code = "ANSWER_INVALID"


class Offline(HubError):
    code = "OFFLINE"


class Misconfigured(HubError):
    code = "CONFIG_INVALID"


# Where a caller can act on the code itself; the status decides everywhere else, because one code
# (BASE_UNKNOWN) may come with two of them.
_BY_CODE: Mapping[str, type[HubError]] = {
    "ADAPTER_GATED": Gated,
    "DIGEST_MISMATCH": DigestMismatch,
    "VERSION_YANKED": Yanked,
    "VERSION_QUARANTINED": Quarantined,
    "LEASE_EXPIRED": LeaseLost,
    "RESULT_DUPLICATE": LeaseLost,
}
_BY_STATUS: Mapping[int, type[HubError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    429: Unavailable,
}


def of_problem(status: int, problem: object, *, url: str) -> HubError:
    """The error that an answer of `status` with the problem document `problem` (RFC 9457) means.

    Anything may stand in `problem`: a proxy's page of HTML has arrived here as None.
    """
    fields = problem if isinstance(problem, dict) else {}
    code, detail = _text(fields.get("code")), _text(fields.get("detail"))
    kind = _BY_CODE.get(code or "") or _BY_STATUS.get(status) or (Unavailable if status >= 500 else Refused)
    facts, request_id = fields.get("facts"), _text(fields.get("request_id"))
    sentence = detail or f"{url} answered {status} without saying why: is it a Vera Hub? Check VERA_HUB_URL."
    if kind is Gated and isinstance(facts, dict) and (page := _text(facts.get("page"))):
        sentence += f" The page: {url.rstrip('/')}/{page.lstrip('/')}"
    if status >= 500 and request_id:
        sentence += f" (Request {request_id} in the log of the hub.)"
    error = kind(
        sentence,
        code=code,
        status=status,
        request_id=request_id,
        facts=facts if isinstance(facts, dict) else None,
    )
    error.url = url
    return error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
