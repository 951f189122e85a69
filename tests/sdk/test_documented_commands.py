"""Each command the documentation shows is one, with the options it is shown with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sdk.cli.main import cli
from sdk.cli.signatures import verify

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "ci").iterdir())]
SHOWN = re.compile(r"^\s*(vera-hub [^#\n|]+)|`(vera-hub [^`]+)`", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def shown_in(page: Path) -> list[str]:
    text = page.read_text().replace("\\\n", " ")
    return sorted({" ".join((line or span).split()) for line, span in SHOWN.findall(text)})


def unknown_in(shown: str) -> Iterator[str]:
    """What of the command line that is `shown` no command takes."""
    command: click.Command = cli
    for word in shown.split()[1:]:
        if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        found = command.get_command(click.Context(command), word)
        if found is None:
            yield word
            return
        command = verify if found.name == "eval" and " eval verify " in shown else found
    taken = {option for each in (cli, command) for parameter in each.params for option in parameter.opts}
    yield from (option for option in OPTION.findall(shown) if option not in taken | {"--help"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_no_command_and_no_option_that_there_is_not(page: Path) -> None:
    unknown = {shown: missing for shown in shown_in(page) if (missing := list(unknown_in(shown)))}

    assert unknown == {}


def test_commands_are_found_in_the_readme() -> None:
    assert len(shown_in(PAGES[0])) > 20
