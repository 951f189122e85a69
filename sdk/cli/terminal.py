"""What the commands say and how: plain results on standard output, everything else on standard error.

Whatever a hub or a file says is cleaned before it is printed: a name with an escape code in it
could otherwise rewrite what stands on the screen.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from threading import Timer
from typing import TYPE_CHECKING, NoReturn

import click

from sdk.progress import QUIET_S

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.status import Status

    from sdk.client import Hub
    from sdk.config import Config
    from sdk.errors import Unavailable
    from sdk.models.evaluations import ScoreBeside

# C0 but tab and line feed, DEL, C1, and what turns the direction of text or hides in it.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_BREAKS = re.compile(r"[\t\n]+")
# A table that is piped is for a program or a log: it is not folded to the width of a screen.
_PIPED_WIDTH = 240
_LINE_EVERY_S = 30.0  # of progress, where there is no screen


INTERRUPTED = 130  # the exit status after Ctrl-C, as shells have it


class Failure(click.ClickException):
    """Ends the command with a sentence and an exit status."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(clean(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


def missing_package(error: ModuleNotFoundError) -> str:
    """What is not installed, and what brings it."""
    package = (error.name or "").partition(".")[0]
    return (
        f"This needs the package {package}, which is not installed: `pip install 'vera-hub[server]'` brings what "
        "a hub needs, and 'vera-hub[torch]' what training and loading need."
    )


@dataclass(frozen=True)
class App:
    """What the options before the command say."""

    url: str | None = None
    debug: bool = False

    @cached_property
    def config(self) -> Config:
        from sdk.config import Config

        return Config.resolve(url=self.url)

    def hub(self) -> Hub:
        """The hub of this command. A long pause before another attempt is announced."""
        return self.hub_at(self.config)

    def hub_at(self, config: Config) -> Hub:
        from sdk.client import Hub
        from sdk.retrying import Retries

        return Hub(config, retries=Retries(_announce_retry))


pass_app = click.make_pass_decorator(App, ensure=True)


def config_of(context: click.Context) -> Config:
    """The configuration of the command that runs in `context`."""
    return context.ensure_object(App).config


def clean(text: object) -> str:
    """`text` on one line, without anything a terminal would act on."""
    return _BREAKS.sub(" ", clean_text(text))


def clean_text(text: object) -> str:
    """`text` without anything a terminal would act on but tabs and line ends."""
    return _UNSAFE.sub("", str(text))


def say(text: object = "") -> None:
    """Prints a result."""
    click.echo(clean_text(text))


def note(text: object) -> None:
    """Prints something beside the result, on standard error."""
    click.echo(clean_text(text), err=True)


def say_json(value: object) -> None:
    """Prints a dataclass, or a structure of them, as JSON in plain ASCII."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _announce_retry(error: Unavailable, pause_s: float) -> None:
    if pause_s >= 1:
        note(f"{error} Trying again in {pause_s:.0f} s.")


def fail(message: str, exit_code: int = 1) -> NoReturn:
    raise Failure(message, exit_code)


def say_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), none: str = ""
) -> None:
    """Prints a table, or `none` in its place when it has no row.

    Columns named in `right` are numbers and stand to the right.
    """
    if none and not rows:
        say(none)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2), collapse_padding=True, header_style="bold underline")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    is_screen = sys.stdout.isatty()
    console = Console(width=None if is_screen else _PIPED_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))  # cells are clean; the rest is style


def score_beside(found: ScoreBeside | None) -> str:
    """The score of a metric that does not rank: `7.7889`, or that the worker could not compute it."""
    return "not computed" if found is None else f"{found.score:.4f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """A confidence interval: `[0.7546, 0.8431]`."""
    return "–" if bounds is None else f"[{bounds[0]:.4f}, {bounds[1]:.4f}]"


def counted(number: int, noun: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(size_bytes: int) -> str:
    """A size for people: `168.0 KiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    number = size_bytes / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def duration(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# -- Progress: on a screen only, on standard error, and gone when it is over -----------------------


@contextmanager
def spinner(what: str, *, timer: Callable[[float, Callable[[], None]], Timer] = Timer) -> Iterator[None]:
    """Says `what` is going on until the block is over. Of what is over soon nothing is said, and nothing imported for it."""
    if not sys.stderr.isatty():
        yield
        return
    shown: list[Status] = []

    def show() -> None:
        from rich.console import Console

        shown.append(Console(stderr=True).status(clean(what)))
        shown[0].start()

    waiting = timer(QUIET_S, show)
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()
        waiting.join()
        for status in shown:
            status.stop()


@contextmanager
def bytes_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes; the block calls what it gets with (bytes done, bytes in all)."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report


@contextmanager
def steps_progress() -> Iterator[Steps]:
    """A bar of steps, in stages."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = TimeRemainingColumn(compact=True)
    with _progress(*columns, left, TextColumn("{task.fields[detail]}")) as progress:
        yield Steps(progress, progress.add_task("", total=None, detail=""))


@dataclass
class Steps:
    """What the block of `steps_progress` gets."""

    _progress: Progress
    _task: TaskID
    _said_at: float = field(default_factory=time.monotonic)
    _began: tuple[float, int] | None = None  # when this stage's first step was reported, and which it was

    def stage(self, what: str) -> None:
        """Begins the next stage. Where there is no screen, a line says so."""
        if self._progress.disable:
            note(what)
        self._began = None
        self._progress.reset(self._task, description=clean(what), total=None, detail="")

    def update(self, done: int, total: int, detail: str = "") -> None:
        """Tells how far it is. Where there is no screen, a line says so now and then, and how long it may take."""
        now = time.monotonic()
        self._began = self._began or (now, done)
        if self._progress.disable and now - self._said_at >= _LINE_EVERY_S:
            self._said_at = now
            began_at, first = self._began
            left_s = (now - began_at) / max(1, done - first) * (total - done)
            note(f"  {done:,} of {total:,} steps, about {duration(left_s)} left  {detail}")
        self._progress.update(self._task, completed=done, total=total, detail=clean(detail))


def _progress(*columns: object) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)  # type: ignore[arg-type]  # columns


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
