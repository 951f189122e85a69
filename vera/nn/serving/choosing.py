"""Which of several ways to compute the same is quickest here: measured once, and kept.

It is another in a captured graph, where only what the GPU does counts, than in an eager pass, where the host has to launch
it: of a small batch that is most of the time.
"""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Way = TypeVar("Way")

LONG = 1024  # tokens of a prompt, from which there are more ways than one token fewer has
_RUNS = 7
_REPLAYS = 16
_IN_A_ROW = 8  # calls in eager passes: what waits for the GPU at the end is little of them
_KEPT = 64  # ways of a group of modules
_IN_A_GRAPH = 4  # runs: one alone is little longer than what starts it
# More than the cache of any GPU so far: in a model no weight is still there from the last pass.
_FLUSHED_BYTES = 1 << 26


class Recent(Generic[Way]):
    """The ways for the inputs that were seen last: every length of a prompt is another, and there is no end of them."""

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        self._ways: OrderedDict[Hashable, Way] = OrderedDict()  # longest unused first

    def get(self, inputs: Hashable) -> Way | None:
        way = self._ways.get(inputs)
        if way is not None:
            self._ways.move_to_end(inputs)
        return way

    def keep(self, inputs: Hashable, way: Way) -> None:
        self._ways[inputs] = way
        if len(self._ways) > self._most:
            self._ways.popitem(last=False)

    def clear(self) -> None:
        self._ways.clear()


@dataclass(frozen=True)
class Quickest(Generic[Way]):
    """Of several ways the quickest in a captured graph, and the quickest in an eager pass."""

    captured: Way
    eager: Way

    @property
    def now(self) -> Way:
        return self.captured if torch.cuda.is_current_stream_capturing() else self.eager


class Choices(Generic[Way]):
    """The quickest ways of each shape, by their numbers among the ways there are, which must be the same for one shape. Shared by
    all layers of a model."""

    def __init__(self) -> None:
        self.numbers: dict[Hashable, Quickest[int]] = {}

    def best(
        self, shape: Hashable, ways: Sequence[Way], *, run: Callable[[Way], object], device: torch.device
    ) -> Quickest[Way]:
        """The quickest of `ways` on `device`, measured at the first call with `shape`, which no graph may capture."""
        if shape not in self.numbers:
            self.numbers[shape] = _quickest([partial(run, way) for way in ways], device)
        number = self.numbers[shape]
        return Quickest(ways[number.captured], ways[number.eager])


def _quickest(runs: Sequence[Callable[[], object]], device: torch.device) -> Quickest[int]:
    with torch.cuda.device(device):
        captured = _captured_ms(runs)
        fitting = [number for number, ms in enumerate(captured) if ms < float("inf")]
        eager = _eager_s([runs[number] for number in fitting])
    return Quickest(captured.index(min(captured)), fitting[eager.index(min(eager))])


def _eager_s(runs: Sequence[Callable[[], object]]) -> list[float]:
    """The median seconds on the wall of several calls of each, one after the other, until the GPU has done them. In turns: the pace
    of a host changes."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(_RUNS):
        for run, found in zip(runs, times, strict=True):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(_IN_A_ROW):
                run()
            torch.cuda.synchronize()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def _captured_ms(runs: Sequence[Callable[[], object]]) -> list[float]:
    """The median of each as a graph, on the GPU's own clock and with a cold cache: what the launches take on the host is no part of
    it. In turns: the pace of a GPU changes too, with its temperature. Infinite for a kernel that does not fit on this GPU."""
    pool, cold = torch.cuda.graph_pool_handle(), torch.zeros(_FLUSHED_BYTES // 4, device="cuda")
    graphs = [_graph_of(run, pool, cold) for run in runs]
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(_REPLAYS):
        events = [(_event(), _event()) for _ in runs]
        for graph, (start, end) in zip(graphs, events, strict=True):
            if graph is not None:
                start.record()
                graph.replay()
                end.record()
        torch.cuda.synchronize()
        for graph, (start, end), found in zip(graphs, events, times, strict=True):
            found.append(float(start.elapsed_time(end)) if graph is not None else float("inf"))
    return [statistics.median(found[1:]) for found in times]  # without the first, which loads what it launches


def _graph_of(run: Callable[[], object], pool: Any, cold: Tensor) -> torch.cuda.CUDAGraph | None:
    """A graph of several runs, each with a cold cache; None for a kernel that does not fit.

    What makes the cache cold is read and not written, and in the graph, the same for each way.
    """
    from vera.nn.kernels.launching import DOES_NOT_FIT

    try:
        run()  # once for the compiler
    except DOES_NOT_FIT:
        return None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=_stream_of(torch.cuda.current_device())):
        for _ in range(_IN_A_GRAPH):
            cold.sum()
            run()
    return graph


@cache
def _stream_of(device: int) -> torch.cuda.Stream:
    """To capture on: the one that torch takes by itself is of the device that captured first."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it unannotated


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
