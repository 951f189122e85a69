"""`search`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sdk.cli import terminal
from sdk.cli.sections import SectionedCommand, SectionedOption
from sdk.cli.terminal import App, pass_app, size

if TYPE_CHECKING:
    from sdk.models.adapters import Facets, FoundAdapter

_FACETS = ("bases", "families", "tasks", "tags", "licenses", "ranks", "owners")
_VALUES_SHOWN = 5


_F = TypeVar("_F", bound=Callable[..., Any])


def _option(section: str, *names: str, **attributes: Any) -> Callable[[_F], _F]:
    return click.option(*names, cls=SectionedOption, section=section, **attributes)


@click.command(cls=SectionedCommand)
@click.argument("words", nargs=-1)
@_option("Narrow down", "--base", help="The base's name or fingerprint.")
@_option("Narrow down", "--family", help="The base's family, as in llama.")
@_option("Narrow down", "--owner", help="A user or organisation.")
@_option("Narrow down", "--task", help="As in text-classification.")
@_option("Narrow down", "--license", help="As in apache-2.0.")
@_option("Narrow down", "--tag", "tags", multiple=True, help="A tag; several must all be there.")
@_option("Narrow down", "--dataset", help="What it was trained on: a name or a digest.")
@_option("Narrow down", "--projection", help="The digest of its matrices.")
@_option("Narrow down", "--min-rank", type=click.IntRange(min=1))
@_option("Narrow down", "--max-rank", type=click.IntRange(min=1))
@_option("Narrow down", "--max-bytes", type=click.IntRange(min=1), help="What all of its files may take.")
@_option("Scores", "--suite", help="The suite on which scores count.")
@_option("Scores", "--min-score", type=float, help="Or better: less, where less is.")
@click.option(
    "--sort",
    type=click.Choice(["updated", "downloads", "score", "bytes-per-point", "name"]),
    default="updated",
    show_default=True,
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def search(app: App, /, words: tuple[str, ...], *, limit: int, as_json: bool, sort: str, **narrowed: Any) -> None:
    """Find adapters by words, tags, base, task, size and score.

    WORDS are the beginnings of words of names, bases, tasks, labels, tags, data sets, licenses and cards;
    every one must be there.
    """
    text = " ".join(words) or None
    with app.hub() as hub:
        found = list(islice(hub.search(text, sort=sort, **narrowed), limit + 1))
        facets = hub.facets(text, **narrowed)
    if as_json:
        terminal.say_json({"adapters": found[:limit], "facets": facets})
        return
    if not found:
        terminal.say("No adapter is like that. Fewer words and options find more.")
        return
    _say_found(found[:limit], has_scores=narrowed["suite"] is not None)
    _say_facets(facets)
    if len(found) > limit:
        terminal.note(f"These are the first {limit}: narrow it down, or raise --limit.")


def _say_found(found: list[FoundAdapter], *, has_scores: bool) -> None:
    columns = ["adapter", "latest", "base", "task", "rank", "vectors", "tags"]
    numbers = ["rank", "vectors", *(("score", "B/point") if has_scores else ())]
    if has_scores:
        columns[6:6] = ["score", "B/point"]
    terminal.say_table(tuple(columns), [_row(each, has_scores) for each in found], right=tuple(numbers))


def _row(found: FoundAdapter, has_scores: bool) -> tuple[object, ...]:
    name = f"{found.id} (private)" if found.visibility == "private" else found.id
    task = found.task.kind if found.task else ""
    latest = f"v{found.latest}" if found.latest else "–"
    facts = (name, latest, found.base.name, task, found.rank, size(found.vector_bytes))
    scores = (_number(found.score, ".4f"), _number(found.bytes_per_point, ".0f")) if has_scores else ()
    return (*facts, *scores, ", ".join(found.tags))


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _say_facets(facets: Facets) -> None:
    """What to narrow it down to, where there is a choice."""
    for name in _FACETS:
        values = getattr(facets, name)
        if len(values) > 1:
            shown = ", ".join(f"{each.value} ({each.count:,})" for each in values[:_VALUES_SHOWN])
            terminal.note(f"{name}: {terminal.clean(shown)}{', …' if len(values) > _VALUES_SHOWN else ''}")
    if not facets.is_complete:
        terminal.note(f"Counted among the {facets.counted:,} last updated.")
