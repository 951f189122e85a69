"""`vera-hub admin`: for whoever runs a hub, on its machine. All of it works while the hub is in use."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli import Refused, _settings, data_option

if TYPE_CHECKING:
    from hub.db.session import Database
    from hub.storage.objects import ObjectBlobs

folder_argument = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


@click.group()
def admin() -> None:
    """Look after a hub: copies of it, what is wrong with it, clearing away, and a way in.

    The hub is the one of --data, or of VERA_HUB_DATABASE_URL and VERA_HUB_BLOB_URL.
    """
    # What is in the log of a hub is in the error of a command, and Python would print its first words beside it.
    logging.getLogger("hub.storage").addHandler(logging.NullHandler())


@admin.command()
@folder_argument
@data_option
@click.option("--portable", "is_portable", is_flag=True, help="As rows of text, that PostgreSQL and SQLite both read.")
def backup(*, folder: Path, data_dir: Path | None, is_portable: bool) -> None:
    """Copy the whole hub into FOLDER, which must not be there yet.

    An SQLite database is copied whatever release made it: before an upgrade, too.
    """
    from hub.care.backup import back_up

    with _parts(data_dir, of_any_release=True) as (database, objects):
        contents = back_up(database, objects, folder, is_portable=is_portable)
    click.echo(
        f"{folder} holds the hub as it was at {contents.created_at}, in {_counted(len(contents.files), 'file')}."
    )


@admin.command()
@folder_argument
@data_option
def restore(*, folder: Path, data_dir: Path | None) -> None:
    """Make a new hub of the backup in FOLDER.

    Tokens that were revoked after the backup was made are good again: revoke them anew.
    """
    from hub.care.backup import restore as restore_from

    with _refusals():
        contents = restore_from(folder, _settings(data_dir=data_dir))
    click.echo(f"The hub is what it was at {contents.created_at}. `vera-hub admin fsck` looks at every byte of it.")


@admin.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def fsck(context: click.Context, /, *, data_dir: Path | None, as_json: bool) -> None:
    """Find what is missing, corrupt or needed by nothing. Changes nothing.

    Exit status 1 when anything is missing or corrupt.
    """
    from hub.care.checking import check

    with _parts(data_dir) as (database, objects):
        found = list(check(database, objects))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        for each in found:
            click.echo(f"{each.kind:8} {each.what}: {each.detail}")
    bad = sum(each.kind != "orphan" for each in found)
    click.echo(f"{bad} wrong, {len(found) - bad} needed by nothing.", err=True)
    context.exit(1 if bad else 0)


@admin.command()
@data_option
@click.option("--grace-hours", type=click.IntRange(1), default=24, show_default=True, help="What is newer stays.")
@click.option("--dry-run", "is_rehearsal", is_flag=True, help="Only say how much would go.")
def gc(*, data_dir: Path | None, grace_hours: int, is_rehearsal: bool) -> None:
    """Clear away files that no version needs."""
    from datetime import timedelta

    from hub.care.collecting import collect

    with _parts(data_dir) as (database, objects):
        cleared = collect(database, objects, grace=timedelta(hours=grace_hours), is_rehearsal=is_rehearsal)
    verb = "would go" if is_rehearsal else "are gone"
    click.echo(f"{_counted(cleared.blobs, 'file')}, {cleared.size_bytes:,} bytes, {verb}.")


@admin.command()
@data_option
@click.option("--suite", metavar="SUITE", help="Only what this suite has scored.")
@click.option("--dry-run", "is_rehearsal", is_flag=True, help="Only say what would change.")
@click.pass_context
def rescore(context: click.Context, /, *, data_dir: Path | None, suite: str | None, is_rehearsal: bool) -> None:
    """Compute every score anew from the outcomes that are stored. No adapter is run.

    Exit status 1 when there are outcomes that give no score.
    """
    from hub.care.rescoring import rescore as rescored

    changed = wrong = 0
    with _parts(data_dir) as (database, _):
        for each in rescored(database, suite=suite, is_rehearsal=is_rehearsal):
            changed, wrong = changed + (each.after is not None), wrong + (each.after is None)
            numbers = [f"{one[0]:.6f} [{one[1]:.6f}, {one[2]:.6f}]" for one in (each.before, each.after) if one]
            within = f" (no more than another batch layout does, {each.noise:.6f})" if each.is_noise else ""
            click.echo(f"{each.ref} on {each.suite}, {each.metric}: {each.detail or ' → '.join(numbers)}{within}")
    verb = "would change" if is_rehearsal else "have changed"
    click.echo(f"{changed} scores {verb}, {wrong} cannot be computed.", err=True)
    context.exit(1 if wrong else 0)


@admin.command(name="rename-base")
@click.argument("fingerprint", metavar="FINGERPRINT")
@click.argument("name")
@data_option
def rename_base(*, fingerprint: str, name: str, data_dir: Path | None) -> None:
    """Give a base another name than who registered it first has.

    `vera-hub base list --hub` has the fingerprints. Checkpoints of PEFT are taken in for the base of the name that they say.
    """
    from hub.care.renaming import rename

    with _parts(data_dir) as (database, _):
        renamed = rename(database, fingerprint, name)
    click.echo(
        f"{fingerprint} is {name} here, and was {renamed.before}: {_counted(renamed.adapters, 'adapter')} listed anew."
    )


@admin.command()
@click.argument("user", required=False)
@data_option
@click.option("--make-admin", "makes_admin", is_flag=True, help="The user is no admin yet, and becomes one.")
@click.option("--end-tokens", "ends_tokens", is_flag=True, help="Revoke all their tokens: somebody else may have one.")
def recover(*, user: str | None, data_dir: Path | None, makes_admin: bool, ends_tokens: bool) -> None:
    """Let an admin in again who has lost the password, every token, or both.

    Prints a code that is good once, for an hour: `vera-hub login` takes it, and so does the sign-in page. The old
    password and open sessions end now.
    """
    from hub.care.recovering import recover as recovered

    with _parts(data_dir) as (database, _):
        made = recovered(database, user, makes_admin=makes_admin, ends_tokens=ends_tokens)
    click.echo(f"{made.user} signs in with this until {made.expires_at:%H:%M} UTC, once:", err=True)
    click.echo(made.code)


@admin.command(name="worker-code")
@data_option
@click.option("--user", help="Whose worker it is. The local account unless said otherwise. [VERA_HUB_USER]")
def worker_code(*, data_dir: Path | None, user: str | None) -> None:
    """Make a code with which one worker joins: `vera-hub worker --url URL --code CODE`."""
    from hub.cli.serving import local_user
    from hub.domain import accounts, enrolling

    with _parts(data_dir) as (database, _), database.writing() as session:
        account_id = accounts.ensure_user(session, user or local_user(_settings(data_dir=data_dir)))
        code, expires_at = enrolling.offer_code(session, account_id)
    click.echo(f"It is good for one worker, until {expires_at:%H:%M} UTC.", err=True)
    click.echo(code)


@admin.command()
@data_option
def workers(*, data_dir: Path | None) -> None:
    """List the keys that workers sign with."""
    from hub.domain import enrolling

    with _parts(data_dir) as (database, _), database.reading() as session:
        for key, results, seen in enrolling.keys(session):
            state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else _seen(seen)
            click.echo(f"{key.key_id}  {key.name}  {results} results  {state}")


@admin.command(name="revoke-worker")
@click.argument("worker", metavar="KEY|NAME")
@data_option
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    help="Take back what it has signed from then (UTC) on, and have it measured anew.",
)  # fmt: skip
def revoke_worker(*, worker: str, data_dir: Path | None, since: datetime | None) -> None:
    """Shut a worker out: it takes no job and hands in no result, and what it holds goes back to the queue."""
    from hub.domain import enrolling

    with _parts(data_dir) as (database, _), database.writing() as session:
        revoked = enrolling.revoke(session, worker, since=since.replace(tzinfo=UTC) if since else None)
    for each in revoked.doubted:
        click.echo(f"Taken back: {each}")
    click.echo(
        f"The worker {revoked.name} ({revoked.key_id}) is shut out. {revoked.leases} jobs went back to the queue, "
        f"{len(revoked.doubted)} scores were taken back.",
        err=True,
    )


def _seen(at: datetime | None) -> str:
    return f"last heard of {at:%Y-%m-%d %H:%M}" if at else "never heard of"


@admin.command(name="export")
@folder_argument
@data_option
@click.option("--only", "namespace", metavar="NAMESPACE", help="One user's or organisation's adapters.")
def export_registry(*, folder: Path, data_dir: Path | None, namespace: str | None) -> None:
    """Write the adapters as plain folders into FOLDER, which must not be there yet. Scores and tokens stay here."""
    from hub.care.exporting import export

    with _parts(data_dir) as (database, objects):
        written = export(database, objects, folder, namespace=namespace)
    click.echo(f"{folder} holds {_counted(written, 'version')}.")


@admin.command(name="import")
@folder_argument
@data_option
def import_registry(*, folder: Path, data_dir: Path | None) -> None:
    """Bring in what an export has written to FOLDER. What is here already stays as it is."""
    from hub.care.importing import bring_in

    with _parts(data_dir) as (database, objects):
        brought = bring_in(database, objects, folder)
    click.echo(f"{_counted(brought, 'version')} {'is' if brought == 1 else 'are'} new here.")


@contextmanager
def _parts(data_dir: Path | None, *, of_any_release: bool = False) -> Iterator[tuple[Database, ObjectBlobs | None]]:
    """The database and the object store of a hub that may be in use. Its schema must be this release's, or that
    `of_any_release`."""
    from hub.db.migrating import require_current
    from hub.db.session import Database
    from hub.errors import Invalid
    from hub.settings import DATABASE_FILE
    from hub.storage.objects import ObjectBlobs

    settings = _settings(data_dir=data_dir)
    with _refusals():
        if settings.is_embedded and not (settings.data_dir / DATABASE_FILE).is_file():
            raise Invalid(
                f"There is no hub in {settings.data_dir}: say where it is with --data, or make an empty one there with "
                f"`vera-hub migrate --data {settings.data_dir}`.",
                code="HUB_UNKNOWN",
            )
        database = Database(settings.resolved_database_url)
        try:
            if not of_any_release:
                require_current(database)
            yield database, ObjectBlobs.from_url(settings.blob_url) if settings.blob_url else None
        finally:
            database.close()


@contextmanager
def _refusals() -> Iterator[None]:
    from hub.errors import HubError, StartRefused, Unavailable
    from hub.storage.objects import said_by
    from vera.errors import VeraError

    try:
        yield
    except StartRefused as error:
        raise Refused(str(error), error.exit_code) from error
    except Unavailable as error:  # whoever runs the hub can do something about the reason
        reason = f" What was said: {said_by(error.__cause__)}" if error.__cause__ else ""
        raise Refused(f"{error}{reason}", 1) from error
    except (HubError, VeraError) as error:
        raise Refused(str(error), 1) from error


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
