"""`vera-hub worker`: the evaluation worker in this terminal."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from hub.api.middleware import LOOPBACK_NAMES

_LABELS_SHOWN = 20


def work(
    name: str | None,
    client: Any,
    token_file: Path,
    *,
    is_own_hub: bool,
    suites: Sequence[str] = (),
    datasets: Path | None = None,
    code: str | None = None,
    fleet: tuple[str, int | None] | None = None,
) -> int:
    """Works until SIGTERM or Ctrl-C, and gives the exit status. `client` is the command line's configuration,
    `suites` and `datasets` are those of `hub.worker.starting.main`; `fleet` is the address of a Ray cluster and how many
    adapters run there at a time.

    Without VERA_HUB_TOKEN, the token is the one that `code` brings or an earlier code has brought, or the one that
    the hub on this machine left in `token_file`. That goes to another machine only when `is_own_hub` says that
    the file is that hub's.
    """
    from hub.worker import keys
    from hub.worker.starting import Fleet, main

    run = partial(main, suite_names=suites, datasets=datasets, fleet=Fleet(*fleet) if fleet is not None else None)
    if code:
        return run(name, keys.enrol(client, code, name or platform.node()))
    if "VERA_HUB_TOKEN" not in os.environ and (token := keys.token_for(client)):
        return run(name, replace(client, token=token))
    may_use_file = is_own_hub or urlsplit(client.url).hostname in LOOPBACK_NAMES
    if "VERA_HUB_TOKEN" not in os.environ and may_use_file and token_file.is_file():
        return _with_token_in(token_file, lambda token: run(name, replace(client, token=token)))
    return run(name, client)


def _with_token_in(file: Path, run: Callable[[str], int]) -> int:
    """Runs again with the token that a hub has left there meanwhile: one that starts anew shuts out the token of before."""
    tried, status = "", 0
    while (token := file.read_text().strip()) != tried:
        tried, status = token, run(token)
        if status == 0:
            return 0
    click.echo(
        f"The token was the one in {file}. If the hub keeps its data in another folder, say --data FOLDER.", err=True
    )
    return status


def evaluate_folders(
    folders: Sequence[Path], client: Any, *, suite: str, base: str | None, datasets: Path | None
) -> dict[str, Any]:
    """What `hub.worker.local.evaluate` gives. `suite` is a file or the name of a built-in suite. Raises SuiteError."""
    from hub.worker import local, suites
    from hub.worker.errors import SuiteError
    from sdk.endpoints import for_data

    known = suites.named([suite], datasets=datasets, endpoint=for_data(client))
    if len(known) != 1:
        raise SuiteError(f"{suite} holds {len(known)} suites ({', '.join(known)}): give the file of one.")
    (only,) = known.values()
    return local.evaluate(only, folders, base=base, config=client)


def suite_lines(name: str, *, datasets: Path | None, shown: int) -> list[str]:
    """What the suites of a file, of a folder or of a name are, with their first items, as lines. Raises SuiteError and DataError."""
    from hub.worker import suites
    from sdk.config import Config
    from sdk.endpoints import for_data

    known = suites.named([name], datasets=datasets, endpoint=for_data(Config.resolve()))
    return [line for suite in known.values() for line in _described(suite, shown)]


def _described(suite: Any, shown: int) -> list[str]:
    declared, examples = suite.declaration(), suite.questions.examples
    definition = declared["definition"]
    beside = "".join(f", {metric}" for metric in definition.get("also", []))
    data = definition["data"]
    lines = [
        f"{suite.name}: {declared['title']}",
        f"  task      {definition['task']}, by {declared['metric']}{beside}",
        f"  data      {data['source']}, {declared['items']:,} items",
        # As a suite file says it: of the files, where they are the user's own, and of the items otherwise.
        f"  sha256    {data.get('sha256') or data['digest']}",
    ]
    labels = declared["labels"]
    more = f" and {len(labels) - _LABELS_SHOWN} more" if len(labels) > _LABELS_SHOWN else ""
    lines += [f"  labels    {', '.join(map(_short, labels[:_LABELS_SHOWN]))}{more}"] if labels else []
    lines += [f"  baseline  {value:.4f} by the most common label" for value in declared["baselines"].values()]
    lines += [f"  note      {note}" for note in suite.questions.notes]
    rows = _first_rows(examples, declared["items"])[:shown]
    return [*lines, *(f"  item {number}    {_item(suite, row)}" for number, row in enumerate(rows, 1))]


def _first_rows(examples: Any, items: int) -> Sequence[int]:
    """Of each item the first row: rows of one prompt may be one item, with several references."""
    if items == len(examples):
        return range(items)
    first: dict[str, int] = {}
    for row, text in enumerate(examples.texts):
        first.setdefault(text, row)
    return list(first.values())


def _item(suite: Any, row: int) -> str:
    examples, labels = suite.questions.examples, suite.questions.labels
    target = examples.targets[row]
    asked = [f"image {examples.images[row].sha256[:12]}…"] if examples.images else [_short(examples.texts[row])]
    asked += [_short(examples.pairs[row])] if examples.pairs else []
    return f"{' | '.join(asked)} → {_short(str(labels[target] if labels else target))}"


def _short(text: str) -> str:
    line = "".join(character if character.isprintable() else "·" for character in " ".join(text.split()))
    return line if len(line) <= 80 else f"{line[:79]}…"
