"""What takes a moment says so on a screen, and on a screen alone; what is over at once says nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from threading import Timer

import pytest

from sdk.cli.terminal import spinner


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Due(Timer):
    """The time is up as soon as it is waited for."""

    def start(self) -> None:
        self.function()

    def join(self, timeout: float | None = None) -> None:
        """It was no thread."""


def shown_by(stderr: io.StringIO, timer: Callable[[float, Callable[[], None]], Timer]) -> str:
    with redirect_stderr(stderr), spinner("Fetching org/a", timer=timer):
        pass
    return stderr.getvalue()


def test_what_takes_a_moment_says_so_on_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    assert "Fetching org/a" in shown_by(Screen(), Due)


def test_nothing_is_said_where_nobody_looks() -> None:
    assert shown_by(io.StringIO(), Due) == ""


def test_what_is_over_at_once_says_nothing() -> None:
    def in_an_hour(_: float, show: Callable[[], None]) -> Timer:
        return Timer(3600, show)

    assert shown_by(Screen(), in_an_hour) == ""


def test_an_error_ends_the_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()

    with pytest.raises(ValueError, match="in between"), redirect_stderr(screen), spinner("Fetching org/a", timer=Due):
        raise ValueError("in between")
    assert screen.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back, and the line gone
    assert sys.stderr is not screen
