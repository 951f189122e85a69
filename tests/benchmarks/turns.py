"""`python -m tests.benchmarks.turns OTHER`: the CPU time of a push here and in another checkout, by turns.

The same code takes a fifth more or less from one minute to the next on a machine that others use. Two hubs stand beside
each other here and are given a few pushes each in turn, so that what else goes on is the same for both. What is compared
is the CPU time that the server took for each few, as Linux counts it for each thread, and their ratio. With
`--connections 16` they are given load from `wrk` in turn, some seconds each, and how many a second is compared too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.benchmarks import pushing, seeding, wrk
from tests.benchmarks.wrk import Row
from tests.hub.processes import COMMANDS, Server, serving

HERE = Path(__file__).parents[2]
AT_ONCE, FIRST = 5, 60  # the first are not counted: they fill caches
ROUNDS = 6
# Of those that `wrk` had begun, and did not see the end of.
_STARTED_AT_MOST = 100


@dataclass
class Side:
    """A hub of one checkout, and the milliseconds of a push that its event loop and its other threads have taken."""

    server: Server
    client: httpx2.Client
    user: str
    loop: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def load(self, bodies: Path, connections: int) -> None:
        """Has `wrk` push as many as it can, and notes how many that were and what they took."""
        script = pushing.script_from(sum(_STARTED_AT_MOST + row.requests for row in self.rows), bodies, self.user)
        headers = {**dict(self.client.headers), **pushing.MULTIPART}
        before = _taken_ever(self.server)
        row = wrk.load("push", self.server.url, headers, "", "-s", str(script), connections=connections)
        self._note(before, _taken_ever(self.server), row.requests)
        self.rows.append(row)

    def push(self, numbers: Sequence[int], bodies: Path) -> None:
        """Pushes those bodies, each as a new adapter, and notes what they took."""
        before = _taken(self.server)
        for number in numbers:
            path = f"/api/v1/adapters/{self.user}/{_name(number)}/versions"
            body = (bodies / str(number)).read_bytes()
            answer = self.client.post(path, content=body, headers=pushing.MULTIPART)
            assert answer.status_code == 201, answer.text
        self._note(before, _taken(self.server), len(numbers))

    def _note(self, before: tuple[float, float], after: tuple[float, float], pushes: int) -> None:
        loop, threads = ((now - then) / pushes for then, now in zip(before, after, strict=True))
        self.loop.append(loop)
        self.threads.append(threads)

    @property
    def whole(self) -> list[float]:
        return [sum(each) for each in zip(self.loop, self.threads, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.turns")
    parser.add_argument("other", type=Path, help="another checkout, as `git worktree add` makes one")
    parser.add_argument("--pushes", type=int, default=600)
    parser.add_argument("--connections", type=int, help="load from wrk over as many, and no single pushes")
    parser.add_argument("--processes", type=int, default=1, help="of each hub")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-turns-") as scratch, ExitStack() as stack:
        count = FIRST + arguments.pushes if arguments.connections is None else pushing.PUSHES
        bodies = pushing.bodies(Path(scratch, "bodies"), count)
        trees = arguments.other.resolve(), HERE
        other, here = (
            stack.enter_context(_side(tree, Path(scratch, str(at)), arguments.processes))
            for at, tree in enumerate(trees)
        )
        if arguments.connections is None:
            _push_by_turns(other, here, bodies, count)
        else:
            wrk.provide(Path(scratch))
            _load_by_turns(other, here, bodies, arguments.connections)
        _print(other, here)


def _push_by_turns(other: Side, here: Side, bodies: Path, count: int) -> None:
    for side in (other, here):
        side.push(range(FIRST), bodies)
        side.loop.clear()
        side.threads.clear()
    for begin in range(FIRST, count, AT_ONCE):
        for side in (other, here) if begin // AT_ONCE % 2 else (here, other):
            side.push(range(begin, min(begin + AT_ONCE, count)), bodies)


def _load_by_turns(other: Side, here: Side, bodies: Path, connections: int) -> None:
    for turn in range(ROUNDS):
        for side in (other, here) if turn % 2 else (here, other):
            side.load(bodies, connections)


@contextmanager
def _side(tree: Path, folder: Path, processes: int) -> Iterator[Side]:
    command = [*COMMANDS[:2], f"import sys; sys.path.insert(0, {str(tree)!r}); {COMMANDS[2]}"]
    environment = {"PYTHONPATH": str(tree)}  # for its further processes
    with serving(folder, "--processes", str(processes), command=command, environment=environment) as server:
        pushing.wait_for_processes(server, processes)
        token = {"Authorization": f"Bearer {server.login()['token']}"}
        with httpx2.Client(base_url=server.url, headers=token, timeout=30) as client:
            yield Side(server, client, pushing.known(client))


def _taken(server: Server) -> tuple[float, float]:
    """The milliseconds of CPU time that the main threads of its processes, and all others of them, have taken so far."""
    taken = {
        (pid, task.name): int((task / "schedstat").read_text().split()[0]) / 1e6
        for pid in server.pids
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
    loops = sum(taken.pop((pid, str(pid))) for pid in server.pids)
    return loops, sum(taken.values())


def _taken_ever(server: Server) -> tuple[float, float]:
    """`_taken` to 10 milliseconds, with those threads that have ended since: one without work ends after a while."""
    loops, _ = _taken(server)
    return loops, 1000 * pushing.cpu_seconds(server) - loops


def _name(number: int) -> str:
    """A name that looks like no other."""
    syllables = seeding.SYLLABLES
    return "-".join(syllables[number // 20**place % 20] for place in range(4))


def _print(other: Side, here: Side) -> None:
    print(f"\n{os.cpu_count()} cores shared by both hubs and the client, load average {os.getloadavg()[0]:.1f}\n")
    print("| CPU time of a push: median, the best tenth | other | here | here / other |\n|---|---|---|---|")
    for what in ("loop", "threads", "whole"):
        theirs, ours = getattr(other, what), getattr(here, what)
        ratio = statistics.median(mine / its for mine, its in zip(ours, theirs, strict=True))
        print(f"| {what} | {_said(theirs)} | {_said(ours)} | {ratio:.2f} |")
    if here.rows:
        _print_rates(other, here)


def _print_rates(other: Side, here: Side) -> None:
    print("\n| pushes: median of the turns | other | here |\n|---|---|---|")
    for what, value in (
        ("a second", lambda row: row.per_second),
        ("p50, ms", lambda row: row.p50_ms),
        ("p99, ms", lambda row: row.p99_ms),
    ):
        theirs, ours = (statistics.median(map(value, side.rows[1:])) for side in (other, here))
        print(f"| {what} | {theirs:.0f} | {ours:.0f} |")


def _said(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.1f}, {statistics.quantiles(times, n=10)[0]:.1f} ms"


if __name__ == "__main__":
    main()
