"""`leaderboard` and `suites`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdk.board_tables import write_parquet
from sdk.cli import terminal
from sdk.cli.terminal import App, clean, interval, pass_app, size
from vera.metrics import ADVISORY

if TYPE_CHECKING:
    from sdk.models.boards import Leaderboard, LeaderboardRow

_BESIDE_AT = 4  # the column that the metrics beside the ranking one come before
_COLUMNS = ("#", "adapter", "score", "95% interval", "vectors", "head", "LoRA r=8", "× smaller", "seconds", "base")
_NUMBERS = ("#", "score", "vectors", "head", "LoRA r=8", "× smaller", "seconds")


@click.command()
@click.argument("suite")
@click.option("--base", help="Only adapters of this base: its name or fingerprint.")
@click.option("--owner", help="Only adapters of this namespace.")
@click.option("--license", help="Only adapters under this licence.")
@click.option("--method", type=click.Choice(["vera", "dvora"]), help="Only adapters by this method.")
@click.option("--min-rank", type=click.IntRange(1), help="Only adapters of this rank r, or a larger one.")
@click.option("--max-rank", type=click.IntRange(1), help="Only adapters of this rank r, or a smaller one.")
@click.option("--max-bytes", type=click.IntRange(1), help="Only adapters of so many bytes, or fewer.")
@click.option("--limit", type=click.IntRange(1), help="Only the best so many.")
@click.option(
    "--history",
    is_flag=True,
    help="The versions that were the best when they were scored (narrowed by base and owner).",
)
@click.option("--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows into this file too.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def leaderboard(
    app: App, suite: str, *,
    base: str | None, owner: str | None, license: str | None, method: str | None, min_rank: int | None, max_rank: int | None,
    max_bytes: int | None, limit: int | None, history: bool, parquet: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Show the leaderboard of a suite.

    Versions that the items of the suite cannot tell from the best one are marked with =.
    """
    if history:
        if parquet is not None or any(
            each is not None for each in (license, method, min_rank, max_rank, max_bytes, limit)
        ):
            raise click.UsageError("--history goes with --base, --owner and --json only.")
        _show_history(app, suite, base=base, owner=owner, as_json=as_json)
        return
    with app.hub() as hub:
        board = hub.leaderboard(
            suite,
            base=base,
            owner=owner,
            license=license,
            method=method,
            min_rank=min_rank,
            max_rank=max_rank,
            max_bytes=max_bytes,
            limit=limit,
        )
    if parquet is not None:
        write_parquet(board, parquet)
    if as_json:
        terminal.say_json(board)
        return
    _say_board(board)


@click.command()
@click.argument("suite", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def suites(app: App, *, suite: str | None, as_json: bool) -> None:
    """List the suites adapters are evaluated on, or show what SUITE is."""
    if suite is not None:
        _show_suite(app, suite, as_json=as_json)
        return
    with app.hub() as hub:
        found = list(hub.list_suites())
    if as_json:
        terminal.say_json(found)
        return
    columns = ("suite", "title", "metric", "items", "labels", "definition")
    rows = [(s.name, s.title, s.metric, s.items, len(s.labels), s.digest[:19]) for s in found]
    none = "The hub has no suites yet: an evaluation worker brings them (`vera-hub worker`)."
    terminal.say_table(columns, rows, right=("items", "labels"), none=none)


def _show_suite(app: App, suite: str, *, as_json: bool) -> None:
    with app.hub() as hub:
        found = hub.get_suite(suite)
    if as_json:
        terminal.say_json(found)
        return
    baselines = ", ".join(f"{clean(name)} {score:.4g}" for name, score in found.baselines.items())
    rows = [
        ("title", clean(found.title)),
        ("definition", clean(found.digest)),
        ("metric", clean(found.metric)),
        ("items", f"{found.items:,}"),
        ("labels", ", ".join(map(clean, found.labels)) or "none"),
        ("baselines", baselines or "none"),
        ("since", clean(found.created_at)[:10]),
    ]
    terminal.say_table(("suite", clean(found.name)), rows)


def _show_history(app: App, suite: str, *, base: str | None, owner: str | None, as_json: bool) -> None:
    with app.hub() as hub:
        found = hub.board_history(suite, base=base, owner=owner)
    if as_json:
        terminal.say_json(found)
        return
    if not found.records:
        terminal.say(f"Nothing is ranked yet: `vera-hub eval OWNER/NAME --suite {clean(suite)}` asks for it.")
        return
    rows = [
        (each.since[:10], each.ref, f"{each.score:.4f}", interval(each.interval), each.base.name, each.created_by)
        for each in reversed(found.records)
    ]
    terminal.say_table(("best since", "adapter", "score", "95% interval", "base", "by"), rows, right=("score",))


def _say_board(board: Leaderboard) -> None:
    suite = board.suite
    baselines = "".join(f", {clean(name)} baseline {value:.4f}" for name, value in suite.baselines.items())
    terminal.say(f"{clean(suite.name)}: {clean(suite.title)}")
    terminal.say(f"{clean(suite.metric)} over {suite.items:,} items{baselines}")
    if not board.rows:
        terminal.say(f"Nothing is ranked yet: `vera-hub eval OWNER/NAME --suite {clean(suite.name)}` asks for it.")
        return
    beside = tuple(board.rows[0].beside)
    columns = (*_COLUMNS[:_BESIDE_AT], *map(clean, beside), *_COLUMNS[_BESIDE_AT:])
    rows = [_row(row, beside, is_advisory=suite.metric in ADVISORY) for row in board.rows]
    terminal.say_table(columns, rows, right=(*_NUMBERS, *beside))
    if any(row.noise for row in board.rows):
        terminal.say("± is how far a sample in batches of another size moves the score: nothing less is a difference")
    if suite.metric in ADVISORY:
        terminal.say(f"{clean(suite.metric)} is advisory: a judge's opinion, which ranks nothing")
    elif sum(row.tied_with_best for row in board.rows) > 1:
        terminal.say("= not significantly different from the best (paired by item)")


def _row(row: LeaderboardRow, beside: tuple[str, ...], *, is_advisory: bool) -> tuple[object, ...]:
    return (
        "–" if is_advisory else f"{'=' if row.tied_with_best and row.rank > 1 else ''}{row.rank}",
        row.ref,
        f"{row.score:.4f}",
        interval(row.interval) + (f" ±{row.noise:.4f}" if row.noise else ""),
        *(terminal.score_beside(row.beside.get(metric)) for metric in beside),
        size(row.vector_bytes),
        size(row.head_bytes),
        size(row.lora_bytes),
        f"{row.lora_bytes / max(1, row.vector_bytes):.1f}",
        "–" if row.seconds is None else f"{row.seconds:.1f}",
        row.base.name,
    )
