"""A hub that listens, and the real client of the Hugging Face Hub that talks to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hub.settings import Settings
from tests.contract.serving import listening
from tests.hub.conftest import embedded, migrated_file, running, sqlite_hub
from tests.hub.harness import Hub, start

__all__ = ["embedded", "migrated_file", "running", "sqlite_hub"]  # fixtures


@dataclass
class Wire:
    """A hub at `url`, and whoever asks there with huggingface_hub."""

    hub: Hub
    url: str

    def api(self, user: str | None = "demo") -> HfApi:
        """The client as `user`, or as nobody."""
        return HfApi(endpoint=self.url, token=self.hub.token(user) if user else False)


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """One hub for all tests: each uses names of its own. It knows the base of the builders."""
    hub = start(Settings(data_dir=tmp_path_factory.mktemp("hub")))
    hub.register_base()
    with listening(hub.app) as url:
        yield Wire(hub, url)
    hub.database.close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
