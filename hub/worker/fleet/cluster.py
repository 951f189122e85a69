"""The members of a fleet, as the worker's process sees them: one for each GPU of the cluster, or for each processor where
there is no GPU. A member that is lost is made anew, where there is room; a node that joins gets members of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import structlog

from hub.worker.errors import FleetError
from hub.worker.fleet.member import Member
from hub.worker.fleet.shards import Introduction
from hub.worker.runner import CHILD_ENVIRONMENT
from vera import __version__

_CONNECT_S = 5.0
_START_S = 120.0  # a first member imports torch
_POLL_S = 0.05
_LACKS_S = 300.0  # a base may have been brought to a node since

_log = structlog.get_logger("fleet")


@dataclass(eq=False)
class Lent:
    """A member, of use once it has introduced itself. `lacking` are the bases that its node did not have, why, and when that
    was."""

    actor: Any
    hello: Any
    about: Introduction | None = None
    base: str | None = None
    is_lent: bool = False
    made_at: float = field(default_factory=time.monotonic)
    lacking: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def node(self) -> str:
        return self.about.node if self.about is not None else ""

    @property
    def may_come(self) -> bool:
        """False of one that waits for a place that others have, beside those that run."""
        return self.about is None and time.monotonic() - self.made_at < _START_S

    def note_lack(self, base: str, why: str) -> None:
        self.lacking[base] = why, time.monotonic()

    def lacks(self, base: str) -> str | None:
        """Why it has no such base, as far as that is known now."""
        why, at = self.lacking.get(base, ("", -_LACKS_S))
        return why if time.monotonic() - at < _LACKS_S else None


class Cluster:
    """A connection to a Ray cluster that runs already. When that is gone, `stopping` is set: there is nothing to go on with.

    Raises FleetError when there is none at `address`.
    """

    def __init__(self, address: str, *, slots: int | None = None, stopping: threading.Event | None = None) -> None:
        self._ray = _connected(address)
        self._stopping = stopping or threading.Event()
        self.is_gone = False
        self._nowhere: dict[str, float] = {}  # the fingerprints of bases that no node had, and when
        self._wanted_slots = slots
        self._members: list[Lent] = []
        self._lock = threading.Lock()

    @property
    def lacking(self) -> Collection[str]:
        """Fingerprints of bases that no node has, as far as that is known now."""
        return {base for base, at in list(self._nowhere.items()) if time.monotonic() - at < _LACKS_S}

    @property
    def slots(self) -> int:
        """How many members there may be now: each has a GPU, or where the cluster has none a processor."""
        there = self._ray.cluster_resources()
        fit = int(there.get("GPU", 0)) or int(there.get("CPU", 0))
        return max(1, fit if self._wanted_slots is None else min(fit, self._wanted_slots))

    def wait(self, timeout_s: float = _START_S) -> Introduction:
        """What the first member to be ready says of itself. Raises FleetError when there is none in time."""
        ends_at = time.monotonic() + timeout_s
        while time.monotonic() < ends_at:
            with self._lock:
                self._replenish()
                ready = next((each.about for each in self._members if each.about is not None), None)
            if ready is not None:
                return ready
            time.sleep(_POLL_S)
        raise FleetError(
            f"No node of the Ray cluster has started a process within {timeout_s:.0f} s: are its GPUs or processors in use "
            "by others (`ray status`)?",
            code="FLEET_BUSY",
        )

    def lend(self, base: str, ended: Callable[[], bool], *, rather_not_on: Collection[str] = ()) -> Lent | None:
        """A member that is free, one with `base` loaded before others and one on another node than these before all; None once
        `ended` says so.

        Raises FleetError when no node has the base, and when the cluster is gone.
        """
        while not ended():
            with self._lock:
                self._replenish()
                ready = [each for each in self._members if each.about is not None]
                free = [each for each in ready if not each.is_lent and each.lacks(base) is None]
                if free:
                    lent = min(free, key=lambda each: (each.node in rather_not_on, each.base != base))
                    lent.is_lent, lent.base = True, base
                    return lent
                reasons = [each.lacks(base) for each in ready]
                if reasons and None not in reasons and not any(each.may_come for each in self._members):
                    self._nowhere[base] = time.monotonic()
                    _log.warning("base_lacking", base=base, detail=reasons[0])
                    raise _nowhere(base, str(reasons[0]))
            time.sleep(_POLL_S)
        return None

    def give_back(self, lent: Lent) -> None:
        with self._lock:
            lent.is_lent = False

    def lose(self, lent: Lent) -> None:
        """Ends a member, if it is not gone already. Another one takes its place."""
        with self._lock:
            if lent in self._members:
                self._members.remove(lent)
        self._ray.kill(lent.actor)

    def node_is_there(self, lent: Lent) -> bool:
        return any(node["Alive"] and node["NodeID"] == lent.node for node in self._ray.nodes())

    def close(self) -> None:
        """Leaves the cluster, and with that ends the members."""
        self._ray.shutdown()

    def _replenish(self) -> None:
        """Makes members where there is room, and takes in those that have introduced themselves."""
        try:
            missing = self.slots - len(self._members)
        except Exception as error:  # Ray says it in a dozen ways
            self.is_gone = True
            self._stopping.set()
            raise FleetError(f"The Ray cluster is gone: {error}", code="FLEET_AWAY") from error
        for _ in range(missing):
            self._members.append(self._made())
        waiting = [each for each in self._members if each.about is None]
        for each in waiting:
            self._take_in(each)

    def _made(self) -> Lent:
        has_gpus = self._ray.cluster_resources().get("GPU", 0) >= 1
        room = {"num_gpus": 1, "num_cpus": 0} if has_gpus else {"num_cpus": 1}
        # A second thread says how far the first one is.
        options = {**room, "max_concurrency": 2, "runtime_env": {"env_vars": dict(CHILD_ENVIRONMENT)}}
        actor = self._ray.remote(Member).options(**options).remote()
        return Lent(actor, actor.introduce.remote())

    def _take_in(self, member: Lent) -> None:
        """Raises FleetError for a node on which this release is not installed."""
        ready, _ = self._ray.wait([member.hello], timeout=0)
        if not ready:
            return
        try:
            about = self._ray.get(member.hello)
        except self._ray.exceptions.RayActorError as error:
            self._members.remove(member)
            if "import" in str(error) or "No module" in str(error):
                raise FleetError(
                    f"A node of the Ray cluster cannot run vera-hub: pip install 'vera-hub[eval,ray]=={__version__}' on "
                    f"each ({_last_line(error)}).",
                    code="FLEET_NOT_INSTALLED",
                ) from error
            _log.warning("member_lost", detail=_last_line(error))
            return
        if about.version != __version__:
            raise FleetError(
                f"A node of the Ray cluster has vera-hub {about.version}, and this worker is {__version__}: "
                "they must be the same for the same scores.",
                code="FLEET_OTHER_VERSION",
                expected=__version__,
                got=about.version,
            )
        member.about = about
        _log.info("member", node=about.node, pid=about.pid)


def _connected(address: str) -> Any:
    """Ray, connected to the cluster at `address`. Raises FleetError."""
    try:
        import ray
    except ImportError as error:
        raise FleetError(
            "The engine ray needs Ray: pip install 'vera-hub[eval,ray]' here and on each node.", code="RAY_MISSING"
        ) from error
    _require_somebody(address)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="vera-hub")
    except Exception as error:  # Ray says it in a dozen ways
        raise _away(address, _last_line(error)) from error
    return ray


def _require_somebody(address: str) -> None:
    """Raises FleetError when nothing listens there, which Ray would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # auto, local and the like: Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise _away(address, str(error)) from error


def _away(address: str, detail: str) -> FleetError:
    return FleetError(
        f"There is no Ray cluster at {address} ({detail}): start one with `ray start --head` and give the address that it "
        "says (HOST:6379, or `auto` on a machine of the cluster).",
        code="FLEET_AWAY",
    )


def _nowhere(base: str, why: str) -> FleetError:
    return FleetError(
        f"No node of the Ray cluster has the base {base} ({why.rstrip('.')}): put it in a folder that all nodes share, or run "
        "`vera-hub base add` on each.",
        code="BASE_NOT_HERE",
    )


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
