"""Waiting for an evaluation at the hub, and saying meanwhile what is going on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdk.cli import terminal
from sdk.cli.terminal import clean
from sdk.errors import HubError, Unavailable

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.models.evaluations import Evaluation

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0


class Evaluated(HubError):
    """An evaluation that ended without a score, or did not end in time."""

    code = "EVALUATION_FAILED"


def wait_for(hub: Hub, evaluation: Evaluation, deadline: float) -> Evaluation:
    """`evaluation` once it has a score. Raises Evaluated when it fails or `deadline` passes first."""
    pause_s = _FIRST_PAUSE_S
    with _saying_that_it_goes_on(), _telling() as tell:
        while not evaluation.is_over:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Evaluated(
                    f"{evaluation.ref} on {evaluation.suite} is not done in time: {_state_line(evaluation)}. "
                    "It goes on at the hub: ask again later, or raise --timeout.",
                    code="EVALUATION_TIMEOUT",
                )
            tell(f"{evaluation.ref} on {evaluation.suite}: {_state_line(evaluation)}")
            time.sleep(min(pause_s, left_s))
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
            evaluation = _ask_again(hub, evaluation)
    if evaluation.state == "failed":
        raise Evaluated(
            f"The evaluation of {evaluation.ref} on {evaluation.suite} failed after {evaluation.attempts} attempts: "
            f"{evaluation.reason or 'no reason was given'}"
        )
    return evaluation


@contextmanager
def _saying_that_it_goes_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopped.add_note("The evaluation goes on at the hub: the same command waits for it again.")
        raise


def _ask_again(hub: Hub, evaluation: Evaluation) -> Evaluation:
    try:
        return hub.get_evaluation(evaluation.id)
    except Unavailable:  # a hub that restarts: the deadline decides how long that may take
        return evaluation


def _state_line(evaluation: Evaluation) -> str:
    """Without an age that changes by itself: a log has a line for each change."""
    if evaluation.state not in ("waiting", "running"):
        return clean(evaluation.state)
    where = f" on {clean(evaluation.worker)}" if evaluation.state == "running" and evaluation.worker else ""
    done = f", {evaluation.items_done:,} of {evaluation.items:,} items" if evaluation.items_done is not None else ""
    place = f", number {evaluation.position} in the queue" if evaluation.position else ""
    left_s = evaluation.estimate_seconds if evaluation.position else None
    estimate = "" if left_s is None else f", about {terminal.duration(max(1, left_s))} to go"
    return f"{evaluation.state}{where}{done}{place}{estimate}" + (
        f" ({clean(evaluation.reason)})" if evaluation.reason else ""
    )


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """What is going on: a moving line on a screen, a line for each change in a log."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(Text(clean(text)))
        return
    told = ""

    def tell(text: str) -> None:
        nonlocal told
        if text != told:
            told = text
            terminal.note(text)

    yield tell
