"""One request divided among the members of a cluster, and the replies put together again.

A shard is a mixed batch of its own, so that the adapters of a request are on as many GPUs as are free. What an adapter is
answered does not hang on its neighbours, and so not on how they were divided.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from hub.worker.errors import FleetError
from hub.worker.fleet.cluster import Cluster, Lent
from hub.worker.fleet.shards import Shard, packed, with_image_bytes
from hub.worker.runner import ChildDied, JobRefused, Reply, Tell, nobody, of_one

# Members that one shard may lose on nodes that go on: what ends two processes is likelier the shard than the nodes.
_MOST_LOST = 2
# So long it may take until a cluster says of a node that fell silent that it is lost: three beats of five seconds.
_VERDICT_S = 20.0
_POLL_S = 0.2
_PROGRESS_S = 1.0  # how often a member is asked how far it is

_log = structlog.get_logger("fleet")


class FleetRunner:
    """To the worker what the runner of a child process is (`hub.worker.runner.Engine`)."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lent: set[Lent] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def lacking(self) -> Collection[str]:
        return self._cluster.lacking

    def run(self, request: dict[str, Any], tell: Tell = nobody) -> list[Reply]:
        """The reply for each adapter of `request`: what a child process says, or that the members died of it. Meanwhile
        `tell` hears how far each is."""
        import ray

        with self._lock:
            self._ended = threading.Event()
        shards = divided(request, self._cluster.slots)
        asked = ray.put(with_image_bytes(request["asked"]))
        tells = told_together([len(each.adapters) for each in shards], tell)
        with ThreadPoolExecutor(len(shards)) as threads:
            found = list(threads.map(lambda shard, tell: self._replies(shard, asked, tell), shards, tells))
        return _noise_of_one([reply for replies in found for reply in replies])

    def stop(self) -> None:
        """Ends what is being answered, from whichever thread: the members that do it are ended with it."""
        with self._lock:
            self._ended.set()
            lent = list(self._lent)
        for each in lent:
            self._cluster.lose(each)

    def _replies(self, shard: Shard, asked: Any, tell: Tell) -> list[Reply]:
        try:
            reply = self._reply(shard, asked, tell)
        except ChildDied as error:
            return [error] * len(shard.adapters)
        return [of_one(each, reply["environment"]) for each in reply["replies"]]

    def _reply(self, shard: Shard, asked: Any, tell: Tell) -> Mapping[str, Any]:
        """What a member answers. One that is lost with its node is nobody's fault, and the next one is asked. Raises ChildDied."""
        lost: list[Lent] = []
        while True:
            lent = self._borrowed(str(shard.base["fingerprint"]), not_on={each.node for each in lost})
            reply = self._asked(lent, shard, asked, tell)
            if isinstance(reply, ChildDied):
                lost.append(lent)
                self._require_going_on(lost, reply)
            elif "lacking" in reply:
                lent.note_lack(lent.base or "", reply["lacking"])
            else:
                return reply

    def _require_going_on(self, lost: Sequence[Lent], error: Exception) -> None:
        """Raises ChildDied when the evaluation was stopped, or has lost too many members whose nodes are still there."""
        if self._ended.is_set():
            raise ChildDied("The evaluation was stopped.") from error
        _log.warning("member_lost", node=lost[-1].node, detail=str(error)[:300])
        ends_at = time.monotonic() + _VERDICT_S
        while sum(map(self._cluster.node_is_there, lost)) >= _MOST_LOST:
            if self._ended.wait(_POLL_S) or time.monotonic() > ends_at:
                raise ChildDied(
                    f"{len(lost)} processes of the cluster ended and gave no answer: {error}"[:1000]
                ) from error

    def _borrowed(self, base: str, *, not_on: Collection[str]) -> Lent:
        try:
            lent = self._cluster.lend(base, self._ended.is_set, rather_not_on=not_on)
        except FleetError as error:
            raise ChildDied(str(error)) from error
        with self._lock:
            if lent is not None and not self._ended.is_set():
                self._lent.add(lent)
                return lent
        if lent is not None:
            self._cluster.give_back(lent)
        raise ChildDied("The evaluation was stopped.")

    def _asked(self, lent: Lent, shard: Shard, asked: Any, tell: Tell) -> Mapping[str, Any] | ChildDied:
        """What this member answers, or how it was lost."""
        import ray

        try:
            answer = lent.actor.answer.remote(shard, asked)
            while not ray.wait([answer], timeout=_PROGRESS_S)[0]:
                self._tell_how_far(lent, tell)
            reply: dict[str, Any] = ray.get(answer)
        except ray.exceptions.RayError as error:
            self._cluster.lose(lent)
            return ChildDied(str(error)[:1000])
        else:
            self._cluster.give_back(lent)
            return reply
        finally:
            with self._lock:
                self._lent.discard(lent)

    def _tell_how_far(self, lent: Lent, tell: Tell) -> None:
        """Of one that says nothing, as on a node that is gone, the answer it owes tells more."""
        import ray

        said = lent.actor.progress.remote()
        if ray.wait([said], timeout=_PROGRESS_S)[0] and (progress := ray.get(said)) is not None:
            tell(*progress)


def divided(request: Mapping[str, Any], slots: int) -> list[Shard]:
    """The adapters of `request` in up to so many shards of like size, in their order."""
    adapters: Sequence[str] = request["adapters"]
    most = -(-len(adapters) // min(slots, len(adapters)))
    return [
        Shard(request["base"], [packed(Path(each)) for each in adapters[at : at + most]], request["batch_size"])
        for at in range(0, len(adapters), most)
    ]


def told_together(sizes: Sequence[int], tell: Tell) -> list[Tell]:
    """For shards of so many adapters, what hears how far each shard is, and tells it of all of them."""
    done = [0] * sum(sizes)

    def hearing(first: int, size: int) -> Tell:
        def hear(some: Sequence[int], of: int) -> None:
            done[first : first + size] = some
            tell(list(done), of)

        return hear

    return [hearing(sum(sizes[:number]), size) for number, size in enumerate(sizes)]


def _noise_of_one(replies: list[Reply]) -> list[Reply]:
    """Of one adapter of a request a sample is answered again (`hub.worker.layouts`), and each shard has one: the first counts."""
    seen = False
    for reply in replies:
        if isinstance(reply, JobRefused | ChildDied):
            continue
        if seen:
            reply.pop("again", None)
        seen = seen or "again" in reply
    return replies
