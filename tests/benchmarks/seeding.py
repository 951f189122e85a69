"""A registry as large as one may become, made in a minute: 100,000 adapters and 1,000,000 versions in SQLite.

Rows are written past the domain, in bulk; what they hold is what pushes would have left (`--seed` of
`tests.benchmarks.registry`), but for files, which no search reads.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hub.db.migrating import migrate
from hub.db.session import Database
from hub.domain.finding import family_of, words_of

VERSIONS_EACH = 10
OWNERS, SUITES = 500, 4
NOW = "2026-01-01 00:00:00.000000"
BASES = ["meta-llama/Llama-2-7b", "FacebookAI/roberta-base", "google/vit-base", "Qwen/Qwen2.5-7B"]
BASES += [f"lab-{number % 12}/encoder-{number}" for number in range(46)]
TASKS = ["text-classification", "text-generation", "image-classification", "token-classification", None]
LICENSES = ["apache-2.0", "mit", "cc-by-4.0", None]
TAGS = [f"tag-{number}" for number in range(200)]
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()


def seed(file: Path, adapters: int) -> None:
    """Makes `file` a hub's database with so many adapters and ten times as many versions."""
    database = Database(f"sqlite:///{file}")
    migrate(database)
    database.close()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -262144")
    connection.execute("BEGIN")
    _make_surroundings(connection)
    draw = random.Random(7)
    for first in range(1, adapters + 1, 5_000):
        _make_adapters(connection, range(first, min(first + 5_000, adapters + 1)), draw)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def name_of(number: int) -> str:
    """A name that looks like no other: four syllables count to 160,000."""
    digits = [number // 20**place % 20 for place in range(4)]
    return "-".join(SYLLABLES[digit] for digit in digits)


def _make_surroundings(connection: sqlite3.Connection) -> None:
    accounts = [(number, f"owner-{number}", "user", NOW) for number in range(1, OWNERS + 1)]
    connection.executemany("INSERT INTO accounts (id, name, kind, created_at) VALUES (?, ?, ?, ?)", accounts)
    bases = [(number, f"vbf1:{_hash(name)}", name, NOW) for number, name in enumerate(BASES, 1)]
    connection.executemany(
        "INSERT INTO bases (id, fingerprint, name, dtype, parameters, size_bytes, tensor_count, tensors, created_at)"
        " VALUES (?, ?, ?, 'F32', 7000000000, 28000000000, 200, x'', ?)",
        bases,
    )
    suites = [(number, f"glue/task-{number}", f"sha256:{_hash(str(number))}", NOW) for number in range(1, SUITES + 1)]
    connection.executemany(
        "INSERT INTO suites (id, name, digest, definition, title, metric, items, labels, baselines, is_current, created_at)"
        " VALUES (?, ?, ?, '{}', 'A suite', 'accuracy', 100, '[]', '{}', 1, ?)",
        suites,
    )


def _make_adapters(connection: sqlite3.Connection, numbers: range, draw: random.Random) -> None:
    rows = [_adapter(number, draw) for number in numbers]
    connection.executemany(
        "INSERT INTO adapters (id, account_id, name, folded_name, base_id, task_kind, labels, is_private, last_number,"
        " created_at, updated_at) VALUES (:id, :account_id, :short, :short, :base_id, :task, NULL, :is_private,"
        " :versions, :now, :now)",
        rows,
    )
    connection.executemany(
        "INSERT INTO versions (id, adapter_id, base_id, created_by_id, number, digest, weights_digest, [commit], rank,"
        " parameters, vector_bytes, head_bytes, size_bytes, lora_bytes, card_html, warnings, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 40000, ?, 2000, ?, 1000000, '<p>A card.</p>', '[]', ?)",
        (version for row in rows for version in _versions(row)),
    )
    if "latest_number" in {column[1] for column in connection.execute("PRAGMA table_info(adapters)")}:
        connection.execute("UPDATE adapters SET latest_number = last_number WHERE id >= ?", (numbers[0],))
    connection.executemany(
        "INSERT INTO listings (id, adapter_id, account_id, version_id, base_id, name, is_private, family, task, license,"
        " rank, vector_bytes, head_bytes, size_bytes, projection, downloads) VALUES (:id, :id, :account_id, :version_id,"
        " :base_id, :name, :is_private, :family, :task, :license, :rank, :vector_bytes, 2000, :size_bytes, :projection,"
        " :downloads)",
        rows,
    )
    connection.executemany("INSERT INTO listing_words (rowid, words) VALUES (:id, :words)", rows)
    connection.executemany(
        "INSERT INTO listing_terms (kind, value, listing_id) VALUES ('tag', ?, ?)",
        ((tag, row["id"]) for row in rows for tag in row["tags"]),
    )
    connection.executemany(
        "INSERT INTO listing_scores (adapter_id, suite_id, score, bytes_per_point) VALUES (?, ?, ?, ?)",
        ((row["id"], row["suite"], row["score"], row["vector_bytes"] / (100 * row["score"])) for row in rows),
    )


def _adapter(number: int, draw: random.Random) -> dict[str, object]:
    """What pushes would have left of one adapter: common things are common, and rare ones rare."""
    account, base = draw.randint(1, OWNERS), min(int(draw.expovariate(0.2)), len(BASES) - 1)
    task, license_name = draw.choice(TASKS), draw.choice(LICENSES)
    tags = sorted({TAGS[min(int(draw.expovariate(0.05)), len(TAGS) - 1)] for _ in range(3)})
    short, rank = name_of(number), draw.choice([64, 128, 256, 256, 1024])
    name = f"owner-{account}/{short}"
    card = " ".join(f"{draw.choice(SYLLABLES)}{draw.choice(SYLLABLES)}{draw.choice(SYLLABLES)}" for _ in range(60))
    words = words_of([name, BASES[base], task or "", license_name or "", *tags, "an adapter of vectors", card])
    return {
        "id": number,
        "account_id": account,
        "short": short,
        "name": name,
        "base_id": base + 1,
        "family": family_of(BASES[base]),
        "task": task,
        "license": license_name,
        "is_private": draw.random() < 0.02,
        "versions": VERSIONS_EACH,
        "version_id": number * VERSIONS_EACH,
        "rank": rank,
        "vector_bytes": 100 * rank + draw.randint(10_000, 200_000),
        "size_bytes": 100 * rank + draw.randint(210_000, 400_000),
        "projection": f"sha256:{_hash(f'{base} {rank}')}",
        "downloads": int(draw.paretovariate(0.7)),
        "suite": draw.randint(1, SUITES),
        "score": draw.uniform(0.3, 0.99),
        "tags": tags,
        "words": " ".join(words),
        "now": NOW,
    }


def _versions(row: dict[str, object]) -> Iterator[tuple[object, ...]]:
    for version in range(1, VERSIONS_EACH + 1):
        digest = _hash(f"{row['name']} {version}")
        key = (int(str(row["id"])) - 1) * VERSIONS_EACH + version
        facts = (row["rank"], row["vector_bytes"], row["size_bytes"], NOW)
        owner = (row["base_id"], row["account_id"])
        yield (key, row["id"], *owner, version, f"sha256:{digest}", f"sha256:{digest}", digest[:40], *facts)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
