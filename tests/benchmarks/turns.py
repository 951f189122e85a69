"""`python -m tests.benchmarks.turns OTHER`: the CPU time of a push here and in another checkout, by turns.

The same code takes a fifth more or less from one minute to the next on a machine that others use. Two hubs stand beside
each other here and are given a few pushes each in turn, so that what else goes on is the same for both. What is compared
is the CPU time that the server took for each few, as Linux counts it for each thread, and their ratio.
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

from tests.benchmarks import pushing, seeding
from tests.hub.processes import COMMANDS, Server, serving

HERE = Path(__file__).parents[2]
AT_ONCE, FIRST = 5, 60  # the first are not counted: they fill caches


@dataclass
class Side:
    """A hub of one checkout, and the milliseconds of a push that its event loop and its other threads have taken."""

    server: Server
    client: httpx2.Client
    user: str
    loop: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)

    def push(self, numbers: Sequence[int], bodies: Path) -> None:
        """Pushes those bodies, each as a new adapter, and notes what they took."""
        before = _taken(self.server.process.pid)
        for number in numbers:
            path = f"/api/v1/adapters/{self.user}/{_name(number)}/versions"
            body = (bodies / str(number)).read_bytes()
            answer = self.client.post(path, content=body, headers=pushing.MULTIPART)
            assert answer.status_code == 201, answer.text
        spent = [(now - then) / len(numbers) for then, now in zip(before, _taken(self.server.process.pid), strict=True)]
        self.loop.append(spent[0])
        self.threads.append(spent[1])

    @property
    def whole(self) -> list[float]:
        return [sum(each) for each in zip(self.loop, self.threads, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.turns")
    parser.add_argument("other", type=Path, help="another checkout, as `git worktree add` makes one")
    parser.add_argument("--pushes", type=int, default=600)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-turns-") as scratch, ExitStack() as stack:
        bodies = pushing.bodies(Path(scratch, "bodies"), FIRST + arguments.pushes)
        trees = arguments.other.resolve(), HERE
        sides = [stack.enter_context(_side(tree, Path(scratch, str(at)))) for at, tree in enumerate(trees)]
        for side in sides:
            side.push(range(FIRST), bodies)
            side.loop.clear()
            side.threads.clear()
        for begin in range(FIRST, FIRST + arguments.pushes, AT_ONCE):
            for side in sides if begin // AT_ONCE % 2 else reversed(sides):
                side.push(range(begin, min(begin + AT_ONCE, FIRST + arguments.pushes)), bodies)
        _print(*sides)


@contextmanager
def _side(tree: Path, folder: Path) -> Iterator[Side]:
    command = [*COMMANDS[:2], f"import sys; sys.path.insert(0, {str(tree)!r}); {COMMANDS[2]}"]
    with serving(folder, command=command) as server:
        token = {"Authorization": f"Bearer {server.login()['token']}"}
        with httpx2.Client(base_url=server.url, headers=token, timeout=30) as client:
            yield Side(server, client, pushing.known(client))


def _taken(process: int) -> tuple[float, float]:
    """The milliseconds of CPU time that the main thread of a process, and all others of it, have taken so far."""
    taken = {
        task.name: int((task / "schedstat").read_text().split()[0]) / 1e6
        for task in Path(f"/proc/{process}/task").iterdir()
    }
    loop = taken.pop(str(process))
    return loop, sum(taken.values())


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


def _said(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.1f}, {statistics.quantiles(times, n=10)[0]:.1f} ms"


if __name__ == "__main__":
    main()
