"""Aliases: names that move from version to version, and a history that says where they were.

A move holds the adapter, so that comparing and setting are one. An alias never means a version that was taken
back: neither is it moved there, nor is a version yanked or deleted while an alias means it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Alias, AliasMove, Version
from hub.db.queries import aliases, drafts
from hub.db.queries.aliases import Pointing
from hub.domain import paging
from hub.domain.audit import Change, record
from hub.domain.catalog import find_adapter, hold_adapter, require_served, select_version
from hub.domain.shaping import adapter_id, alias_view, ref_of
from hub.domain.views.page import Page
from hub.domain.views.versions import AliasMoveView, AliasView
from hub.domain.withdrawing import require_exact
from hub.errors import Conflict, Invalid, NotFound, PreconditionFailed
from vera.errors import RefError
from vera.ref import AdapterRef, SelectorKind, kind_of_selector

# Names for people: an adapter with more has other names in mind.
MAX_ALIASES = 100


@dataclass(frozen=True)
class Expected:
    """What an alias must be for a change to be made, as far as that was said: its revision, the number of its
    version, and whether it is set at all."""

    revision: int | None = None
    version: int | None = None
    is_set: bool | None = None


ANYTHING = Expected()


def list_aliases(session: Session, reader: Principal | None, namespace: str, name: str) -> tuple[AliasView, ...]:
    """The aliases of the adapter, by name. Raises NotFound."""
    adapter = find_adapter(session, reader, namespace, name)
    return tuple(alias_view(adapter, each) for each in aliases.all_of(session, adapter.id))


def get_alias(session: Session, reader: Principal | None, ref: AdapterRef, alias: str) -> AliasView:
    """What the alias means now. Raises NotFound."""
    adapter = find_adapter(session, reader, ref.namespace, ref.name)
    return alias_view(adapter, _find(session, adapter, alias))


def alias_at(session: Session, reader: Principal | None, ref: AdapterRef, alias: str, time: str) -> AliasMoveView:
    """The move that the alias had made last at a moment, as somebody writes it. Raises NotFound when it was not set then,
    and Invalid for a moment that is still to come or is none."""
    adapter = find_adapter(session, reader, ref.namespace, ref.name)
    at = _moment(time)
    _require_past(session, at)
    move = aliases.last_move_until(session, adapter.id, alias, at)
    if move is None:
        raise _not_yet(session, adapter, alias, at)
    if move.to_number is None:
        raise _not_then(adapter, alias, at, f"{move.by.name} had removed it at {_second(move.at)}")
    return _move_view(move, until=_end_of(session, move))


def history(
    session: Session, reader: Principal | None, ref: AdapterRef, alias: str, *, cursor: str | None = None, limit: int
) -> Page[AliasMoveView]:
    """Every move of the alias, newest first, also of one that is no more. Raises NotFound for one that never was."""
    adapter = find_adapter(session, reader, ref.namespace, ref.name)
    keys = paging.decode(session, cursor, "alias", int)
    found = aliases.moves(session, adapter.id, alias, before=int(keys[0]) if keys else None, limit=limit + 1)
    if not found and keys is None:
        raise _unknown(adapter, alias)
    ends = [_end_of(session, found[0]) if found else None, *(move.at for move in found)]
    moves = list(zip(found, ends, strict=False))
    return paging.page(
        moves,
        limit,
        lambda each: _move_view(each[0], until=each[1]),
        lambda each: paging.encode(session, "alias", each[0].id),
    )


def set_alias(
    session: Session,
    principal: Principal,
    ref: AdapterRef,
    alias: str,
    *,
    expected: Expected = ANYTHING,
    is_protected: bool | None = None,
    because: Mapping[str, Any] | None = None,
) -> tuple[AliasView, bool]:
    """Lets `alias` mean the version that `ref` names exactly, and says whether the alias is new.

    `is_protected` None leaves that as it is; `because` are facts for the record. The same again is no move. Raises Invalid for a word that can be no
    alias, PreconditionFailed when it is not what was `expected`, and what `find_version` raises.
    """
    _check_name(alias)
    adapter = hold_adapter(session, principal, ref.namespace, ref.name, to=Action.SET_ALIAS)
    current = aliases.find(session, adapter.id, alias)
    _require_expected(adapter, alias, current, expected)
    _require_may_change(principal, adapter, current, is_protected=is_protected)
    version = _choose_version(session, adapter, ref)
    if not _is_so(current, version, is_protected):
        _place(session, principal, adapter, alias, current, version=version, is_protected=is_protected, because=because)
    return alias_view(adapter, _find(session, adapter, alias)), current is None


def remove_alias(
    session: Session, principal: Principal, ref: AdapterRef, alias: str, *, expected: Expected = ANYTHING
) -> None:
    """Removes the alias; its history stays. Raises NotFound, PreconditionFailed and Forbidden."""
    adapter = hold_adapter(session, principal, ref.namespace, ref.name, to=Action.SET_ALIAS)
    current = _find(session, adapter, alias)
    _require_expected(adapter, alias, current, expected)
    _require_may_change(principal, adapter, current)
    aliases.remove(session, adapter.id, alias)
    _note(session, adapter, alias, principal, before=current.version.number, after=None)
    _record(session, principal, adapter, alias, None, before=current.version.number)


def _choose_version(session: Session, adapter: Adapter, ref: AdapterRef) -> Version:
    """The version that an alias is to mean: named exactly, given out, and not taken back."""
    require_exact(ref)
    version = select_version(session, adapter, ref)
    require_served(version)
    if version.yank_reason is not None:
        raise Conflict(
            f"{ref_of(version)} was yanked ({version.yank_reason}), and no alias may mean it: choose another version.",
            code="VERSION_YANKED",
            ref=ref_of(version),
        )
    return version


def _is_so(current: Pointing | None, version: Version, is_protected: bool | None) -> bool:
    return (
        current is not None and current.version.id == version.id and is_protected in (None, current.alias.is_protected)
    )


def _place(
    session: Session,
    principal: Principal,
    adapter: Adapter,
    alias: str,
    current: Pointing | None,
    *,
    version: Version,
    is_protected: bool | None,
    because: Mapping[str, Any] | None,
) -> None:
    """Makes the alias mean `version`, with a move in its history when that is new, and the change in the record."""
    if current is None:
        _require_room(session, adapter)
        _require_no_draft_name(session, adapter, alias)
    row = current.alias if current else Alias(adapter_id=adapter.id, name=alias, is_protected=False)
    before = current.version.number if current else None
    if before != version.number:
        move = _note(session, adapter, alias, principal, before=before, after=version.number)
        row.version_id, row.move_id = version.id, move.id
    if is_protected is not None:
        row.is_protected = is_protected
    session.add(row)
    session.flush()
    _record(session, principal, adapter, alias, row, before=before, after=version.number, **(because or {}))


def _find(session: Session, adapter: Adapter, alias: str) -> Pointing:
    found = aliases.find(session, adapter.id, alias)
    if found is None:
        raise _unknown(adapter, alias)
    return found


def _check_name(alias: str) -> None:
    try:
        is_alias = kind_of_selector(alias) is SelectorKind.ALIAS
    except RefError:
        is_alias = False
    if not is_alias:
        raise Invalid(
            f"{alias[:64]!r} can be no alias: use 1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter, and "
            "nothing that names a version already (v3, latest, main, head, a digest, 7 to 40 hex digits).",
            code="ALIAS_INVALID",
            alias=alias[:64],
        )


def _require_expected(adapter: Adapter, alias: str, current: Pointing | None, expected: Expected) -> None:
    number = current.version.number if current else None
    revision = current.move.id if current else None
    if (
        expected.is_set in (None, current is not None)
        and expected.version in (None, number)
        and expected.revision in (None, revision)
    ):
        return
    now = f"means v{number}" if current else "is not set"
    named = f" (v{expected.version})" if expected.version is not None else ""
    raise PreconditionFailed(
        f"{adapter_id(adapter)}@{alias} {now}, which is not what was expected{named}, so nothing was changed: "
        "look at its history and decide anew.",
        code="ALIAS_CHANGED",
        version=number,
        revision=revision,
    )


def _require_may_change(
    principal: Principal, adapter: Adapter, current: Pointing | None, *, is_protected: bool | None = None
) -> None:
    """A protected alias is a maintainer's to move, and so is the protection itself."""
    was_protected = current is not None and current.alias.is_protected
    if was_protected or is_protected:
        resource = Resource(adapter.account.name, adapter.name, adapter.is_private)
        authorize(principal, Action.SET_PROTECTED_ALIAS, resource)


def _require_no_draft_name(session: Session, adapter: Adapter, alias: str) -> None:
    """Raises Conflict for a branch or a tag of drafts, which the alias would hide."""
    for kind in ("branch", "tag"):
        if drafts.find_name(session, adapter.id, kind, alias) is not None:
            raise Conflict(
                f"{alias} is a {kind} of {adapter_id(adapter)}, and names a draft: choose another name, or delete the {kind}.",
                code="ALIAS_EXISTS",
                alias=alias,
            )


def _require_room(session: Session, adapter: Adapter) -> None:
    if aliases.count(session, adapter.id) >= MAX_ALIASES:
        raise Conflict(
            f"{adapter_id(adapter)} has {MAX_ALIASES} aliases, and more are not kept: remove one that is not used.",
            code="ALIASES_TOO_MANY",
            limit=MAX_ALIASES,
        )


def _note(
    session: Session, adapter: Adapter, alias: str, principal: Principal, *, before: int | None, after: int | None
) -> AliasMove:
    return aliases.note_move(
        session, adapter.id, alias, before=before, after=after, by_id=principal.account_id, at=db.now(session)
    )


def _record(
    session: Session, principal: Principal, adapter: Adapter, alias: str, now: Alias | None, **facts: Any
) -> None:
    change = Change.ALIAS_REMOVED if now is None else Change.ALIAS_SET
    protection = {} if now is None else {"protected": now.is_protected}
    record(session, principal, change, adapter_id(adapter), {"alias": alias, **facts, **protection})


def _move_view(move: AliasMove, *, until: datetime | None) -> AliasMoveView:
    return AliasMoveView(
        revision=move.id, before=move.from_number, after=move.to_number, at=move.at, until=until, by=move.by.name
    )


def _end_of(session: Session, move: AliasMove) -> datetime | None:
    """When the alias moved next."""
    following = aliases.first_move_after(session, move.adapter_id, move.name, move.id)
    return None if following is None else following.at


def _moment(text: str) -> datetime:
    """A moment in UTC, which is meant where no zone is named. A bare number, which may be of seconds, is none."""
    try:
        moment = datetime.fromisoformat(text if "-" in text else "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(
            f"{text[:40]!r} is no time: write 2026-03-14, or 2026-03-14T12:00:00Z.", code="TIME_INVALID"
        ) from error


def _require_past(session: Session, at: datetime) -> None:
    now = db.now(session)
    if at > now:
        raise Invalid(
            f"{_second(at)} is still to come (it is {_second(now)} here), and nobody knows what an alias will mean: "
            "ask for a time that has passed, or for what it means now.",
            code="TIME_TO_COME",
            at=at.isoformat(),
            now=now.isoformat(),
        )


def _not_yet(session: Session, adapter: Adapter, alias: str, at: datetime) -> NotFound:
    first = aliases.first_move_after(session, adapter.id, alias)
    if first is None:
        return _unknown(adapter, alias)
    return _not_then(adapter, alias, at, f"{first.by.name} set it for the first time at {_second(first.at)}")


def _not_then(adapter: Adapter, alias: str, at: datetime, why: str) -> NotFound:
    named = f"{adapter_id(adapter)} {alias}"
    return NotFound(
        f"{adapter_id(adapter)}@{alias} was not set at {_second(at)}: {why}. "
        f"`vera-hub alias history {named}` shows when it was.",
        code="ALIAS_NOT_SET_THEN",
        at=at.isoformat(),
    )


def _second(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _unknown(adapter: Adapter, alias: str) -> NotFound:
    return NotFound(
        f"{adapter_id(adapter)} has no alias {alias[:64]}: `vera-hub alias list {adapter_id(adapter)}` shows those it has.",
        code="ALIAS_UNKNOWN",
    )
