"""What a worker asks of a hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from sdk.client.addresses import segment
from sdk.client.wire import Wire

if TYPE_CHECKING:
    from sdk.models.jobs import Job
    from vera.signing import SigningKey


class Workers(Wire):
    """What a worker asks of a hub."""

    def enrol_worker(self, code: str, name: str, *, key: SigningKey) -> str:
        """The token that a code brings a worker with this key, once."""
        from sdk.models.jobs import WorkerToken

        body = {"code": code, "name": name, **self._shown(key, name, code)}
        return WorkerToken.from_json(self._post_unrepeated("/api/v1/worker/enrol", body).json()).token

    def register_worker(
        self,
        name: str,
        suites: Sequence[Mapping[str, object]],
        *,
        key: SigningKey,
        memory_bytes: int | None = None,
        lacks: Mapping[str, Mapping[str, str]] | None = None,
    ) -> str:
        """The id of this worker, which offers `suites` and signs with this key. It is given no
        job whose base takes more than `memory_bytes`, where that is said. `lacks` says of suites, by their names, which metrics it
        cannot compute, and why."""
        from sdk.models.jobs import WorkerId

        body: dict[str, object] = {
            "name": name,
            "suites": list(suites),
            **self._shown(key, name, self.config.token or ""),
        }
        if memory_bytes is not None:
            body["memory_bytes"] = memory_bytes
        if lacks:
            body["lacks"] = {suite: dict(reasons) for suite, reasons in lacks.items()}
        return WorkerId.from_json(self._post("/api/v1/worker/register", body, is_idempotent=True).json()).worker_id

    def _shown(self, key: SigningKey, name: str, secret: str) -> dict[str, object]:
        """The public key, and the proof for this hub that whoever comes with this code or token has the private one."""
        from vera import possession

        proof = possession.proof(key, hub=possession.hub_in(self.config.url), name=name, secret=secret)
        return {"public_key": str(key.public), "proof": proof}

    def claim_job(self, worker_id: str, suites: Sequence[str], *, bases: Sequence[str] | None = None) -> Job | None:
        """A job on one of `suites`, leased to this worker, or None when there is nothing to do.

        `bases` are the fingerprints of the bases this worker can load, None for any. A claim whose
        answer is lost is not repeated: its lease runs out by itself.
        """
        from sdk.models.jobs import Job

        body: dict[str, object] = {"worker_id": worker_id, "suites": list(suites)}
        if bases is not None:
            body["bases"] = list(bases)
        reply = self._post_unrepeated("/api/v1/worker/claims", body)
        return None if reply.status == HTTPStatus.NO_CONTENT else Job.from_json(reply.json())

    def heartbeat(self, job: Job, *, items_done: int | None = None) -> None:
        """Keeps the job; so many of its items are answered. Raises LeaseLost when it is no longer this worker's."""
        body = {"fence": job.fence} | ({} if items_done is None else {"items_done": items_done})
        self._post(f"/api/v1/worker/jobs/{segment(job.id)}/heartbeat", body, is_idempotent=True)

    def submit_result(
        self,
        job: Job,
        *,
        outcomes: Sequence[float | Sequence[float]],
        outputs: Sequence[str],
        environment: Mapping[str, object],
        seconds: float,
        envelope: Mapping[str, object],
        beside: Mapping[str, Sequence[float | Sequence[float]]] | None = None,
        salt: str | None = None,
    ) -> None:
        """Hands in the outcome (`docs/evaluation.md`) and the output of every item, and what the worker has signed of
        that, with this salt in its digests. `beside` are the outcomes of the metrics that stand beside the one that ranks.

        Raises LeaseLost when the job is no longer this worker's, or is done already: it may be by
        an answer of ours that got lost.
        """
        body: dict[str, object] = {
            "fence": job.fence,
            "outcomes": list(outcomes),
            "outputs": list(outputs),
            "environment": dict(environment),
            "seconds": seconds,
            "envelope": dict(envelope),
        }
        if beside:
            body["beside"] = dict(beside)
        if salt is not None:
            body["salt"] = salt
        self._post(f"/api/v1/worker/jobs/{segment(job.id)}/result", body, is_idempotent=True)

    def report_failure(self, job: Job, *, code: str, detail: str, may_retry: bool) -> None:
        body = {"fence": job.fence, "code": code, "detail": detail, "retryable": may_retry}
        self._post(f"/api/v1/worker/jobs/{segment(job.id)}/failure", body)
