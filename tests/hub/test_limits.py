"""How much and how often: the same for everybody, said in headers, and off where nobody else can come."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from httpx2 import Response
from starlette.requests import Request

from hub.access.intake import Intake
from hub.access.limits import (
    ANONYMOUS,
    EVALUATIONS,
    NEW_ADAPTERS,
    NEW_BASES,
    RATES,
    Buckets,
    Failures,
    Rate,
    address_of,
    visitor_at,
)
from hub.auth.policy import Action
from hub.db.queries import accounts
from hub.errors import TooMany, Unavailable
from hub.settings import Settings
from tests.builders import make_archive, make_base, make_stored
from tests.hub.harness import Hub, code_of, sha256_of
from vera.fingerprint import BaseFingerprint
from vera.projection import bytes_of_pair

pytestmark = pytest.mark.one_process


def limited(hub: Hub, **changes: object) -> Hub:
    """The hub with these settings, for whose buckets no time passes."""
    parts = hub.app.state.services
    settings, buckets = parts.settings.model_copy(update=changes), Buckets(clock=lambda: 0.0)
    hub.app.state.services = replace(parts, settings=settings, buckets=buckets)
    return hub


def test_a_bucket_lets_a_burst_in_and_fills_with_time() -> None:
    now, rate = [0.0], Rate("x", burst=2, window_s=10)
    buckets = Buckets(clock=lambda: now[0])
    taken = [buckets.take(rate, "ann") for _ in range(3)]
    assert [is_let_in for _, is_let_in in taken] == [True, True, False]
    assert [allowance.left for allowance, _ in taken] == [1, 0, 0]
    assert taken[2][0].full_in_s == 5  # when the next one is let in
    assert buckets.take(rate, "bob")[1]
    now[0] = 5.0
    assert buckets.take(rate, "ann")[1]
    assert not buckets.take(rate, "ann")[1]


def test_nobodys_empty_bucket_is_filled_by_many_others() -> None:
    buckets = Buckets(clock=lambda: 1e6)
    for _ in range(EVALUATIONS.burst):
        assert buckets.take(EVALUATIONS, "ann")[1]
    for number in range(25_000):
        buckets.take(ANONYMOUS, str(number))
    assert not buckets.take(EVALUATIONS, "ann")[1]


def test_a_burst_is_as_many_as_it_says_at_any_time() -> None:
    buckets = Buckets(clock=lambda: 123456.789)
    assert [buckets.take(ANONYMOUS, "ann")[1] for _ in range(201)] == [True] * 200 + [False]


def test_who_fails_is_not_let_in_by_many_others_who_fail() -> None:
    now = [0.0]
    failures = Failures(most=2, within_s=10, clock=lambda: now[0])
    for number in range(9_999):
        failures.note(str(number))
    now[0] = 1.0
    for name in ("ann", "ann", "bob"):
        failures.note(name)
    with pytest.raises(TooMany):
        failures.check("ann")


def test_an_address_is_the_one_that_our_proxy_has_added_in_whichever_line() -> None:
    lines = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"203.0.113.9")]
    request = Request({"type": "http", "headers": lines, "client": ("10.0.0.1", 1)})
    assert address_of(request, ("10.0.0.1",)) == "203.0.113.9"


@pytest.mark.parametrize(
    ("address", "visitor"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "::ffff:203.0.113.9"),
        ("testclient", "testclient"),
    ],
)
def test_the_addresses_of_one_subscriber_are_counted_as_one(address: str, visitor: str) -> None:
    assert visitor_at(Request({"type": "http", "headers": [], "client": (address, 1)}), ()) == visitor


def test_tries_that_are_under_way_count_as_failed_until_they_are_known_to_be_right() -> None:
    failures = Failures(most=2, within_s=10, clock=lambda: 0.0)
    for _ in range(2):
        failures.begin("ann")
    with pytest.raises(TooMany):
        failures.begin("ann")

    failures.take_back("ann")

    failures.begin("ann")


def test_who_pushes_too_often_is_told_when_to_come_back(sqlite_hub: Hub) -> None:
    hub, headers = limited(sqlite_hub, rate_limits=True), sqlite_hub.headers("ann")
    hub.register_base()
    hub.push(make_archive(seed=1), user="ann", headers=headers)
    first = hub.push(make_archive(), user="ann", headers=headers)
    assert first.headers["ratelimit-policy"] == '"push";q=60;w=60'
    assert first.headers["ratelimit"].startswith('"push";r=58;t=')
    exhaust(hub, RATES[Action.PUSH], "ann")

    refused = hub.push(make_archive(), user="ann", headers=headers)

    assert code_of(refused) == (429, "RATE_LIMITED")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit"].startswith('"push";r=0;')
    assert hub.push(make_archive(), user="bob").status_code == 201


def exhaust(hub: Hub, rate: Rate, user: str, about: str = "") -> None:
    """Takes all that the user has left of the rate."""
    with hub.database.reading() as session:
        account = accounts.find(session, user)
    assert account is not None
    while hub.app.state.services.buckets.take(rate, f"{account.id}{about}")[1]:
        pass


def test_who_makes_too_many_adapters_goes_on_pushing_to_those_there_are(hub: Hub) -> None:
    limited(hub, rate_limits=True)
    hub.register_base()
    first = hub.push(make_archive(seed=1), "a", user="ann")
    assert first.headers["ratelimit"].startswith('"adapters";r=19;')
    exhaust(hub, NEW_ADAPTERS, "ann")
    before = hub.contents

    refused = hub.push(make_archive(seed=2), "b", user="ann")

    assert code_of(refused) == (429, "RATE_LIMITED")
    assert refused.headers["ratelimit-policy"] == '"adapters";q=20;w=3600'
    assert int(refused.headers["retry-after"]) == 180
    assert hub.contents == before
    assert hub.push(make_archive(seed=2), "a", user="ann").status_code == 201
    assert hub.push(make_archive(seed=1), "b", user="bob").status_code == 201


def test_an_adapter_without_a_version_counts_when_it_is_made_and_not_again(sqlite_hub: Hub) -> None:
    hub, headers = limited(sqlite_hub, rate_limits=True), sqlite_hub.headers("ann")
    hub.register_base()
    made = hub.client.post("/api/repos/create", json={"name": "a"}, headers=headers)
    assert made.headers["ratelimit"].startswith('"adapters";r=19;')
    exhaust(hub, NEW_ADAPTERS, "ann")

    refused = hub.client.post("/api/repos/create", json={"name": "b"}, headers=headers)

    assert refused.status_code == 429
    assert hub.contents["adapters"] == 1
    assert hub.push(make_archive(), "a", headers=headers, user="ann").status_code == 201


def test_who_registers_too_many_bases_is_told_to_wait_and_goes_on_naming_known_ones(hub: Hub) -> None:
    limited(hub, rate_limits=True)
    known, another = make_base(), make_base(salt="other")
    body = {"name": "acme/other", "revision": None, "tensors": another.to_rows()}
    hub.register_base(known)
    exhaust(hub, NEW_BASES, "demo")

    refused = hub.post("/bases", body, hub.headers())

    assert code_of(refused) == (429, "RATE_LIMITED")
    assert refused.headers["ratelimit-policy"] == '"bases";q=60;w=3600'
    assert hub.get(f"/bases/{another.value}").status_code == 404
    assert hub.register_base(known) == known.value
    assert hub.post("/bases", body, hub.headers("bob")).status_code == 201


def test_an_account_has_a_suite_score_five_a_day_and_asks_again_for_nothing(hub: Hub) -> None:
    limited(hub, rate_limits=True)
    hub.register_base()
    headers, worker = hub.headers(), hub.worker()
    hub.push(make_archive())
    worker.fail(worker.must_claim(), retryable=False)
    wanted = {"ref": "demo/tiny@v1", "suite": "demo/topics"}
    assert hub.post("/evaluations", wanted, headers).headers["ratelimit"].startswith('"evaluations";r=4;')
    assert hub.post("/evaluations", wanted, headers).status_code == 200  # asked for already
    worker.fail(worker.must_claim(), retryable=False)
    exhaust(hub, EVALUATIONS, "demo", " demo/topics")

    refused = hub.post("/evaluations", wanted, headers)

    assert code_of(refused) == (429, "RATE_LIMITED")
    assert worker.claim() is None  # nothing was put in the queue
    assert hub.post("/evaluations", wanted, hub.headers("ann")).status_code == 202


def test_a_stranger_reads_as_often_as_people_do(sqlite_hub: Hub) -> None:
    hub = limited(sqlite_hub, rate_limits=True)
    assert hub.get("/adapters").headers["ratelimit-policy"] == '"anonymous";q=200;w=3'
    while hub.app.state.services.buckets.take(ANONYMOUS, "testclient")[1]:
        pass
    assert code_of(hub.get("/adapters")) == (429, "RATE_LIMITED")
    assert hub.get("/adapters", headers=hub.headers()).status_code == 200


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"public_url": "https://hub.test"}, True),
        ({"public_url": "https://hub.test", "rate_limits": False}, False),
        ({"rate_limits": True}, True),
    ],
)
def test_nobody_is_counted_on_a_machine_of_ones_own(values: dict[str, object], counts: bool) -> None:
    assert Settings(**values).has_rate_limits is counts


def test_nothing_is_counted_by_default(sqlite_hub: Hub) -> None:
    assert "ratelimit" not in sqlite_hub.get("/adapters").headers


def test_a_quota_of_adapters_is_of_adapters_and_not_of_versions(hub: Hub) -> None:
    limited(hub, max_account_adapters=1)
    hub.register_base()
    assert hub.push(make_archive(seed=1), "a").status_code == 201
    assert hub.push(make_archive(seed=2), "a").status_code == 201
    before = hub.contents

    refused = hub.push(make_archive(seed=3), "b")

    assert code_of(refused) == (403, "QUOTA_EXCEEDED")
    assert refused.json()["facts"] == {"what": "adapters", "limit": 1, "wanted": 2}
    assert hub.contents == before
    assert hub.push(make_archive(seed=3), "b", user="ann").status_code == 201


def test_a_quota_of_bases_is_of_those_that_an_account_was_the_first_to_register(hub: Hub) -> None:
    limited(hub, max_account_bases=1)
    first, second, third = (make_base(salt=salt) for salt in ("", "second", "third"))

    def register(base: BaseFingerprint, user: str) -> Response:
        body = {"name": "acme/base", "revision": None, "tensors": base.to_rows()}
        return hub.post("/bases", body, hub.headers(user))

    assert [register(base, user).status_code for base, user in ((first, "ann"), (second, "bob"))] == [201, 201]
    before = hub.contents

    refused = register(third, "ann")

    assert code_of(refused) == (403, "QUOTA_EXCEEDED")
    assert refused.json()["facts"] == {"what": "bases", "limit": 1, "wanted": 2}
    assert "ann would have registered 2 here, and may register 1" in refused.json()["detail"]
    assert hub.contents == before
    assert register(second, "ann").status_code == 200  # known: it takes nothing
    assert register(third, "cem").status_code == 201


def test_a_quota_of_bytes_holds_to_the_byte(hub: Hub) -> None:
    size = sum(len(data) for data in make_archive(seed=1).files.values())
    limited(hub, max_account_bytes=2 * size)
    hub.register_base()
    one, two, three = (make_archive(seed=seed) for seed in (1, 2, 3))
    assert {sum(len(data) for data in each.files.values()) for each in (one, two, three)} == {size}

    assert [hub.push(each).status_code for each in (one, two)] == [201, 201]
    assert code_of(hub.push(three)) == (403, "QUOTA_EXCEEDED")
    assert hub.push(two).status_code == 200  # what is there already takes nothing


def test_stored_pairs_count_for_the_quota_of_who_sends_them(hub: Hub) -> None:
    pairs = [b"".join(bytes_of_pair(pair)) for seed in (1, 2) if (pair := make_stored(pair_seed=seed).projection)]
    limited(hub, max_account_bytes=len(pairs[0]) + 1)

    def send(data: bytes, user: str) -> Response:
        address = f"/api/v1/projections/sha256:{sha256_of(data)}"
        return hub.client.put(address, content=data, headers=hub.headers(user))

    assert [send(data, "ann").status_code for data in (pairs[0], pairs[0])] == [201, 200]
    before = hub.contents
    assert code_of(send(pairs[1], "ann")) == (403, "QUOTA_EXCEEDED")
    assert hub.contents == before
    assert send(pairs[1], "bob").status_code == 201


def test_one_account_never_holds_every_place() -> None:
    async def scenario() -> None:
        intake = Intake(4, wait_s=0.05)
        async with intake.place(1), intake.place(1):
            with pytest.raises(Unavailable):
                async with intake.place(1):
                    pass
            async with intake.place(2), intake.place(2):
                with pytest.raises(Unavailable):
                    async with intake.place(3):
                        pass
            async with intake.place(3), intake.place(3):  # who waited in vain holds nothing
                pass
        async with intake.place(1), intake.place(1):
            pass

    asyncio.run(scenario())
