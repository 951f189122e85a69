"""What starting costs: modules that must not be loaded by what does not need them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sdk.cli import main as cli
from sdk.cli.main import COMMANDS
from tests.builders import make_archive
from vera import archive

HEAVY = {"torch", "transformers", "httpx2", "numpy", "huggingface_hub", "rich", "fastapi", "sqlalchemy"}


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


def test_an_adapter_is_checked_and_written_without_numpy(tmp_path: Path) -> None:
    """Which takes a pull longer to import than all the rest."""
    adapter_folder = tmp_path / "adapter"
    archive.write_folder(make_archive(), adapter_folder)
    loaded = loaded_by(
        "import sdk.client, sdk.fetching, sdk.cli.adapters, pathlib; from vera import archive; "
        f"archive.write_folder(archive.read_folder(pathlib.Path({str(adapter_folder)!r})), pathlib.Path({str(tmp_path / 'copy')!r}))"
    )

    assert (tmp_path / "copy" / "vera.json").exists()
    assert {"numpy", "rich"} & loaded == set()


def test_a_pull_loads_of_what_hubs_answer_only_what_is_about_versions() -> None:
    """Each kind of answer takes as long to make as a page of code, and most commands meet few of them."""
    loaded = loaded_by("import sdk.client, sdk.fetching, sdk.cli.adapters")

    models = {name.removeprefix("sdk.models.") for name in loaded if name.startswith("sdk.models.")}
    assert models == {"answer", "evaluations", "versions"}


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


def test_a_command_of_another_package_is_listed_without_being_imported(tmp_path: Path) -> None:
    """Its module is not even there: running it is what needs it."""
    distribution = tmp_path / "guest-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[vera_hub.commands]\nvisit = guest_of_the_test:visit\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sdk.cli.main", *arguments]
        return subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )

    listed, missing = run("--help"), run("visit")

    assert listed.returncode == 0
    assert "visit" in listed.stdout
    assert missing.returncode == 1
    assert missing.stderr.startswith("Error: This needs the package guest_of_the_test, which is not installed")
    assert len(missing.stderr.splitlines()) == 1
