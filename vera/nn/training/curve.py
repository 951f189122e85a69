"""A training as a picture: the loss of its steps and epochs and, where it was watched, the score of each epoch.

SVG by hand, readable on a light page and on a dark one, and the same bytes for the same training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vera.nn.training.progress import VALIDATION, Epoch, Step

_WIDTH, _LEFT, _RIGHT = 640, 60, 20
_PANEL, _GAP, _TOP, _BOTTOM = 170, 44, 40, 34  # heights: of a panel's plot, between panels, above and below
_MOST_POINTS = 300
_MOST_TICKS = 5

_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#59636e}.title{font-weight:600;fill:#1f2328}"
    ".grid{stroke:#d1d9e0}.steps{stroke:#afb8c1}.line{stroke:#0969da;stroke-width:2}.dot{fill:#0969da}"
    ".best{fill:none;stroke:#bf3989;stroke-width:2}polyline{fill:none}"
    "@media(prefers-color-scheme:dark){text{fill:#9198a1}.title{fill:#f0f6fc}.grid{stroke:#3d444d}"
    ".steps{stroke:#656c76}.line{stroke:#4493f8}.dot{fill:#4493f8}.best{stroke:#f778ba}}"
)

Point = tuple[float, float]  # epochs done, value


@dataclass(frozen=True)
class _Panel:
    """A plot of its own scale, whose upper edge is at `top`."""

    title: str
    top: float
    epochs: int
    low: float
    high: float

    def at(self, point: Point) -> tuple[float, float]:
        share = (point[1] - self.low) / (self.high - self.low)
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * point[0] / self.epochs
        return x, self.top + _PANEL * (1 - min(1.0, max(0.0, share)))

    def line(self, css: str, points: Sequence[Point]) -> str:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, points))
        return f'<polyline class="{css}" points="{places}"/>'

    def dots(self, css: str, radius: float, points: Sequence[Point]) -> Iterator[str]:
        for x, y in map(self.at, points):
            yield f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'

    def frame(self) -> Iterator[str]:
        yield f'<text class="title" x="{_LEFT}" y="{self.top - 12:g}">{self.title}</text>'
        for value in _ticks(self.low, self.high):
            _, y = self.at((0, value))
            yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'


def loss_curve(steps: Sequence[Step], epochs: Sequence[Epoch], metric: str, best_epoch: int | None = None) -> bytes:
    """`loss.svg`. `metric` is what is shown of each epoch's validation; `best_epoch` gets a ring."""
    count = len(epochs)
    losses = list(_thinned(_step_losses(steps, count)))
    means = [(float(epoch.number), epoch.loss) for epoch in epochs]
    # The first steps may tower over all that follows: the scale is of the epochs, and of what fits.
    top = max(value for _, value in means) * 1.5
    panel = _Panel("Training loss", _TOP, count, 0.0, min(top, max(value for _, value in losses + means)) or 1.0)
    drawn = [*panel.frame(), panel.line("steps", losses), panel.line("line", means), *panel.dots("dot", 3, means)]
    scores = [(float(e.number), e.scores[VALIDATION][metric]) for e in epochs if VALIDATION in e.scores]
    height = _TOP + _PANEL + _BOTTOM
    if scores:
        below = _Panel(f"Validation {metric}", height + _GAP - _BOTTOM, count, *_bounds(scores))
        best = [point for point in scores if point[0] == best_epoch]
        drawn += [*below.frame(), below.line("line", scores), *below.dots("dot", 3, scores)]
        drawn += below.dots("best", 6, best)
        height += _PANEL + _GAP
    drawn += _epoch_ticks(panel, count, height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *drawn, "</svg>", ""]).encode()


def _step_losses(steps: Sequence[Step], epochs: int) -> Iterator[Point]:
    """The loss of each step by itself, from the means since the epoch began."""
    per_epoch = max(1, len(steps) // max(1, epochs))
    at, total = 0, 0.0
    for number, step in enumerate(steps, 1):
        if number == 1 or step.epoch != steps[number - 2].epoch:
            at, total = 0, 0.0
        at += 1
        yield number / per_epoch, step.loss * at - total
        total = step.loss * at


def _thinned(points: Iterator[Point]) -> Iterator[Point]:
    """At most `_MOST_POINTS`, each the mean of its neighbours."""
    everything = list(points)
    width = -(-len(everything) // _MOST_POINTS)
    for start in range(0, len(everything), width or 1):
        chunk = everything[start : start + width]
        yield chunk[-1][0], sum(value for _, value in chunk) / len(chunk)


def _bounds(points: Sequence[Point]) -> tuple[float, float]:
    low, high = min(value for _, value in points), max(value for _, value in points)
    margin = (high - low) * 0.1 or 0.05
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`."""
    wanted = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= wanted)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.6g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _epoch_ticks(panel: _Panel, epochs: int, height: float) -> Iterator[str]:
    every = -(-epochs // 10)
    for epoch in range(0, epochs + 1, every):
        x, _ = panel.at((epoch, panel.low))
        yield f'<text x="{x:.1f}" y="{height - 14:g}" text-anchor="middle">{"epoch " if not epoch else ""}{epoch}</text>'
