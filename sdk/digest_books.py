"""What this machine hashed of models on its GPUs (`DigestBook`), in <cache>/digests.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from sdk.config import Config
from sdk.files import read_bounded, write_atomically
from vera.parallel_digest import DigestBook

DIGESTS_FILE = "digests.json"

_MAX_BOOK_BYTES = 64 << 20
# Those of a few hundred bases: 30 MB.
_MAX_DIGESTS = 1 << 18


def digests_of(config: Config) -> Path:
    """The file of the `digest_book` of this machine."""
    return config.cache / DIGESTS_FILE


@contextlib.contextmanager
def digest_book(path: Path) -> Iterator[DigestBook]:
    """What this machine knows of the bytes on its GPUs, kept at `path` at the end of the block when it knows more by then.

    Readable by its owner alone: whoever knows its secret can make a model that passes for another on this machine.
    """
    book = _book_at(path)
    before = len(book.known)
    yield book
    if len(book.known) > before:
        rows = [[size, digest, sha256] for (size, digest), sha256 in book.known.items()]
        data = json.dumps({"gamma": f"{book.gamma:016x}", "known": rows[-_MAX_DIGESTS:]})
        with contextlib.suppress(OSError):  # what cannot be kept is hashed again
            write_atomically(path, data.encode(), mode=0o600)


def _book_at(path: Path) -> DigestBook:
    """A new book where there is none, or a damaged one."""
    with contextlib.suppress(OSError):
        data = read_bounded(path, _MAX_BOOK_BYTES)
        book = _book_in(data) if data else None
        if book is not None:
            return book
    return DigestBook()


@lru_cache(maxsize=2)
def _book_in(data: bytes) -> DigestBook | None:
    """The book that `data` spells, None when it spells none. Read once in a process while the file stays the same."""
    try:
        book = json.loads(data)
        known = {(int(size), str(digest)): str(sha256) for size, digest, sha256 in book["known"]}
        return DigestBook(int(book["gamma"], 16) | 1, known)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
