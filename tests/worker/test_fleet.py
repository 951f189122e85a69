"""A worker whose adapters run on a real Ray cluster of two nodes: the scores of one process, whatever is lost meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import undefer

from hub.db.models.evaluating import Evaluation as StoredEvaluation
from hub.domain.evaluations import unpack
from hub.worker.errors import FleetError
from hub.worker.fleet import engine
from hub.worker.fleet.cluster import Cluster, Lent
from hub.worker.fleet.engine import FleetRunner
from hub.worker.fleet.member import Member
from sdk import bases
from sdk.bases import KnownBase
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import HubError
from sdk.models.evaluations import Evaluation
from sdk.pushing import push_archive
from tests.hub.processes import serving
from tests.tiny_adapters import make_tiny
from tests.worker.lab import NAME, Lab, is_over
from tests.worker.ray_cluster import RayCluster, ray_cluster
from tests.worker.suite_files import write_file, write_suite
from vera import attestation, fingerprint
from vera.ref import AdapterRef

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayCluster]:
    # Paths of Ray's sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        ray_cluster(Path(folder)) as nodes,
    ):
        nodes.add_node(1)
        nodes.add_node(1)
        yield nodes


@pytest.fixture
def cluster(nodes: RayCluster) -> Iterator[Cluster]:
    cluster = Cluster(nodes.address)
    yield cluster
    cluster.close()


@pytest.fixture
def lab(tmp_path: Path, tiny_folder: Path, cluster: Cluster) -> Iterator[Lab]:
    lab = Lab(tmp_path, tiny_folder)
    lab.worker.runner = FleetRunner(cluster)
    with lab.http:
        declared = [lab.worker.suites[NAME].declaration()]
        lab.worker.hub.register_worker("w", declared, key=lab.worker.key)
        yield lab
        lab.stop_worker()


def lent_member(lab: Lab) -> Lent:
    """A member that answers just now."""
    assert isinstance(lab.worker.runner, FleetRunner)
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        for each in list(lab.worker.runner._lent):
            return each
        time.sleep(0.005)
    raise AssertionError("no member was lent")


def wait_for_members(cluster: Cluster, number: int) -> None:
    ends_at = time.monotonic() + 60
    while len([each for each in cluster._members if each.about is not None]) < number:
        assert time.monotonic() < ends_at
        cluster.wait()
        time.sleep(0.05)


def signed_of(lab: Lab) -> dict[str, tuple[Any, ...]]:
    """By adapter, the outcomes that the hub has and what was signed of them."""
    columns = undefer(StoredEvaluation.outcomes), undefer(StoredEvaluation.envelope)
    with lab.hub.database.reading() as session:
        found = {}
        for row in session.scalars(select(StoredEvaluation).options(*columns)):
            statement = json.loads(b64decode(json.loads(row.envelope or "")["payload"]))
            said = statement["predicate"]
            environment = {**said["environment"], "adapters_in_batch": None}  # how they were divided
            subject = json.dumps(statement["subject"])
            found[subject] = unpack(row.outcomes), said["scores"], said["outcomes"], said["outputs"], environment
        return found


def test_a_fleet_signs_of_each_adapter_what_one_process_signs(
    lab: Lab, tmp_path: Path, tiny_folder: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attestation, "new_salt", lambda: "00" * 32)  # a new one for each would make all digests differ
    (tmp_path / "alone").mkdir()
    alone = Lab(tmp_path / "alone", tiny_folder)
    with alone.http:
        declared = [alone.worker.suites[NAME].declaration()]
        alone.worker.hub.register_worker("w", declared, key=alone.worker.key)
        wait_for_members(cluster, 2)
        for each in (alone, lab):
            ids = [each.ask(f"tiny-{seed}", seed) for seed in range(4)]
            each.start_worker()
            assert [each.wait(number, is_over).state for number in ids] == ["done"] * 4
        alone.stop_worker()

        assert signed_of(lab) == signed_of(alone)
    assert len({str(outcomes) for outcomes, *_ in signed_of(lab).values()}) > 1
    assert len({each.node for each in cluster._members if each.base is not None}) == 2


def test_how_far_each_is_is_seen_at_the_hub_while_the_members_run(
    lab: Lab, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_PROGRESS_S", 0.05)
    rows = "the cat sleeps,cat\na dog runs,dog\n" * 1000
    suite = write_suite(tmp_path, f"text,label\n{rows}", name="tests/long", batch_size=2)
    lab.worker.suites = {suite.name: suite}
    lab.worker.hub.register_worker("w", [suite.declaration()], key=lab.worker.key)
    wait_for_members(cluster, 2)
    ids = [lab.ask(name, seed, suite=suite.name) for seed, name in enumerate(("one", "two"))]
    lab.start_worker()

    partly: dict[str, str] = {}

    def are_seen_or_over(_: Evaluation) -> bool:
        """Both are looked at together: whichever member is slower, the other goes on meanwhile."""
        now = [lab.user.get_evaluation(number) for number in ids]
        partly.update({each.id: each.state for each in now if 0 < (each.items_done or 0) < each.items})
        return len(partly) == len(ids) or any(map(is_over, now))

    lab.wait(ids[0], are_seen_or_over)

    assert partly == dict.fromkeys(ids, "running")
    assert [lab.wait(number, is_over).state for number in ids] == ["done"] * 2


def test_a_member_that_is_killed_is_replaced_and_the_attempt_goes_on(lab: Lab) -> None:
    asked = lab.ask()
    lab.start_worker()
    about = lent_member(lab).about
    assert about is not None
    os.kill(about.pid, signal.SIGKILL)

    done = lab.wait(asked, is_over)

    assert (done.state, done.attempts) == ("done", 1), done.reason


def test_the_shard_of_a_node_that_is_lost_runs_on_another(lab: Lab, nodes: RayCluster, cluster: Cluster) -> None:
    third = nodes.add_node(1)
    wait_for_members(cluster, 3)
    ids = [lab.ask(f"tiny-{seed}", seed) for seed in range(3)]
    lab.start_worker()
    while len(lab.worker.runner._lent) < 3:  # type: ignore[attr-defined]  # a FleetRunner
        time.sleep(0.005)
    nodes.lose(third)

    done = [lab.wait(number, is_over) for number in ids]

    assert [(each.state, each.attempts) for each in done] == [("done", 1)] * 3, [each.reason for each in done]


def test_what_ends_every_process_is_given_up_and_the_next_one_is_scored(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_VERDICT_S", 0.1)
    asked = lab.ask()
    lab.start_worker()
    killed = set[int]()
    evaluation = lab.user.get_evaluation(asked)
    while not is_over(evaluation):
        for each in list(lab.worker.runner._lent):  # type: ignore[attr-defined]  # a FleetRunner
            if each.about is not None and each.about.pid not in killed:
                os.kill(each.about.pid, signal.SIGKILL)
                killed.add(each.about.pid)
        time.sleep(0.02)
        evaluation = lab.user.get_evaluation(asked)

    assert (evaluation.state, evaluation.attempts, len(killed)) == ("failed", 3, 6)
    assert "WORKER_CRASHED" in str(evaluation.reason)
    assert lab.wait(lab.ask("next", 1), is_over).state == "done"


def test_who_cancels_ends_the_member_and_who_asks_again_gets_a_score(lab: Lab) -> None:
    asked = lab.ask()
    lab.start_worker()
    member = lent_member(lab)

    cancelled = lab.user.cancel_evaluation(asked)

    assert member.about is not None
    ends_at = time.monotonic() + 30
    while Path(f"/proc/{member.about.pid}").exists() and time.monotonic() < ends_at:
        time.sleep(0.05)
    assert not Path(f"/proc/{member.about.pid}").exists()
    assert lab.user.get_evaluation(asked) == cancelled
    lab.user.request_evaluation(cancelled.ref, NAME)
    assert lab.wait(asked, is_over).state == "done"


def test_a_base_that_no_node_has_is_not_claimed_again(lab: Lab, tiny_folder: Path, monkeypatch: Any) -> None:
    # The worker finds it in a place that no other process has.
    located = Path(f"/proc/self/fd/{os.open(tiny_folder, os.O_RDONLY)}")
    monkeypatch.setattr("sdk.bases.locate", lambda *_, **__: located)
    asked = lab.ask()
    lab.start_worker()

    waiting = lab.wait(asked, lambda each: each.attempts == 1 and each.state == "waiting")

    assert "base" in str(waiting.reason)
    time.sleep(1)  # several turns of the worker
    assert lab.user.get_evaluation(asked).attempts == 1


def test_a_member_that_waits_for_a_place_is_not_waited_for_and_what_lacks_is_asked_again(
    nodes: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    cluster = Cluster(nodes.address, slots=1)
    try:
        cluster.wait()
        cluster._members[0].note_lack("vbf1:x", "it is not here")
        waiting = ray.remote(Member).options(num_cpus=100).remote()
        cluster._members.append(Lent(waiting, waiting.introduce.remote(), made_at=time.monotonic() - 1000))

        with pytest.raises(FleetError, match="No node of the Ray cluster has the base vbf1:x"):
            cluster.lend("vbf1:x", lambda: False)

        assert cluster.lacking == {"vbf1:x"}
        monkeypatch.setattr("hub.worker.fleet.cluster._LACKS_S", 0.0)
        assert cluster.lacking == set()
        assert cluster.lend("vbf1:x", lambda: False) is cluster._members[0]
    finally:
        cluster.close()


def test_a_cluster_that_is_not_there_and_ray_that_is_not_installed_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FleetError, match=r"no Ray cluster at 127\.0\.0\.1:1 "):
        Cluster("127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FleetError, match=r"pip install 'vera-hub\[eval,ray\]'"):
        Cluster("127.0.0.1:1")


def test_the_command_scores_what_waits_and_ends_when_it_is_told(
    nodes: RayCluster, tmp_path: Path, tiny_folder: Path
) -> None:
    base = fingerprint.of_files(tiny_folder)
    suite = write_file(tmp_path, "text,label\nthe cat sleeps,cat\na dog runs,dog\n", name=NAME)
    with serving(tmp_path / "hub", "--user", "demo") as server:
        token = (server.data / "worker-token").read_text().strip()
        config = Config(server.url, tmp_path / "config", tmp_path / "cache", token)
        bases.remember(KnownBase("tests/tiny-bert", tiny_folder, base.value), config=config)
        environment = {
            **os.environ, "VERA_HUB_URL": server.url, "VERA_HUB_CONFIG": str(config.folder),
            "VERA_HUB_CACHE": str(config.cache), "VERA_HUB_TOKEN": token,
        }  # fmt: skip
        command = [sys.executable, "-m", "sdk.cli.main", "worker", "--suite", str(suite)]
        process = subprocess.Popen([*command, "--engine", "ray", "--address", nodes.address], env=environment)
        user = Config(server.url, tmp_path / "user", tmp_path / "user-cache", server.login()["token"])
        try:
            with Hub(user) as hub:
                hub.register_base("tests/tiny-bert", base.to_rows())
                pushed = push_archive(hub, make_tiny(base, head=True), AdapterRef("demo", "tiny"))
                done = _scored(hub, pushed.version.ref)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)

    assert (done.state, done.items, status) == ("done", 2, 0)


def _scored(hub: Hub, ref: str) -> Evaluation:
    ends_at = time.monotonic() + 120
    while time.monotonic() < ends_at:
        try:
            found = hub.request_evaluation(ref, NAME)
        except HubError:  # the worker has not brought its suite yet
            found = None
        if found is not None and is_over(found):
            return found
        time.sleep(0.2)
    raise AssertionError("no score")
