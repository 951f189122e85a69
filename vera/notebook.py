"""What a notebook shows of a value: a small table that reads on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_card(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """`title` over rows of (label, text), as HTML. Whatever stands in them is text and nothing else."""
    cells = "".join(
        f'<tr><td style="text-align:left;opacity:.65;padding-right:1em">{escape(label)}</td>'
        f'<td style="text-align:left;overflow-wrap:anywhere">{escape(text)}</td></tr>'
        for label, text in rows
    )
    return f"<div><strong>{escape(title)}</strong><table>{cells}</table></div>"
