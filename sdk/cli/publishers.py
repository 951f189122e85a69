"""`publisher`: trusted publishing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.terminal import App, clean, pass_app
from sdk.errors import NotFound

if TYPE_CHECKING:
    from sdk.client import Hub

GITHUB = "https://token.actions.githubusercontent.com"


@click.group()
def publisher() -> None:
    """Trusted publishing: which CI workflows push without a secret."""


@publisher.command()
@click.argument("target", metavar="NAMESPACE|ADAPTER")
@click.argument("repository", metavar="OWNER/REPOSITORY")
@click.option("--workflow", required=True, help="Its file: train.yml, or .gitlab-ci.yml.")
@click.option("--repository-id", required=True, help="The number of the repository: names can change hands.")
@click.option("--owner-id", required=True, help="The number of its owner.")
@click.option("--environment", help="Only jobs in this environment.")
@click.option("--issuer", default=GITHUB, show_default=True, help="https://gitlab.com for GitLab.")
@pass_app
def add(
    app: App,
    target: str,
    repository: str,
    *,
    workflow: str,
    repository_id: str,
    owner_id: str,
    environment: str | None,
    issuer: str,
) -> None:
    """Let a workflow push to a namespace, or to one adapter.

    For GitHub both numbers are in https://api.github.com/repos/OWNER/REPOSITORY, as id and owner.id; for GitLab
    they are the ids of the project and of its namespace.
    """
    namespace, _, adapter = target.partition("/")
    with app.hub() as hub:
        disabled = _why_disabled(hub)
        made = hub.add_publisher(
            namespace,
            adapter=adapter or None,
            issuer=issuer,
            repository=repository,
            repository_id=repository_id,
            owner_id=owner_id,
            workflow=workflow,
            environment=environment,
        )
    terminal.say(f"{clean(made.workflow)} of {clean(made.repository)} may push to {clean(made.target)}.")
    if disabled is not None:
        terminal.note(f"Warning: {clean(disabled)} Until then no workflow gets a token here.")


def _why_disabled(hub: Hub) -> str | None:
    """What the hub says where it lets no workflow in at all."""
    try:
        hub.oidc()
    except NotFound as error:
        return str(error)
    return None


@publisher.command()
@json_option
@pass_app
def issuers(app: App, /, *, as_json: bool) -> None:
    """Show whose word the hub takes for a job, and for whom a job must ask it to vouch."""
    with app.hub() as hub:
        found = hub.oidc()
    if as_json:
        terminal.say_json(found)
        return
    terminal.say_table(
        ("trusted issuer",), [(each,) for each in found.issuers], none="The hub takes nobody's word for a job."
    )
    terminal.say(f"A job asks for the audience {clean(found.audience)}.")


@publisher.command(name="list")
@click.argument("namespace")
@json_option
@pass_app
def list_publishers(app: App, /, namespace: str, *, as_json: bool) -> None:
    """Show the workflows that a namespace trusts."""
    with app.hub() as hub:
        found = list(hub.list_publishers(namespace))
    if as_json:
        terminal.say_json(found)
        return
    rows = [
        (each.id, each.target, each.repository, each.workflow, each.environment or "any", each.created_by)
        for each in found
    ]
    columns = ("id", "pushes to", "repository", "workflow", "environment", "added by")
    terminal.say_table(
        columns, rows, none=f"{clean(namespace)} trusts no workflow. `vera-hub publisher add` names one."
    )


@publisher.command()
@click.argument("namespace")
@click.argument("publisher_id", metavar="ID")
@pass_app
def remove(app: App, namespace: str, publisher_id: str) -> None:
    """Trust a workflow no longer."""
    with app.hub() as hub:
        hub.remove_publisher(namespace, publisher_id)
    terminal.say(f"Publisher {clean(publisher_id)} of {clean(namespace)} is gone.")
