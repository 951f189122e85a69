"""A board as a file for data frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.errors import Misconfigured

if TYPE_CHECKING:
    from sdk.models.boards import Leaderboard, LeaderboardRow


def write_parquet(board: Leaderboard, path: Path) -> None:
    """One row for each row of the board, with its columns' types, whether there are rows or not; the suite's name, digest and
    metric are in the file's metadata. The file appears when it is whole. Raises Misconfigured without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise Misconfigured("Parquet needs pyarrow: pip install 'vera-hub[data]'.") from error
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    beside = pa.map_(text, pa.struct([("score", real), ("low", real), ("high", real)]))
    columns = [
        ("rank", whole), ("tied_with_best", pa.bool_()), ("ref", text), ("digest", text), ("base", text),
        ("base_fingerprint", text), ("score", real), ("low", real), ("high", real), ("noise", real),
        ("adapter_rank", whole), ("parameters", whole), ("vector_bytes", whole), ("head_bytes", whole),
        ("lora_bytes", whole), ("seconds", real), ("created_by", text), ("evaluation_id", text), ("finished_at", text),
        ("beside", beside),
    ]  # fmt: skip
    suite = board.suite
    named = {"suite": suite.name, "suite_digest": suite.digest, "metric": suite.metric}
    table = pa.Table.from_pylist([_row(row) for row in board.rows], schema=pa.schema(columns, metadata=named))
    beginning = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, beginning)
        beginning.replace(path)
    finally:
        beginning.unlink(missing_ok=True)


def _row(row: LeaderboardRow) -> dict[str, Any]:
    same = (
        "rank", "tied_with_best", "ref", "digest", "score", "noise", "adapter_rank", "parameters", "vector_bytes",
        "head_bytes", "lora_bytes", "seconds", "created_by", "evaluation_id", "finished_at",
    )  # fmt: skip
    beside = [
        (name, {"score": found.score, "low": found.interval[0], "high": found.interval[1]})
        for name, found in row.beside.items()
        if found is not None
    ]
    low, high = row.interval
    named = {"base": row.base.name, "base_fingerprint": row.base.fingerprint, "low": low, "high": high}
    return {name: getattr(row, name) for name in same} | named | {"beside": beside}
