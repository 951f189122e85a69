"""Suites, and the evaluations of versions by them."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize, viewer_of
from hub.db import session as db
from hub.db.models.evaluating import Suite
from hub.db.models.versions import Version
from hub.db.queries import evaluations, queueing, suites
from hub.db.queries.evaluations import Placed
from hub.domain import secrecy
from hub.domain.audit import Change, record
from hub.domain.catalog import find_version, labels_of
from hub.domain.shaping import evaluation_views, ref_of, signer_view, suite_view
from hub.domain.views.evaluations import Comparison, EvaluationView, SignatureView, SuiteView
from hub.errors import Conflict, Invalid, NotFound
from hub.scoring.metrics import Outcome
from hub.scoring.statistics import compare, method_of
from vera import canonical_json
from vera.ref import AdapterRef

CANCELLED = "CANCELLED"
_ID = re.compile(r"[1-9][0-9]{0,17}")


def list_suites(session: Session) -> tuple[SuiteView, ...]:
    """The current definition of every suite, by name."""
    return tuple(suite_view(suite) for suite in suites.all_current(session))


def get_suite(session: Session, name: str) -> SuiteView:
    """Raises NotFound."""
    return suite_view(find_suite(session, name))


def _counted(labels: Sequence[str]) -> str:
    if not labels:
        return "no labels"
    return f"{len(labels)} labels ({', '.join(labels[:4])}{'…' * (len(labels) > 4)})"


def request_evaluation(
    session: Session, principal: Principal | None, ref: AdapterRef, suite_name: str
) -> tuple[EvaluationView, bool]:
    """The evaluation of the version that `ref` means by the suite as it is now, and whether it was put
    in the queue: it is new, or it had failed and is tried again.

    Raises NotFound, Invalid when the adapter answers something else than the suite asks, and TooMany where its answers are
    hidden and the owner, or `principal`, has had the scores of today.
    """
    version, suite = find_version(session, principal, ref), find_suite(session, suite_name)
    if version.labels_sha256 != suite.labels_sha256:
        own = labels_of(session, version)
        raise Invalid(
            f"{ref_of(version)} was trained for {_counted(own)}, and {suite.name} asks for {_counted(suite.labels)}: "
            "choose a suite with the adapter's labels, in their order.",
            code="TASK_MISMATCH",
            suite=suite.name,
            labels=suite.labels[:100],
            adapter_labels=own[:100],
        )
    owner_id, at = version.adapter.account_id, db.now(session)
    _, digest = spec_of(suite, version.base.fingerprint)
    is_charged = secrecy.access_of(suite) == secrecy.HIDDEN
    charged = secrecy.charged(principal, version.adapter.account) if is_charged else []
    if not evaluations.is_open_or_done(session, version.id, digest):
        secrecy.require_scores_left(session, suite, charged, at=at)
    is_new = _enqueue(session, version, suite, owner_id, fingerprint=version.base.fingerprint, at=at)
    is_queued = is_new or queueing.retry_failed(session, version.id, digest)
    placed = evaluations.by_key(session, version.id, digest)
    assert placed is not None
    for account_id in charged if is_queued else ():
        evaluations.charge(session, placed.evaluation.id, account_id)
    return evaluation_views(session, [placed])[0], is_queued


def get_evaluation(session: Session, reader: Principal | None, evaluation_id: str) -> EvaluationView:
    """Raises NotFound."""
    return evaluation_views(session, [_visible(session, reader, evaluation_id)])[0]


def signature_of(session: Session, reader: Principal | None, evaluation_id: str) -> SignatureView:
    """What its worker has signed of an evaluation. Raises NotFound, as where the suite is hidden: the digest of what each
    item was worth is among it, and of the few ways in which a score comes about one has that digest."""
    placed = _visible(session, reader, evaluation_id)
    view = evaluation_views(session, [placed])[0]
    if secrecy.access_of(placed.evaluation.suite) == secrecy.HIDDEN:
        raise NotFound(
            f"The evaluation {view.id} of {view.ref} has no signature that is shown: {view.suite} is hidden, and what is signed "
            "would give its answers away.",
            code="SIGNATURE_UNKNOWN",
        )
    signed = evaluations.signed(session, int(view.id))
    if signed is None or signed.envelope is None or signed.worker_key is None:
        why = "it was made before workers had keys" if view.state == "done" else f"it is {view.state}"
        raise NotFound(f"The evaluation {view.id} of {view.ref} has no signature: {why}.", code="SIGNATURE_UNKNOWN")
    return SignatureView(
        evaluation=view.id,
        envelope=json.loads(signed.envelope),
        public_key=signed.worker_key.public_key,
        signed_by=signer_view(signed.worker_key),
    )


def cancel_evaluation(session: Session, principal: Principal, evaluation_id: str) -> EvaluationView:
    """Ends an evaluation that waits or runs, and tells its worker with the next heartbeat; twice is once.

    Asking for it again puts it back in the queue. Raises NotFound, Forbidden, and Conflict where there is a score.
    """
    placed = _visible(session, principal, evaluation_id)
    evaluation, adapter = placed.evaluation, placed.evaluation.version.adapter
    authorize(
        principal, Action.CANCEL_EVALUATION, Resource(adapter.account.name, adapter.name, adapter.is_private)
    )  # fmt: skip
    reason = f"{CANCELLED}: {principal.name} cancelled it. Asking for it again puts it back in the queue."
    if queueing.cancel(session, evaluation.id, at=db.now(session), reason=reason):
        session.expire(evaluation)
        facts = {"evaluation": str(evaluation.id), "suite": evaluation.suite.name}
        record(session, principal, Change.EVALUATION_CANCELLED, ref_of(evaluation.version), facts)
    view = get_evaluation(session, principal, evaluation_id)
    if view.state == "done":
        raise Conflict(
            f"The evaluation {view.id} of {view.ref} is done: there is nothing to cancel.", code="EVALUATION_DONE"
        )
    return view


def compare_evaluations(session: Session, reader: Principal | None, evaluation_id: str, against_id: str) -> Comparison:
    """Two finished evaluations of one suite, paired by item. Raises NotFound and Conflict."""
    ours, theirs = finished_pair(session, reader, evaluation_id, against_id)
    suite = ours.suite
    paired = compare(unpack(ours.outcomes), unpack(theirs.outcomes), suite.metric)
    return Comparison(
        metric=suite.metric,
        items=paired.items,
        score=paired.score,
        against_score=paired.against_score,
        delta=paired.delta,
        interval=paired.interval,
        p_value=paired.p_value,
        only_better=paired.only_better,
        only_worse=paired.only_worse,
        method=method_of(suite.metric),
        items_are_public=secrecy.access_of(suite) == secrecy.PUBLIC,
    )


@dataclass(frozen=True)
class Finished:
    """An evaluation that is done: packed outcomes, and the hash of its packed outputs."""

    id: int
    ref: str
    suite: Suite
    outcomes: bytes
    outputs_sha256: str | None


def finished_pair(
    session: Session, reader: Principal | None, evaluation_id: str, against_id: str
) -> tuple[Finished, Finished]:
    """Two finished evaluations over the same items. Raises NotFound and Conflict."""
    ours, theirs = _finished(session, reader, evaluation_id), _finished(session, reader, against_id)
    if ours.suite.id != theirs.suite.id:
        raise Conflict(
            f"One is of {ours.suite.name} and the other of {theirs.suite.name}, or of another definition of "
            "it: only evaluations over the same items can be compared.",
            code="SPEC_MISMATCH",
        )
    return ours, theirs


def enqueue_for_version(session: Session, version: Version, owner_id: int, *, fingerprint: str, at: datetime) -> None:
    """Asks for the evaluation of a new version, on the base of this fingerprint, by every suite that has its labels."""
    if version.labels_sha256 is None:
        return
    for suite in suites.current_for_labels(session, version.labels_sha256):
        if secrecy.access_of(suite) == secrecy.HIDDEN:
            continue
        _enqueue(session, version, suite, owner_id, fingerprint=fingerprint, at=at)


def enqueue_for_suite(session: Session, suite: Suite, *, at: datetime) -> None:
    """Asks for the evaluation of every version with its labels by a new suite."""
    if suite.labels_sha256 is None or secrecy.access_of(suite) == secrecy.HIDDEN:
        return
    for base in queueing.bases_with_labels(session, suite.labels_sha256):
        spec, digest = spec_of(suite, base.fingerprint)
        queueing.enqueue_all(
            session,
            suite_id=suite.id,
            base_id=base.id,
            labels_sha256=suite.labels_sha256,
            at=at,
            spec=spec,
            spec_digest=digest,
        )


def spec_of(suite: Suite, fingerprint: str) -> tuple[dict[str, Any], str]:
    """Everything that decides a score beside the adapter, and its digest."""
    spec = {
        "suite": suite.name,
        "suite_digest": suite.digest,
        "base": fingerprint,
        "dtype": "float32",
        "seed": suite.definition.get("seed", 0),
    }
    if "batch_size" in suite.definition:
        spec["batch_size"] = suite.definition["batch_size"]
    return spec, canonical_digest(spec)


def canonical(value: Mapping[str, Any]) -> bytes:
    """The RFC 8785 form of `value`. Raises Invalid for numbers that not every machine reads alike."""
    try:
        return canonical_json.dumps(dict(value))
    except canonical_json.Impossible as error:
        raise Invalid(f"That is no canonical JSON (RFC 8785): {error}.", code="JSON_INVALID") from error


def canonical_digest(value: Mapping[str, Any]) -> str:
    """`sha256:…` of the canonical form. Raises Invalid."""
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"


def labels_key(labels: Sequence[str]) -> str | None:
    """What two lists of labels share when they are the same; None for no labels, which fit nothing."""
    return hashlib.sha256(json.dumps(list(labels)).encode()).hexdigest() if labels else None


def pack(values: Sequence[object] | Mapping[str, object]) -> bytes:
    """A list or an object as compressed JSON."""
    return zlib.compress(json.dumps(values, separators=(",", ":")).encode(), 6)


def unpack(data: bytes) -> list[Outcome]:
    """The outcomes that `pack` packed."""
    outcomes: list[Outcome] = json.loads(zlib.decompress(data))
    return outcomes


def unpack_beside(data: bytes) -> dict[str, list[Outcome]]:
    """The outcomes of each metric beside the one that ranks."""
    outcomes: dict[str, list[Outcome]] = json.loads(zlib.decompress(data))
    return outcomes


def find_suite(session: Session, name: str) -> Suite:
    """Raises NotFound."""
    suite = suites.current(session, name)
    if suite is None:
        raise NotFound(
            f"There is no suite {name[:130]} here: `vera-hub suites` lists them, and a worker brings those it was "
            "given: `vera-hub worker --suite FILE|FAMILY/TASK`. One that was just started may still be opening its suites: ask "
            "again in a few seconds.",
            code="SUITE_UNKNOWN",
            suite=name[:130],
        )
    return suite


def parse_id(text: str) -> int:
    """The number in the id of an evaluation. Raises NotFound for what can be none."""
    if not _ID.fullmatch(text):
        raise _unknown(text)
    return int(text)


def _enqueue(
    session: Session, version: Version, suite: Suite, owner_id: int, *, fingerprint: str, at: datetime
) -> bool:
    spec, digest = spec_of(suite, fingerprint)
    return queueing.enqueue(
        session,
        version_id=version.id,
        suite_id=suite.id,
        owner_id=owner_id,
        at=at,
        spec=spec,
        spec_digest=digest,
    )


def _finished(session: Session, reader: Principal | None, evaluation_id: str) -> Finished:
    view = get_evaluation(session, reader, evaluation_id)
    scored = evaluations.scored(session, int(view.id))
    if scored is None:
        raise Conflict(
            f"The evaluation {view.id} of {view.ref} is {view.state}: wait until it is done.",
            code="EVALUATION_NOT_DONE",
            state=view.state,
        )
    found = scored.evaluation
    return Finished(found.id, view.ref, found.suite, scored.outcomes, found.outputs_sha256)


def _visible(session: Session, reader: Principal | None, evaluation_id: str) -> Placed:
    placed = evaluations.visible_by_id(session, viewer_of(reader), parse_id(evaluation_id))
    if placed is None:
        raise _unknown(evaluation_id)
    return placed


def _unknown(evaluation_id: str) -> NotFound:
    return NotFound(
        f"There is no evaluation {evaluation_id[:40]} here: `vera-hub info` shows those of a version.",
        code="EVALUATION_UNKNOWN",
    )
