"""Running a command of `vera-hub` in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from sdk.cli.main import cli


def run(url: str, *arguments: str, stdin: str | None = None) -> Result:
    """The command against the hub at `url`. `exit_code`, `stdout` and `stderr` are what a shell would see."""
    return CliRunner().invoke(cli, ["--url", url, *arguments], input=stdin)
