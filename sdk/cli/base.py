"""`base add`, `base list`, `base info` and `base diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app, size

if TYPE_CHECKING:
    from vera.base_difference import BaseDifference
    from vera.fingerprint import BaseFingerprint, TensorRecord

# As many names of tensors as a screen has room for; --json has all of them.
_NAMES_SHOWN = 5


@click.group()
def base() -> None:
    """The base models of this machine and of the hub."""


@base.command()
@click.argument("path_or_id")
@click.option("--name", help="What to call it. Default: its Hugging Face id, or the name of the folder.")
@click.option("--revision", help="The commit or tag to download, or what to note for a folder.")
@pass_app
def add(app: App, path_or_id: str, *, name: str | None, revision: str | None) -> None:
    """Fingerprint a base, register it at the hub and remember where it lies.

    PATH_OR_ID is a folder with a safetensors checkpoint (or one of pickles, of which only tensors are read), or a
    Hugging Face id, which is downloaded.
    """
    from sdk import bases, tensor_tables

    path = bases.obtain(path_or_id, config=app.config, revision=revision)
    suggested_name, suggested_revision = bases.name_of(path)
    chosen, revision = name or suggested_name, suggested_revision or revision
    with terminal.bytes_progress(f"Fingerprinting {clean(chosen)}") as progress:
        table = tensor_tables.fingerprint_of(path, config=app.config, progress=progress)
    _check_name(app, chosen, table.value)
    with app.hub() as hub:
        registered = hub.register_base(chosen, table.to_rows(), revision=revision)
    bases.remember(bases.KnownBase(chosen, path.resolve(), table.value, revision), config=app.config)
    terminal.say(f"{clean(chosen)}  {table.value}")
    terminal.say(
        f"  {registered.parameters:,} parameters in {registered.tensor_count:,} tensors, {size(registered.size_bytes)}"
    )
    if registered.name != chosen:
        terminal.say(f"  the hub knows it as {clean(registered.name)}; here it is also {clean(chosen)}")


def _check_name(app: App, name: str, fingerprint: str) -> None:
    """A name that means one base must not come to mean another in silence."""
    from sdk.bases import list_known

    for known in list_known(app.config):
        if known.name == name and known.fingerprint != fingerprint:
            terminal.fail(
                f"{clean(name)} is the base {known.fingerprint} at {known.path}, and this one is {fingerprint}: "
                "call it something else with --name."
            )


@base.command(name="list")
@click.option("--hub", "of_hub", is_flag=True, help="The bases registered at the hub instead.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def list_bases(app: App, *, of_hub: bool, as_json: bool) -> None:
    """List the bases this machine knows, or those of the hub."""
    if of_hub:
        _list_of_hub(app, as_json)
    else:
        _list_here(app, as_json)


def _list_here(app: App, as_json: bool) -> None:
    from sdk.bases import list_known

    known = list_known(app.config)
    if as_json:
        terminal.say_json(known)
        return
    terminal.say_table(
        ("base", "where", "fingerprint"),
        [(b.name, b.path if b.is_here else f"{b.path} (gone)", b.fingerprint) for b in known],
        none="This machine knows no base yet: `vera-hub base add PATH_OR_ID` adds one.",
    )


def _list_of_hub(app: App, as_json: bool) -> None:
    with app.hub() as hub:
        registered = list(hub.list_bases())
    if as_json:
        terminal.say_json(registered)
        return
    terminal.say_table(
        ("base", "dtype", "parameters", "adapters", "fingerprint"),
        [(b.name, b.dtype, f"{b.parameters:,}", b.adapter_count, b.fingerprint) for b in registered],
        right=("parameters", "adapters"),
        none="The hub knows no base yet: `vera-hub base add PATH_OR_ID` registers one.",
    )


@base.command()
@click.argument("which", metavar="BASE")
@click.option("--tensors", is_flag=True, help="Every tensor too.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def info(app: App, which: str, *, tensors: bool, as_json: bool) -> None:
    """Show which base BASE is: a name, a folder, or a fingerprint that this machine or the hub knows."""
    table = _table_of(app, which)
    described = {
        "base": which,
        "fingerprint": table.value,
        "dtype": table.dtype,
        "parameters": sum(_elements(record) for record in table.tensors),
        "tensor_count": len(table.tensors),
        "known_as": _known_as(app, table.value),
    }
    if as_json:
        terminal.say_json({**described, **({"tensors": table.to_rows()} if tensors else {})})
        return
    terminal.say(f"{clean(which)}  {table.value}")
    terminal.say(f"  {described['parameters']:,} parameters in {len(table.tensors):,} tensors, {table.dtype}")
    for name, where in _known_as(app, table.value):
        terminal.say(f"  here as {clean(name)}: {clean(where)}")
    if tensors:
        rows = [(r.name, r.dtype, "×".join(map(str, r.shape)), r.sha256) for r in table.tensors]
        terminal.say_table(("tensor", "dtype", "shape", "sha256"), rows)


@base.command()
@click.argument("before", metavar="BASE")
@click.argument("after", metavar="BASE")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def diff(app: App, before: str, after: str, *, as_json: bool) -> None:
    """Show which tensors differ between two bases, and why that may be. Exit status 1 when any does."""
    from vera.base_difference import compare_bases

    found = compare_bases(_table_of(app, before), _table_of(app, after))
    if as_json:
        terminal.say_json(_difference(found))
    else:
        terminal.say(found.story)
        terminal.say(f"{len(found.same):,} tensors are equal")
        _say_names("other values", found.changed)
        _say_names("another shape", found.reshaped)
        _say_names("another dtype", found.recast)
        _say_names(f"only in {clean(before)}", found.only_before)
        _say_names(f"only in {clean(after)}", found.only_after)
    if not found.is_same:
        raise click.exceptions.Exit(1)


def _difference(found: BaseDifference) -> dict[str, object]:
    named = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "same"}
    return {"equal": len(found.same), **named, "story": found.story}


def _table_of(app: App, which: str) -> BaseFingerprint:
    """The table of tensors of a base that is here, or that the hub knows by its fingerprint."""
    from sdk import bases, tensor_tables
    from vera.fingerprint import SCHEME

    if which.startswith(f"{SCHEME}:"):
        with app.hub() as hub:
            return tensor_tables.table_of(which, hub=hub)
    path = bases.locate(which, config=app.config, may_download=False)
    with terminal.bytes_progress(f"Fingerprinting {clean(which)}") as progress:
        return tensor_tables.fingerprint_of(path, config=app.config, progress=progress)


def _known_as(app: App, fingerprint: str) -> list[tuple[str, str]]:
    from sdk.bases import list_known

    return [(known.name, str(known.path)) for known in list_known(app.config) if known.fingerprint == fingerprint]


def _elements(record: TensorRecord) -> int:
    from math import prod

    return prod(record.shape)


def _say_names(what: str, names: Sequence[str]) -> None:
    if names:
        more = f", … {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
        terminal.say(f"{len(names):,} {what}: {', '.join(map(clean, names[:_NAMES_SHOWN]))}{more}")
