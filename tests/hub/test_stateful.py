"""Versions and aliases against a model of them: whatever is done in whatever order, both databases answer as the
model does and as each other.

A few runs at every test, the same ones: enough to notice when one of the rules is left out of the code.
Hours of it, in slices of 5,000 steps that can be done again by their number:
`for slice in $(seq 10); do VERA_STATEFUL_RUNS=100 pytest -q -s -n0 --timeout 0 --hypothesis-seed=$slice tests/hub/test_stateful.py; done`
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from httpx2 import Response
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import update

from hub.db.models.accounts import Account
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, start
from vera.archive import Archive
from vera.manifest import WEIGHTS_FILE

RUNS = int(os.environ.get("VERA_STATEFUL_RUNS", "9"))
STEPS = 50
NAMES = ("prod", "staging")

UNKNOWN, GONE, WITHHELD = (404, "VERSION_UNKNOWN"), (410, "VERSION_DELETED"), (403, "VERSION_QUARANTINED")
IN_USE, TOO_LATE = (409, "VERSION_IN_USE"), (403, "DELETE_TOO_LATE")
OK, DONE = (200, ""), (204, "")
Outcome = tuple[int, str]

numbers = st.integers(0, 11)  # what they mean, `Registry.pick` says
seeds = st.integers(0, 15)
names = st.sampled_from(NAMES)
yes_or_no = st.booleans()
now_and_then = st.sampled_from([False, False, True])
expectations = st.sampled_from([None, None, None, "v1", "v2"])

# One step: a method of `Registry` and what it is given, as often as it stands here. All of it is one rule: of several,
# Hypothesis leaves some out of each run, and a few runs would never have yanked anything. What ends a version is rare.
_step = {
    "push": (3, seeds, st.sampled_from([None, None, True, False])),
    "yank": (3, numbers, yes_or_no),
    "deprecate": (2, numbers, yes_or_no),
    "quarantine": (3, numbers, yes_or_no),
    "delete": (2, numbers, now_and_then),
    "fetch": (1, numbers),
    "set_alias": (4, names, numbers, expectations),
    "remove_alias": (1, names),
    "resolve": (1, st.sampled_from([*NAMES, "latest"])),
}
steps = st.sampled_from([name for name, (weight, *_) in _step.items() for _ in range(weight)]).flatmap(
    lambda name: st.tuples(st.just(name), *_step[name][1:])
)


@dataclass
class ModelVersion:
    seed: int
    is_prerelease: bool
    is_yanked: bool = False
    is_deprecated: bool = False
    is_quarantined: bool = False
    is_deleted: bool = False
    is_fetched: bool = False

    @property
    def refusal(self) -> Outcome | None:
        return GONE if self.is_deleted else WITHHELD if self.is_quarantined else None

    @property
    def is_current(self) -> bool:
        return not (self.is_prerelease or self.is_yanked or self.refusal)

    @property
    def standing(self) -> tuple[bool, ...]:
        return self.is_prerelease, self.is_yanked, self.is_deprecated, self.is_quarantined, self.is_deleted


@dataclass
class Model:
    """What there is to say of one adapter."""

    versions: dict[int, ModelVersion] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    moves: dict[str, list[tuple[int | None, int | None]]] = field(default_factory=dict)

    @property
    def latest(self) -> int | None:
        return max((number for number, version in self.versions.items() if version.is_current), default=None)

    def refusal(self, number: int) -> Outcome | None:
        return self.versions[number].refusal if number in self.versions else UNKNOWN

    def names_of(self, number: int) -> list[str]:
        return [name for name, meant in self.aliases.items() if meant == number]

    def move(self, name: str, after: int | None) -> None:
        before = self.aliases.pop(name, None)
        if after is not None:
            self.aliases[name] = after
        if before != after:
            self.moves.setdefault(name, []).insert(0, (before, after))


@cache
def archive_of(seed: int) -> Archive:
    return make_archive(seed=seed)


def outcome_of(answer: Response) -> Outcome:
    assert answer.status_code < 500, answer.text
    return answer.status_code, str(answer.json().get("code", "")) if answer.content else ""


class Registry(RuleBasedStateMachine):
    """One adapter, which is on every hub at once."""

    hubs: tuple[Hub, ...] = ()
    serial = count()
    taken = 0

    def __init__(self) -> None:
        super().__init__()
        self.model, self.name = Model(), f"a{next(self.serial)}"
        self.author = [hub.headers() for hub in self.hubs]
        self.admin = [hub.headers("ada") for hub in self.hubs]

    def pick(self, number: int, undone: str | None = None) -> int:
        """A version: often the latest, of which most is to be said; seldom the next one, which is not there. To undo
        something, one that it was done to, when there is one."""
        there = list(self.model.versions)
        done = [each for each in there if undone and getattr(self.model.versions[each], undone)]
        if done:
            return done[number % len(done)]
        if number == 11:
            return len(there) + 1
        return (self.model.latest if number < 4 else None) or there[number % len(there)]

    def do(self, expected: Outcome, method: str, path: str, *, as_admin: bool = False, **request: object) -> bool:
        """Asks every hub, each of which must answer as the model does. True when it was done."""
        people = self.admin if as_admin else self.author
        for hub, headers in zip(self.hubs, people, strict=True):
            address = f"/api/v1/adapters/demo/{self.name}{path}"
            assert outcome_of(hub.client.request(method, address, headers=headers, **request)) == expected  # type: ignore[arg-type]  # what a request takes
        return expected[0] < 300

    @initialize()
    def begin_with_two_versions(self) -> None:
        for seed in (0, 1):
            self.push(seed, None)

    @rule(step=steps)
    def take(self, step: tuple[Any, ...]) -> None:
        name, *given = step
        getattr(self, name)(*given)
        Registry.taken += 1

    def push(self, seed: int, is_prerelease: bool | None) -> None:
        known = next((version for version in self.model.versions.values() if version.seed == seed), None)
        if known is None:
            expected = (201, "")
            self.model.versions[len(self.model.versions) + 1] = ModelVersion(seed, bool(is_prerelease))
        elif known.refusal:
            expected = known.refusal
        else:
            is_same = is_prerelease in (None, known.is_prerelease)
            expected = OK if is_same else (409, "PRERELEASE_DIFFERS")
        said = {} if is_prerelease is None else {"prerelease": str(is_prerelease).lower()}
        for hub, headers in zip(self.hubs, self.author, strict=True):
            assert outcome_of(hub.push(archive_of(seed), self.name, headers=headers, **said)) == expected

    def yank(self, number: int, is_undone: bool) -> None:
        number = self.pick(number, "is_yanked" if is_undone else None)
        path, in_use = f"/versions/v{number}/yank", not is_undone and bool(self.model.names_of(number))
        expected = self.model.refusal(number) or (IN_USE if in_use else OK)
        body = {} if is_undone else {"json": {"reason": "Worse."}}
        if self.do(expected, "DELETE" if is_undone else "PUT", path, **body):
            self.model.versions[number].is_yanked = not is_undone

    def deprecate(self, number: int, is_undone: bool) -> None:
        number = self.pick(number, "is_deprecated" if is_undone else None)
        expected = self.model.refusal(number) or OK
        body = {} if is_undone else {"json": {"message": "Old."}}
        if self.do(expected, "DELETE" if is_undone else "PUT", f"/versions/v{number}/deprecation", **body):
            self.model.versions[number].is_deprecated = not is_undone

    def quarantine(self, number: int, is_undone: bool) -> None:
        number = self.pick(number, "is_quarantined" if is_undone else None)
        refusal = self.model.refusal(number)
        expected = (refusal if refusal != WITHHELD else None) or OK
        body = {} if is_undone else {"json": {"reason": "Odd."}}
        path = f"/versions/v{number}/quarantine"
        if self.do(expected, "DELETE" if is_undone else "PUT", path, as_admin=True, **body):
            self.model.versions[number].is_quarantined = not is_undone

    def delete(self, number: int, as_admin: bool) -> None:
        number = self.pick(number)
        expected = self._deletion(number, as_admin=as_admin)
        if self.do(expected, "DELETE", f"/versions/v{number}?reason=Wrong.", as_admin=as_admin):
            for name in self.model.names_of(number):
                self.model.move(name, None)
            self.model.versions[number].is_deleted = True

    def _deletion(self, number: int, *, as_admin: bool) -> Outcome:
        refusal = self.model.refusal(number)
        if refusal == UNKNOWN:
            return UNKNOWN
        if refusal == GONE or as_admin:
            return DONE
        if refusal:
            return refusal
        if self.model.names_of(number):
            return IN_USE
        return TOO_LATE if self.model.versions[number].is_fetched else DONE

    def fetch(self, number: int) -> None:
        number = self.pick(number)
        if self.model.refusal(number):
            return
        for hub in self.hubs:
            files = hub.get(f"/adapters/demo/{self.name}/versions/v{number}").json()["files"]
            sha256 = next(file["sha256"] for file in files if file["path"] == WEIGHTS_FILE)
            assert hub.get(f"/adapters/demo/{self.name}/blobs/{sha256}").status_code == 200
        self.model.versions[number].is_fetched = True

    def set_alias(self, name: str, number: int, expected: str | None) -> None:
        number = self.pick(number)
        outcome = self._move(name, number, expected)
        if self.do(outcome, "PUT", f"/aliases/{name}", json={"version": f"v{number}", "expected": expected}):
            self.model.move(name, number)

    def _move(self, name: str, number: int, expected: str | None) -> Outcome:
        now = self.model.aliases.get(name)
        if expected is not None and expected != f"v{now}":
            return 412, "ALIAS_CHANGED"
        refusal = self.model.refusal(number)
        if refusal:
            return refusal
        if self.model.versions[number].is_yanked:
            return 409, "VERSION_YANKED"
        return (201, "") if now is None else OK

    def remove_alias(self, name: str) -> None:
        expected = DONE if name in self.model.aliases else (404, "ALIAS_UNKNOWN")
        if self.do(expected, "DELETE", f"/aliases/{name}"):
            self.model.move(name, None)

    def resolve(self, name: str) -> None:
        number = self.model.latest if name == "latest" else self.model.aliases.get(name)
        expected = (UNKNOWN if number is None else self.model.refusal(number)) or OK
        self.do(expected, "GET", f"/versions/{name}")

    @invariant()
    def every_hub_shows_what_the_model_knows(self) -> None:
        if not self.model.versions:
            return
        for hub in self.hubs:
            shown = hub.get(f"/adapters/demo/{self.name}").json()
            assert shown["latest"] == self.model.latest
            assert {each["name"]: each["version"] for each in shown["aliases"]} == self.model.aliases
            words = ("prerelease", "yanked", "deprecated", "quarantined", "deleted")
            standing = {each["version"]: tuple(bool(each[word]) for word in words) for each in shown["versions"]}
            assert standing == {number: version.standing for number, version in self.model.versions.items()}

    def teardown(self) -> None:
        for name, moves in self.model.moves.items():
            for hub in self.hubs:
                items = hub.get(f"/adapters/demo/{self.name}/aliases/{name}/history?limit=100").json()["items"]
                assert [(move["before"], move["after"]) for move in items] == moves


@contextmanager
def opened(*places: Settings) -> Iterator[tuple[Hub, ...]]:
    """A hub at each of these places, with a base and an admin."""
    hubs = tuple(start(each) for each in places)
    for hub in hubs:
        hub.register_base()
        hub.headers("ada")
        with hub.database.writing() as session:
            session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))
    yield hubs
    for hub in hubs:
        hub.database.close()


def test_versions_and_aliases_are_what_the_model_says_on_both_databases(
    embedded: Settings, clean_postgres: str, tmp_path: Path
) -> None:
    shared = Settings(data_dir=tmp_path / "shared", database_url=clean_postgres, blob_url="memory:///")
    with opened(embedded, shared) as hubs:
        machine = type("Opened", (Registry,), {"hubs": hubs})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=RUNS,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=RUNS < 100,
                database=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(f"{Registry.taken} steps, and no disagreement")
