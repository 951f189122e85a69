"""The parent's end of the child process: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from typing import IO, Any, Protocol

# What a child may know. Everything else in the environment, tokens above all, stays with the parent.
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "PYTHONPATH",
)


# What is so for whatever runs adapters. PASSIVE: threads that wait sleep; spinning halves the speed of everything on a machine
# that is busy.
CHILD_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


SAMPLE = 32  # items, whole ones, that one adapter of a request answers again in another layout


class ChildDied(Exception):
    """The child ended without an answer: it crashed, ran out of memory, or was stopped."""


class JobRefused(Exception):
    """The child answered that this adapter cannot be evaluated, and why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


Reply = dict[str, Any] | JobRefused | ChildDied
# Of each adapter of a request, how many rows it has answered; and how many there are.
Tell = Callable[[Sequence[int], int], None]


def nobody(done: Sequence[int], of: int) -> None:
    """Is told, and says it to no one."""


class Engine(Protocol):
    """What runs adapters for a worker. `lacking` are the fingerprints of bases that are not to be had there."""

    @property
    def lacking(self) -> Collection[str]: ...

    def run(self, request: dict[str, Any], tell: Tell = nobody) -> Sequence[Reply]:
        """What became of each adapter of `request` (`hub.worker.child`). Meanwhile `tell` hears how far each is. Raises
        ChildDied when that is so of all of them."""

    def stop(self) -> None:
        """Ends what is being answered at once, from whichever thread. Whoever waits for it gets ChildDied."""


class Runner:
    """One child process, started at need and kept while it behaves."""

    lacking: Collection[str] = ()

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(self, request: dict[str, Any], tell: Tell = nobody) -> list[Reply]:
        """The child's reply for each adapter of `request`, with the environment it was made in. Raises ChildDied."""
        child = self._started()
        try:
            reply = _asked(child, request, tell)
        except (OSError, ValueError) as error:
            raise self._died(child) from error
        if reply is None:
            raise self._died(child)
        return [of_one(each, reply["environment"]) for each in reply["replies"]]

    def stop(self) -> None:
        """End the child at once, from whichever thread. Whoever waits for its answer gets ChildDied."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            _close(child.stdin)
            _close(child.stdout)

    def _started(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "hub.worker.child"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=_child_environment(),
                    start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
                )
            return self._child

    def _died(self, child: subprocess.Popen[str]) -> ChildDied:
        self.stop()
        return ChildDied(f"The evaluation process ended with status {child.poll()} and gave no answer.")


def _asked(child: subprocess.Popen[str], request: dict[str, Any], tell: Tell) -> dict[str, Any] | None:
    """The reply of `child`, or None when it has ended without one."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(request) + "\n")
    child.stdin.flush()
    for line in child.stdout:
        said: dict[str, Any] = json.loads(line)
        if "done" not in said:
            return said
        tell(said["done"], said["of"])
    return None


def of_one(reply: dict[str, Any], environment: dict[str, Any]) -> Reply:
    """The reply for one adapter, with the environment that is that of all."""
    if "error" in reply:
        return JobRefused(reply["error"]["code"], reply["error"]["detail"])
    layout = {"adapters_in_batch": reply["together"], "batch_size": reply["batch_size"]}
    again = {"again": reply["again"]} if "again" in reply else {}
    return {"outputs": reply["outputs"], **again, "environment": {**environment, **layout}}


def _child_environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return CHILD_ENVIRONMENT | passed


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        try:
            pipe.close()
        except OSError:
            return  # the child is gone, and what was still buffered with it
