"""Progress of long work for whoever calls the SDK from Python: a line in a terminal, a bar in a notebook.

Work that is over soon shows nothing. Standard output is never written to.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vera.fingerprint import Progress

# A bar that flashes up and vanishes is noise.
QUIET_S = 0.7
# A notebook keeps every update it is sent.
_BETWEEN_UPDATES_S = 0.2
_WIDTH = 30


@contextmanager
def shown(what: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """What the block calls with (bytes done, bytes in all): it shows how far `what` is, where somebody looks."""
    show = _notebook_bar(what) or _terminal_line(what)
    if show is None:
        yield _nothing
        return
    due = clock() + QUIET_S
    has_begun = False

    def report(done: int, total: int) -> None:
        nonlocal due, has_begun
        if clock() >= due or (has_begun and done == total):
            due, has_begun = clock() + _BETWEEN_UPDATES_S, True
            show(done / total if total else 1.0)

    try:
        yield report
    finally:
        if has_begun:
            show(None)


def _nothing(done: int, total: int) -> None:
    """Nobody looks."""


def _terminal_line(what: str) -> Callable[[float | None], None] | None:
    if sys.stderr is None or not sys.stderr.isatty():
        return None

    def show(share: float | None) -> None:
        bar = "" if share is None else f"{what} {'█' * round(share * _WIDTH):<{_WIDTH}} {share:4.0%}"
        print(f"\r\x1b[K{bar}", end="", file=sys.stderr, flush=True)  # noqa: T201  # a terminal is there

    return show


def _notebook_bar(what: str) -> Callable[[float | None], None] | None:
    """A bar in the cell that runs. IPython is not imported for it: in a notebook it has been."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from html import escape
    from importlib import import_module

    display: Any = import_module("IPython.display")
    handle: Any = None

    def show(share: float | None) -> None:
        nonlocal handle
        bar = "" if share is None else f'{escape(what)} <progress value="{share:.3f}"></progress> {share:.0%}'
        if handle is None:
            handle = display.display(display.HTML(bar), display_id=True)
        else:
            handle.update(display.HTML(bar))

    return show
