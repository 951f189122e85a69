"""Suite files beside their data, valid by default."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from hub.worker.suite import Suite
from hub.worker.suite_files import read_suite
from hub.worker.suites import load_suite


def write_file(folder: Path, rows: str, *, data: str = "items.csv", **stated: object) -> Path:
    """A suite file over `rows`, with their sha256; a value of None leaves its key out."""
    (folder / data).write_text(rows)
    values = {
        "name": "tests/suite",
        "title": "A suite",
        "task": "text-classification",
        "data": data,
        "sha256": f"sha256:{hashlib.sha256(rows.encode()).hexdigest()}",
        **stated,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return path


def write_suite(folder: Path, rows: str, **stated: object) -> Suite:
    """The suite that `write_file` writes."""
    return load_suite(read_suite(write_file(folder, rows, **stated)))
