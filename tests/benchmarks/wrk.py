"""Load from `wrk` (a package of Debian) over 16 connections, and one line of a table of what came of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS, SECONDS = 16, 5


@dataclass(frozen=True)
class Row:
    """One line of the table; times are milliseconds. `kind` is what peers are compared by."""

    what: str
    per_second: float | None
    p50_ms: float
    p99_ms: float
    goal: str = ""
    kind: str = ""
    requests: int = 0


def load(
    what: str,
    url: str,
    headers: dict[str, str],
    goal: str = "",
    *options: str,
    kind: str = "",
    connections: int = CONNECTIONS,
) -> Row:
    """The row of a load on `url`. Ends the program when an answer is a refusal."""
    given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{SECONDS}s", "--latency", *given, *options, url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said and "If-None-Match" not in headers:
        sys.exit(f"{what} was refused:\n{said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    answered = re.search(r"(\d+) requests in ", said)
    assert answered is not None, said
    return Row(
        what, float(rate[1]), _percentile(said, 50), _percentile(said, 99), goal, kind, requests=int(answered[1])
    )


def provide(folder: Path) -> None:
    """`wrk` on the PATH of this process: the one that is there, or Debian's, unpacked into `folder`."""
    if shutil.which("wrk"):
        return
    root = unpacked(folder, "wrk", "libluajit2-5.1-2")
    libraries = next(root.rglob("libluajit-5.1.so.2")).parent
    os.environ["LD_LIBRARY_PATH"] = f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    os.environ["PATH"] = f"{root / 'usr/bin'}:{os.environ['PATH']}"


def unpacked(folder: Path, *packages: str) -> Path:
    """Debian's `packages` unpacked in `folder`, without installing them. Raises CalledProcessError and OSError."""
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True, capture_output=True)
    for package in packages:
        file = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", str(file), str(root)], check=True, capture_output=True)
    return root


def _percentile(said: str, which: int) -> float:
    found = re.search(rf"\s{which}%\s+([\d.]+)(us|ms|s)", said)
    assert found is not None, said
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]
