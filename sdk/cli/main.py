"""`vera-hub`: finds the command, runs it, and turns what it raises into one sentence and an exit status.

Commands are imported when they run. The list of them, and what each does in a line, stands here, so
that `--help` imports none. Other packages add commands by the entry-point group `vera_hub.commands`.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from sdk.cli.suggesting import with_suggestion
from sdk.cli.terminal import INTERRUPTED, App, Failure, clean, missing_package, note
from sdk.errors import HubError, HubWarning, NotFound
from vera import __version__
from vera.ending import end_at_once
from vera.errors import RefError, VeraError, VeraWarning

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGINS = "vera_hub.commands"

# section → command → (module, what it does)
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Adapters": {
        "train": ("sdk.cli.train", "Train an adapter of a base, and write it to FOLDER."),
        "import": ("sdk.cli.importing", "Turn a VeRA checkpoint of PEFT into an adapter, and write it to OUT."),
        "export": ("sdk.cli.exporting", "Write an adapter in a form that needs nothing of this project."),
        "push": ("sdk.cli.adapters", "Publish the adapter in the folder PATH as a new version."),
        "pull": ("sdk.cli.adapters", "Fetch an adapter, check it and write it as a folder."),
        "list": ("sdk.cli.adapters", "List adapters, the latest change first."),
        "search": ("sdk.cli.searching", "Find adapters by words, tags, base, task, size and score."),
        "info": ("sdk.cli.adapters", "Show what an adapter is, how large, and what proves it."),
        "versions": ("sdk.cli.versions", "List the versions of an adapter, what means each, and what became of it."),
        "feed": ("sdk.cli.feed", "Print what lately became of an adapter, or of those of a namespace, as Atom."),
        "downloads": ("sdk.cli.downloads", "Show how often an adapter was downloaded."),
        "lineage": ("sdk.cli.lineage", "Show what a version was made from, and what was made from it."),
        "verify": ("sdk.cli.proof", "Prove that an adapter and its base are what they say."),
        "diff": (
            "sdk.cli.diff",
            "Show what changed from one adapter to another: vectors, configuration, card and scores.",
        ),
        "yank": ("sdk.cli.withdrawing", "Take a version back: nothing that moves means it any more."),
        "unyank": ("sdk.cli.withdrawing", "Undo a yank."),
        "deprecate": ("sdk.cli.withdrawing", "Say that a version is not to be used any more, and what instead."),
        "delete": ("sdk.cli.withdrawing", "Delete a version for good."),
        "quarantine": ("sdk.cli.withdrawing", "Keep a version from being given out, as an admin of the hub."),
        "alias": ("sdk.cli.aliases", "Names that move from version to version: prod, staging."),
        "move": ("sdk.cli.adapters", "Give an adapter another name, or another owner."),
        "visibility": ("sdk.cli.adapters", "Make an adapter private, or public."),
        "access": ("sdk.cli.access", "Gated adapters: whose files are given to whom their owners let in."),
        "base": ("sdk.cli.base", "The base models of this machine and of the hub."),
        "lock": (
            "sdk.cli.lock",
            "Pin what each REF means now; without any, what is pinned already is brought up to date.",
        ),
        "sync": (
            "sdk.cli.lock",
            "Fetch everything that the lock pins into the cache, and check it: afterwards it loads without a network.",
        ),
        "cache": ("sdk.cli.cache", "What was fetched before and is kept on this machine."),
    },
    "Evaluation": {
        "eval": ("sdk.cli.evaluation", "Evaluate an adapter on a suite and, if asked, gate on the result."),
        "leaderboard": ("sdk.cli.boards", "Show the leaderboard of a suite."),
        "losses": ("sdk.cli.losing", "Show where a version answers worse than another, item by item."),
        "suites": ("sdk.cli.boards", "List the suites adapters are evaluated on, or show what SUITE is."),
    },
    "You and the hub": {
        "login": ("sdk.cli.account", "Save a token for a hub, after trying it."),
        "logout": ("sdk.cli.account", "Revoke the saved token and forget it."),
        "whoami": ("sdk.cli.account", "Show whose the token is."),
        "password": (
            "sdk.cli.account",
            "Set or change your password, with which `vera-hub login --user` and the pages sign you in.",
        ),
        "token": ("sdk.cli.tokens", "Tokens for programs: made, listed, revoked."),
        "publisher": ("sdk.cli.publishers", "Trusted publishing: which CI workflows push without a secret."),
        "user": ("sdk.cli.users", "The users of the hub, for its admins."),
        "org": ("sdk.cli.organisations", "Organisations: shared namespaces with members."),
        "audit": ("sdk.cli.audit", "Show who has changed what in a namespace, and prove that nothing was taken out."),
        "webhook": ("sdk.cli.webhooks", "Webhooks: addresses that hear of every change."),
        "doctor": ("sdk.cli.doctor", "Check that everything this machine needs is there."),
        "completion": ("sdk.cli.completion", "Print the script that completes commands in SHELL."),
    },
}
# What the commands of this distribution's own server do; other plug-ins are listed by name.
PLUGIN_HELP = {
    "serve": "Run a hub on this machine.",
    "worker": "Run an evaluation worker for a hub.",
    "suite": "Check a suite of your own before a worker runs it.",
    "admin": "Look after a hub: backup, restore, fsck, gc, export, import.",
    "migrate": "Bring the database of a hub to the current schema.",
}

EPILOG = (
    "Exit status: 0 done, 1 it failed or was refused, 2 the command itself is wrong, 130 stopped by Ctrl-C. "
    "`eval` has its own, see `vera-hub eval --help`."
)


class Commands(click.Group):
    """The group of all commands, each imported when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return [name for section in COMMANDS.values() for name in section] + sorted(_plugins())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        for section in COMMANDS.values():
            if cmd_name in section:
                module, _ = section[cmd_name]
                return _command(getattr(import_module(module), _attribute(cmd_name)))
        plugin = _plugins().get(cmd_name)
        return _load(plugin) if plugin else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown command is answered with those that it may be meant for."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            meant = get_close_matches(args[0], self.list_commands(ctx))
            if not meant:
                raise
            raise click.UsageError(f"{error.message} Did you mean {' or '.join(meant)}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, help_line) for name, (_, help_line) in section.items()])
        plugins = _plugins()
        if plugins:
            with formatter.section("Server"):
                formatter.write_dl([(n, PLUGIN_HELP.get(n, f"From {plugins[n].module}.")) for n in sorted(plugins)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _warnings_as_notes():
                return super().invoke(ctx)
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except (KeyboardInterrupt, click.Abort) as error:
            unknown = getattr(error, "__notes__", ())  # what a hub may have done, see sdk.client.wire
            raise Failure(" ".join(("Stopped.", *unknown)), INTERRUPTED) from error
        except Exception as error:
            if ctx.params["debug"]:
                traceback.print_exc()
            if isinstance(error, click.ClickException):
                raise
            raise Failure(_sentence(error, ctx.obj)) from error


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", metavar="URL", help="The hub, before VERA_HUB_URL and the profile.")
@click.option("--debug", is_flag=True, envvar="VERA_HUB_DEBUG", help="Show where an error comes from.")
@click.version_option(__version__, prog_name="vera-hub")
@click.pass_context
def cli(ctx: click.Context, /, *, url: str | None, debug: bool) -> None:
    """Keep, find, trust, compare and load VeRA adapters."""
    ctx.obj = App(url, debug)


def main() -> None:
    """The entry point of `vera-hub`."""
    end_at_once()
    try:
        cli.main(prog_name="vera-hub")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _sentence(error: Exception, app: App | None = None) -> str:
    if isinstance(error, NotFound | RefError) and app is not None:
        return with_suggestion(error, app)
    if isinstance(error, HubError | VeraError | OSError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    return (
        f"Something unexpected happened ({type(error).__name__}: {error}). "
        "Run the command again as `vera-hub --debug …` and report what it says."
    )


def _attribute(name: str) -> str:
    """The function of a command, where Python has the name for something else."""
    return {"list": "list_adapters", "eval": "evaluate", "import": "import_peft"}.get(name, name)


def _plugins() -> dict[str, EntryPoint]:
    """The commands of other packages, by name. None is imported."""
    from importlib.metadata import entry_points

    own = {name for section in COMMANDS.values() for name in section}
    return {entry.name: entry for entry in entry_points(group=PLUGINS) if entry.name not in own}


def _load(plugin: EntryPoint) -> click.Command:
    try:
        return _command(plugin.load())
    except ModuleNotFoundError as error:
        raise Failure(_sentence(error)) from error


def _command(found: object) -> click.Command:
    assert isinstance(found, click.Command), f"{found!r} is no command"
    return found


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Our own warnings become lines on standard error; those of other packages go on as they were."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", HubWarning)
        warnings.simplefilter("default", VeraWarning)
        show, told = warnings.showwarning, set[str]()

        def show_as_note(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any
        ) -> None:
            if issubclass(category, HubWarning | VeraWarning):
                if str(message) not in told:  # of a cache that cannot be written each file would say so
                    note(f"Warning: {clean(message)}")
                told.add(str(message))
            else:
                show(message, category, filename, lineno, *rest, **more)

        warnings.showwarning = show_as_note
        yield


if __name__ == "__main__":
    main()
