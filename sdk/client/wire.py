"""One request to a hub and its answer.

Nothing a hub says is trusted to be small or well formed: answers are counted while they arrive,
decoded strictly and refused by BadAnswer.
"""

from __future__ import annotations

import re
import secrets
import ssl
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from http import HTTPStatus
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar
from urllib.parse import urlsplit

from sdk.client.addresses import segment, selector_of
from sdk.config import Config, is_loopback
from sdk.errors import BadAnswer, HubError, HubWarning, Misconfigured, Offline, Unavailable, of_problem
from sdk.models.answer import Answer, Health
from sdk.retrying import Retries
from vera import __version__, strict_json
from vera.ref import AdapterRef

if TYPE_CHECKING:
    import httpx2  # 80 ms: imported late, so that a load from the cache does not pay for it

    from sdk.models.accounts import Account


A = TypeVar("A", bound=Answer)
# What a parameter of an address may be; None leaves it out, and a list repeats it.
Asked = str | int | float | Sequence[str] | None

# The tensor table of a base with 100,000 tensors is about 20 MB of JSON.
MAX_JSON_BYTES = 64 << 20
MAX_JSON_DEPTH = 32

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
# Less than the five seconds after which a server closes an idle connection: what is sent just then gets no answer.
_KEPT_IDLE_S = 3.0
_TIMEOUT = {"connect": CONNECT_TIMEOUT_S, **dict.fromkeys(("read", "write", "pool"), ANSWER_TIMEOUT_S)}

_READING = ("GET", "HEAD")
# Whose record has what is written at an address, where it is not the one's who writes.
_OF_A_NAMESPACE = re.compile(r"/api/v1/(?:adapters|namespaces|orgs|invitations)/([^/]+)")
_OF_THE_HUB = ("/api/v1/users", "/api/v1/bases")

# The status of a request that was turned away before anything was done: safe to repeat, whatever it was.
_NOT_DONE = {429, 503}
_MAYBE_DONE = {502, 504}


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    date: str | None
    url: str  # of the hub
    media_type: str = ""

    def json(self) -> object:
        try:
            return strict_json.loads(self.body, max_depth=MAX_JSON_DEPTH)
        except ValueError as error:
            is_page = self.body.lstrip()[:1] == b"<"
            what = "is a web page, perhaps of a proxy or a sign-in before it" if is_page else f"cannot be read: {error}"
            raise self.unreadable(what) from error

    def unreadable(self, what: str) -> BadAnswer:
        return BadAnswer(f"What {self.url} answers {what}. Is it a Vera Hub? Check VERA_HUB_URL.")


class Wire:
    """The connection to a hub, and what every request has in common."""

    def __init__(
        self, config: Config | None = None, *, http: httpx2.Client | None = None, retries: Retries | None = None
    ) -> None:
        """`http` replaces the connection, for instance to reach an app in the same process."""
        self.config = config or Config.resolve()
        self._given_http = http
        self._retries = retries or Retries()
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"Hub({self.config.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections this Hub opened. Twice is the same as once."""
        if self._given_http is None and "_http" in self.__dict__:
            self._http.close()
            del self._http

    def health(self) -> Health:
        return Health.from_json(self._get("/healthz").json())

    def clock_skew_s(self) -> float | None:
        """How many seconds the hub's clock is ahead of ours, None when it does not say. Good to a second."""
        date = self._get("/healthz").date
        then = parse_date(date)
        return None if then is None else (then - datetime.now(UTC)).total_seconds()

    def whoami(self) -> Account:
        from sdk.models.accounts import Account

        return Account.from_json(self._get("/api/v1/whoami").json())

    def _here(self, ref: AdapterRef) -> AdapterRef:
        """`ref` without its hub, which is this one. Raises Misconfigured for another one's: what is called so here is another
        adapter."""
        theirs = self.config.at_host(ref.host).url
        if theirs != self.config.url:
            raise Misconfigured(
                f"{ref} is at {theirs}, and {self.config.url} is asked: say so with `vera-hub --url {theirs} …` or VERA_HUB_URL.",
                code="REF_ELSEWHERE",
            )
        return replace(ref, host=None)

    def _spelled_here(self, text: str) -> str:
        """`text`, which may be a reference, without the hub that it names. Raises as `_here` does."""
        return str(self._here(AdapterRef.parse(text))) if text.startswith("vera://") else text

    def _path_of(self, ref: AdapterRef) -> str:
        return f"/api/v1/adapters/{self._here(ref).adapter_id}"

    def _version_path(self, ref: AdapterRef) -> str:
        return f"{self._path_of(ref)}/versions/{segment(selector_of(ref))}"

    def _alias_path(self, ref: AdapterRef, alias: str) -> str:
        return f"{self._path_of(ref)}/aliases/{segment(alias)}"

    def _get(self, path: str, query: Mapping[str, Asked] | None = None, *, accept: str = "application/json") -> Reply:
        params = {key: value for key, value in (query or {}).items() if value is not None}
        return self._send("GET", path, is_idempotent=True, params=params, headers={"Accept": accept})

    def _post(self, path: str, body: object, *, is_idempotent: bool = False) -> Reply:
        """Sends what may be repeated: under a key of its own where it would otherwise be done again."""
        headers = {"Content-Type": "application/json", **({} if is_idempotent else done_once())}
        return self._send("POST", path, is_idempotent=True, content=strict_json.dumps(body), headers=headers)

    def _post_unrepeated(self, path: str, body: object) -> Reply:
        """Sends what is not repeated: a code or a lease is good for one answer."""
        headers = {"Content-Type": "application/json"}
        return self._send("POST", path, is_idempotent=False, content=strict_json.dumps(body), headers=headers)

    def _write(self, method: str, path: str, body: object) -> Reply:
        """Sends what may be repeated: PUT and PATCH say what is to be, not what to add."""
        headers = {"Content-Type": "application/json"}
        return self._send(method, path, is_idempotent=True, content=strict_json.dumps(body), headers=headers)

    def _undo(self, path: str) -> Reply:
        """Takes away what may be gone already."""
        return self._send("DELETE", path, is_idempotent=True)

    def _delete(self, path: str) -> None:
        self._send("DELETE", path, is_idempotent=True, headers=done_once())

    def _pages(self, path: str, query: Mapping[str, Asked], kind: type[A]) -> Iterator[A]:
        """Every item of a list, page after page, asked for when it is needed."""
        cursor: str | None = None
        while True:
            page = self._get(path, {**query, "cursor": cursor}).json()
            items = page.get("items") if isinstance(page, dict) else None
            if not isinstance(items, list):
                raise BadAnswer(f"The hub's answer to {path} is not a list. Is it a Vera Hub? Check VERA_HUB_URL.")
            yield from (kind.from_json(item) for item in items)
            following = page.get("next") if isinstance(page, dict) else None
            if not isinstance(following, str) or following == cursor:
                return
            cursor = following

    def _send(
        self,
        method: str,
        path: str,
        *,
        is_idempotent: bool,
        max_bytes: int = MAX_JSON_BYTES,
        into: BinaryIO | None = None,
        **request: Any,
    ) -> Reply:
        """The answer to a request; a body beyond memory is written to `into`, from its start at every attempt."""
        if self.config.offline:
            raise Offline(f"VERA_HUB_OFFLINE is set, and this needs the hub at {self.config.url}: unset it.")
        read = partial(_read, max_bytes=max_bytes, into=into)
        try:
            return self._retries.run(lambda: self._send_once(method, path, is_idempotent, read, request))
        except KeyboardInterrupt as stopped:
            if method not in _READING:
                is_done_once = not is_idempotent or "Idempotency-Key" in request.get("headers", {})
                stopped.add_note(_perhaps_done(self.config.url, path, may_repeat=not is_done_once))
            raise

    def _send_once(
        self,
        method: str,
        path: str,
        is_idempotent: bool,
        read: Callable[[httpx2.Response], bytes],
        request: Mapping[str, Any],
    ) -> Reply:
        import httpx2

        arguments = {
            **{name: value for name, value in request.items() if name != "is_moved"},
            "headers": {**self._headers(), **request.get("headers", {})},
            "params": request.get("params") or None,
            "extensions": {"timeout": _TIMEOUT},
        }
        if callable(request.get("content")):
            arguments["content"] = request["content"]()
        # Made here, not by the client, which would merge what it has nothing of (0.3 ms): cookies, parameters, a base URL.
        asked = httpx2.Request(method, f"{self.config.url}{path}", **arguments)
        try:
            with closing(self._http.send(asked, stream=True, follow_redirects=False)) as response:
                body = read(response) if response.is_success else _read(response)
        except httpx2.HTTPError as error:
            raise _unreachable(error, self.config.url, is_idempotent) from error
        said = response.headers
        reply = Reply(
            response.status_code,
            body,
            said.get("date"),
            self.config.url,
            said.get("content-type", "").partition(";")[0],
        )
        moved_to = _moved_to(response.headers) if response.status_code == HTTPStatus.TEMPORARY_REDIRECT else None
        if moved_to and method in _READING and not request.get("is_moved"):
            self._tell_of_move(reply)
            again = {name: value for name, value in request.items() if name != "params"}  # they are in the address
            return self._send_once(method, moved_to, is_idempotent, read, {**again, "is_moved": True})
        if not response.is_success:
            raise _failure(reply, response.headers, self.config.url, is_idempotent)
        return reply

    def _tell_of_move(self, reply: Reply) -> None:
        """Warns once for each name that an adapter had and has no more."""
        said = str(of_problem(HTTPStatus.NOT_FOUND, _problem_in(reply), url=self.config.url))
        if said not in self._told:
            self._told.add(said)
            warnings.warn(said, HubWarning, stacklevel=2)

    def _headers(self) -> dict[str, str]:
        # Identity: what is counted is what is sent, and no answer can unpack into more.
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"vera-hub/{__version__}",
        }
        if self.config.token:
            headers["Authorization"] = f"Bearer {self.config.token}"
        return headers

    @cached_property
    def _http(self) -> httpx2.Client:
        if self._given_http is not None:
            return self._given_http
        import httpx2

        # This machine is reached without the environment's proxy and, over plain HTTP, without reading
        # certificates, which would take longer than most requests here.
        is_here = is_loopback(self.config.url)
        is_plain = is_here and urlsplit(self.config.url).scheme == "http"
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else httpx2.create_ssl_context()
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=_KEPT_IDLE_S)
        return httpx2.Client(verify=tls, trust_env=not is_here, limits=limits)


def _perhaps_done(url: str, path: str, *, may_repeat: bool) -> str:
    """What is to be known where nobody waits for the answer to a write any more."""
    said = f"The hub at {url} may have done it all the same."
    if may_repeat:
        return f"{said} The same command finds out: what is done already is not done twice."
    named = _OF_A_NAMESPACE.match(path)
    of = "--hub" if path.startswith(_OF_THE_HUB) else named[1] if named else ""
    return f"{said} `{f'vera-hub audit {of}'.strip()}` shows the last that it did: look there before you repeat it."


def done_once() -> dict[str, str]:
    """The header of a request that the hub does once, however often its answer gets lost."""
    return {"Idempotency-Key": f'"{secrets.token_hex(16)}"'}


def _read(response: httpx2.Response, *, max_bytes: int = MAX_JSON_BYTES, into: BinaryIO | None = None) -> bytes:
    """The body, which is written to `into` when that is given, and then nothing of it is returned."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadAnswer("The hub's answer is compressed, which was not asked for: is a proxy in between?")
    body = BytesIO() if into is None else into
    body.seek(0)
    body.truncate()
    for chunk in response.iter_bytes():
        body.write(chunk)
        if body.tell() > max_bytes:
            raise BadAnswer(f"The hub's answer is longer than the {max_bytes:,} bytes it may have: it was dropped.")
    return body.getvalue() if isinstance(body, BytesIO) else b""


def _failure(reply: Reply, headers: httpx2.Headers, url: str, is_idempotent: bool) -> HubError:
    if 300 <= reply.status < 400 and _moved_to(headers):
        return of_problem(HTTPStatus.NOT_FOUND, _problem_in(reply), url=url)
    if 300 <= reply.status < 400:
        return Unavailable(
            f"{url} redirects to {headers.get('location', 'another place')}: set VERA_HUB_URL to where the hub really is.",
            code="REDIRECTED",
            status=reply.status,
        )
    error = of_problem(reply.status, _problem_in(reply), url=url)
    if isinstance(error, Unavailable):
        error.may_retry = reply.status in _NOT_DONE or (is_idempotent and reply.status in _MAYBE_DONE)
        error.retry_after_s = _retry_after_s(headers.get("retry-after"))
    return error


def _problem_in(reply: Reply) -> object:
    try:
        return reply.json()
    except BadAnswer:
        return None


def _moved_to(headers: httpx2.Headers) -> str | None:
    """The address at the same hub where an adapter is now that had another name."""
    location = str(headers.get("location", ""))
    return location if location.startswith("/api/v1/adapters/") else None


def _unreachable(error: httpx2.HTTPError, url: str, is_idempotent: bool) -> Unavailable:
    import httpx2

    if isinstance(error, httpx2.ConnectError) and (untrusted := _untrusted(error, url)):
        return untrusted
    never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    if never_sent:
        start = "start one with `vera-hub serve`, or set VERA_HUB_URL" if is_loopback(url) else "check VERA_HUB_URL"
        unavailable = Unavailable(f"No hub answers at {url} ({error}): {start}.", code="HUB_UNREACHABLE")
    elif isinstance(error, httpx2.TimeoutException):
        unavailable = Unavailable(
            f"The hub at {url} did not answer within {ANSWER_TIMEOUT_S:.0f} seconds: try again later.",
            code="HUB_TIMEOUT",
        )
    else:
        unavailable = Unavailable(
            f"The connection to the hub at {url} broke ({error}): try again, or look at the log of the hub.",
            code="HUB_UNREACHABLE",
        )
    # After a timeout of a minute the next attempt would only wait another one.
    unavailable.may_retry = never_sent or (is_idempotent and unavailable.code != "HUB_TIMEOUT")
    return unavailable


def _untrusted(error: BaseException | None, url: str) -> Unavailable | None:
    """What is wrong with the encryption of a connection that was not made, when that is it: another attempt fails as well."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted here ({error.verify_message})"
        do = "check VERA_HUB_URL and this machine's clock, or name the file of its authority by SSL_CERT_FILE"
    elif error is not None and error.reason == "WRONG_VERSION_NUMBER":
        why, do = "it speaks plain HTTP", f"write {url.replace('https:', 'http:', 1)}, or ask its operator for HTTPS"
    else:
        return None
    return Unavailable(f"The hub at {url} is not asked: {why}. Nothing was sent: {do}.", code="HUB_UNTRUSTED")


def _retry_after_s(header: str | None) -> float | None:
    """The pause that a Retry-After header asks for, in seconds: it is a number of them, or a date."""
    if header is None:
        return None
    if header.isascii() and header.isdigit() and len(header) < 9:
        return float(header)
    then = parse_date(header)
    return None if then is None else max(0.0, (then - datetime.now(UTC)).total_seconds())


def parse_date(header: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
