"""The machine of a user, the hub it talks to, and a line between them that stalls: all real processes and sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("vera-hub"))
# For what has stopped for good: where the machine is busy a training takes a minute, and a test has five.
START_TIMEOUT_S = 120
COMMAND_TIMEOUT_S = 240


@dataclass(frozen=True)
class Done:
    """What a shell sees of a command that has ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Machine:
    """A user's machine: its folders, and the environment its commands run in."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def run(self, *arguments: str | Path, stdin: str = "", **environment: str) -> Done:
        """Runs `vera-hub` with `arguments` to its end."""
        with self.running(*arguments, **environment) as process:
            out, err = process.communicate(stdin, timeout=COMMAND_TIMEOUT_S)
        return Done(process.returncode, out, err)

    @contextmanager
    def running(self, *arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """`vera-hub` with `arguments`, while it runs; it does not outlive the block."""
        with subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            env={**environment_of(self.folder), **self.environment, **environment},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def make_machine(folder: Path, **environment: str) -> Machine:
    folder.mkdir(parents=True, exist_ok=True)
    return Machine(folder, environment)


@dataclass(frozen=True)
class RunningHub:
    """`vera-hub serve` as its user sees it. `profile` is what it wrote for the command line."""

    url: str
    data: Path
    profile: Path

    @property
    def worker_token(self) -> str:
        return (self.data / "worker-token").read_text().strip()


@contextmanager
def running_hub(folder: Path, *, with_worker: bool = False) -> Iterator[RunningHub]:
    """A hub on a free port with the user `demo`, stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    worker = [] if with_worker else ["--no-worker"]
    process = subprocess.Popen(
        [COMMAND, "serve", "--data", str(folder / "data"), "--port", "0", "--user", "demo", *worker],
        env=environment_of(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield RunningHub(_url_when_ready(process), folder / "data", folder / "config" / "profile.json")
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 0, rest


class StallingLine:
    """A line to a hub on which one message stops half-way, and nothing comes after.

    The message is the first that holds `mark`, in either direction; `passed_bytes` of it arrive.
    """

    def __init__(self, hub_port: int, mark: bytes, *, passed_bytes: int) -> None:
        self._hub_port, self._mark, self._passed_bytes = hub_port, mark, passed_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self.stalled, self._closing = threading.Event(), threading.Event()
        self._run(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._closing.set()
        for each in self._sockets:
            _hang_up(each)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            hub = socket.create_connection(("127.0.0.1", self._hub_port))
            self._sockets += [client, hub]
            self._run(self._carry, client, hub)
            self._run(self._carry, hub, client)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        while data := _receive(source):
            if self.stalled.is_set():
                continue
            at = data.find(self._mark)
            if at >= 0:
                data = data[: at + self._passed_bytes]
            _send(target, data)
            if at >= 0:
                self.stalled.set()
        _hang_up(target)

    def _run(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()


def environment_of(folder: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("VERA_HUB_")}
    return {**own, "VERA_HUB_CONFIG": str(folder / "config"), "VERA_HUB_CACHE": str(folder / "cache")}


def _url_when_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Vera Hub is ready at "):
            return line.split()[5]
    raise AssertionError(f"The hub did not start: {''.join(said)}")


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def _send(target: socket.socket, data: bytes) -> None:
    try:
        target.sendall(data)
    except OSError:
        _hang_up(target)


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()
