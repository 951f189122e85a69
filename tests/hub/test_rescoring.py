"""`admin rescore`: scores from the stored outcomes, and nothing else is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, update

from hub.care import rescoring
from hub.cli.admin import admin
from hub.db.models.evaluating import Evaluation
from hub.db.queries import listings
from hub.domain import enrolling
from hub.domain.evaluations import pack
from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub

PAIRS = [[1, 1]] * 6 + [[0, 0], [0, 1]]


@pytest.fixture
def scored(hub: Hub) -> Hub:
    """A hub with two scored adapters, each with an F1 beside its accuracy."""
    hub.register_base()
    worker = hub.worker(make_suite(also=["f1", "matthews"]))
    for seed, outcomes in enumerate(([1] * 6 + [0, 0], [1] * 4 + [0] * 4)):
        assert hub.push(make_archive(seed=seed), f"adapter-{seed}").status_code == 201
        assert worker.finish(worker.must_claim(), outcomes, beside={"f1": PAIRS}).status_code == 204
    return hub


def spoil(hub: Hub, **values: object) -> None:
    """What code with a fault has written for the first."""
    with hub.database.writing() as session:
        first = select(Evaluation.id).order_by(Evaluation.id).limit(1).scalar_subquery()
        session.execute(update(Evaluation).where(Evaluation.id == first).values(**values))


def board(hub: Hub) -> list[dict[str, object]]:
    rows = hub.get("/leaderboards/demo/topics").json()["rows"]
    return [{key: row[key] for key in ("ref", "rank", "score", "interval", "beside")} for row in rows]


def found(hub: Hub) -> list[dict[str, object]]:
    items: list[dict[str, object]] = hub.get("/adapters?suite=demo/topics&sort=score").json()["items"]
    return items


def rescore(hub: Hub, *options: str) -> Result:
    settings = hub.app.state.services.settings
    environment = {"VERA_HUB_DATABASE_URL": settings.resolved_database_url}
    return CliRunner().invoke(admin, ["rescore", "--data", str(settings.data_dir), *options], env=environment)


def test_scores_are_what_their_outcomes_give(scored: Hub) -> None:
    right = board(scored)
    spoil(scored, score=0.1, low=0.0, high=0.2, beside={"f1": [0.5, 0.4, 0.6]})
    with scored.database.writing() as session:
        listings.add_score(session, 1)
    assert [item["id"] for item in found(scored)] == ["demo/adapter-1", "demo/adapter-0"]
    assert board(scored) != right

    done = rescore(scored)

    assert done.exit_code == 0, done.output
    assert "accuracy: 0.100000 [0.000000, 0.200000] → 0.750000" in done.output
    assert "f1: 0.500000" in done.output
    assert "2 scores have changed, 0 cannot be computed" in done.output
    assert board(scored) == right
    assert [item["id"] for item in found(scored)] == ["demo/adapter-0", "demo/adapter-1"]
    assert "0 scores have changed" in rescore(scored).output


def test_a_change_that_another_layout_makes_too_is_called_that(scored: Hub) -> None:
    spoil(scored, score=0.749, environment={"noise": {"items": 32, "batch_size": 16, "changed": 1, "score": 0.002}})
    within = rescore(scored, "--dry-run").output
    spoil(scored, score=0.7)
    beyond = rescore(scored, "--dry-run").output

    assert "0.749000 [" in within
    assert "(no more than another batch layout does, 0.002000)" in within
    assert "another batch layout" not in beyond


@pytest.mark.parametrize(("noise", "is_noise"), [(0.25, True), (0.2499, False), (None, False)])
def test_a_change_as_large_as_the_noise_is_noise(noise: float | None, *, is_noise: bool) -> None:
    before, after = (0.5, 0.4, 0.6), (0.75, 0.6, 0.9)
    changed = rescoring.Rescored("1", "demo/tiny@v1", "demo/topics", "accuracy", before, after, noise=noise)
    assert changed.is_noise is is_noise


def test_what_is_right_stays_beside_what_is_not(scored: Hub) -> None:
    right = board(scored)
    for wrong in ({"score": 0.1, "low": 0.0, "high": 0.2}, {"low": 0.0}):
        spoil(scored, **wrong)
        assert "1 scores have changed" in rescore(scored).output, wrong
        assert board(scored) == right, wrong


def test_a_metric_beside_has_no_batch_layout_to_blame(scored: Hub) -> None:
    f1 = scored.get("/evaluations/1").json()["beside"]["f1"]
    near = [f1["score"] - 0.001, *f1["interval"]]
    spoil(
        scored, beside={"f1": near}, environment={"noise": {"items": 32, "batch_size": 16, "changed": 1, "score": 0.5}}
    )

    said = rescore(scored, "--dry-run").output

    assert "1 scores would change" in said
    assert "another batch layout" not in said


def test_each_score_is_told_once(scored: Hub) -> None:
    with scored.database.writing() as session:
        session.execute(update(Evaluation).values(score=0.1, low=0.0, high=0.2))
    assert "2 scores would change" in rescore(scored, "--dry-run").output


def test_a_rehearsal_changes_nothing(scored: Hub) -> None:
    spoil(scored, score=0.1, low=0.0, high=0.2)
    before = board(scored)
    assert "1 scores would change" in rescore(scored, "--dry-run").output
    assert board(scored) == before


def test_outcomes_that_give_no_score_are_named_and_left(scored: Hub) -> None:
    before = scored.get("/evaluations/1").json()
    spoil(scored, outcomes=pack([[1, 2]] * 8))
    done = rescore(scored)
    assert done.exit_code == 1
    assert "demo/adapter-0@v1 on demo/topics, accuracy: its outcomes do not give a score" in done.output
    assert scored.get("/evaluations/1").json() == before


def test_what_was_measured_anew_meanwhile_keeps_its_score(scored: Hub) -> None:
    with scored.database.writing() as session:
        session.execute(update(Evaluation).values(score=0.1, low=0.0, high=0.2))
    going = rescoring.rescore(scored.database)
    assert next(going).evaluation_id == "1"  # both have been read

    with scored.database.writing() as session:
        enrolling.revoke(session, "w", since=datetime(2020, 1, 1, tzinfo=UTC))
        measured = {"state": "done", "score": 1.0, "low": 0.9, "high": 1.0, "outcomes": pack([1] * 8)}
        session.execute(update(Evaluation).where(Evaluation.id == 2).values(**measured))
    assert list(going) == []

    assert scored.get("/evaluations/2").json()["score"] == 1.0


def test_one_suite_is_rescored_alone_and_an_unknown_one_is_told(scored: Hub, tmp_path: Path) -> None:
    spoil(scored, score=0.1, low=0.0, high=0.2)
    unknown = rescore(scored, "--suite", "no/such")
    assert unknown.exit_code != 0
    assert "Nothing was scored by a suite no/such" in unknown.output
    assert "1 scores have changed" in rescore(scored, "--suite", "demo/topics").output
