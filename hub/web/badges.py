"""The score of an adapter as a small image: words on two grounds, and nothing that loads or runs."""

from __future__ import annotations

from html import escape

from hub.domain.views.evaluations import EvaluationView
from hub.web import figures

_HEIGHT = 20
_LETTER = 6.6  # the mean width of a letter of Verdana at 11 px, a little generous
_PADDING = 7.0
_LONGEST = 60  # letters
_GROUND, _GREEN, _GREY = "#484848", "#2b6e3f", "#6b6b6b"


def badge_of(suite: str, evaluation: EvaluationView | None) -> str:
    """The image: the suite beside the score of the evaluation, or beside how it stands."""
    is_scored = evaluation is not None and evaluation.score is not None
    return _drawn(suite, _said(evaluation), _GREEN if is_scored else _GREY)


def _said(evaluation: EvaluationView | None) -> str:
    if evaluation is None:
        return "not scored"
    if evaluation.score is None:
        return evaluation.state
    return f"{figures.metric(evaluation.metric)} {figures.score(evaluation.score)}"


def _drawn(left: str, right: str, ground: str) -> str:
    left, right = left[:_LONGEST], right[:_LONGEST]
    middle, end = _width(left), _width(left) + _width(right)
    words = "".join(
        f'<text x="{start + _PADDING:.1f}" y="14">{escape(text)}</text>'
        for start, text in ((0.0, left), (middle, right))
    )
    title = escape(f"{left}: {right}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{end:.1f}" height="{_HEIGHT}" role="img" aria-label="{title}">'
        f'<title>{title}</title><rect width="{end:.1f}" height="{_HEIGHT}" rx="3" fill="{ground}"/>'
        f'<rect width="{middle:.1f}" height="{_HEIGHT}" rx="3" fill="{_GROUND}"/>'
        f'<rect x="{middle - 3:.1f}" width="3" height="{_HEIGHT}" fill="{_GROUND}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{words}</g></svg>'
    )


def _width(text: str) -> float:
    return len(text) * _LETTER + 2 * _PADDING
