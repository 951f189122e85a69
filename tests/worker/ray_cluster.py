"""A real Ray cluster on this machine: `ray start` processes, stopped by their own pids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_S = 60
# Whoever connects is on this machine and nowhere else. Read when Ray is imported; its name is of the systems where that is so always.
_HERE_ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
os.environ[_HERE_ALONE] = "0"

# A start of Ray from a program, since its command line may not be on the PATH. It takes 127.0.0.1 to mean the address that others
# reach this machine by, and listens there or everywhere: here it is to mean what it says.
_PROGRAM = """
import ray._private.services as services
services.get_node_ip_address = lambda address=None: "127.0.0.1"
from ray.scripts.scripts import main
main()
"""
_START = [sys.executable, "-c", _PROGRAM, "start"]
_SMALL = ["--object-store-memory", str(100 << 20), "--disable-usage-stats"]


class RayCluster:
    """A head without room for anything, and nodes that are added to it and lost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{_free_port()}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        port = self.address.rpartition(":")[2]
        self._launch("--head", "--port", port, "--node-ip-address", "127.0.0.1", "--num-cpus", "0",
                     "--include-dashboard", "false", "--temp-dir", str(self._folder))  # fmt: skip

    def add_node(self, cpus: int) -> subprocess.Popen[bytes]:
        """A node, as the group of processes that it is."""
        return self._launch("--address", self.address, "--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus))

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """The node with all that runs on it, as a power cut does it."""
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def stop(self) -> None:
        for each in reversed(self._processes):
            if each.poll() is None:
                self.lose(each)

    def _launch(self, *options: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(self._folder), _HERE_ALONE: "1"}
        log = self._folder / f"node-{len(self._processes)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*_START, "--block", *options, *_SMALL], stdout=out, stderr=out, env=environment, start_new_session=True
            )
        self._processes.append(process)
        self._wait_for(process, log)
        return process

    def _wait_for(self, process: subprocess.Popen[bytes], log: Path) -> None:
        ends_at = time.monotonic() + _START_S
        while b"Ray runtime started" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends_at, log.read_text()
            time.sleep(0.1)


@contextmanager
def ray_cluster(folder: Path) -> Iterator[RayCluster]:
    cluster = RayCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
