"""One filled hub for all page tests of a process; they only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.web.seeding import SeededHub, empty_hub, fill


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeededHub]:
    with empty_hub(tmp_path_factory.mktemp("hub")) as seeded:
        fill(seeded)
        yield seeded


@pytest.fixture
def new_hub(tmp_path: Path) -> Iterator[SeededHub]:
    """A hub of the test's own, with nothing in it."""
    with empty_hub(tmp_path) as seeded:
        yield seeded
