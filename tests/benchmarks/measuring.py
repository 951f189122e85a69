"""How things are timed beside each other, and how a table of them is printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import torch


@dataclass(frozen=True)
class Row:
    """One line: ours beside what it is compared with, and the least it could be. `ratio` is theirs over ours."""

    what: str
    unit: str
    ours: float
    theirs: float | None = None
    floor: float | None = None
    floor_is: str = ""

    @property
    def ratio(self) -> float | None:
        return self.theirs / self.ours if self.theirs else None


def medians(runs: int, **sides: Callable[[], object]) -> dict[str, float]:
    """Median milliseconds on the wall of each of `sides`, run in turns, so that a busy machine is as busy for all."""
    for run in sides.values():
        _timed(run)  # once for caches and compilers
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, run in sides.items():
            times[name].append(_timed(run))
    return {name: statistics.median(found) for name, found in times.items()}


def _timed(run: Callable[[], object]) -> float:
    _synchronize()
    start = time.perf_counter()
    run()
    _synchronize()
    return (time.perf_counter() - start) * 1000


def gpu_median(run: Callable[[], object], runs: int = 50) -> float:
    """Median milliseconds on the GPU's own clock, with a cold cache and the launches queued ahead."""
    flush = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    run()
    for start, end in events:
        flush.random_(0, 2)
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events)


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Within the block this process has `count` cores, and torch as many threads."""
    usable, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, set(sorted(usable)[:count]))
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
        torch.set_num_threads(threads)


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a millisecond of a large product of random matrices: what no step can beat."""
    size = 8192 if device == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return float(2 * size**3 / medians(7, product=lambda: left @ right)["product"])


def machine() -> Mapping[str, str]:
    return {
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name(),
        "cores": f"{len(os.sched_getaffinity(0))} {platform.machine()}, load average {os.getloadavg()[0]:.1f}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "transformers", "peft")),
        "date": datetime.now(UTC).date().isoformat(),
    }


def print_table(rows: list[Row], *, as_json: bool) -> None:
    """Markdown, or one JSON object with the same."""
    facts = machine()
    if as_json:
        print(json.dumps({**facts, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]}, indent=1))
        return
    print("\n" + " · ".join(facts.values()) + "\n")
    print("| what | ours | PEFT or torch | ratio | floor |\n|---|---|---|---|---|")
    for row in rows:
        floor = f"{_number(row.floor, row.unit)} ({row.floor_is})" if row.floor else ""
        ratio = f"{row.ratio:.2f}" if row.ratio else ""
        print(f"| {row.what} | {_number(row.ours, row.unit)} | {_number(row.theirs, row.unit)} | {ratio} | {floor} |")


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def _cpu_name() -> str:
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
