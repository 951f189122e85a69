"""The server's commands, which `vera-hub` finds by their entry points. Importing them costs nothing but click."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hub.settings import Settings

data_option = click.option(
    "--data", "data_dir", type=click.Path(file_okay=False, path_type=Path), help="The hub's folder. [VERA_HUB_DATA_DIR]"
)

datasets_option = click.option(
    "--datasets", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="VERA_HUB_DATASETS",
    help="Folder with copies of data sets, such as glue/cola/validation.parquet, used before Hugging Face. [VERA_HUB_DATASETS]",
)  # fmt: skip


class Refused(click.ClickException):
    """Ends the command with a sentence and the exit code that scripts can tell apart."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


@click.command()
@data_option
@click.option("--host", help="Address to listen on: 127.0.0.1 unless said otherwise. [VERA_HUB_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port: 8000; 0 takes a free one. [VERA_HUB_PORT]")
@click.option(
    "--processes", type=click.IntRange(1, 64), help="How many answer: 1 unless said otherwise. [VERA_HUB_PROCESSES]"
)
@click.option("--user", help="Name of the local account. [VERA_HUB_USER]")
@click.option("--no-worker", is_flag=True, help="Start no evaluation worker.")
@click.option("--allow-remote", is_flag=True, help="Permit an address that other machines can reach.")
@click.option("--verbose", is_flag=True, help="Log to the terminal and not to hub.log.")
def serve(
    *,
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    processes: int | None,
    user: str | None,
    no_worker: bool,
    allow_remote: bool,
    verbose: bool,
) -> None:
    """Run a hub on this machine, with its own database and one evaluation worker."""
    from hub.cli.serving import serve_hub
    from hub.errors import HubError

    settings = _settings(data_dir=data_dir, host=host, port=port, processes=processes, user=user)
    try:
        serve_hub(settings, with_worker=not no_worker, allow_remote=allow_remote, verbose=verbose)
    except HubError as error:  # that its disk is full, among others
        raise Refused(str(error), getattr(error, "exit_code", 1)) from error


@click.command()
@data_option
@click.option(
    "--no-copy", "is_bare", is_flag=True, help="Keep no copy of an SQLite database: there is a backup elsewhere."
)
def migrate(*, data_dir: Path | None, is_bare: bool) -> None:
    """Bring the database to the schema of this release.

    An SQLite database is copied beside itself before: hub-schema-0028.db, by the schema that it has.
    """
    from hub.cli.serving import migrate_database
    from hub.errors import StartRefused

    try:
        revision = migrate_database(_settings(data_dir=data_dir), keeps_copy=not is_bare)
    except StartRefused as error:
        raise Refused(str(error), error.exit_code) from error
    click.echo(f"The database has the schema {revision}.")


@click.command()
@data_option
@click.option("--name", help="The worker's name. The machine's and a number unless said otherwise.")
@click.option(
    "--suite", "suites", multiple=True, metavar="FILE|FAMILY/TASK",
    help="A suite file, a folder of them, or a built-in suite; again for more. The built-in ones whose data is here unless said otherwise. [VERA_HUB_SUITES]",
)  # fmt: skip
@datasets_option
@click.option(
    "--code", envvar="VERA_HUB_WORKER_CODE",
    help="What `vera-hub admin worker-code` has said, once: it brings this machine a token, which is kept. [VERA_HUB_WORKER_CODE]",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["process", "ray"]), default="process", show_default=True,
    help="Where adapters run: in one process of this machine, or on a Ray cluster, one process for each of its GPUs.",
)  # fmt: skip
@click.option("--address", metavar="HOST:PORT|auto", help="The Ray cluster. With --engine ray.")
@click.option("--slots", type=click.IntRange(1), help="At most so many processes on it. With --engine ray.")
@click.pass_context
def worker(
    context: click.Context, /, *,
    data_dir: Path | None, name: str | None, suites: tuple[str, ...], datasets: Path | None, code: str | None,
    engine: str, address: str | None, slots: int | None,
) -> None:  # fmt: skip
    """Evaluate what waits at a hub, until Ctrl-C. Results are signed with this machine's key, worker.key.

    The token is VERA_HUB_TOKEN, the one that a code has brought, or the worker token in the folder of a hub on
    this machine.
    """
    from hub.cli.working import work

    if (engine == "ray") != (address is not None) or (slots is not None and engine != "ray"):
        raise click.UsageError("--engine ray needs --address (and --slots is only for it).")
    token_file = _settings(data_dir=data_dir).worker_token_file
    suites = suites or tuple(each for each in os.environ.get("VERA_HUB_SUITES", "").split(os.pathsep) if each)
    config = context.obj.config
    is_own_hub = data_dir is not None
    fleet = (address, slots) if address is not None else None
    status = work(
        name, config, token_file, is_own_hub=is_own_hub, suites=suites, datasets=datasets, code=code, fleet=fleet
    )
    context.exit(status)


@click.group()
def suite() -> None:
    """Suites of your own: YAML files that say what is asked and what is measured."""


@suite.command()
@click.argument("files", metavar="FILE|FAMILY/TASK", nargs=-1, required=True)
@datasets_option
@click.option("--show", type=click.IntRange(min=0), default=3, show_default=True, help="How many items to show.")
def check(*, files: tuple[str, ...], datasets: Path | None, show: int) -> None:
    """Read a suite file and its data, and say what a worker would ask."""
    from hub.cli.working import suite_lines

    for file in files:
        click.echo("\n".join(suite_lines(file, datasets=datasets, shown=show)))


@suite.command(hidden=True)
@click.option("--folder", "folders", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--suite", "name", required=True)
@click.option("--base")
@datasets_option
@click.pass_context
def run(
    context: click.Context, /, *, folders: tuple[Path, ...], name: str, base: str | None, datasets: Path | None
) -> dict[str, Any]:
    """Evaluate folders on this machine: what `eval --local` asks, and shows."""
    from hub.cli.working import evaluate_folders

    return evaluate_folders(folders, context.obj.config, suite=name, base=base, datasets=datasets)


def _settings(**chosen: Any) -> Settings:
    """The settings, where an option goes before the environment."""
    from pydantic import ValidationError

    from hub.settings import Settings

    try:
        return Settings(**{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        wrong = error.errors()[0]
        said = wrong["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"VERA_HUB_{str(wrong['loc'][0]).upper()}: {said}.") from error
