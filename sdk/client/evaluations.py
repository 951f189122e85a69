"""Suites, evaluations and leaderboards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sdk.client.addresses import segment, suite_path
from sdk.client.wire import Wire

if TYPE_CHECKING:
    from sdk.models.boards import BoardHistory, Leaderboard, Suite
    from sdk.models.evaluations import Comparison, Evaluation, Signature, Tasks
    from sdk.models.items import ItemsCompared


class Evaluations(Wire):
    """Suites, evaluations and leaderboards."""

    def list_suites(self) -> Iterator[Suite]:
        from sdk.models.boards import Suite

        return self._pages("/api/v1/suites", {}, Suite)

    def get_suite(self, name: str) -> Suite:
        from sdk.models.boards import Suite

        return Suite.from_json(self._get(f"/api/v1/suites/{suite_path(name)}").json())

    def request_evaluation(self, ref: str, suite: str) -> Evaluation:
        """The evaluation of a version on a suite: a new one, or the one there is."""
        from sdk.models.evaluations import Evaluation

        body = {"ref": self._spelled_here(ref), "suite": suite}
        return Evaluation.from_json(self._post("/api/v1/evaluations", body, is_idempotent=True).json())

    def get_evaluation(self, evaluation_id: str) -> Evaluation:
        from sdk.models.evaluations import Evaluation

        return Evaluation.from_json(self._get(f"/api/v1/evaluations/{segment(evaluation_id)}").json())

    def get_tasks(self, evaluation_id: str) -> Tasks:
        """What each task of a group is worth; no task where the suite is no group. Raises Conflict while there is no score, and
        Forbidden where the answers of the suite are hidden."""
        from sdk.models.evaluations import Tasks

        return Tasks.from_json(self._get(f"/api/v1/evaluations/{segment(evaluation_id)}/tasks").json())

    def get_signature(self, evaluation_id: str, *, with_items: bool = False) -> Signature:
        """What its worker has signed of an evaluation, and what that has digests of, if it is wanted and shown. Raises
        NotFound where there is no signature."""
        from sdk.models.evaluations import Signature

        path = f"/api/v1/evaluations/{segment(evaluation_id)}/signature"
        return Signature.from_json(self._get(path, {"items": "true" if with_items else None}).json())

    def cancel_evaluation(self, evaluation_id: str) -> Evaluation:
        """Ends an evaluation that waits or runs; twice is once. Raises Conflict when it has its score already."""
        from sdk.models.evaluations import Evaluation

        path = f"/api/v1/evaluations/{segment(evaluation_id)}/cancel"
        return Evaluation.from_json(self._post(path, {}, is_idempotent=True).json())

    def compare_evaluations(self, evaluation_id: str, against_id: str) -> Comparison:
        from sdk.models.evaluations import Comparison

        path = f"/api/v1/evaluations/{segment(evaluation_id)}/comparison"
        return Comparison.from_json(self._get(path, {"against": against_id}).json())

    def compare_items(
        self,
        evaluation_id: str,
        against_id: str,
        *,
        only: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> ItemsCompared:
        """A page of the items, where the first lost most against the other; `only` worse, better or same. Raises
        Forbidden where the items of the suite are not public."""
        from sdk.models.items import ItemsCompared

        path = f"/api/v1/evaluations/{segment(evaluation_id)}/items"
        asked = {"against": against_id, "only": only, "cursor": cursor, "limit": limit}
        return ItemsCompared.from_json(self._get(path, asked).json())

    def board_history(self, suite: str, *, base: str | None = None, owner: str | None = None) -> BoardHistory:
        """The versions that were the best of the suite's board when they were scored, the first first."""
        from sdk.models.boards import BoardHistory

        path = f"/api/v1/leaderboards/{suite_path(suite)}/history"
        return BoardHistory.from_json(self._get(path, {"base": base, "owner": owner}).json())

    def leaderboard(
        self,
        suite: str,
        *,
        base: str | None = None,
        owner: str | None = None,
        license: str | None = None,
        min_rank: int | None = None,
        max_rank: int | None = None,
        max_bytes: int | None = None,
        method: str | None = None,
        limit: int | None = None,
    ) -> Leaderboard:
        """The versions that the suite has scored, best first, as far as they are wanted."""
        from sdk.models.boards import Leaderboard

        wanted = {"base": base, "owner": owner, "license": license, "method": method}
        sizes = {"min_rank": min_rank, "max_rank": max_rank, "max_bytes": max_bytes, "limit": limit}
        reply = self._get(f"/api/v1/leaderboards/{suite_path(suite)}", {**wanted, **sizes})
        return Leaderboard.from_json(reply.json())
