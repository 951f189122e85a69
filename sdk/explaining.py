"""A wrong base, explained: which base it is instead, as far as this machine or the hub know it, and how to get the right one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from sdk import bases, tensor_tables
from sdk.errors import HubError
from vera.base_difference import compare_bases
from vera.errors import BaseMismatch, VeraError

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.finding import Found
    from vera.fingerprint import BaseFingerprint
    from vera.manifest import BaseIdentity

# A mistake costs a few requests, whatever a hub has: so many of its bases are listed, and so many tables fetched.
_MOST_LISTED, _MOST_FETCHED = 200, 8


@contextmanager
def explained(wanted: Sequence[Found], *, hub: Hub) -> Iterator[None]:
    """Adds to a BaseMismatch of the block which base was found, and what would load the one of `wanted` that it is about.

    Looks among the bases of this machine and, unless it is offline, of `hub`; where they do not answer, the error is as it was.
    """
    try:
        yield
    except BaseMismatch as error:
        expected = error.facts.get("fingerprint", error.facts.get("expected"))
        about = next((each for each in wanted if each.archive.manifest.base.fingerprint == expected), None)
        if about is None or error.code != BaseMismatch.code:
            raise
        needed, ref = about.archive.manifest.base, about.title
        sentences = [str(error), _why(needed, error, hub), _who(needed, error.found, hub), _fix(needed, ref, hub)]
        facts: dict[str, Any] = error.facts
        raise BaseMismatch(" ".join(filter(None, sentences)), found=error.found, **facts) from error.__cause__


def _why(needed: BaseIdentity, error: BaseMismatch, hub: Hub) -> str | None:
    """The story of two checkpoints; that of a live model has been told."""
    found: Any = error.facts.get("got")
    expected, other = _table(needed.fingerprint, hub), _table(found, hub) if isinstance(found, str) else None
    if expected is None or other is None:
        return None
    difference = compare_bases(expected, other)
    return f"{difference.counts}. {difference.story}"


def _who(needed: BaseIdentity, found: Mapping[str, str], hub: Hub) -> str | None:
    """Which known base has every tensor that was `found`."""
    for name, fingerprint in _candidates(needed, hub) if found else ():
        table = _table(fingerprint, hub)
        if table is not None and _holds(table, found):
            return f"What is here is {name} ({fingerprint})."
    return None


def _holds(table: BaseFingerprint, found: Mapping[str, str]) -> bool:
    by_name = table.by_name
    return all(name in by_name and by_name[name].sha256 == sha256 for name, sha256 in found.items())


def _candidates(needed: BaseIdentity, hub: Hub) -> Iterator[tuple[str, str]]:
    """Name and fingerprint of other bases, those of this machine first."""
    seen = {needed.fingerprint}
    for known in bases.list_known(hub.config):
        if known.fingerprint not in seen:
            seen.add(known.fingerprint)
            yield known.name, known.fingerprint
    expected = _table(needed.fingerprint, hub)
    if hub.config.offline or expected is None:
        return
    with suppress(HubError, VeraError):
        listed = [base for base in islice(hub.list_bases(), _MOST_LISTED) if base.fingerprint not in seen]
        alike = [base for base in listed if base.dtype == expected.dtype]
        alike.sort(key=lambda base: abs(base.tensor_count - len(expected.tensors)))
        yield from ((base.name, base.fingerprint) for base in alike[:_MOST_FETCHED])


def _table(fingerprint: str, hub: Hub) -> BaseFingerprint | None:
    """None where nobody knows it."""
    with suppress(HubError, VeraError):
        return tensor_tables.table_of(fingerprint, hub=hub)
    return None


def _fix(needed: BaseIdentity, ref: str, hub: Hub) -> str:
    known = bases.known_as(needed.fingerprint, needed.name, config=hub.config)
    name = known.name if known and known.is_here else None
    at = f" at revision {needed.revision}" if needed.revision else ""
    if name or bases.is_hugging_face_id(needed.name):
        base = name or needed.name
        return f'The adapter needs {needed.name}{at}: sdk.load("{base}", "{ref}") opens it, and `--base {base}` names it to vera-hub.'
    return (
        f"The adapter needs {needed.name}{at}: run `vera-hub base add FOLDER --name {needed.name}` with its folder, and then "
        f'sdk.load("{needed.name}", "{ref}"), or `--base {needed.name}`.'
    )
