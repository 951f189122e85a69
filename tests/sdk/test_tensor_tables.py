from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sdk.client import Hub
from sdk.config import Config
from sdk.errors import HubWarning
from sdk.tensor_tables import fingerprint_of, table_of
from tests.builders import make_base
from tests.sdk.checkpoints import write_checkpoint
from tests.sdk.fakes import NOW, FakeHub, answer
from vera import fingerprint
from vera.errors import BaseUnreadable


class Reads:
    """A progress callback that knows whether anything was read."""

    def __init__(self) -> None:
        self.happened = False

    def __call__(self, done: int, total: int) -> None:
        self.happened = True
        assert 0 < done <= total


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "models" / "tiny")


def test_the_second_fingerprint_reads_nothing(checkpoint: Path, config: Config) -> None:
    first, second = Reads(), Reads()

    expected = fingerprint_of(checkpoint, config=config, progress=first)

    assert first.happened
    assert fingerprint_of(checkpoint, config=config, progress=second) == expected == fingerprint.of_files(checkpoint)
    assert not second.happened


def test_a_changed_file_is_read_again(checkpoint: Path, config: Config) -> None:
    before = fingerprint_of(checkpoint, config=config)

    write_checkpoint(checkpoint, 2.0)

    assert fingerprint_of(checkpoint, config=config) == fingerprint.of_files(checkpoint) != before


def test_a_file_whose_time_was_set_back_is_read_again(checkpoint: Path, config: Config) -> None:
    file = checkpoint / "model.safetensors"
    before, was = fingerprint_of(checkpoint, config=config), file.stat()
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x40")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))

    assert fingerprint_of(checkpoint, config=config) == fingerprint.of_files(checkpoint) != before


def test_a_file_that_may_still_be_written_is_read_every_time(checkpoint: Path, config: Config) -> None:
    os.utime(checkpoint / "model.safetensors")
    fingerprint_of(checkpoint, config=config)
    second = Reads()

    fingerprint_of(checkpoint, config=config, progress=second)

    assert second.happened


def test_a_checkpoint_of_pickles_is_read_with_a_warning_once(tmp_path: Path, config: Config) -> None:
    import torch

    expected = fingerprint.of_files(write_checkpoint(tmp_path / "safe"))
    file = tmp_path / "old" / fingerprint.PICKLE_FILE
    file.parent.mkdir()
    torch.save({"w": torch.ones(4, 4)}, file)
    os.utime(file, (1, 1))

    with pytest.warns(HubWarning, match="is a pickle"):
        assert fingerprint_of(file.parent, config=config) == expected
    assert fingerprint_of(file.parent, config=config) == expected


OTHER_TABLE = json.dumps(make_base().to_rows()).encode()


@pytest.mark.parametrize("damage", [b"", b"{}", b'[["w", "F32", [4, 4], "00"]]', b"\xff", OTHER_TABLE])
def test_a_damaged_cache_costs_another_reading(checkpoint: Path, config: Config, damage: bytes) -> None:
    expected = fingerprint_of(checkpoint, config=config)
    for path in (config.cache / "tables").rglob("*.json"):
        path.write_bytes(damage)

    assert fingerprint_of(checkpoint, config=config) == expected


def test_a_table_comes_from_the_hub_once(fake: FakeHub, hub: Hub) -> None:
    base = make_base()
    fake.first = [answer(base_json(base))]

    assert table_of(base.value, hub=hub) == base
    assert table_of(base.value, hub=hub) == base
    assert fake.paths == [f"GET /api/v1/bases/{base.value}"]


def test_a_hub_that_answers_with_the_table_of_another_base_is_found_out(fake: FakeHub, hub: Hub) -> None:
    base, other = make_base(), make_base(salt="other")
    fake.first = [answer({**base_json(other), "fingerprint": base.value})]

    with pytest.raises(BaseUnreadable, match="do not trust it"):
        table_of(base.value, hub=hub)


def base_json(base: fingerprint.BaseFingerprint) -> dict[str, object]:
    return {
        "fingerprint": base.value,
        "name": "b",
        "revision": None,
        "dtype": base.dtype,
        "parameters": 1,
        "size_bytes": 4,
        "tensor_count": len(base.tensors),
        "adapter_count": 0,
        "created_at": NOW,
        "tensors": base.to_rows(),
    }
