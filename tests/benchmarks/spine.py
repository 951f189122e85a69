"""What a user waits for: `python -m tests.benchmarks.spine` prints one table, medians of several runs.

Needs what the demo left behind (`make demo DEMO_ONESHOT=1` first): its hub, its adapter and its base.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.functional.machines import COMMAND

DEMO = Path(".demo").resolve()
BASE, REF = "sentence-transformers/all-MiniLM-L6-v2", "demo/my-adapter@v1"
LOAD = f"""
import time, sdk
from transformers import AutoModel
from sdk import bases
from sdk.config import Config
base = AutoModel.from_pretrained(bases.locate({BASE!r}, config=Config.resolve()))
for run in range(8):
    started = time.perf_counter()
    model = sdk.load(base, {REF!r})
    print(time.perf_counter() - started)
    model.vera.bank.detach()
"""


def main() -> int:
    if not (DEMO / "env").is_file():
        print("Run `make demo DEMO_ONESHOT=1` first.", file=sys.stderr)
        return 2
    loads = _load_seconds()
    rows = [
        ("vera-hub --help", _seconds([COMMAND, "--help"]), "300 ms"),
        ("python -c 'import sdk'", _seconds([sys.executable, "-c", "import sdk"]), ""),
        ("sdk.load, the first: imports, base proven", loads[0], ""),
        ("sdk.load, cached, base proven once", statistics.median(loads[1:]), "100 ms"),
    ]
    print(f"{'what':<44} {'median':>10}  goal")
    for what, seconds, goal in rows:
        print(f"{what:<44} {seconds * 1000:>7.1f} ms  {goal}")
    print(f"{'hub, idle, resident (no worker)':<44} {_idle_megabytes():>7.0f} MB  130 MB")
    return 0


def _seconds(command: list[str], runs: int = 7) -> float:
    """The median wall time of `command`; a first run, not counted, warms the page cache."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _load_seconds() -> list[float]:
    done = subprocess.run([sys.executable, "-c", LOAD], env=_environment(), capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def _idle_megabytes() -> float:
    command = [COMMAND, "serve", "--data", str(DEMO / "hub"), "--port", "0", "--user", "demo", "--no-worker"]
    with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        time.sleep(1)
        status = Path(f"/proc/{server.pid}/status").read_text()
        server.terminate()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def _environment() -> dict[str, str]:
    url = next(line for line in (DEMO / "env").read_text().splitlines() if "VERA_HUB_URL" in line).split("=", 1)[1]
    own = {"VERA_HUB_CONFIG": str(DEMO / "config"), "VERA_HUB_CACHE": str(DEMO / "cache"), "VERA_HUB_URL": url}
    return {**os.environ, **own, "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    sys.exit(main())
