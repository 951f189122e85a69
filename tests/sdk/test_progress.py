"""Long work shows how far it is, where somebody looks: in a terminal and in a notebook, and never on standard output."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType, SimpleNamespace

import pytest

from sdk import progress


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a cell of a notebook is shown, one entry per update."""
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    display.HTML = str
    display.display = lambda html, display_id: (shown.append(html), handle)[1]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def work(clock: Callable[[], float], stderr: io.StringIO | None = None) -> str:
    """Some work, and what it wrote on the standard error that is given; nothing may stand on standard output."""
    stderr, stdout = stderr or Terminal(), io.StringIO()
    with redirect_stderr(stderr), redirect_stdout(stdout), progress.shown("Reading <b>", clock=clock) as report:
        for done in range(5):
            report(done, 4)
    assert stdout.getvalue() == ""
    return stderr.getvalue()


def test_a_terminal_shows_a_line_that_is_gone_when_it_is_over() -> None:
    written = work(Clock())

    assert "Reading <b>" in written
    assert "100%" in written
    assert written.endswith("\r\x1b[K")


def test_a_notebook_shows_one_bar_that_is_updated_and_emptied(notebook: list[str]) -> None:
    written = work(Clock())

    assert '<progress value="1.000">' in notebook[-2]
    assert "Reading &lt;b&gt;" in notebook[0]
    assert notebook[-1] == ""
    assert written == ""


def test_what_is_over_soon_shows_nothing(notebook: list[str]) -> None:
    assert work(lambda: 0.0) == ""
    assert notebook == []


def test_a_pipe_is_left_alone() -> None:
    assert work(Clock(), io.StringIO()) == ""
