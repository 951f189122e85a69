"""`push`, `pull`, `list` and `info`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, interval, pass_app, size
from sdk.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.models.adapters import Adapter, AdapterDetail
    from sdk.models.evaluations import Evaluation
    from sdk.models.versions import Pushed, ReportedScore, Version
    from vera.archive import Archive
    from vera.ref import AdapterRef

T = TypeVar("T")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="owner/name, or a name of yours. Default: the name of the folder.")
@click.option("-m", "--message", help="What is new in this version.")
@click.option("--private/--public", "is_private", default=None, help="Who sees a new adapter. Default: everybody.")
@click.option("--prerelease/--release", default=None, help="A pre-release is never `latest`. Default: a release.")
@click.option("--parent", metavar="REF", help="The version it was made from. Default: the one before it.")
@click.option("--source/--no-source", "says_source", default=True, help="Say which git commit and CI run made it.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def push(
    app: App,
    path: Path,
    *,
    name: str | None,
    message: str | None,
    is_private: bool | None,
    prerelease: bool | None,
    parent: str | None,
    says_source: bool,
    as_json: bool,
) -> None:
    """Publish the adapter in the folder PATH as a new version.

    It is checked here before anything is sent. Pushing the same content again changes nothing. In a git
    repository without changes, the version says which commit it was made at, and in a CI job in which run.
    """
    from sdk.models.versions import Said
    from sdk.provenance import source_here
    from sdk.pushing import push_archive, ready_to_push

    said = Said(
        message=message,
        visibility=None if is_private is None else ("private" if is_private else "public"),
        prerelease=prerelease,
        parent=parent,
        source=source_here() if says_source else None,
    )
    with app.hub() as hub:
        with terminal.spinner(f"Checking {path}"):
            adapter, ref = ready_to_push(hub, path, name)
        with terminal.spinner(f"Pushing {path}"):
            pushed = push_archive(hub, adapter, ref, said)
    _say_pushed(pushed, as_json=as_json)


def _say_pushed(pushed: Pushed, *, as_json: bool) -> None:
    version = pushed.version
    for warning in version.warnings:
        terminal.note(f"Warning: {clean(warning)}")
    if as_json:
        terminal.say_json({"ref": version.ref, "digest": version.digest, "is_new": pushed.is_new})
        return
    kind = "  (pre-release)" if version.prerelease else ""
    terminal.say(f"{clean(version.ref)}{kind}{'' if pushed.is_new else '  (was there already: nothing changed)'}")
    terminal.say(f"  {version.digest}")
    terminal.say(
        f"  {version.size_bytes:,} bytes, {version.vector_bytes:,} of them vectors, "
        f"{_times_smaller(version.lora_bytes, version.vector_bytes)}"
    )


@click.command()
@click.argument("ref")
@click.option("--to", type=click.Path(path_type=Path), help="The folder to write. Default: the adapter's name.")
@click.option("--locked", is_flag=True, help="Only what vera.lock pins.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def pull(app: App, ref: str, *, to: Path | None, locked: bool, as_json: bool) -> None:
    """Fetch an adapter, check it and write it as a folder."""
    from sdk import fetching

    with terminal.spinner(f"Fetching {clean(ref)}"), app.hub() as hub:
        fetched = fetching.pull(ref, to=to, locked=locked, hub=hub)
    if as_json:
        terminal.say_json(
            {
                "ref": fetched.version_ref,
                "digest": fetched.resolved.digest,
                "folder": str(fetched.folder),
                "downloaded_bytes": fetched.downloaded_bytes,
            }
        )
        return
    origin = f"{fetched.downloaded_bytes:,} bytes fetched" if fetched.downloaded_bytes else "from the cache"
    terminal.say(f"{fetched.version_ref} → {fetched.folder}  ({origin}, every file verified)")
    terminal.say(f"  {fetched.resolved.digest}")


@click.command(name="list")
@click.option("--search", help="Words in the name.")
@click.option("--base", help="The base's name or fingerprint.")
@click.option("--owner", help="A user or organisation.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def list_adapters(
    app: App, /, *, search: str | None, base: str | None, owner: str | None, limit: int, as_json: bool
) -> None:
    """List adapters, the latest change first."""
    with app.hub() as hub:
        found = list(islice(hub.list_adapters(search=search, base=base, owner=owner), limit + 1))
    if as_json:
        terminal.say_json(found[:limit])
        return
    columns = ("adapter", "latest", "base", "task", "updated")
    none = "No adapters found. `vera-hub push FOLDER` publishes one."
    terminal.say_table(columns, [_row(adapter) for adapter in found[:limit]], none=none)
    if len(found) > limit:
        terminal.note(f"There are more than {limit}: narrow it down, or raise --limit.")


@click.command()
@click.argument("adapter", metavar="OWNER/NAME")
@click.argument("to", metavar="OWNER/NEW_NAME")
@pass_app
def move(app: App, adapter: str, to: str) -> None:
    """Give an adapter another name, or another owner.

    The old name leads to it for ever, for whoever reads, and no other adapter gets it. Pushes name the new one, and
    so do tokens that are for this adapter alone. To another owner, trusted publishers do not follow.
    """
    from vera.ref import AdapterRef

    with app.hub() as hub:
        moved = hub.move(AdapterRef.parse(adapter), AdapterRef.parse(to))
    terminal.say(f"{clean(adapter)} is {clean(moved.id)} now; the old name leads there.")


@click.command()
@click.argument("adapter", metavar="OWNER/NAME")
@click.argument("who", type=click.Choice(["public", "private"]))
@pass_app
def visibility(app: App, adapter: str, who: str) -> None:
    """Make an adapter private, or public.

    Private adapters are seen by the members of their organisation, or by you alone. What was downloaded
    while an adapter was public stays where it is.
    """
    from vera.ref import AdapterRef

    with app.hub() as hub:
        changed = hub.set_visibility(AdapterRef.parse(adapter), who)
    terminal.say(f"{clean(changed.id)} is {clean(changed.visibility)}.")


@click.command()
@click.argument("ref_or_path", metavar="REF|PATH")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def info(app: App, ref_or_path: str, *, as_json: bool) -> None:
    """Show what an adapter is, how large, and what proves it.

    PATH is a folder, written `./my-adapter` where it could be a reference too. An adapter from a hub is fetched
    and checked, so that nothing shown is only claimed.
    """
    from sdk.cli.versions import say_versions
    from sdk.finding import find

    evaluations: tuple[Evaluation, ...] = ()
    reported: tuple[ReportedScore, ...] = ()
    listed: AdapterDetail | None = None
    with terminal.spinner(f"Fetching {clean(ref_or_path)}"), app.hub() as hub:
        found = find(ref_or_path, hub=hub, allow_yanked=True)
        if found.fetched:
            listed = _asked(hub, found.fetched.resolved.ref, hub.get_adapter)
            if (said := found.fetched.resolved.details or _version(hub, found.fetched.resolved.ref)) is not None:
                evaluations, reported = said.evaluations, said.reported
    description = describe(found.archive)
    if as_json:
        rows = {
            "evaluations": list(evaluations),
            "reported": list(reported),
            "versions": list(listed.versions) if listed else [],
        }
        terminal.say_json({"ref": found.title, **description, **rows})
        return
    _say_description(found.title, found.archive, evaluations, reported)
    if listed is not None:
        terminal.say()
        say_versions(listed.versions, latest=listed.latest, aliases=listed.aliases)


def describe(archive: Archive) -> dict[str, object]:
    """What there is to say of a checked adapter, computed from its own files."""
    manifest = archive.manifest
    vectors, lora = manifest.weights.vector_bytes, manifest.lora_bytes()
    return {
        "digest": manifest.digest,
        "weights_digest": f"sha256:{manifest.weights.sha256}",
        "base": {
            "name": manifest.base.name,
            "revision": manifest.base.revision,
            "fingerprint": manifest.base.fingerprint,
            "dtype": manifest.base.dtype,
            "config": manifest.base.config and manifest.base.config.all,
            "tokenizer": manifest.base.tokenizer and asdict(manifest.base.tokenizer),
            "processor": manifest.base.processor,
        },
        "method": manifest.method,
        "projection": {**manifest.recipe.to_dict(), "digest": manifest.projection_digest},
        "task": manifest.task and {"kind": manifest.task.kind, "labels": list(manifest.task.labels)},
        "modules": [module.name for module in manifest.modules],
        "parameters": manifest.parameters,
        "dtype": manifest.weights.dtype,
        "vector_bytes": vectors,
        "head_bytes": manifest.weights.head_bytes,
        "vector_and_head_bytes": vectors + manifest.weights.head_bytes,
        "size_bytes": archive.size_bytes,
        "lora_bytes": lora,
        "lora_over_vectors": round(lora / vectors, 2),
        "license": manifest.license,
    }


def _say_description(
    title: str, archive: Archive, evaluations: tuple[Evaluation, ...], reported: tuple[ReportedScore, ...]
) -> None:
    from vera.manifest import METHODS

    manifest = archive.manifest
    weights, recipe, base = manifest.weights, manifest.recipe, manifest.base
    lora = manifest.lora_bytes()
    lines = [
        ("task", _task_line(archive)),
        (
            "modules",
            f"{len(manifest.modules)} by {METHODS[manifest.method]}, rank {recipe.rank}, {manifest.parameters:,} parameters ({weights.dtype})",
        ),
        ("license", clean(manifest.license or "not said")),
        ("", ""),
        ("vectors alone", f"{_bytes(weights.vector_bytes)}, {_times_smaller(lora, weights.vector_bytes)}"),
        ("with head", _bytes(weights.vector_bytes + weights.head_bytes)),
        ("all files", _bytes(archive.size_bytes)),
        ("LoRA r=8", f"{_bytes(lora)} for the same modules in float32, without a head"),
        ("", ""),
        ("base", f"{clean(base.name)}{f' @ {clean(base.revision)}' if base.revision else ''} ({base.dtype})"),
        ("", base.fingerprint),
        ("projection", str(recipe)),
        ("", manifest.projection_digest),
        ("version", manifest.digest),
        ("weights", f"sha256:{weights.sha256}"),
    ]
    terminal.say(clean(title))
    for label, value in lines:
        terminal.say(f"  {label:<15}{value}".rstrip())
    if evaluations:
        terminal.say()
        terminal.say_table(
            ("suite", "state", "score", "95% interval"),
            [(e.suite, e.state, *_score_cells(e)) for e in evaluations],
            right=("score",),
        )
    if reported:
        terminal.say()
        rows = [(clean(each.dataset), clean(each.metric), f"{each.value:.6g}") for each in reported]
        terminal.say_table(("said by the publisher", "metric", "not measured here"), rows, right=("not measured here",))


def _version(hub: Hub, ref: AdapterRef) -> Version | None:
    """What the hub says now of a version that was known here already, which has its scores since then."""
    return _asked(hub, ref, hub.resolve_version)


def _asked(hub: Hub, ref: AdapterRef, question: Callable[[AdapterRef], T]) -> T | None:
    """The hub's answer; None where only the cache can be asked: what is shown of the version has been proven without it."""
    if hub.config.offline or hub.config.at_host(ref.host).url != hub.config.url:
        return None
    try:
        return question(ref)
    except (Unavailable, NotFound):
        return None


def _score_cells(evaluation: Evaluation) -> tuple[str, str]:
    if evaluation.score is None:
        return "", clean(evaluation.reason or "")
    return f"{evaluation.score:.4f}", interval(evaluation.interval)


def _task_line(archive: Archive) -> str:
    task = archive.manifest.task
    if task is None:
        return "not said"
    labels = ", ".join(clean(label) for label in task.labels[:8])
    more = f", … {len(task.labels)} in all" if len(task.labels) > 8 else ""
    return f"{clean(task.kind)}: {labels}{more}" if labels else clean(task.kind)


def _row(adapter: Adapter) -> tuple[object, ...]:
    latest = f"v{adapter.latest}" if adapter.latest else "–"
    labels = f" ({len(adapter.task.labels)} labels)" if adapter.task and adapter.task.labels else ""
    task = f"{adapter.task.kind}{labels}" if adapter.task else ""
    name = f"{adapter.id} (private)" if adapter.visibility == "private" else adapter.id
    return name, latest, adapter.base.name, task, adapter.updated_at[:10]


def _bytes(count: int) -> str:
    return f"{count:,} bytes" + (f" ({size(count)})" if count >= 1024 else "")


def _times_smaller(lora_bytes: int, vector_bytes: int) -> str:
    return f"{lora_bytes / max(1, vector_bytes):.1f} × smaller than LoRA r=8"
