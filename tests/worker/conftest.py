from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import write_tiny_bert


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")
