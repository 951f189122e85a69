"""`eval` and `leaderboard` against the real hub; the worker's part is played by the test, over HTTP like any worker."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from sdk.client import Hub
from sdk.config import Config
from tests.builders import make_suite
from tests.functional.machines import COMMAND_TIMEOUT_S, Machine, RunningHub, make_machine
from tests.signing import KEY, PUBLIC_KEY, signed
from vera.signing import SigningKey

SUITE = "demo/gate"
ITEMS = 200
# Labels of its own, so that the adapters of other tests are not evaluated on this suite.
SALT = "ab" * 32
LABELS = ("wrong", "right")


class Worker:
    """Answers the first so many items of a job rightly, as it is told for each version."""

    def __init__(self, hub: RunningHub, folder: Path) -> None:
        config = Config(hub.url, folder, folder, hub.worker_token)
        self.hub = Hub(config)
        self.id = self.hub.register_worker("test", [make_suite(SUITE, items=ITEMS, labels=LABELS)], key=KEY)

    def work(self, right_by_ref: dict[str, int]) -> None:
        """Does every job that waits."""
        while job := self.hub.claim_job(self.id, [SUITE]):
            right = right_by_ref[job.ref]
            outcomes = [1] * right + [0] * (ITEMS - right)
            outputs = [LABELS[outcome] for outcome in outcomes]
            result = {"outcomes": outcomes, "outputs": outputs, "environment": {}, "seconds": 1.0, "salt": SALT}
            self.hub.submit_result(job, **result, envelope=signed(asdict(job), **result))


@pytest.fixture
def worker(hub: RunningHub, tmp_path: Path):
    worker = Worker(hub, tmp_path / "worker")
    with worker.hub:
        yield worker


def test_a_gate_waits_for_a_worker_and_decides(
    machine: Machine, adapter: Callable[..., Path], worker: Worker, tmp_path: Path
) -> None:
    for seed in (1, 2, 3, 4):
        machine.run("push", adapter("gated", seed=seed, labels=LABELS), "--name", "gated")
    same, slightly, clearly = (f"demo/gated@v{number}" for number in (2, 3, 4))

    with machine.running("eval", same, "--suite", SUITE, "--no-regression-vs", "@v1") as gate:
        assert gate.stderr is not None
        assert "waiting" in gate.stderr.readline()
        worker.work({"demo/gated@v1": 150, same: 150, slightly: 147, clearly: 100})
        out, _ = gate.communicate(timeout=COMMAND_TIMEOUT_S)

    assert gate.returncode == 0
    assert "Verdict: pass" in out
    options = ("--suite", SUITE, "--no-regression-vs", "@v1")
    assert machine.run("eval", slightly, *options).status == 0
    assert machine.run("eval", slightly, *options, "--strict").status == 2
    assert machine.run("eval", clearly, *options).status == 1
    assert machine.run("eval", clearly, "--suite", SUITE, "--min", "accuracy>=0.5").status == 0
    assert machine.run("eval", clearly, "--suite", SUITE, "--min", "accuracy>=0.51").status == 1

    report = json.loads(machine.run("eval", clearly, *options, "--json").out)
    assert (report["verdict"], report["comparison"]["only_worse"]) == ("fail", 50)
    board = machine.run("leaderboard", SUITE, "--json")
    assert [row["ref"] for row in json.loads(board.out)["rows"]][-1] == clearly
    assert "0.7500" in machine.run("leaderboard", SUITE).out


def test_only_a_green_gate_moves_the_alias(machine: Machine, adapter: Callable[..., Path], worker: Worker) -> None:
    for seed in (1, 2, 3, 4):
        machine.run("push", adapter("promoted", seed=seed, labels=LABELS), "--name", "promoted")
    first, better, slightly, clearly = (f"demo/promoted@v{number}" for number in (1, 2, 3, 4))
    worker.work({first: 150, better: 160, slightly: 157, clearly: 100})
    machine.run("alias", "set", first, "prod")
    gate = ("--suite", SUITE, "--no-regression-vs", "@prod", "--promote", "prod")

    moved = machine.run("eval", better, *gate)
    unclear = machine.run("eval", slightly, *gate, "--json")
    worse = machine.run("eval", clearly, *gate)

    assert (moved.status, "Alias prod: v1 → v2" in moved.out) == (0, True), moved.err
    assert unclear.status == 0
    assert json.loads(unclear.out)["promotion"] == {"alias": "prod", "before": 2, "after": 2}
    assert (worse.status, "Alias prod stays v2" in worse.out) == (1, True)
    assert machine.run("eval", better, "--suite", SUITE, "--promote", "prod").status == 4
    assert machine.run("eval", better, "--suite", SUITE, "--min", "accuracy>=0.5", "--promote", "first").status == 0
    means = {
        row["name"]: row["version"] for row in json.loads(machine.run("alias", "list", "demo/promoted", "--json").out)
    }
    assert means == {"first": 2, "prod": 2}


def test_without_a_worker_a_timeout_is_infrastructure(
    machine: Machine, adapter: Callable[..., Path], worker: Worker
) -> None:
    machine.run("push", adapter("unseen", labels=LABELS))

    done = machine.run("eval", "demo/unseen", "--suite", SUITE, "--wait", "--timeout", "0")

    assert done.status == 3
    assert "not done in time" in done.err
    worker.work({"demo/unseen@v1": 1})


def test_a_failed_evaluation_is_infrastructure_and_asking_again_tries_again(
    machine: Machine, adapter: Callable[..., Path], worker: Worker
) -> None:
    machine.run("push", adapter("broken", labels=LABELS))

    with machine.running("eval", "demo/broken@v1", "--suite", SUITE, "--min", "accuracy>=0") as gate:
        assert gate.stderr is not None
        assert "waiting" in gate.stderr.readline()
        job = worker.hub.claim_job(worker.id, [SUITE])
        assert job is not None
        worker.hub.report_failure(job, code="OUT_OF_MEMORY", detail="There was no memory left.", may_retry=False)
        _, said = gate.communicate(timeout=COMMAND_TIMEOUT_S)
    assert gate.returncode == 3
    assert "There was no memory left." in said

    with machine.running("eval", "demo/broken@v1", "--suite", SUITE, "--min", "accuracy>=0") as again:
        assert again.stderr is not None
        assert "waiting" in again.stderr.readline()
        worker.work({"demo/broken@v1": 150})
        again.communicate(timeout=COMMAND_TIMEOUT_S)
    assert again.returncode == 0


def test_what_is_cancelled_ends_for_who_waits_for_it(
    machine: Machine, adapter: Callable[..., Path], worker: Worker
) -> None:
    machine.run("push", adapter("unwanted", labels=LABELS))

    with machine.running("eval", "demo/unwanted@v1", "--suite", SUITE, "--wait") as waiting:
        assert waiting.stderr is not None
        assert "waiting" in waiting.stderr.readline()
        cancelled = machine.run("eval", "demo/unwanted", "--suite", SUITE, "--cancel")
        _, said = waiting.communicate(timeout=COMMAND_TIMEOUT_S)

    assert (cancelled.status, cancelled.out) == (0, f"The evaluation of demo/unwanted@v1 on {SUITE} is cancelled.\n")
    assert waiting.returncode == 3
    assert "demo cancelled it" in said
    again = machine.run("eval", "demo/unwanted", "--suite", SUITE, "--cancel")
    assert (again.status, "none was cancelled" in again.err) == (4, True)


def test_a_suite_nobody_knows_is_usage(machine: Machine, adapter: Callable[..., Path]) -> None:
    machine.run("push", adapter("lost", labels=LABELS))

    done = machine.run("eval", "demo/lost", "--suite", "demo/unknown", "--wait")

    assert done.status == 4
    assert "demo/unknown" in done.err


def test_a_score_is_checked_with_the_key_of_its_worker(
    machine: Machine, hub: RunningHub, adapter: Callable[..., Path], worker: Worker, tmp_path: Path
) -> None:
    machine.run("push", adapter("signed", labels=LABELS))
    worker.work({"demo/lost@v1": 0, "demo/signed@v1": 150})  # what other tests left in the queue is worked too
    done = json.loads(machine.run("eval", "demo/signed@v1", "--suite", SUITE, "--json").out)["evaluation"]
    right, wrong, kept = tmp_path / "worker.pub", tmp_path / "other.pub", tmp_path / "envelope.json"
    right.write_text(f"{PUBLIC_KEY}\n")
    wrong.write_text(f"{SigningKey(bytes(range(1, 33))).public}\n")

    by_hub = machine.run("eval", "verify", done["id"])
    by_key = machine.run("eval", "verify", done["id"], "--key", right, "--save", kept)
    by_other = machine.run("eval", "verify", done["id"], "--key", wrong)
    offline = machine.run("eval", "verify", kept, "--key", right, "--json", VERA_HUB_URL="http://127.0.0.1:9")

    assert (by_hub.status, by_key.status, by_other.status, offline.status) == (0, 0, 1, 0), by_key.err
    assert "demo/signed@v1 on demo/gate: accuracy 0.7500, of 200 items" in by_key.out
    assert f"is the one that {hub.url} gives" in by_hub.err
    assert "is not signed by the key" in by_other.err
    assert "was not checked against the digests that are signed" in by_hub.err
    assert json.loads(offline.out)["predicate"]["scores"] == {"accuracy": 0.75}
    row = "evaluations", int(done["id"])
    with _written_otherwise(hub, *row, "score", 0.5):
        rescored = machine.run("eval", "verify", done["id"], "--key", right)
    with _written_otherwise(hub, *row, "environment", '{"device": "another"}'):
        changed = machine.run("eval", "verify", done["id"], "--key", right)
    signer, since = _value(hub, *row, "worker_key_id"), _value(hub, *row, "finished_at")
    with _written_otherwise(hub, "worker_keys", int(str(signer)), "revoked_at", since):
        shut_out = machine.run("eval", "verify", done["id"], "--key", right)
    assert (rescored.status, changed.status, shut_out.status) == (3, 1, 1)
    assert "The signature is good, and the worker" in shut_out.err
    assert f"was shut out {str(since)[:10]}" in shut_out.err
    assert "accuracy 0.7500" in rescored.out
    assert "Signed is the accuracy 0.75, and the hub's is 0.5: it was computed again since" in rescored.err
    assert "The environment of the evaluation" in changed.err
    altered = json.loads(kept.read_text())
    altered["payload"] = altered["payload"][:-8] + "fX19fX0="
    kept.write_text(json.dumps(altered))
    assert machine.run("eval", "verify", kept, "--key", right).status == 1
    assert machine.run("eval", "verify", kept).status == 2


@contextmanager
def _written_otherwise(hub: RunningHub, table: str, row: int, column: str, value: object) -> Iterator[None]:
    """What the hub has in one place is another value for a while."""
    before = _value(hub, table, row, column)
    with closing(sqlite3.connect(hub.data / "hub.db")) as connection:
        change = f"UPDATE {table} SET {column} = ? WHERE id = {row}"
        for each in (value, before):
            with connection:
                connection.execute(change, (each,))
            time.sleep(1.1)  # an answer holds for a second
            if each is value:
                yield


def _value(hub: RunningHub, table: str, row: int, column: str) -> object:
    with closing(sqlite3.connect(hub.data / "hub.db")) as connection:
        ((value,),) = connection.execute(f"SELECT {column} FROM {table} WHERE id = {row}").fetchall()
    return value


def test_a_worker_joins_with_a_code_and_is_shut_out(hub: RunningHub, tmp_path: Path) -> None:
    code = Machine(tmp_path).run("admin", "worker-code", "--data", hub.data, "--user", "demo").out.strip()
    elsewhere = make_machine(tmp_path / "elsewhere", VERA_HUB_URL=hub.url)
    arguments = ("worker", "--name", "elsewhere", "--suite", "demo/topics")

    with elsewhere.running(*arguments, "--code", code) as joined:
        said = _until(joined, "registered")
    with elsewhere.running(*arguments) as again:
        assert json.loads(_until(again, "registered"))["key"] == json.loads(said)["key"]
    with elsewhere.running(*arguments, "--code", code) as with_the_used_one:
        assert json.loads(_until(with_the_used_one, "registered"))["key"] == json.loads(said)["key"]
    third = make_machine(tmp_path / "third", VERA_HUB_URL=hub.url)
    assert "was used already" in third.run(*arguments, "--code", code).err
    key = (elsewhere.folder / "config" / "worker.key").stat()
    assert key.st_mode & 0o777 == 0o600

    shut_out = Machine(tmp_path).run("admin", "revoke-worker", "elsewhere", "--data", hub.data)
    refused = elsewhere.run(*arguments)

    assert (shut_out.status, refused.status) == (0, 1), refused.err
    assert "TOKEN_INVALID" in refused.err


def _until(process: subprocess.Popen[str], event: str) -> str:
    """The line of the log that says `event`."""
    assert process.stderr is not None
    line = ""
    while f'"{event}"' not in line:
        line = process.stderr.readline()
        assert line, event
    return line


def test_where_a_version_loses_who_was_the_best_and_a_table_for_data_frames(
    machine: Machine, adapter: Callable[..., Path], hub: RunningHub, tmp_path: Path
) -> None:
    suite, labels = "demo/open", ("shut", "open")
    worker = Hub(Config(hub.url, tmp_path / "w", tmp_path / "w", hub.worker_token))
    with worker:
        known = make_suite(suite, items=4, labels=labels)
        known["definition"] = {"items": "public"}
        worker_id = worker.register_worker("open", [known], key=KEY)
        for seed, outcomes in enumerate(([1, 1, 0, 0], [1, 0, 0, 0]), 1):
            machine.run("push", adapter("opened", seed=seed, labels=labels), "--name", "opened")
            job = worker.claim_job(worker_id, [suite])
            assert job is not None
            outputs = [f"answer {row} of v{seed}" for row in range(1, 5)]
            result = {"outcomes": outcomes, "outputs": outputs, "environment": {}, "seconds": 1.0}
            worker.submit_result(job, **result, envelope=signed(asdict(job), **result))

    lost = machine.run("losses", "demo/opened@v2", "@v1", "--suite", suite)
    assert lost.status == 0, lost.err
    assert "1 worse, 0 better, 3 the same" in lost.out
    assert "answer 2 of v2" in lost.out
    assert "answer 1 of v2" not in lost.out
    rows = json.loads(machine.run("losses", "demo/opened@v2", "@v1", "--suite", suite, "--only", "same", "--json").out)
    assert [row["item"] for row in rows] == [1, 3, 4]
    assert "has no score on demo/gate" in machine.run("losses", "demo/opened@v2", "@v1", "--suite", SUITE).err
    table = tmp_path / "board.parquet"
    assert machine.run("leaderboard", suite, "--history", "--parquet", table).status == 2
    history = machine.run("leaderboard", suite, "--history").out
    assert "demo/opened@v1" in history
    assert "demo/opened@v2" not in history
    assert machine.run("leaderboard", suite, "--parquet", table).status == 0
    assert table.read_bytes()[:4] == b"PAR1"
