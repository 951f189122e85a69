"""Numbers as people read them, and where they lie on an axis."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from vera.metrics import LOWER_IS_BETTER

KIB = 1024
MIB = 1024 * 1024
_TICK_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)  # of a share; beyond it 1, 2, 5, 10, 20 …

_LEAST_NOISE = 0.0001

_METRICS = {
    "bleu": "BLEU",
    "nist": "NIST",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "accuracy_norm": "Accuracy by length",
    "exact_match": "Exact match",
    "harness_mean": "Mean of the items",
    "harness_macro": "Mean over the tasks",
    "judged": "Judge’s rating (advisory)",
    "ifeval": "IFEval",
    "ifeval_loose": "IFEval, loose",
    "ifeval_instructions": "IFEval by instruction",
    "ifeval_instructions_loose": "IFEval by instruction, loose",
    "f1_macro": "F1, mean over the labels",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}


def size(octets: int) -> str:
    """Bytes in the unit that leaves at most four digits: `512 B`, `12.4 KiB`, `168 KiB`, `6.1 MiB`."""
    if octets < KIB:
        return f"{octets} B"
    if octets < 1000 * KIB:
        return f"{_short(octets / KIB)} KiB"
    if octets < 1000 * MIB:
        return f"{_short(octets / MIB)} MiB"
    return f"{_short(octets / MIB / 1024)} GiB"


def thousands(number: int) -> str:
    """A count with its thousands apart: `22,713,216`."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """A time to wait: `40 s`, `3 min`, `2 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"


def times(small: int, large: int) -> str:
    """How many times `small` goes into `large`: `11.6×`."""
    return f"{_short(large / small)}×" if small else "–"


def score(value: float) -> str:
    """Three decimals: a held-out set of a few thousand items carries no more."""
    return f"{value:.3f}".replace("-", "−")


def noise(moved: float) -> str:
    """How far another layout of the batches moves a score: `±0.0313`, and of what no digit shows that it is less."""
    if 0 < moved < _LEAST_NOISE:
        return f"less than ±{_LEAST_NOISE}"
    return f"±{moved:.4f}" if moved < 1 else f"±{moved:.3f}"


def metric(name: str) -> str:
    """A metric's name for people, and which way it is better where that is not up: `Perplexity (less is better)`."""
    words = _METRICS.get(name) or name.replace("_", " ").capitalize()
    return f"{words} (less is better)" if name in LOWER_IS_BETTER else words


def when(moment: datetime) -> str:
    """`3 Aug 2026, 14:05 UTC`."""
    return f"{day(moment)}, {moment.astimezone(UTC):%H:%M} UTC"


def day(moment: datetime) -> str:
    """`3 Aug 2026`, in UTC."""
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y}"


def short_digest(digest: str) -> str:
    """The scheme and the first 12 digits, for a place where the whole is a click away."""
    scheme, colon, digits = digest.partition(":")
    return f"{scheme}{colon}{digits[:12]}…" if colon else f"{digest[:12]}…"


def pretty_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def flat(value: Mapping[str, object]) -> list[tuple[str, str]]:
    """Nested facts as lines, in the order of their names: `self reported, last, accuracy` and `0.8673`."""
    lines = []
    for key, part in sorted(value.items()):
        name = key.replace("_", " ")
        if isinstance(part, Mapping):
            lines += [(f"{name}, {rest}", text) for rest, text in flat(part)]
        else:
            lines.append((name, _said(part)))
    return lines


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_said(each) for each in value) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, str | int) else pretty_json(value)


def _steps() -> Iterator[float]:
    yield from _TICK_STEPS
    for power in count():
        yield from (10.0**power, 2 * 10.0**power, 5 * 10.0**power)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class ScoreAxis:
    """One scale that all intervals of a table share, in percent of the drawing's width."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Iterable[float]) -> ScoreAxis:
        """The axis between the ticks around `values`, with at most six of them."""
        values = list(values) or [0.0, 1.0]
        reach = max(values) - min(values)
        step = next(s for s in _steps() if reach / s <= 4)
        first, last = math.floor(min(values) / step + 1e-9), math.ceil(max(values) / step - 1e-9)
        last = max(last, first + 1)
        return cls(first * step, last * step, tuple(round(i * step, 2) for i in range(first, last + 1)))

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands at the ticks."""
        is_whole = all(tick == int(tick) for tick in self.ticks) and self.high > 1
        return tuple(f"{tick:.0f}" if is_whole else str(tick) for tick in self.ticks)

    def at(self, value: float) -> str:
        """Where `value` lies, as an SVG length."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def span(self, low: float, high: float) -> str:
        """The length from `low` to `high`."""
        return f"{100 * (high - low) / (self.high - self.low):.2f}%"
