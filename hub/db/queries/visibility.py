"""Which adapters somebody may see. Every query that shows adapters, or counts them, is joined to this."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, false, select, true, tuple_

from hub.db.models.adapters import AccessRequest, Adapter
from hub.db.models.evaluating import Evaluation, Worker
from hub.db.models.finding import Listing
from hub.db.models.versions import Version


@dataclass(frozen=True)
class Viewer:
    """Whose private adapters are shown beside the public ones: those of these accounts, these single ones by
    (account id, name), and those of the jobs that the workers of this token hold. `account_id` is who they are, where
    owners of gated adapters have let in who it is."""

    namespaces: frozenset[int] = frozenset()
    adapters: frozenset[tuple[int, str]] = frozenset()
    worker_token_id: int | None = None
    account_id: int | None = None


ANYBODY = Viewer()


def is_visible(viewer: Viewer) -> ColumnElement[bool]:
    """The condition on an `Adapter` row."""
    clause: ColumnElement[bool] = Adapter.is_private == false()
    if viewer.namespaces:
        clause |= Adapter.account_id.in_(viewer.namespaces)
    if viewer.adapters:
        clause |= tuple_(Adapter.account_id, Adapter.name).in_(viewer.adapters)
    if viewer.worker_token_id is not None:
        clause |= Adapter.id.in_(_leased_by(viewer.worker_token_id))
    return clause


def gives_files_to(viewer: Viewer) -> ColumnElement[bool]:
    """The condition on an `Adapter` row that is visible: its files are given, not only told of."""
    clause: ColumnElement[bool] = Adapter.gate.is_(None)
    if viewer.namespaces:
        clause |= Adapter.account_id.in_(viewer.namespaces)
    if viewer.adapters:
        clause |= tuple_(Adapter.account_id, Adapter.name).in_(viewer.adapters)
    if viewer.worker_token_id is not None:
        clause |= Adapter.id.in_(_leased_by(viewer.worker_token_id))
    if viewer.account_id is not None:
        let_in = AccessRequest.account_id == viewer.account_id, AccessRequest.state == "accepted"
        clause |= Adapter.id.in_(select(AccessRequest.adapter_id).where(*let_in))
    return clause


def is_listed_for(viewer: Viewer) -> ColumnElement[bool]:
    """The condition on a `Listing` row, which knows by itself who may see it: lists read no other table."""
    clause: ColumnElement[bool] = Listing.is_private == false()
    if viewer.namespaces:
        clause |= Listing.account_id.in_(viewer.namespaces)
    if viewer.adapters or viewer.worker_token_id is not None:
        clause |= Listing.adapter_id.in_(select(Adapter.id).where(is_visible(viewer), Adapter.is_private == true()))
    return clause


def is_of_visible_adapter(viewer: Viewer) -> ColumnElement[bool]:
    """The condition on an `Evaluation` row. It is asked of each one: a list of all that is visible takes as long to make
    as there are versions."""
    its_own = select(Version.id).join(Version.adapter).where(Version.id == Evaluation.version_id, is_visible(viewer))
    return its_own.correlate(Evaluation).exists()


def _leased_by(token_id: int) -> Select[int]:
    return (
        select(Version.adapter_id)
        .join(Evaluation, Evaluation.version_id == Version.id)
        .join(Worker, Worker.id == Evaluation.worker_id)
        .where(Worker.token_id == token_id, Evaluation.state == "running")
    )
