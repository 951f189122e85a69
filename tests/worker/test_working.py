"""With which token `vera-hub worker` works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.cli import working
from sdk.config import Config


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a hub on this machine leaves the token of its worker."""
    monkeypatch.delenv("VERA_HUB_TOKEN", raising=False)
    file = tmp_path / "worker-token"
    file.write_text("first\n")
    return file


def work(token_file: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("hub.worker.starting.main", run)
    config = Config("http://127.0.0.1:8000", token_file.parent / "profile", token_file.parent / "cache")
    return working.work(None, config, token_file, is_own_hub=True)


def test_a_hub_that_starts_anew_does_not_end_its_workers(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str | None] = []

    def run(name: str | None, config: Config, **_: object) -> int:
        tried.append(config.token)
        if len(tried) == 1:  # the hub has started again, and shuts out the token of before
            left.write_text("second\n")
        return int(len(tried) == 1)

    assert work(left, run, monkeypatch) == 0
    assert tried == ["first", "second"]


def test_a_token_that_is_refused_for_good_ends_it_and_its_file_is_named(
    left: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str | None] = []

    def run(name: str | None, config: Config, **_: object) -> int:
        tried.append(config.token)
        return 1

    assert work(left, run, monkeypatch) == 1
    assert tried == ["first"]
    assert f"the one in {left}" in capsys.readouterr().err
