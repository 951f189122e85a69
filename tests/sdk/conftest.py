"""What the client's tests share: a configuration that touches nothing of the user's, and no pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk.client import Hub
from sdk.config import Config
from tests.sdk.fakes import TOKEN, URL, FakeHub, hub_for


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries happen, as often as ever, but at once; the pauses there would have been, in seconds."""
    pauses: list[float] = []
    monkeypatch.setattr("sdk.retrying.sleep", pauses.append)
    return pauses


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "TOKEN", "OFFLINE", "DEBUG"):
        monkeypatch.delenv(f"VERA_HUB_{name}", raising=False)
    monkeypatch.setenv("VERA_HUB_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("VERA_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(URL, tmp_path / "config", tmp_path / "cache", TOKEN)


@pytest.fixture
def fake() -> FakeHub:
    return FakeHub()


@pytest.fixture
def hub(fake: FakeHub, config: Config) -> Hub:
    return hub_for(fake, config)
