"""Workers and their keys: let in once, believed for what they have signed, and shut out again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, update

import vera
from hub.auth.tokens import TokenKind
from hub.cli.admin import admin
from hub.db.models.accounts import Account
from hub.db.models.evaluating import WorkerCode, WorkerKey
from hub.db.models.record import AuditEvent
from hub.domain import accounts
from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub, Worker, code_of
from tests.signing import KEY, PUBLIC_KEY, shown, signed
from vera import attestation
from vera.signing import PublicKey, SigningKey

DIGESTS = dict.fromkeys(("version_digest", "weights_digest"), f"sha256:{'0' * 64}")
OTHER = SigningKey(bytes(range(1, 33)))
RIGHT = [1, 1, 1, 1, 1, 1, 0, 0]
RESULT: dict[str, Any] = {
    "outcomes": RIGHT,
    "outputs": ["a" if each else "b" for each in RIGHT],
    "environment": {"device": "cpu"},
    "seconds": 0.5,
}


def run(hub: Hub, *arguments: str) -> Result:
    """`vera-hub admin …` where the hub runs."""
    settings = hub.app.state.services.settings
    environment = {"VERA_HUB_DATABASE_URL": settings.resolved_database_url}
    return CliRunner().invoke(admin, [*arguments, "--data", str(settings.data_dir)], env=environment)


def make_code(hub: Hub, user: str = "demo") -> str:
    made = run(hub, "worker-code", "--user", user)
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


def enrol(hub: Hub, code: str, key: SigningKey = KEY, name: str = "bench") -> Any:
    return hub.post("/worker/enrol", {"code": code, "name": name, **shown(name, code, key=key)}, {})


def enrolled(hub: Hub, key: SigningKey = KEY, name: str = "bench") -> dict[str, str]:
    """The headers of a worker that a code has let in."""
    answer = enrol(hub, make_code(hub), key, name)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def finish_slowly(worker: Worker, job: dict[str, Any], meanwhile: Callable[[], object]) -> Any:
    """Hands a result in, and does something else before the last bytes are sent."""
    salt = "ab" * 32
    result = {"fence": job["fence"], **RESULT, "salt": salt}
    result["envelope"] = signed(job, metric=worker.suites[job["suite"]], **RESULT, salt=salt)
    body = json.dumps(result).encode()

    def pieces() -> Iterator[bytes]:
        yield body[:-1]
        meanwhile()
        yield body[-1:]

    headers = {**worker.headers, "Content-Type": "application/json"}
    return worker.hub.client.post(f"/api/v1/worker/jobs/{job['id']}/result", content=pieces(), headers=headers)


def test_a_worker_whose_token_is_revoked_while_its_result_comes_hands_in_none(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    hub.push(make_archive(), "tiny")
    job = worker.must_claim()

    refused = finish_slowly(worker, job, lambda: hub.change_tokens(revoked_at=datetime.now(UTC)))

    assert code_of(refused) == (401, "TOKEN_INVALID")
    assert hub.get("/adapters/demo/tiny/versions/v1").json()["evaluations"][0]["score"] is None


def register(hub: Hub, headers: dict[str, str], key: SigningKey = KEY) -> Any:
    body = {"name": "bench", "suites": [make_suite()], **shown("bench", headers["Authorization"], key=key)}
    return hub.post("/worker/register", body, headers)


def working(hub: Hub, key: SigningKey = KEY) -> Worker:
    headers = enrolled(hub, key)
    return Worker(hub, headers, register(hub, headers, key).json()["worker_id"], {"demo/topics": "accuracy"})


@pytest.fixture
def scored(hub: Hub) -> tuple[Hub, Worker, str]:
    """A hub, a worker of it, and the evaluation that it has done."""
    hub.register_base()
    worker = working(hub)
    assert hub.push(make_archive()).status_code == 201
    job = worker.must_claim()
    assert worker.finish(job, RIGHT).status_code == 204
    return hub, worker, job["id"]


# -- Another token --------------------------------------------------------------------------------


def test_the_old_token_is_good_until_the_worker_comes_with_the_new_one(scored: tuple[Hub, Worker, str]) -> None:
    hub, worker, _ = scored
    hub.push(make_archive(seed=1))
    job = worker.must_claim()

    new = enrolled(hub)

    assert worker.finish(job, RIGHT).status_code == 204
    assert register(hub, dict(worker.headers)).status_code == 200
    assert code_of(register(hub, new, OTHER)) == (403, "WORKER_KEY_MISMATCH")
    assert register(hub, dict(worker.headers)).status_code == 200
    assert register(hub, new).status_code == 200
    assert code_of(register(hub, dict(worker.headers))) == (401, "TOKEN_INVALID")
    assert register(hub, new).status_code == 200
    with hub.database.reading() as session:
        changes = session.scalars(select(AuditEvent).where(AuditEvent.action == "worker.token-changed")).all()
    assert [(each.subject, each.facts["key"]) for each in changes] == [("bench", KEY.public.id)]


def test_of_two_further_codes_the_last_one_counts_and_both_tokens_are_the_keys_alone(hub: Hub) -> None:
    first, second, third = (enrolled(hub) for _ in range(3))

    assert code_of(register(hub, second)) == (401, "TOKEN_INVALID")
    assert code_of(register(hub, first, OTHER)) == (403, "WORKER_KEY_MISMATCH")
    assert code_of(register(hub, third, OTHER)) == (403, "WORKER_KEY_MISMATCH")
    assert register(hub, first).status_code == 200
    assert register(hub, third).status_code == 200


def test_who_is_shut_out_has_no_token_to_come_with(hub: Hub) -> None:
    first, second = enrolled(hub), enrolled(hub)

    assert run(hub, "revoke-worker", "bench").exit_code == 0

    assert [code_of(register(hub, each)) for each in (first, second)] == [(401, "TOKEN_INVALID")] * 2


def test_the_workers_of_an_admin_go_when_the_admin_is_one_no_longer(hub: Hub) -> None:
    hub.register_base()
    worker, own, unused = working(hub), hub.worker(), make_code(hub)
    with hub.database.writing() as session:
        accounts.ensure_user(session, "ada")
        session.execute(update(Account).where(Account.name.in_(("ada", "demo"))).values(is_admin=True))
    hub.push(make_archive())
    job = worker.must_claim()

    demoted = hub.client.patch("/api/v1/users/demo", json={"is_admin": False}, headers=hub.headers("ada"))

    assert demoted.status_code == 200, demoted.text
    assert code_of(worker.finish(job, RIGHT)) == (401, "TOKEN_INVALID")
    assert own.must_claim()["id"] == job["id"]
    assert code_of(enrol(hub, unused, OTHER, "other")) == (401, "CODE_INVALID")
    with hub.database.reading() as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "user.admin-changed")).one()
    assert event.facts == {"is_admin": False, "workers": ["bench"]}
    assert register(hub, enrolled(hub)).status_code == 200


# -- Let in ---------------------------------------------------------------------------------------


def test_a_worker_may_have_a_long_name_with_a_stroke(hub: Hub) -> None:
    assert enrol(hub, make_code(hub), name=f"rack/{'w' * 90}").status_code == 201


def test_a_code_lets_one_worker_in(hub: Hub) -> None:
    code = make_code(hub)
    assert code.startswith("vhr_")

    first, second = enrol(hub, code), enrol(hub, code, OTHER)

    assert first.json()["token"].startswith("vhw_")
    assert first.json()["key_id"] == KEY.public.id
    assert code_of(second) == (401, "CODE_INVALID")
    assert register(hub, {"Authorization": f"Bearer {first.json()['token']}"}).status_code == 200
    assert f"{KEY.public.id}  bench  0 results  last heard of" in run(hub, "workers").output


def test_a_code_is_good_for_ten_minutes_and_no_token(hub: Hub) -> None:
    code = make_code(hub)
    assert code_of(hub.get("/whoami", headers={"Authorization": f"Bearer {code}"})) == (401, "TOKEN_INVALID")
    with hub.database.writing() as session:
        session.execute(update(WorkerCode).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))

    assert code_of(enrol(hub, code)) == (401, "CODE_INVALID")


def test_the_token_of_a_code_is_for_its_key_alone(hub: Hub) -> None:
    headers = enrolled(hub)

    refused = register(hub, headers, OTHER)

    assert code_of(refused) == (403, "WORKER_KEY_MISMATCH")
    assert refused.json()["facts"] == {"expected": KEY.public.id, "got": OTHER.public.id}


@pytest.mark.parametrize("text", ["", "AAAA", "not a key"])
def test_what_is_no_key_is_refused_and_the_code_stays_good(hub: Hub, text: str) -> None:
    code = make_code(hub)

    body = {"code": code, "name": "bench", **shown("bench", code), "public_key": text}
    refused = hub.post("/worker/enrol", body, {})

    assert refused.status_code == 422
    assert enrol(hub, code).status_code == 201


# -- Whose the key is -----------------------------------------------------------------------------

UNPROVEN: dict[str, tuple[dict[str, Any], str]] = {
    "by another key": ({"key": OTHER}, "SIGNATURE_INVALID"),
    "for another hub": ({"hub": "hub.example.org"}, "WORKER_PROOF_INVALID"),
    "of another name": ({"name": "rack"}, "WORKER_PROOF_INVALID"),
    "with another code": ({"secret": "vhr_another"}, "WORKER_PROOF_INVALID"),
}


def keys_of(hub: Hub) -> list[str]:
    with hub.database.reading() as session:
        return list(session.scalars(select(WorkerKey.key_id).order_by(WorkerKey.id)))


@pytest.mark.parametrize("how", UNPROVEN)
def test_with_the_public_key_of_another_worker_nobody_is_let_in_as_that_one(sqlite_hub: Hub, how: str) -> None:
    code = make_code(sqlite_hub)
    spoilt, wanted = UNPROVEN[how]
    proof = shown(**{"name": "bench", "secret": code, **spoilt})["proof"]

    refused = sqlite_hub.post(
        "/worker/enrol", {"code": code, "name": "bench", "public_key": PUBLIC_KEY, "proof": proof}, {}
    )

    assert code_of(refused) == (422, wanted)
    assert keys_of(sqlite_hub) == []
    assert enrol(sqlite_hub, code).status_code == 201


@pytest.mark.parametrize("how", UNPROVEN)
def test_with_a_token_of_its_own_nobody_registers_by_the_key_of_another(sqlite_hub: Hub, how: str) -> None:
    headers = sqlite_hub.headers("mallory", TokenKind.WORKER)
    spoilt, wanted = UNPROVEN[how]
    proof = shown(**{"name": "bench", "secret": headers["Authorization"], **spoilt})["proof"]
    body = {"name": "bench", "suites": [make_suite()], "public_key": PUBLIC_KEY, "proof": proof}

    assert code_of(sqlite_hub.post("/worker/register", body, headers)) == (422, wanted)

    assert keys_of(sqlite_hub) == []


def test_a_result_that_is_signed_is_no_proof_of_a_key(sqlite_hub: Hub) -> None:
    code = make_code(sqlite_hub)
    envelope = signed(dict.fromkeys(("id", "ref", "spec_digest"), "x") | {"fence": 1, "spec": {}} | DIGESTS, **RESULT)
    body = {"code": code, "name": "bench", "public_key": PUBLIC_KEY, "proof": envelope}

    assert code_of(sqlite_hub.post("/worker/enrol", body, {})) == (422, "ENVELOPE_INVALID")


def test_a_worker_of_an_older_release_is_told_what_to_do(sqlite_hub: Hub) -> None:
    code, headers = make_code(sqlite_hub), sqlite_hub.headers(kind=TokenKind.WORKER)

    enrolling = sqlite_hub.post("/worker/enrol", {"code": code, "name": "bench", "public_key": PUBLIC_KEY}, {})
    registering = sqlite_hub.post("/worker/register", {"name": "w", "suites": [], "public_key": PUBLIC_KEY}, headers)

    for refused in (enrolling, registering):
        assert code_of(refused) == (422, "WORKER_PROOF_MISSING")
        assert f"to {vera.__version__} (`pip install --upgrade vera-hub`)" in refused.json()["detail"]
    assert enrol(sqlite_hub, code).status_code == 201


@pytest.mark.parametrize(("name", "user"), [("rack", "demo"), ("bench", "olga")])
def test_a_key_that_is_another_workers_lets_nobody_in(hub: Hub, name: str, user: str) -> None:
    first = enrolled(hub)
    code = make_code(hub, user)

    refused = enrol(hub, code, name=name)

    assert code_of(refused) == (403, "WORKER_KEY_TAKEN")
    assert "is that of the worker bench of demo here" in refused.json()["detail"]
    assert register(hub, first).status_code == 200
    assert enrol(hub, code, OTHER, name).status_code == 201


def test_a_hub_is_known_by_its_public_address_too(sqlite_hub: Hub) -> None:
    settings = sqlite_hub.app.state.services.settings.model_copy(update={"public_url": "https://Hub.example.org:443/"})
    sqlite_hub.app.state.services = replace(sqlite_hub.app.state.services, settings=settings)
    code = make_code(sqlite_hub)
    body = {"code": code, "name": "bench", **shown("bench", code, hub="hub.example.org")}

    assert sqlite_hub.post("/worker/enrol", body, {}).status_code == 201


# -- Believed -------------------------------------------------------------------------------------


def test_a_result_is_kept_with_what_its_worker_has_signed(scored: tuple[Hub, Worker, str]) -> None:
    hub, _, evaluation_id = scored

    signature = hub.get(f"/evaluations/{evaluation_id}/signature").json()

    assert signature["public_key"] == PUBLIC_KEY
    statement = attestation.check(signature["envelope"], PublicKey.parse(signature["public_key"]))
    version = hub.get("/adapters/demo/tiny/versions/v1").json()
    digests = [f"sha256:{each['digest']['sha256']}" for each in statement["subject"]]
    assert digests == [version["digest"], version["weights_digest"]]
    assert statement["predicate"]["scores"] == {"accuracy": 0.75}
    assert statement["predicate"]["spec"]["suite_digest"] == hub.get("/suites/demo/topics").json()["digest"]
    said = hub.get(f"/evaluations/{evaluation_id}").json()["signed_by"]
    assert said == {"key_id": KEY.public.id, "name": "bench", "revoked_at": None}


WRONG_BY_ONE = [1, 1, 1, 0, 1, 1, 1, 1]


def showing(items: str) -> dict[str, Any]:
    """A suite that says who sees its items."""
    suite: dict[str, Any] = make_suite()
    return {**suite, "definition": {**suite["definition"], "items": items}}


def guesses(salt: str | None = None) -> set[str]:
    """The digests of all ways in which one item of eight is wrong: what somebody can try who knows the score."""
    each = ([1] * 8, *([int(row != wrong) for row in range(8)] for wrong in range(8)))
    return {attestation.digest_of(outcomes, salt) for outcomes in each}


@pytest.mark.parametrize("items", ["private", "public"])
def test_what_is_signed_tells_right_answers_to_those_alone_who_see_the_items(sqlite_hub: Hub, items: str) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(showing(items))
    sqlite_hub.push(make_archive())
    job = worker.must_claim()
    salt = attestation.new_salt()
    assert worker.finish(job, WRONG_BY_ONE, salt=salt).status_code == 204

    signature = sqlite_hub.get(f"/evaluations/{job['id']}/signature?items=true").json()

    statement = attestation.check(signature["envelope"], KEY.public)
    assert statement["predicate"]["salted"] is True
    digest = statement["predicate"]["outcomes"]["accuracy"]
    assert digest not in guesses()
    assert digest in guesses(salt)
    assert sqlite_hub.get(f"/evaluations/{job['id']}/signature").json()["items"] is None
    if items == "private":
        assert signature["items"] is None
        assert salt not in json.dumps(signature)
    else:
        assert signature["items"]["outcomes"] == {"accuracy": WRONG_BY_ONE}
        attestation.check_items(statement, **signature["items"])


def test_a_result_of_an_older_worker_is_kept_without_a_salt(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(showing("public"))
    sqlite_hub.push(make_archive())
    job = worker.must_claim()

    assert worker.finish(job, RIGHT, salt=None).status_code == 204

    signature = sqlite_hub.get(f"/evaluations/{job['id']}/signature?items=true").json()
    statement = attestation.check(signature["envelope"], KEY.public)
    assert "salted" not in statement["predicate"]
    assert signature["items"]["salt"] is None
    attestation.check_items(statement, **signature["items"])


def test_a_salt_that_is_not_the_signed_one_is_refused(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    job = worker.must_claim()
    envelope = signed(job, **RESULT, salt="cd" * 32)

    refused = worker.finish(job, RIGHT, envelope=envelope, salt="ab" * 32)

    assert code_of(refused) == (422, "STATEMENT_MISMATCH")


SAID_OTHERWISE: dict[str, dict[str, Any]] = {
    "scores": {"scores": {"accuracy": 1.0}},
    "outcomes": {"outcomes": {"accuracy": [1] * 8}},
    "outputs": {"outputs": ["a"] * 8},
    "environment": {"environment": {"device": "H100"}},
    "job": {"job": "999"},
    "fence": {"fence": 99},
    "adapter": {"weights_digest": f"sha256:{'0' * 64}"},
    "spec": {"spec": {"suite": "demo/topics"}},
}


@pytest.mark.parametrize("what", SAID_OTHERWISE)
def test_a_signature_of_something_else_is_refused_and_the_job_goes_on(sqlite_hub: Hub, what: str) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    job = worker.must_claim()

    refused = worker.finish(job, RIGHT, envelope=signed(job, **RESULT, otherwise=SAID_OTHERWISE[what]))

    assert code_of(refused) == (422, "STATEMENT_MISMATCH")
    assert worker.finish(job, RIGHT).status_code == 204


def test_a_signature_by_another_key_is_refused(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    job = worker.must_claim()

    refused = worker.finish(job, RIGHT, envelope=signed(job, **RESULT, key=OTHER))

    assert code_of(refused) == (422, "SIGNATURE_INVALID")
    assert sqlite_hub.get(f"/evaluations/{job['id']}").json()["state"] == "running"


def test_a_result_without_a_signature_is_refused(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    job = worker.must_claim()

    refused = sqlite_hub.post(f"/worker/jobs/{job['id']}/result", {"fence": job["fence"], **RESULT}, worker.headers)

    assert refused.status_code == 422


def test_the_signature_of_one_job_is_none_of_another(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive(seed=0), "one")
    sqlite_hub.push(make_archive(seed=1), "two")
    first, second = worker.must_claim(), worker.must_claim()

    replayed = worker.finish(second, RIGHT, envelope=signed(first, **RESULT))

    assert code_of(replayed) == (422, "STATEMENT_MISMATCH")


def test_what_has_no_score_has_no_signature(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    job = worker.must_claim()

    assert code_of(sqlite_hub.get(f"/evaluations/{job['id']}/signature")) == (404, "SIGNATURE_UNKNOWN")


# -- Shut out -------------------------------------------------------------------------------------


def test_a_worker_that_is_shut_out_loses_its_job_and_hands_in_nothing(hub: Hub) -> None:
    hub.register_base()
    worker = working(hub)
    hub.push(make_archive())
    job = worker.must_claim()

    done = run(hub, "revoke-worker", "bench")

    assert done.exit_code == 0, done.output
    assert "1 jobs went back to the queue, 0 scores were taken back" in done.output
    assert code_of(worker.finish(job, RIGHT)) == (401, "TOKEN_INVALID")
    waiting = hub.get(f"/evaluations/{job['id']}").json()
    assert (waiting["state"], waiting["attempts"]) == ("waiting", 0)
    assert "revoked" in run(hub, "workers").output
    other = working(hub, OTHER)
    assert other.must_claim()["id"] == job["id"]


def test_the_key_is_shut_out_with_whatever_token_it_comes(hub: Hub) -> None:
    worker = hub.worker()  # with a token of its own, which nothing binds to the key
    hub.register_base()
    hub.push(make_archive())
    job = worker.must_claim()
    assert run(hub, "revoke-worker", KEY.public.id[:20]).exit_code == 0

    late = worker.finish(job, RIGHT)
    claimed = hub.post("/worker/claims", {"worker_id": worker.id, "suites": ["demo/topics"]}, worker.headers)

    assert code_of(late) == (409, "LEASE_EXPIRED")
    assert code_of(claimed) == (403, "WORKER_REVOKED")
    assert code_of(register(hub, dict(worker.headers))) == (403, "WORKER_REVOKED")
    assert code_of(enrol(hub, make_code(hub))) == (403, "WORKER_REVOKED")


def test_what_it_has_signed_since_is_taken_back_and_measured_anew(scored: tuple[Hub, Worker, str]) -> None:
    hub, _, evaluation_id = scored
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M}"

    done = run(hub, "revoke-worker", "bench", "--since", yesterday)

    assert "Taken back: demo/tiny@v1 on demo/topics" in done.output
    evaluation = hub.get(f"/evaluations/{evaluation_id}").json()
    assert (evaluation["state"], evaluation["score"], evaluation["signed_by"]) == ("waiting", None, None)
    assert hub.get("/leaderboards/demo/topics").json()["rows"] == []
    assert hub.get("/adapters?suite=demo/topics&sort=score").json()["items"] == []
    events = hub.get("/namespaces/demo/audit", headers=hub.headers("demo")).json()["items"]
    assert [each["facts"]["score"] for each in events if each["action"] == "evaluation.doubted"] == ["0.75"]
    other = working(hub, OTHER)
    job = other.must_claim()
    assert other.finish(job, RIGHT, envelope=signed(job, **RESULT, key=OTHER)).status_code == 204
    assert hub.get(f"/evaluations/{evaluation_id}").json()["signed_by"]["key_id"] == OTHER.public.id


def test_what_it_had_signed_before_stays_and_is_marked(scored: tuple[Hub, Worker, str]) -> None:
    hub, _, evaluation_id = scored
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"

    done = run(hub, "revoke-worker", "bench", "--since", tomorrow)

    assert "0 scores were taken back" in done.output
    evaluation = hub.get(f"/evaluations/{evaluation_id}").json()
    assert (evaluation["state"], evaluation["score"]) == ("done", 0.75)
    assert evaluation["signed_by"]["revoked_at"] is not None
    again = run(hub, "revoke-worker", "bench")
    assert (again.exit_code, hub.get(f"/evaluations/{evaluation_id}").json()) == (0, evaluation)


def test_whom_nobody_knows_cannot_be_shut_out(sqlite_hub: Hub) -> None:
    enrolled(sqlite_hub)
    enrolled(sqlite_hub, OTHER)

    nobody, several = run(sqlite_hub, "revoke-worker", "nobody"), run(sqlite_hub, "revoke-worker", "bench")

    assert (nobody.exit_code, several.exit_code) == (1, 1)
    assert "`vera-hub admin workers` lists them" in nobody.output
    assert "is 2 workers" in several.output
