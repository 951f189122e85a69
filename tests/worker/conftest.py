from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import write_tiny_bert
from tests.worker.lab import NAME, Lab


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture
def lab(tmp_path: Path, tiny_folder: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, tiny_folder)
    with lab.http:
        # The suite is known before anything is pushed.
        lab.worker.hub.register_worker("w", [lab.worker.suites[NAME].declaration()], key=lab.worker.key)
        yield lab
        lab.stop_worker()
