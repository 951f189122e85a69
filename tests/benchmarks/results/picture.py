"""Score against bytes, as a picture: one panel per task, a mark per method, on a page light or dark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.results.table import Measured, Numbers

_WIDTH, _PANEL, _GAP, _LEFT, _RIGHT, _TOP = 720, 170, 56, 54, 30, 40
_BYTES = (1e3, 1e9)  # 1 KB to 1 GB, on a scale of powers of ten
_TICKS = {3: "1 KB", 4: "10 KB", 5: "100 KB", 6: "1 MB", 7: "10 MB", 8: "100 MB", 9: "1 GB"}
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#59636e}.title{font-weight:600;fill:#1f2328}.grid{stroke:#d1d9e0}"
    ".vera{fill:#0969da;stroke:#0969da}.other{fill:#bc4c00;stroke:#bc4c00}.name{fill:#1f2328}"
    "@media(prefers-color-scheme:dark){text{fill:#9198a1}.title,.name{fill:#f0f6fc}.grid{stroke:#3d444d}"
    ".vera{fill:#4493f8;stroke:#4493f8}.other{fill:#f0883e;stroke:#f0883e}}"
)


@dataclass(frozen=True)
class Mark:
    """One method: what is stored of it, head included, and what it scores."""

    method: str
    size_bytes: int
    scores: Sequence[float]

    @classmethod
    def of(cls, method: str, numbers: Numbers) -> Mark:
        return cls(method, 4 * (numbers.parameters + numbers.head_parameters), numbers.last())

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


def all_of(measured: Mapping[str, Measured]) -> dict[str, str]:
    """A picture per base of each experiment, by the name of its file."""
    found: dict[str, str] = {}
    for name, numbers in measured.items():
        for model in numbers.experiment.models:
            panels = {
                task.title: list(_marks(numbers, model.key, task.key))
                for task in numbers.tasks(model.key)
                if not task.writes
            }
            if panels:
                found[f"{name}-{model.key}.svg"] = drawn(model.id, panels)
    return found


def drawn(title: str, panels: Mapping[str, Sequence[Mark]]) -> str:
    height = _TOP + len(panels) * (_PANEL + _GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="16">{title}: score in percent against bytes stored</text>',
    ]
    for index, (task, marks) in enumerate(panels.items()):
        lines += _panel(task, marks, _TOP + index * (_PANEL + _GAP))
    return "\n".join([*lines, "</svg>", ""])


def _marks(numbers: Measured, model: str, task: str) -> Iterator[Mark]:
    for method in numbers.experiment.methods:
        if found := numbers.numbers(model, task, method.key):
            yield Mark.of(method.key, found)


def _panel(task: str, marks: Sequence[Mark], top: float) -> Iterator[str]:
    low = min(mark.mean - mark.deviation for mark in marks)
    high = max(mark.mean + mark.deviation for mark in marks)
    margin = max(1.0, 0.2 * (high - low))
    low, high = low - margin, high + margin

    def y_of(score: float) -> float:
        return top + 10 + (_PANEL - 10) * (high - score) / (high - low)

    yield f'<text class="title" x="{_LEFT}" y="{top + 2:g}">{task}</text>'
    for i in range(4):
        score = low + (high - low) * i / 3
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(score):.1f}" y2="{y_of(score):.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y_of(score) + 4:.1f}" text-anchor="end">{score:.1f}</text>'
    for power, label in _TICKS.items():
        yield f'<text x="{_x_of(10**power):.1f}" y="{top + _PANEL + 18:g}" text-anchor="middle">{label}</text>'
    for index, mark in enumerate(sorted(marks, key=lambda mark: mark.size_bytes)):
        yield from _mark(mark, _x_of(mark.size_bytes), y_of, name_below=index % 2 == 1)  # neighbours do not overlap


def _mark(mark: Mark, x: float, y_of: Callable[[float], float], *, name_below: bool) -> Iterator[str]:
    kind = "vera" if "vera" in mark.method else "other"
    above, below = y_of(mark.mean + mark.deviation), y_of(mark.mean - mark.deviation)
    yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{above:.1f}" y2="{below:.1f}"/>'
    yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y_of(mark.mean):.1f}" r="4"/>'
    y = below + 14 if name_below else above - 7
    yield f'<text class="name" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{mark.method}</text>'


def _x_of(size_bytes: float) -> float:
    low, high = (math.log10(edge) for edge in _BYTES)
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log10(max(size_bytes, _BYTES[0])) - low) / (high - low)
