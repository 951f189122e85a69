from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdk.client import Hub
from sdk.config import Config
from tests.sdk.fakes import FakeHub, hub_for
from tests.sdk.live.published import serve_base
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.fingerprint import BaseFingerprint


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Path) -> BaseFingerprint:
    return fingerprint.of_files(tiny_folder)


@pytest.fixture
def model(tiny_folder: Path) -> Any:
    return load_tiny_bert(tiny_folder)


@pytest.fixture
def published(fake: FakeHub, tiny_base: BaseFingerprint) -> FakeHub:
    """A hub with two versions of demo/a (`prod` is the first), one of demo/b, and the classifiers demo/c and demo/d."""
    fake.publish("demo/a", make_tiny(tiny_base, seed=1))
    fake.publish("demo/a", make_tiny(tiny_base, seed=2))
    fake.publish("demo/b", make_tiny(tiny_base, seed=3, rank=4))
    fake.publish("demo/c", make_tiny(tiny_base, seed=4, head=True))
    fake.publish("demo/d", make_tiny(tiny_base, seed=5, head=True))
    fake.aliases["prod"] = 1
    serve_base(fake, tiny_base)
    return fake


@pytest.fixture
def hub(published: FakeHub, config: Config) -> Hub:
    return hub_for(published, config)
