"""How a worker is let in, which key it signs with, and how it is shut out again.

A code is good for one worker and ten minutes. The token it brings is bound to the worker's public key. Whoever comes with a
key, for a token or to register, has signed with it that they come to this hub, by this name, with this code or token
(`vera.possession`), so that nobody is entered by the key of another. A further code brings a worker that is in already
another token: the one it has is good until it comes with the new one, and no longer. A worker with a token that it was given
otherwise (the hub's own machine) brings its key when it registers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from hub.auth import tokens
from hub.auth.policy import Principal
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models.evaluating import Evaluation, WorkerCode, WorkerKey
from hub.db.queries import listings, worker_keys
from hub.db.queries import tokens as token_rows
from hub.db.queries.worker_keys import Counted
from hub.domain import accounts
from hub.domain.audit import Change, record
from hub.domain.shaping import ref_of
from hub.domain.views.evaluations import WorkerTokenView
from hub.errors import Forbidden, Invalid, NotFound, Unauthorized
from vera import __version__, possession
from vera.errors import SignatureError
from vera.signing import PublicKey

CODE_LIFETIME = timedelta(minutes=10)
TOKEN_LIFETIME = timedelta(days=90)
# Who has a shell where the hub runs, in the record. Nobody can have this name.
ADMIN = "admin"


@dataclass(frozen=True)
class Shown:
    """A public key, and the proof that it is its sender's; None of a worker that gives none. `hubs` are the names of this hub
    that a proof may be for."""

    public_key: str
    proof: Mapping[str, Any] | None
    hubs: Collection[str]


@dataclass(frozen=True)
class Revoked:
    """What became of a key: the jobs that were taken from its workers, and the results that are measured anew."""

    key_id: str
    name: str
    leases: int
    doubted: tuple[str, ...]


def offer_code(session: Session, account_id: int) -> tuple[str, datetime]:
    """A code with which one worker gets a token of this account, and until when."""
    code, at = tokens.mint(tokens.WORKER_CODE), db.now(session)
    expires_at = at + CODE_LIFETIME
    session.add(WorkerCode(hash=tokens.hash_of(code), account_id=account_id, created_at=at, expires_at=expires_at))
    return code, expires_at


def enrol(session: Session, code: str, name: str, shown: Shown) -> WorkerTokenView:
    """The token of a worker with this key, for a code that was not used. Raises Unauthorized, Invalid for a key that is not
    proven, and Forbidden for one that was revoked or is another worker's."""
    key, at = _proven(shown, name, tokens.hash_of(code)), db.now(session)
    account_id = worker_keys.use_code(session, tokens.hash_of(code), at=at)
    if account_id is None:
        raise Unauthorized(
            f"That code is none of this hub, was used already, or is older than {CODE_LIFETIME.seconds // 60} minutes: "
            "`vera-hub admin worker-code` where the hub runs makes another.",
            code="CODE_INVALID",
        )
    row = worker_keys.ensure(session, str(key), key_id=key.id, name=name, created_at=at)
    require_good(row)
    _require_its_own(session, row, name, account_id)
    token, secret = accounts.add_token(session, account_id, TokenKind.WORKER, lifetime=TOKEN_LIFETIME, name=name)
    _keep_token(session, row, token.id, at)
    row.name = name
    record(session, None, Change.WORKER_ENROLLED, name, {"key": key.id, "token": token.id}, actor=ADMIN)
    return WorkerTokenView(token=secret, key_id=key.id, expires_at=token.expires_at)


def key_of(session: Session, principal: Principal, name: str, shown: Shown) -> WorkerKey:
    """The key that a worker with this token registers with. Raises Invalid for one that is not proven, and Forbidden for one
    that was revoked or is not the one of its token."""
    key = _proven(shown, name, token_rows.hash_of_id(session, principal.token_id))
    bound = worker_keys.of_token(session, principal.token_id)
    if bound is not None and bound.public_key != str(key):
        raise Forbidden(
            f"This token is for the worker with the key {bound.key_id}, and this one has {key.id}: ask for a code of its "
            "own (`vera-hub admin worker-code`).",
            code="WORKER_KEY_MISMATCH",
            expected=bound.key_id,
            got=key.id,
        )
    row = worker_keys.ensure(session, str(key), key_id=key.id, name=name, created_at=db.now(session))
    require_good(row)
    if row.next_token_id is not None and row.next_token_id == principal.token_id:
        _change_token(session, row)
    return row


def _require_its_own(session: Session, key: WorkerKey, name: str, account_id: int) -> None:
    """Raises Forbidden for a key that a code has let in for another worker: of another name, or of another account."""
    if key.token_id is None:
        return
    token = token_rows.by_id(session, key.token_id)
    if key.name != name or (token is not None and token.account_id != account_id):
        whose = f" of {token.account.name}" if token is not None else ""
        raise Forbidden(
            f"The key {key.key_id} is that of the worker {key.name}{whose} here, and not of {name!r}: start that one again with "
            f"--name {key.name} and a code of its account, or, for a worker of its own, remove worker.key from the "
            "configuration of this machine, which is then given another.",
            code="WORKER_KEY_TAKEN",
            key=key.key_id,
            expected=key.name,
            got=name,
        )


def _keep_token(session: Session, key: WorkerKey, token_id: int, at: datetime) -> None:
    """The token is the key's now, or once its worker has come with it. One that was to be, and was never used, is no more."""
    if key.token_id is None or token_rows.by_id(session, key.token_id) is None:
        key.token_id = token_id
        return
    if key.next_token_id is not None:
        token_rows.revoke(session, key.next_token_id, at=at)
    key.next_token_id = token_id


def _change_token(session: Session, key: WorkerKey) -> None:
    """The worker has its new token: the old one is good for nothing."""
    facts = {"key": key.key_id, "token": key.next_token_id, "instead_of": key.token_id}
    if key.token_id is not None:
        token_rows.revoke(session, key.token_id, at=db.now(session))
    key.token_id, key.next_token_id = key.next_token_id, None
    record(session, None, Change.WORKER_TOKEN_CHANGED, key.name, facts, actor=ADMIN)


def require_good(key: WorkerKey) -> None:
    """Raises Forbidden for a key that was revoked."""
    if key.revoked_at is not None:
        raise Forbidden(
            f"The key {key.key_id} of the worker {key.name} was revoked: it takes no job and hands in no result. With a new "
            "key (remove worker.key from its configuration) and a new code it is another worker.",
            code="WORKER_REVOKED",
            key=key.key_id,
        )


def keys(session: Session) -> list[Counted]:
    """Every key that was ever registered, the earliest first."""
    return worker_keys.counted(session)


def revoke(session: Session, wanted: str, *, since: datetime | None = None) -> Revoked:
    """Shuts out the workers with a key: their jobs go back to the queue, and so does, with `since`, what the key has signed
    from then on. `wanted` is the beginning of a key's id, or the name of a worker. Twice is once; raises NotFound and Invalid.
    """
    key, at = _meant(session, wanted), db.now(session)
    if key.revoked_at is None:
        key.revoked_at = at
        record(session, None, Change.WORKER_REVOKED, key.name, {"key": key.key_id}, actor=ADMIN)
    for token_id in (key.token_id, key.next_token_id):
        if token_id is not None:
            token_rows.revoke(session, token_id, at=at)
    leases = worker_keys.release_leases(session, key.id)
    signed = worker_keys.signed_since(session, key.id, since) if since is not None else ()
    for evaluation in signed:
        _doubt(session, evaluation, key, at)
    return Revoked(
        key.key_id, key.name, leases, tuple(f"{ref_of(each.version)} on {each.suite.name}" for each in signed)
    )


def let_go(session: Session, account_id: int) -> list[str]:
    """Ends the tokens of the workers that were let in for this account, and the codes that it has left; what they hold goes
    back to the queue. Their names: another code lets them in again, for nothing is said of their keys."""
    at, found = db.now(session), worker_keys.let_in_for(session, account_id)
    worker_keys.end_codes(session, account_id, at=at)
    for key in found:
        for token_id in (key.token_id, key.next_token_id):
            if token_id is not None:
                token_rows.revoke(session, token_id, at=at)
        worker_keys.release_leases(session, key.id)
    return [key.name for key in found]


def _doubt(session: Session, evaluation: Evaluation, key: WorkerKey, at: datetime) -> None:
    """Takes a score back, and has it measured anew where the suite is still run. The record keeps what it was."""
    facts = {"evaluation": str(evaluation.id), "suite": evaluation.suite.name, "key": key.key_id}
    facts["score"] = repr(evaluation.score)
    again = evaluation.suite.is_current
    evaluation.state = "waiting" if again else "failed"
    evaluation.reason = (
        f"WORKER_REVOKED: the worker {key.name}, which had signed a score of {evaluation.score:.4f}, was shut out."
    )
    evaluation.finished_at = None if again else at
    evaluation.fence, evaluation.attempts = evaluation.fence + 1, 0
    evaluation.score = evaluation.low = evaluation.high = evaluation.seconds = evaluation.started_at = None
    evaluation.outcomes = evaluation.beside_outcomes = evaluation.envelope = evaluation.outputs_sha256 = None
    evaluation.salt = None
    evaluation.worker_id = evaluation.worker_key_id = evaluation.beside = None
    evaluation.environment = {}
    session.flush()
    listings.add_score(session, evaluation.id)
    record(session, None, Change.EVALUATION_DOUBTED, ref_of(evaluation.version), facts, actor=ADMIN)


def _meant(session: Session, wanted: str) -> WorkerKey:
    found = [each.key for each in worker_keys.counted(session)]
    fitting = [key for key in found if key.name == wanted] or [
        key
        for key in found
        if len(wanted) > 3 and key.key_id.removeprefix("sha256:").startswith(wanted.removeprefix("sha256:"))
    ]
    if not fitting:
        raise NotFound(
            f"No worker here is called {wanted[:80]!r} or has a key that begins so: `vera-hub admin workers` lists them.",
            code="WORKER_UNKNOWN",
        )
    if len(fitting) > 1:
        raise Invalid(
            f"{wanted[:80]!r} is {len(fitting)} workers ({', '.join(key.key_id[:19] for key in fitting[:5])}): name one by "
            "more of its key.",
            code="WORKER_AMBIGUOUS",
        )
    return fitting[0]


def _proven(shown: Shown, name: str, secret_hash: bytes) -> PublicKey:
    """The key that is shown, whose holder has signed that it comes by this name with this code or token. Raises Invalid."""
    try:
        key = PublicKey.parse(shown.public_key)
        if shown.proof is None:
            raise _unproven(key)
        possession.check(shown.proof, key, hubs=shown.hubs, name=name, secret_sha256=secret_hash.hex())
    except SignatureError as error:
        raise Invalid(str(error), code=error.code, **error.facts) from error
    return key


def _unproven(key: PublicKey) -> Invalid:
    return Invalid(
        f"This hub has its workers prove that their key is their own, and the worker with the key {key.id} does not: it is of "
        f"an older release. Bring vera-hub on its machine to {__version__} (`pip install --upgrade vera-hub`) and start it "
        "again; its key and its token stay good, and so does a code that was not used.",
        code="WORKER_PROOF_MISSING",
        key=key.id,
    )
