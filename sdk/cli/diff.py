"""`diff`: what changed from one adapter to another, in its vectors, its manifest, its card and its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, interval, pass_app
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.models.evaluations import Comparison, Evaluation
    from sdk.resolving import Resolved
    from vera.adapter_difference import AdapterDiff, VectorChange
    from vera.archive import Archive

# A larger adapter has hundreds; a screen has fewer lines.
_MOST_CHANGED = 40


@click.command()
@click.argument("before", metavar="REF|PATH")
@click.argument("after", metavar="REF|PATH")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def diff(app: App, before: str, after: str, *, as_json: bool) -> None:
    """Show what changed from one adapter to another: vectors, configuration, card and scores.

    `@v2` as the second is of the same adapter as the first. Where the projections differ, only the
    sizes of vectors can be compared.
    """
    from vera.adapter_difference import compare_adapters

    after = before.partition("@")[0] + after if after.startswith("@") else after
    with terminal.spinner("Fetching"), app.hub() as hub:
        one, other = (_read(each, hub) for each in (before, after))
        scores = _scores(hub, one, other)
    found = compare_adapters(one.archive, other.archive, names=(clean(one.title), clean(other.title)))
    if as_json:
        rows = [{"suite": b.suite, "before": a.score, "after": b.score, "paired": paired} for a, b, paired in scores]
        terminal.say_json({"before": one.title, "after": other.title, "diff": found, "evaluations": rows})
        return
    terminal.say(f"{clean(one.title)} → {clean(other.title)}")
    _say_vectors(found)
    for name in found.added:
        terminal.say(f"  adapts also {clean(name)}")
    for name in found.removed:
        terminal.say(f"  no longer adapts {clean(name)}")
    for field in found.fields:
        terminal.say(f"  {field.name}: {clean(field.before)} → {clean(field.after)}")
    _say_scores(scores)
    if found.card:
        terminal.say(f"\n{found.card}")


@dataclass(frozen=True)
class _Side:
    """One of the two: its files, what to call it, and its scores by suite."""

    archive: Archive
    title: str
    evaluations: Mapping[str, Evaluation]


def _read(text: str, hub: Hub) -> _Side:
    from sdk.finding import find

    found = find(text, hub=hub, allow_yanked=True)
    scores = _evaluations(hub, found.fetched.resolved) if found.fetched else {}
    return _Side(found.archive, found.title, scores)


def _evaluations(hub: Hub, resolved: Resolved) -> dict[str, Evaluation]:
    """The scores of the version by suite; none when they are on another hub, or none can be asked."""
    from sdk.errors import Unavailable, Yanked

    if hub.config.offline or resolved.url != hub.config.url:
        return {}
    try:
        version = resolved.details or hub.resolve_version(AdapterRef.parse(resolved.version_ref))
    except (Unavailable, Yanked):  # the files have been compared without them
        return {}
    return {each.suite: each for each in version.evaluations if each.score is not None}


def _scores(hub: Hub, before: _Side, after: _Side) -> list[tuple[Evaluation, Evaluation, Comparison | None]]:
    """The evaluations of both on the same suites, and how they compare item by item."""
    one, other = before.evaluations, after.evaluations
    suites = sorted(one.keys() & other.keys())
    return [(one[suite], other[suite], _compare(hub, one[suite], other[suite])) for suite in suites]


def _compare(hub: Hub, before: Evaluation, after: Evaluation) -> Comparison | None:
    from sdk.errors import Conflict

    try:
        return hub.compare_evaluations(after.id, before.id)
    except Conflict:  # another definition of the suite: the items are not the same
        return None


def _say_vectors(found: AdapterDiff) -> None:
    changed = found.changed
    if not found.same_projection:
        terminal.say("  They scale other matrices: directions of vectors cannot be compared, only their sizes.")
    if not changed:
        terminal.say(f"  All {len(found.vectors)} vectors are equal.")
        return
    terminal.say(f"  {len(changed)} of {len(found.vectors)} vectors differ:")
    columns = ("vector", "cosine", "norm before", "norm after")
    rows = [_row(change, found.same_projection) for change in changed[:_MOST_CHANGED]]
    terminal.say_table(columns, rows, right=columns[1:])
    if len(changed) > _MOST_CHANGED:
        terminal.note(f"{len(changed) - _MOST_CHANGED} more: --json has all of them.")


def _row(change: VectorChange, same_projection: bool) -> tuple[str, ...]:
    cosine = f"{change.cosine:.4f}" if change.cosine is not None and same_projection else "–"
    norms = ("–" if norm is None else f"{norm:.4g}" for norm in change.norms)
    return change.name, cosine, *norms


def _say_scores(scores: list[tuple[Evaluation, Evaluation, Comparison | None]]) -> None:
    for before, after, paired in scores:
        assert before.score is not None
        assert after.score is not None
        line = f"  {clean(after.suite)}: {clean(after.metric)} {before.score:.4f} → {after.score:.4f}"
        if paired is not None:
            line += f" ({paired.delta:+.4f}, 95% interval {interval(paired.interval)}, p = {paired.p_value:.3g})"
        terminal.say(line)
