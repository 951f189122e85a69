from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import load_tiny_bert, write_tiny_bert
from vera import fingerprint
from vera.fingerprint import BaseFingerprint


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Path) -> BaseFingerprint:
    return fingerprint.of_files(tiny_folder)


@pytest.fixture
def tiny_model(tiny_folder: Path) -> Any:
    return load_tiny_bert(tiny_folder)
