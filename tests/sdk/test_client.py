from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest

from sdk import errors
from sdk.client import Hub, wire
from sdk.config import Config
from sdk.errors import BadAnswer, HubError, LeaseLost, Misconfigured, Offline, Refused, Unavailable
from sdk.models.jobs import Job, JobBase
from sdk.models.versions import Said
from sdk.retrying import ATTEMPTS, FIRST_WAIT_S, Retries
from tests.sdk.fakes import NOW, TOKEN, FakeHub, answer, evaluation_json, hub_for, problem
from vera.errors import RefError
from vera.ref import AdapterRef

ADAPTER = AdapterRef("demo", "a")
WHOAMI = b'{"name": "demo", "kind": "user", "scopes": []}'
JOB = Job(
    "01J",
    3,
    "demo/a@v1",
    "sha256:0",
    "sha256:2",
    "c" * 40,
    "demo/topics",
    {},
    "sha256:1",
    JobBase("b", "vbf1:0", None),
    60,
)


# -- What comes back as which error ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "TOKEN_MISSING", errors.Unauthorized),
        (403, "FORBIDDEN", errors.Forbidden),
        (404, "ADAPTER_UNKNOWN", errors.NotFound),
        (404, "BASE_UNKNOWN", errors.NotFound),
        (422, "BASE_UNKNOWN", errors.Refused),
        (409, "NAME_TOO_SIMILAR", errors.Conflict),
        (409, "LEASE_EXPIRED", errors.LeaseLost),
        (409, "RESULT_DUPLICATE", errors.LeaseLost),
        (409, "DIGEST_MISMATCH", errors.DigestMismatch),
        (413, "BODY_TOO_LARGE", errors.Refused),
        (422, "TENSOR_NONFINITE", errors.Refused),
        (418, "SOMETHING_OF_THE_FUTURE", errors.Refused),
        (507, "STORAGE_FULL", errors.Unavailable),
        (500, "INTERNAL", errors.Unavailable),
    ],
)
def test_a_problem_becomes_its_class_and_keeps_code_sentence_and_facts(
    fake: FakeHub, hub: Hub, status: int, code: str, kind: type[HubError]
) -> None:
    fake.first = [problem(status, code, "A sentence. What to do.")]

    with pytest.raises(HubError) as error:
        hub.whoami()

    assert type(error.value) is kind
    assert (error.value.code, str(error.value)) == (code, "A sentence. What to do.")
    assert (error.value.status, error.value.facts) == (status, {"at": 1})


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b"\xff", b'{"code": 3, "detail": [], "facts": 1}', b"[" * 9999]
)
def test_an_error_without_a_problem_document_names_the_hub_and_the_status(
    fake: FakeHub, hub: Hub, content: bytes
) -> None:
    fake.first = [httpx2.Response(404, content=content)]

    with pytest.raises(errors.NotFound, match=r"http://hub\.test answered 404"):
        hub.whoami()


# -- A hub that does not answer -------------------------------------------------------------------


def test_a_dead_hub_is_one_sentence_with_its_url_and_how_to_start_one(config: Config) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with pytest.raises(Unavailable) as error, Hub(Config(url, config.folder, config.cache)) as hub:
            hub.whoami()

    assert error.value.code == "HUB_UNREACHABLE"
    assert url in str(error.value)
    assert "vera-hub serve" in str(error.value)
    assert "\n" not in str(error.value)


def test_offline_nothing_is_asked(config: Config, fake: FakeHub) -> None:
    with pytest.raises(Offline, match="VERA_HUB_OFFLINE"):
        hub_for(fake, Config(config.url, config.folder, config.cache, offline=True)).whoami()

    assert fake.requests == []


# -- Trying again ---------------------------------------------------------------------------------

Ask = Callable[[Hub], object]
ASK_IDEMPOTENT: list[Ask] = [
    lambda hub: hub.whoami(),
    lambda hub: hub.request_evaluation("demo/a@v1", "demo/topics"),
    lambda hub: hub.push_version(ADAPTER, {"vera.json": b"{}"}),
    lambda hub: hub.heartbeat(JOB),
]
BREAKS = [
    httpx2.ConnectError("refused"),
    httpx2.ReadError("reset"),
    httpx2.RemoteProtocolError("closed"),
    httpx2.Response(502),
    httpx2.Response(503),
    httpx2.Response(504),
    httpx2.Response(429),
    httpx2.Response(503, headers={"retry-after": "3"}),
    httpx2.Response(
        503, headers={"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)}
    ),
]


@pytest.mark.parametrize("ask", ASK_IDEMPOTENT)
@pytest.mark.parametrize("first", BREAKS, ids=str)
def test_what_can_be_repeated_without_harm_is_repeated_a_few_times(fake: FakeHub, hub: Hub, ask: Ask, first) -> None:
    fake.first = [first] * ATTEMPTS

    with pytest.raises(Unavailable):
        ask(hub)

    assert len(fake.requests) == ATTEMPTS


def test_one_failure_is_not_noticed(fake: FakeHub, hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    fake.first = [httpx2.ReadError("reset"), httpx2.Response(503)]

    assert hub.whoami().name == "demo"
    assert capfd.readouterr() == ("", "")


def test_pauses_grow_and_are_those_the_hub_asks_for(fake: FakeHub, hub: Hub, pauses: list[float]) -> None:
    fake.first = [httpx2.ReadError("reset"), httpx2.Response(503), httpx2.Response(503, headers={"retry-after": "7"})]

    hub.whoami()

    first, second, asked = pauses
    assert FIRST_WAIT_S <= first <= 2 * FIRST_WAIT_S <= second <= 3 * FIRST_WAIT_S
    assert asked == 7


def test_whoever_has_a_user_is_told_before_a_pause(fake: FakeHub, config: Config) -> None:
    told: list[tuple[str, float]] = []
    fake.first = [httpx2.Response(503, headers={"retry-after": "7"})]

    Hub(config, http=fake.http(), retries=Retries(lambda error, pause_s: told.append((error.code, pause_s)))).whoami()

    assert told == [("UNAVAILABLE", 7.0)]


def test_no_more_than_a_minute_goes_into_pauses(fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 900, 40))
    monkeypatch.setattr("sdk.retrying.monotonic", lambda: float(next(clock)))
    fake.first = [httpx2.Response(503)] * ATTEMPTS

    with pytest.raises(Unavailable):
        hub.whoami()

    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    ("first", "attempts"),
    [
        (httpx2.ConnectError("refused"), ATTEMPTS),
        (httpx2.Response(503), ATTEMPTS),
        (httpx2.ReadError("reset"), 1),
        (httpx2.Response(502), 1),
    ],
    ids=str,
)
def test_a_claim_is_repeated_only_when_it_cannot_have_been_taken(fake: FakeHub, hub: Hub, first, attempts: int) -> None:
    fake.first = [first] * ATTEMPTS

    with pytest.raises(Unavailable):
        hub.claim_job("w", ["demo/topics"])

    assert len(fake.requests) == attempts


@pytest.mark.parametrize(
    "first",
    [
        httpx2.ReadTimeout("slow"),
        httpx2.Response(500),
        httpx2.Response(507),
        httpx2.Response(429, headers={"retry-after": "3600"}),
    ],
    ids=str,
)
def test_what_another_attempt_would_not_help_is_reported_at_once(fake: FakeHub, hub: Hub, first) -> None:
    fake.first = [first] * ATTEMPTS

    with pytest.raises(Unavailable):
        hub.whoami()

    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda hub, ref: hub.get_adapter(ref),
        lambda hub, ref: hub.delete_version(ref, "Wrong."),
        lambda hub, ref: hub.set_alias(ref, "prod"),
        lambda hub, ref: hub.remove_alias(ref, "prod"),
        lambda hub, ref: hub.move(ref, AdapterRef("demo", "b")),
        lambda hub, ref: hub.move(AdapterRef("demo", "b"), ref),
        lambda hub, ref: hub.set_visibility(ref, "private"),
        lambda hub, ref: hub.request_evaluation(str(ref), "demo/topics"),
        lambda hub, ref: hub.diff_versions(ADAPTER, ref),
        lambda hub, ref: hub.push_version(ADAPTER, {"vera.json": b"{}"}, Said(parent=str(ref))),
    ],
)
def test_what_a_reference_says_is_at_another_hub_is_not_looked_for_here(fake: FakeHub, hub: Hub, ask) -> None:
    with pytest.raises(Misconfigured, match=r"vera://other\.test/demo/a@v1 is at https://other\.test, and http"):
        ask(hub, AdapterRef.parse("vera://other.test/demo/a@v1"))

    assert fake.requests == []


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda hub: hub.move(ADAPTER, AdapterRef("demo", "b")), "`vera-hub audit demo` shows"),
        (lambda hub: hub.remove_alias(ADAPTER, "prod"), "`vera-hub audit demo` shows"),
        (lambda hub: hub.create_user("rita"), "`vera-hub audit --hub` shows"),
        (lambda hub: hub.create_token("laptop"), "`vera-hub audit` shows"),
        (lambda hub: hub.set_visibility(ADAPTER, "private"), "The same command finds out"),
        (lambda hub: hub.request_evaluation("demo/a@v1", "demo/topics"), "The same command finds out"),
    ],
    ids=["move", "remove_alias", "create_user", "create_token", "set_visibility", "request_evaluation"],
)
def test_who_stops_waiting_for_the_answer_to_a_write_is_told_how_to_find_out(config: Config, write, says: str) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        write(interrupted(config))

    (said,) = stopped.value.__notes__
    assert said.startswith(f"The hub at {config.url} may have done it all the same.")
    assert says in said


def test_who_stops_waiting_for_what_was_only_read_is_told_nothing(config: Config) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        interrupted(config).whoami()

    assert not hasattr(stopped.value, "__notes__")


def interrupted(config: Config) -> Hub:
    """A hub whose answer somebody does not wait for."""

    def stop(_: httpx2.Request) -> httpx2.Response:
        raise KeyboardInterrupt

    return Hub(config, http=httpx2.Client(transport=httpx2.MockTransport(stop)))


@pytest.mark.parametrize("first", [httpx2.Response(422), httpx2.Response(401), httpx2.Response(404)], ids=str)
def test_a_refusal_is_not_repeated(fake: FakeHub, hub: Hub, first) -> None:
    fake.first = [first]

    with pytest.raises(HubError):
        hub.whoami()

    assert len(fake.requests) == 1


def test_a_redirect_is_not_followed_so_the_token_stays_here(fake: FakeHub, hub: Hub) -> None:
    fake.first = [httpx2.Response(307, headers={"location": "http://evil.test/api/v1/whoami"})]

    with pytest.raises(Unavailable, match=r"redirects to http://evil\.test"):
        hub.whoami()

    assert [request.url.host for request in fake.requests] == ["hub.test"]


# -- Answers that cannot be used ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"score": "0.8"}, "score"),
        ({"score": True}, "score"),
        ({"interval": [0.1]}, "interval"),
        ({"interval": {"low": 0}}, "interval"),
        ({"items": 1.5}, "items"),
        ({"metric": None}, "metric"),
        ({"environment": []}, "environment"),
    ],
)
def test_an_answer_of_another_shape_names_the_field(fake: FakeHub, hub: Hub, change, field: str) -> None:
    fake.first = [answer(evaluation_json(**change))]

    with pytest.raises(BadAnswer, match=rf"Evaluation\.{field}"):
        hub.get_evaluation("01E")


def test_a_missing_field_is_named_and_a_new_one_ignored(fake: FakeHub, hub: Hub) -> None:
    whole = evaluation_json(a_field_of_the_future=[{}])
    fake.first = [answer(whole), answer({key: value for key, value in whole.items() if key != "state"})]

    assert hub.get_evaluation("01E").score == 0.8
    with pytest.raises(BadAnswer, match=r"Evaluation\.state"):
        hub.get_evaluation("01E")


@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(200, content=b"<html>Welcome to the hotel</html>"),
        httpx2.Response(200, content=b'{"name": "a", "name": "b"}'),
        httpx2.Response(200, content=b"[" * 1000 + b"]" * 1000),
        httpx2.Response(200, content=gzip.compress(WHOAMI), headers={"content-encoding": "gzip"}),
        httpx2.Response(204),
    ],
    ids=["html", "duplicate", "deep", "gzip", "nothing"],
)
def test_what_is_not_an_answer_of_a_hub_is_said_to_be_none(fake: FakeHub, hub: Hub, response: httpx2.Response) -> None:
    fake.first = [response]

    with pytest.raises(BadAnswer):
        hub.whoami()


def test_a_web_page_in_place_of_an_answer_is_called_one(fake: FakeHub, hub: Hub) -> None:
    """Of a proxy, or of whoever lets people into this network."""
    fake.first = [httpx2.Response(200, content=b"\n<!doctype html><title>Sign in</title>")]

    with pytest.raises(
        BadAnswer, match=rf"What {hub.config.url} answers is a web page, perhaps of a proxy or a sign-in"
    ):
        hub.whoami()


# -- Requests -------------------------------------------------------------------------------------


def test_every_request_carries_the_token_and_asks_for_plain_bytes(fake: FakeHub, hub: Hub) -> None:
    hub.whoami()

    headers = fake.requests[0].headers
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("vera-hub/")


def test_without_a_token_none_is_sent(config: Config, fake: FakeHub) -> None:
    hub_for(fake, Config(config.url, config.folder, config.cache)).whoami()

    assert "authorization" not in fake.requests[0].headers


def test_lists_are_read_page_after_page(fake: FakeHub, hub: Hub) -> None:
    bases = [
        {
            "fingerprint": f"vbf1:{i}",
            "name": "b",
            "revision": None,
            "dtype": "float32",
            "parameters": 1,
            "size_bytes": 4,
            "tensor_count": 1,
            "adapter_count": 0,
            "created_at": NOW,
        }
        for i in range(3)
    ]
    fake.first = [answer({"items": bases[:2], "next": "c/1"}), answer({"items": bases[2:], "next": None})]

    found = list(hub.list_bases(name="b"))

    assert [base.fingerprint for base in found] == ["vbf1:0", "vbf1:1", "vbf1:2"]
    assert [dict(request.url.params) for request in fake.requests] == [{"name": "b"}, {"name": "b", "cursor": "c/1"}]


def test_an_id_cannot_leave_its_place_in_the_path(fake: FakeHub, hub: Hub) -> None:
    with pytest.raises(errors.NotFound):
        hub.get_evaluation("../whoami?x=1#")
    with pytest.raises(BadAnswer):
        hub.get_evaluation("..")

    assert [request.url.raw_path for request in fake.requests] == [b"/api/v1/evaluations/..%2Fwhoami%3Fx%3D1%23"]


@pytest.mark.parametrize("name", ["topics", "a/b/c", "../x", "a/", ""])
def test_a_suite_is_a_family_and_a_task(fake: FakeHub, hub: Hub, name: str) -> None:
    with pytest.raises(RefError, match="family/task"):
        hub.leaderboard(name)

    assert fake.requests == []


def test_a_worker_with_nothing_to_do_gets_none(fake: FakeHub, hub: Hub) -> None:
    fake.first = [httpx2.Response(204)]

    assert hub.claim_job("w", ["demo/topics"], bases=["vbf1:0"]) is None

    assert fake.requests[0].content == b'{"worker_id":"w","suites":["demo/topics"],"bases":["vbf1:0"]}'


def test_a_lost_lease_is_told_apart_from_other_conflicts(fake: FakeHub, hub: Hub) -> None:
    fake.first = [problem(409, "LEASE_EXPIRED", "It is another worker's."), httpx2.Response(204)]

    with pytest.raises(LeaseLost):
        hub.heartbeat(JOB)
    result = {"outcomes": [1, 0], "outputs": ["a", "b"], "environment": {"torch": "2"}, "seconds": 1.5}
    hub.submit_result(JOB, **result, envelope={"payload": "e30="})

    assert fake.requests[1].content == (
        b'{"fence":3,"outcomes":[1,0],"outputs":["a","b"],"environment":{"torch":"2"},"seconds":1.5,'
        b'"envelope":{"payload":"e30="}}'
    )


@pytest.mark.parametrize(("date", "skew_s"), [(timedelta(0), 0.0), (timedelta(hours=1), 3600.0), (None, None)])
def test_the_clock_of_the_hub_is_read_from_its_answers(fake: FakeHub, hub: Hub, date: timedelta | None, skew_s) -> None:
    headers = {} if date is None else {"date": format_datetime(datetime.now(UTC) + date, usegmt=True)}
    fake.first = [answer({"status": "ok", "version": "0.1.0"}, headers=headers)]

    assert hub.clock_skew_s() == (None if skew_s is None else pytest.approx(skew_s, abs=60))


def test_closing_twice_is_the_same_as_once(config: Config) -> None:
    hub = Hub(Config("http://127.0.0.1:9", config.folder, config.cache))
    with pytest.raises(Unavailable):
        hub.whoami()

    hub.close()
    hub.close()


def test_refused_is_what_a_hub_says_of_a_wrong_push(fake: FakeHub, hub: Hub) -> None:
    fake.first = [problem(422, "BASE_UNKNOWN", "Register the base first: `vera-hub base add`.")]

    with pytest.raises(Refused, match="vera-hub base add"):
        hub.push_version(ADAPTER, {"vera.json": b"{}"})


# -- Connections that are kept ----------------------------------------------------------------------


def test_an_idle_connection_is_let_go_of_before_a_server_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers close one that was idle for five seconds: what is sent at that moment gets no answer."""
    assert wire._KEPT_IDLE_S < 5
    monkeypatch.setattr(wire, "_KEPT_IDLE_S", 0.2)
    connections = set()

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            connections.add(self.client_address)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(WHOAMI)))
            self.end_headers()
            self.wfile.write(WHOAMI)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        with Hub(Config(f"http://127.0.0.1:{server.server_port}", tmp_path, tmp_path, token=TOKEN)) as hub:
            hub.whoami(), hub.whoami()
            assert len(connections) == 1
            time.sleep(0.4)
            hub.whoami()
            assert len(connections) == 2
    finally:
        server.shutdown(), thread.join(), server.server_close()
