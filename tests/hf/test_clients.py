"""The walk of `make test-hf`, on the client that is installed here."""

from __future__ import annotations

from pathlib import Path

from tests.builders import make_archive
from tests.hf.conftest import Wire
from tests.hf.programs import run
from vera import archive


def test_the_whole_walk(wire: Wire, tmp_path: Path) -> None:
    archive.write_folder(make_archive(seed=1), tmp_path / "adapter")
    arguments = {"url": wire.url, "token": wire.hub.token(), "home": tmp_path / "home"}
    done = run("walk.py", tmp_path / "adapter", "demo/walk", **arguments)
    assert done.returncode == 0, done.stderr
    assert "all steps" in done.stdout
