from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sdk.config import Config
from sdk.digest_books import DIGESTS_FILE, digest_book, digests_of


def test_what_a_block_learns_is_known_in_the_next_and_to_nobody_else(config: Config) -> None:
    with digest_book(digests_of(config)) as book:
        book.known[12, "0" * 16] = "a" * 64

    with digest_book(digests_of(config)) as again:
        assert (again.gamma, again.known) == (book.gamma, {(12, "0" * 16): "a" * 64})
    assert stat.S_IMODE((config.cache / DIGESTS_FILE).stat().st_mode) == 0o600


def test_every_machine_has_a_secret_of_its_own(config: Config, tmp_path: Path) -> None:
    with digest_book(digests_of(config)) as mine, digest_book(tmp_path / "other" / DIGESTS_FILE) as other:
        assert mine.gamma != other.gamma
        assert (mine.gamma % 2, other.gamma % 2) == (1, 1)
    assert f"{mine.gamma}" not in repr(mine)


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[]", b"\xff", b'{"gamma": 1, "known": []}', b'{"gamma": "1", "known": [[1]]}']
)
def test_a_damaged_book_is_begun_anew(config: Config, damage: bytes) -> None:
    config.cache.mkdir(parents=True)
    (config.cache / DIGESTS_FILE).write_bytes(damage)

    with digest_book(digests_of(config)) as book:
        assert book.known == {}
        book.known[1, "0" * 16] = "b" * 64
    with digest_book(digests_of(config)) as again:
        assert again.gamma == book.gamma
