"""`losses`: the items that one version answers worse than another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, Failure, clean, pass_app
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sdk.client import Hub
    from sdk.models.evaluations import Evaluation
    from sdk.models.items import ItemsCompared

_MOST_SHOWN = 60  # characters of an output in a table
_MOST_AT_ONCE = 100
_CLASSES = "the right class and the answered one, by their places among the labels, from 0"
_VALUES = "the right value and the one answered"
# What the numbers of an item are where they are not what it earned.
_MEANINGS = {
    "f1": "the right class and the answered one, where 1 is the positive class",
    "f1_macro": _CLASSES,
    "matthews": _CLASSES,
    "pearson": _VALUES,
    "spearman": _VALUES,
    "mean_squared_error": _VALUES,
    "perplexity": "nats, and the tokens they are of",
}


@click.command()
@click.argument("ref")
@click.argument("against")
@click.option("--suite", required=True, metavar="FAMILY/TASK", help="The suite, whose items must be public.")
@click.option("--only", type=click.Choice(["worse", "better", "same"]), default="worse", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many items.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def losses(app: App, ref: str, against: str, *, suite: str, only: str, limit: int, as_json: bool) -> None:
    """Show where a version answers worse than another, item by item.

    `@v3` as the second is of the same adapter as the first. Items are numbered as in the suite's data.
    """
    against = ref.partition("@")[0] + against if against.startswith("@") else against
    with app.hub() as hub:
        ours, theirs = (_evaluation(hub, each, suite) for each in (ref, against))
        pages = _pages(hub, ours, theirs, only, limit)
    if as_json:
        terminal.say_json([item for page in pages for item in page.items])
        return
    _say(pages, only)


def _evaluation(hub: Hub, ref: str, suite: str) -> Evaluation:
    version = hub.resolve_version(AdapterRef.parse(ref))
    found = next((each for each in version.evaluations if each.suite == suite and each.state == "done"), None)
    if found is None:
        raise Failure(
            f"{version.ref} has no score on {suite}: `vera-hub eval {version.ref} --suite {suite}` asks for it."
        )
    return found


def _pages(hub: Hub, ours: Evaluation, theirs: Evaluation, only: str, limit: int) -> list[ItemsCompared]:
    pages: list[ItemsCompared] = []
    while limit > 0:
        cursor = pages[-1].next if pages else None
        page = hub.compare_items(ours.id, theirs.id, only=only, cursor=cursor, limit=min(limit, _MOST_AT_ONCE))
        pages.append(page)
        limit -= len(page.items)
        if page.next is None:
            break
    return pages


def _say(pages: Sequence[ItemsCompared], only: str) -> None:
    first = pages[0]
    terminal.say(
        f"{clean(first.ref)} against {clean(first.against)} on {clean(first.suite)}: "
        f"{first.worse:,} worse, {first.better:,} better, {first.same:,} the same"
    )
    rows = [
        (
            each.item,
            _short(each.output),
            _short(each.against_output),
            _numbers(each.outcome),
            _numbers(each.against_outcome),
        )
        for page in pages
        for each in page.items
    ]
    if not rows:
        return
    columns = ("item", "answered", f"{clean(first.against)} answered", "worth", "worth there")
    terminal.say_table(columns, rows, right=("item",))
    if (meaning := _MEANINGS.get(first.metric)) is not None:
        terminal.note(f"{first.metric} is of all items together, so that each has two numbers: {meaning}.")
    if len(rows) < getattr(first, only):
        terminal.note(f"{getattr(first, only) - len(rows):,} more: --limit shows more of them.")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN - 1]}…"


def _numbers(outcome: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in outcome)
