"""Gated adapters: everybody who sees one reads what it is, and its files are given to whom its owners let in.

An adapter with the gate `auto` lets in whoever is signed in and asks, so that its owners know who has it; with
`manual` they decide. Who has a role in its namespace needs to ask nobody. `hub.db.queries.visibility.gives_files_to`
says who gets the files, and `authorize` refuses the others.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize, viewer_of
from hub.db import session as db
from hub.db.models.adapters import AccessRequest, Adapter
from hub.db.queries import access, adapters
from hub.db.queries import accounts as account_rows
from hub.db.queries.inserting import insert_new
from hub.domain import openings, paging
from hub.domain.audit import Change, record
from hub.domain.catalog import find_adapter
from hub.domain.organisations import require_user
from hub.domain.shaping import adapter_id, adapter_view
from hub.domain.views.adapters import AccessRequestView, AccessState, AccessView, AdapterView, Gate
from hub.domain.views.page import Page
from hub.errors import Conflict, Forbidden, NotFound


def set_gate(session: Session, principal: Principal, namespace: str, name: str, gate: Gate | None) -> AdapterView:
    """Gates the adapter, or opens it; as it was is no change. Who was let in before stays so. Raises NotFound and
    Forbidden."""
    adapter = find_adapter(session, principal, namespace, name, to=Action.MANAGE_ADAPTER)
    if adapter.gate != gate:
        adapter.gate = gate
        session.flush()
        record(session, principal, Change.GATE_CHANGED, f"{namespace}/{name}", {"gated": gate})
    return adapter_view(adapter)


def set_gate_of_opening(session: Session, principal: Principal, namespace: str, name: str, gate: Gate | None) -> bool:
    """`set_gate` of an adapter that has no version yet. False when it is none. Raises Forbidden."""
    opening = openings.find(session, principal, namespace, name)
    if opening is None:
        return False
    authorize(principal, Action.MANAGE_ADAPTER, Resource(namespace, name, opening.is_private))
    if opening.gate != gate:
        opening.gate = gate
        record(session, principal, Change.GATE_CHANGED, f"{namespace}/{name}", {"gated": gate})
    return True


def describe(session: Session, reader: Principal | None, namespace: str, name: str) -> AccessView:
    """What `reader` gets of the adapter. Raises NotFound."""
    adapter = find_adapter(session, reader, namespace, name)
    mine = access.of_user(session, adapter.id, reader.account_id) if reader else None
    return AccessView(
        gated=adapter.gate,  # type: ignore[arg-type]  # the table's CHECK holds it to the two
        files=adapter.gate is None or adapters.gives_files(session, viewer_of(reader), adapter.id),
        state=mine.state if mine else None,  # type: ignore[arg-type]
        reason=mine.reason if mine else None,
    )


def ask(session: Session, principal: Principal, namespace: str, name: str, message: str | None) -> AccessRequestView:
    """Asks for the files of a gated adapter; asked before, it stays as it is, unless it waits since before the gate was
    `auto`.

    Raises Conflict for one that is not gated, and Forbidden for who was refused.
    """
    require_user(principal)
    adapter = find_adapter(session, principal, namespace, name, to=Action.REQUEST_ACCESS)
    _require_gate(adapter)
    access.hold(session, adapter.id, principal.account_id)
    found = access.of_user(session, adapter.id, principal.account_id)
    if found is not None and found.state == "rejected":
        because = f" ({found.reason})" if found.reason else ""
        raise Forbidden(
            f"The owners of {namespace}/{name} have refused {principal.name}{because}: only they can change that.",
            code="ACCESS_REFUSED",
            reason=found.reason,
        )
    state: AccessState = "accepted" if adapter.gate == "auto" else "pending"
    if found is None or (found.state, state) == ("pending", "accepted"):
        found = found or _add(session, adapter, principal.account_id, state, message=message)
        found.state, found.decided_at = state, found.decided_at or (db.now(session) if state == "accepted" else None)
        facts = {"user": principal.name, "state": state}
        record(session, principal, Change.ACCESS_REQUESTED, f"{namespace}/{name}", facts)
    return _view(found)


def list_requests(
    session: Session,
    principal: Principal,
    namespace: str,
    name: str,
    *,
    state: AccessState | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[AccessRequestView]:
    """Who has asked for the files of an adapter, or was let in, by name. Raises NotFound and Forbidden."""
    adapter = find_adapter(session, principal, namespace, name, to=Action.MANAGE_ADAPTER)
    keys = paging.decode(session, cursor, "access", str)
    rows = access.page(session, adapter.id, state, after=str(keys[0]) if keys else None, limit=limit + 1)
    return paging.page(rows, limit, _view, lambda row: paging.encode(session, "access", row.account.name))


def decide(
    session: Session,
    principal: Principal,
    namespace: str,
    name: str,
    *,
    user: str,
    state: AccessState,
    reason: str | None = None,
    must_have_asked: bool = False,
) -> AccessRequestView:
    """Lets a user in, refuses them, or lets them wait (again). Who has not asked can be let in, unless `must_have_asked`.

    Raises NotFound for no such user and no such request, and Conflict for an adapter that is not gated.
    """
    adapter = find_adapter(session, principal, namespace, name, to=Action.MANAGE_ADAPTER)
    _require_gate(adapter)
    account = account_rows.find(session, user, "user")
    if account is None:
        raise NotFound(f"There is no user {user[:64]} here: check the name.", code="USER_UNKNOWN", user=user[:64])
    access.hold(session, adapter.id, account.id)
    found = access.of_user(session, adapter.id, account.id)
    if found is None and (must_have_asked or state != "accepted"):
        raise NotFound(
            f"{user} has not asked for access to {namespace}/{name}: `vera-hub access list` shows who has.",
            code="ACCESS_REQUEST_UNKNOWN",
            user=user,
        )
    if found is None:
        found = _add(session, adapter, account.id, "pending")
    elif found.state == state:
        return _view(found)
    found.state, found.reason = state, reason if state == "rejected" else None
    found.decided_at, found.decided_by_id = db.now(session), principal.account_id
    session.flush()
    decided = access.of_user(session, adapter.id, account.id)
    assert decided is not None, "this transaction holds it"
    view = _view(decided)
    record(session, principal, Change.ACCESS_DECIDED, f"{namespace}/{name}", {"user": user, "state": state})
    return view


def _add(
    session: Session, adapter: Adapter, account_id: int, state: AccessState, *, message: str | None = None
) -> AccessRequest:
    """The request, made now unless another one came between."""
    at = db.now(session)
    insert_new(
        session,
        AccessRequest,
        adapter_id=adapter.id,
        account_id=account_id,
        state=state,
        message=message,
        created_at=at,
        decided_at=at if state == "accepted" else None,
    )
    added = access.of_user(session, adapter.id, account_id)
    assert added is not None, "nothing removes one"
    return added


def _require_gate(adapter: Adapter) -> None:
    if adapter.gate is None:
        raise Conflict(
            f"{adapter_id(adapter)} is not gated: its files are given to everybody who sees it.", code="NOT_GATED"
        )


def _view(request: AccessRequest) -> AccessRequestView:
    return AccessRequestView(
        user=request.account.name,
        state=request.state,  # type: ignore[arg-type]  # the table's CHECK holds it to the three
        message=request.message,
        reason=request.reason,
        created_at=request.created_at,
        decided_at=request.decided_at,
        decided_by=request.decided_by.name if request.decided_by else None,
    )
