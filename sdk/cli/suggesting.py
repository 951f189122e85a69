"""What somebody may have meant by a name that nothing has, or by half a reference. At most it costs a request or two, and
only where a command has failed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sdk.errors import HubError, NotFound
from vera.errors import RefError
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.cli.terminal import App
    from sdk.client import Hub

# Of an owner with more adapters a mistyped one may go without a suggestion.
_NAMES_ASKED_FOR = 200
# A slip of a letter or two, and not just any other name of the same owner.
_CLOSE = 0.8


def with_suggestion(error: Exception, app: App) -> str:
    """The error's sentence; of an adapter or a suite that is not there with names that are close, of those the reader may see
    at the hub that was asked, and of a name without its owner with the reader's own."""
    if isinstance(error, RefError):
        meant = _with_owner(str(error.facts.get("ref", "")), app)
        return str(error) if meant is None else f"{error} Did you mean {meant}?"
    if not isinstance(error, NotFound) or error.code not in ("ADAPTER_UNKNOWN", "SUITE_UNKNOWN"):
        return str(error)
    from difflib import get_close_matches

    asked = app.config if error.url is None else app.config.at_host(urlsplit(error.url).netloc)
    try:
        with app.hub_at(asked) as hub:
            wanted, names = _candidates(error, hub)
    except HubError:
        return str(error)
    close = [name for name in get_close_matches(wanted, names, n=2, cutoff=_CLOSE) if name != wanted]
    if asked.url != app.config.url:
        close = [f"vera://{urlsplit(asked.url).netloc}/{name}" for name in close]
    return f"{error} Did you mean {' or '.join(close)}?" if close else str(error)


def _with_owner(typed: str, app: App) -> AdapterRef | None:
    """`typed` in the namespace of who is signed in, where it is a name alone and the profile says who that is."""
    from sdk.config import Profile

    login = Profile.read(app.config.folder).logins.get(app.config.url)
    if "/" in typed or login is None or login.token != app.config.token:
        return None
    try:
        return AdapterRef.parse(typed, default_namespace=login.user)
    except RefError:
        return None


def _candidates(error: NotFound, hub: Hub) -> tuple[str, list[str]]:
    """What was typed, and what there is: an owner's adapters, or those of that name where the owner has none."""
    if error.code == "SUITE_UNKNOWN":
        return str(error.facts.get("suite", "")), [suite.name for suite in hub.list_suites()]
    wanted = str(error.facts.get("adapter", ""))
    owner, _, name = wanted.partition("/")
    listed = list(islice(hub.list_adapters(owner=owner), _NAMES_ASKED_FOR))
    if not listed:
        listed = list(islice(hub.list_adapters(search=name), _NAMES_ASKED_FOR))
    return wanted, [adapter.id for adapter in listed]
