"""A real S3 server on this machine, from the wheel that brings one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY, SECRET = "hub-tests", "hub-tests-secret"
_ROLES = ("s3", "master", "volume", "filer", "admin")


@dataclass(frozen=True)
class S3Server:
    """`url` names a bucket that is there; `environment` is what its clients read."""

    url: str
    environment: dict[str, str]


def weed() -> str | None:
    """The server's program, when it is installed."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """The server, with the bucket `hub`, until the block ends."""
    program = weed()
    assert program is not None
    ports = _free_ports(2 * len(_ROLES))
    port = ports[_ROLES.index("s3")]
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    endpoint = f"http://127.0.0.1:{port}"
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(
            [program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=hub"]
            + ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
            + [f"-{role}.port={port}" for role, port in zip(_ROLES, ports, strict=False)]
            + [f"-{role}.port.grpc={port}" for role, port in zip(_ROLES, ports[len(_ROLES) :], strict=True)],
            env={**os.environ, **keys},
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(port, server)
        more = {"AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        yield S3Server("s3://hub/blobs-of-tests", {**keys, **more})
    finally:
        server.kill()  # a graceful end takes seconds, and nothing of it is kept
        server.wait()
        for left in (file for port in ports for file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")):
            left.unlink()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 server did not start")


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, all different: every part of the server listens, and two may run at once."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
