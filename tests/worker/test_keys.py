"""The key of this machine's workers: made once, kept to one's self."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from hub.worker.keys import KEY_FILE, PUBLIC_FILE, key_in
from vera.errors import SignatureError
from vera.signing import PublicKey, SigningKey


def test_a_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    folder = tmp_path / "config"

    key = key_in(folder)

    assert key_in(folder).data == key.data
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert PublicKey.parse((folder / PUBLIC_FILE).read_text()) == key.public


def test_workers_that_start_together_have_one_key(tmp_path: Path) -> None:
    found: list[SigningKey] = []
    threads = [threading.Thread(target=lambda: found.append(key_in(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({key.data for key in found}) == 1


@pytest.mark.parametrize("text", ["", "not a key", "AAAA"])
def test_a_file_that_is_no_key_is_said_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / KEY_FILE
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(SignatureError, match=r"worker\.key holds no key"):
        key_in(tmp_path)

    assert path.read_text() == text


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    key_in(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)

    with pytest.raises(SignatureError, match="chmod 600"):
        key_in(tmp_path)
