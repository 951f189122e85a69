"""Conversations that a judge rates, with a stand-in that speaks OpenAI's API: kept, advisory, and never decisive."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hub.db.models.evaluating import Evaluation
from hub.domain import blobs
from hub.domain.evaluations import unpack
from hub.scoring import metrics
from hub.worker import judging, runner
from hub.worker.errors import JudgeFailed, NotComputed, SuiteError
from hub.worker.judging import Judge
from hub.worker.suite import Suite
from sdk.errors import HubError
from sdk.pushing import push_archive
from tests.tiny_adapters import make_tiny
from tests.worker.lab import Lab
from tests.worker.suite_files import write_suite
from tests.worker.test_generating import LLAMA_QUERY, adapted, lines, llama  # noqa: F401  # a fixture
from vera.gating import Minimum, judge_minimum, judge_regression
from vera.manifest import AdaptedModule
from vera.nn.inputs import tokenizer_of
from vera.nn.writing import Writing, conversed, written
from vera.ref import AdapterRef

KEY = "judge-key-5d2f"
CONVERSATIONS = [
    {"turns": ["the cat", "and the dog"], "reference": ["it sleeps"]},
    {"turns": ["old", "new"], "reference": []},
]


class StandIn:
    """A judge that answers what it is told to, one after the other, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stand_in.asked.append((body, self.headers["Authorization"]))
                status, headers, said = stand_in.answers.pop(0) if stand_in.answers else stand_in.rating(8)
                reply = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(reply))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @staticmethod
    def rating(number: object) -> tuple[int, dict[str, str], str]:
        return 200, {}, f"It is plain and short.\nRating: [[{number}]]"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()
    monkeypatch.setenv("VERA_HUB_JUDGE_URL", f"{stand_in.url}/")
    monkeypatch.setenv("VERA_HUB_JUDGE_KEY", KEY)
    yield stand_in
    stand_in.close()


def chats(folder: Path, **stated: object) -> Suite:
    options: dict[str, object] = {
        "data": "items.jsonl", "name": "tests/chats", "task": "text-generation", "metric": "judged", "text": "turns",
        "judge": "stand-in", "repeats": 2, "chat": True, "max_new_tokens": 5, "max_length": 48,
    }  # fmt: skip
    return write_suite(folder, lines(CONVERSATIONS), **options | stated)


def test_the_second_answer_is_written_after_the_first(llama: Path) -> None:  # noqa: F811
    model, options = adapted(llama), {"batch_size": 2, "max_length": 48}
    (first, second), (only,) = conversed(model, [["the cat", "and the dog"], ["old"]], Writing(5), **options)
    assert [first, only] == written(model, ["the cat", "old"], Writing(5), separator="", chat=True, **options)
    assert tokenizer_of(model).chat_template
    spelled = f"[USER] the cat [USER] {first} [USER] and the dog [BOT]"
    assert [second] == written(model, [spelled], Writing(5), separator="", **options)


def test_each_turn_is_rated_several_times_and_all_that_was_said_is_kept(judge: StandIn, tmp_path: Path) -> None:
    suite = chats(tmp_path)
    judge.answers = [judge.rating(each) for each in (1, 2, 3, 4, "10", "9.5", 9, 9)]

    results = suite.results({"outputs": ['["It sleeps.", "It barks."]', '["Old.", "New."]'], "environment": {}})

    assert results.outcomes == [2.5, 9.375]
    assert metrics.score("judged", results.outcomes) == pytest.approx(5.9375)
    kept = json.loads(results.outputs[0])
    assert kept["answers"] == ["It sleeps.", "It barks."]
    assert [(each["turn"], each["rating"]) for each in kept["judged"]] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    assert kept["judged"][0]["said"] == "It is plain and short.\nRating: [[1]]"
    assert results.environment["scorers"] == {"judge": "stand-in"}
    bodies = [body for body, _ in judge.asked]
    assert [body["model"] for body in bodies] == ["stand-in"] * 8
    assert "it sleeps" in bodies[0]["messages"][-1]["content"]  # the reference of that turn
    assert "It sleeps." not in bodies[4]["messages"][-1]["content"]
    second = bodies[2]["messages"][-1]["content"]
    assert [part in second for part in ("the cat", "It sleeps.", "and the dog", "It barks.", "<reference>")] == [
        True, True, True, True, False,
    ]  # fmt: skip


def test_what_decides_nothing_is_neither_answered_nor_rated_twice(judge: StandIn, tmp_path: Path) -> None:
    assert chats(tmp_path).request(tmp_path)["sample"] == 0


def test_the_key_goes_to_the_judge_and_nowhere_else(judge: StandIn, tmp_path: Path) -> None:
    suite = chats(tmp_path)
    results = suite.results({"outputs": ['["a", "b"]', '["c", "d"]'], "environment": {}})
    assert {key for _, key in judge.asked} == {f"Bearer {KEY}"}
    said = json.dumps([suite.declaration(), results.outputs, results.environment, suite.request(tmp_path)])
    assert KEY not in said + repr(Judge.of_environment("stand-in", 1))
    assert judge.url not in said
    assert not {judging.URL, judging.KEY} & runner._child_environment().keys()


def test_a_busy_judge_is_asked_again_and_a_closed_one_is_not(judge: StandIn, tmp_path: Path) -> None:
    asked = Judge.of_environment("stand-in", 1)
    judge.answers = [(429, {"Retry-After": "0"}, ""), (503, {"Retry-After": "0"}, ""), judge.rating(7)]
    assert asked.said([], seed=0).endswith("[[7]]")
    judge.answers = [(401, {}, "")]
    with pytest.raises(JudgeFailed, match=r"status 401\. Check VERA_HUB_JUDGE_URL and VERA_HUB_JUDGE_KEY") as caught:
        asked.said([], seed=0)
    assert KEY not in str(caught.value)
    assert len(judge.asked) == 4


def test_a_judge_without_a_rating_is_no_judge(judge: StandIn, tmp_path: Path) -> None:
    judge.answers = [judge.rating(11)]
    with pytest.raises(JudgeFailed, match=r"gave no `Rating: \[\[1 to 10\]\]` for item 1"):
        chats(tmp_path).results({"outputs": ['["a", "b"]', '["c", "d"]'], "environment": {}})


def test_without_a_judge_the_suite_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERA_HUB_JUDGE_URL", raising=False)
    with pytest.raises(NotComputed, match="set VERA_HUB_JUDGE_URL to a server"):
        chats(tmp_path)


@pytest.mark.parametrize(
    ("stated", "says"),
    [({"judge": None}, "which `judge` names"), ({"chat": None}, "write `chat: true`"), ({"repeats": 0}, "repeats must be 1")],
    ids=["judge", "chat", "repeats"],
)  # fmt: skip
def test_what_is_wrong_with_a_judged_suite_is_said(
    judge: StandIn, tmp_path: Path, stated: dict[str, object], says: str
) -> None:
    with pytest.raises(SuiteError, match=says):
        chats(tmp_path, **stated)


def test_a_judged_score_is_shown_and_neither_ranks_nor_gates(
    judge: StandIn, llama: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    lab, suite = Lab(tmp_path, llama), chats(tmp_path)
    lab.worker.suites = {suite.name: suite}
    with lab.http:
        lab.worker.hub.register_worker("w", [suite.declaration()], key=lab.worker.key)
        ids = []
        for seed in (1, 2):
            adapter = make_tiny(lab.base, seed=seed, modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
            ref = push_archive(lab.user, adapter, AdapterRef("demo", "tiny")).version.ref
            ids.append(lab.user.request_evaluation(ref, suite.name).id)
        judge.answers = [judge.rating(9 if each < 8 else 2) for each in range(16)]
        lab.start_worker()
        done = [lab.wait(each, lambda evaluation: evaluation.is_over) for each in ids]
        lab.stop_worker()

        assert {each.score for each in done} == {9.0, 2.0}, done
        rows = lab.user.leaderboard(suite.name).rows
        assert [(row.ref, row.rank) for row in rows] == [("demo/tiny@v1", 1), ("demo/tiny@v2", 1)]
        assert lab.user.board_history(suite.name).records == ()
        page = " ".join(lab.http.get(f"/leaderboards/{suite.name}").text.split())
        assert "Judge’s rating (advisory)" in page
        assert "no gate stands on them" in page
        assert 'class="tied"' not in page
        comparison = lab.user.compare_evaluations(*ids)
        with pytest.raises(ValueError, match="judged is advisory"):
            judge_minimum(done[0], Minimum.parse("judged>=1"))
        with pytest.raises(ValueError, match="judged is advisory"):
            judge_regression(comparison, 0.0, against="demo/tiny@v1")
        with pytest.raises(HubError, match="judged is advisory"):
            lab.user.promote(AdapterRef("demo", "tiny"), "prod", ids[0], minimum="judged>=1")
        with lab.hub.database.reading() as session:
            evaluation = session.scalars(select(Evaluation).order_by(Evaluation.id)).first()
            assert evaluation is not None
            assert evaluation.outputs_sha256 is not None
            packed = blobs.bytes_of(blobs.locate(session, evaluation.outputs_sha256), None)
        assert "Rating: [[" in json.loads(str(unpack(packed)[0]))["judged"][0]["said"]
