"""What starting costs: modules that must not be loaded by what does not need them."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from sdk.cli import main as cli
from sdk.cli.main import COMMANDS

HEAVY = {"torch", "transformers", "httpx2", "numpy", "huggingface_hub", "rich", "stamina", "fastapi", "sqlalchemy"}


def loaded_by(statement: str) -> set[str]:
    script = f"import sys, contextlib\nwith contextlib.suppress(SystemExit):\n    {statement}\nprint(' '.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import sdk; dir(sdk)",
        "from sdk.cli.main import cli; cli(['--help'])",
        "from sdk.cli.main import cli; cli(['--version'])",
        "from sdk.cli.main import cli; cli(['push', '--help'])",
    ],
)
def test_nothing_heavy_is_loaded_by(statement: str) -> None:
    loaded = loaded_by(statement)

    assert HEAVY & loaded == set()
    assert not any(name.startswith("hub") for name in loaded)


def test_a_push_or_a_pull_needs_no_torch() -> None:
    loaded = loaded_by("import sdk; sdk.push, sdk.pull, sdk.Hub, sdk.Config")

    assert {"torch", "transformers"} & loaded == set()


def test_a_name_the_client_does_not_have_is_an_attribute_error() -> None:
    import sdk

    assert {"load", "push", "pull", "Hub", "Config"} <= set(dir(sdk))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        sdk.lode  # noqa: B018


@pytest.mark.parametrize("name", [name for section in COMMANDS.values() for name in section])
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    group = cli.cli
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), name)
    (line,) = [section[name][1] for section in COMMANDS.values() if name in section]

    assert command is not None
    assert command.name == name
    assert (command.help or "").partition("\n")[0] == line
