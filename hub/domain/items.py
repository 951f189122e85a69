"""Items one by one: where one version answers better than another. Only of suites that say `items: public`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.models.evaluating import Suite
from hub.db.queries import evaluations
from hub.domain import blobs, paging
from hub.domain.evaluations import Finished, finished_pair, unpack, unpack_beside
from hub.domain.secrecy import PUBLIC, access_of
from hub.domain.views.evaluations import ItemComparison, ItemsCompared, SignedItemsView
from hub.errors import Forbidden
from hub.scoring import metrics
from hub.scoring.metrics import Outcome
from hub.storage.blobs import BlobStore

Change = Literal["worse", "better", "same"]
_MOST_SHOWN = 4000  # characters of an output


@dataclass(frozen=True)
class Pair:
    """Two finished evaluations whose items may be shown, and where their outputs are."""

    suite: Suite
    ours: Finished
    theirs: Finished


def find_pair(session: Session, reader: Principal | None, evaluation_id: str, against_id: str) -> Pair:
    """Raises NotFound, Conflict for two that are not of the same items, and Forbidden for items that are not public."""
    ours, theirs = finished_pair(session, reader, evaluation_id, against_id)
    suite = ours.suite
    if access_of(suite) != PUBLIC:
        raise Forbidden(
            f"What single items of {suite.name} are worth is not shown: its right answers could be told from it. "
            "Whoever keeps the suite writes `items: public` into its file, where they are no secret.",
            code="ITEMS_NOT_PUBLIC",
            suite=suite.name,
        )
    return Pair(suite, ours, theirs)


def compare_items(
    session: Session, pair: Pair, objects: BlobStore | None, *, only: Change | None, cursor: str | None, limit: int
) -> ItemsCompared:
    """The items, those with the largest loss first, as far as they are wanted. Raises Invalid for another list's cursor."""
    kind = f"items {pair.ours.id} {pair.theirs.id} {only}"
    after = paging.decode(session, cursor, kind, int)
    lost, order = _ordered(pair, only)
    start = int(after[0]) if after else 0
    outputs = [_outputs(session, each, objects) for each in (pair.ours, pair.theirs)]
    outcomes = [unpack(each.outcomes) for each in (pair.ours, pair.theirs)]
    shown = order[start : start + limit]
    ends_at = start + len(shown)
    return ItemsCompared(
        suite=pair.suite.name,
        metric=pair.suite.metric,
        ref=pair.ours.ref,
        against=pair.theirs.ref,
        worse=int((lost > 0).sum()),
        better=int((lost < 0).sum()),
        same=int((lost == 0).sum()),
        items=tuple(
            ItemComparison(
                item=row + 1,
                change=_change(lost[row]),
                output=outputs[0][row][:_MOST_SHOWN],
                against_output=outputs[1][row][:_MOST_SHOWN],
                outcome=_numbers(outcomes[0][row]),
                against_outcome=_numbers(outcomes[1][row]),
            )
            for row in shown
        ),
        next=paging.encode(session, kind, ends_at) if ends_at < len(order) else None,
    )


def signed_items(session: Session, evaluation_id: str, objects: BlobStore | None) -> SignedItemsView | None:
    """What the digests in a signature are of, with their salt; None where the suite does not show it. That the evaluation may
    be seen was asked before."""
    found = evaluations.with_items(session, int(evaluation_id))
    if found is None or found.outcomes is None or access_of(found.suite) != PUBLIC:
        return None
    beside = unpack_beside(found.beside_outcomes) if found.beside_outcomes else {}
    return SignedItemsView(
        salt=found.salt,
        outcomes={found.suite.metric: unpack(found.outcomes), **beside},
        outputs=_unpacked(session, found.outputs_sha256, objects) if found.outputs_sha256 else [],
    )


def _ordered(pair: Pair, only: Change | None) -> tuple[metrics.Array, list[int]]:
    """How much each item lost, and the items that are wanted, the largest loss first."""
    metric = metrics.known(pair.suite.metric)
    ours, theirs = (metric.losses(metric.table(unpack(each.outcomes))) for each in (pair.ours, pair.theirs))
    lost = ours - theirs
    order = [int(row) for row in np.argsort(-lost, kind="stable")]
    if only == "better":
        order.reverse()
    return lost, [row for row in order if only is None or _change(lost[row]) == only]


def _change(lost: float) -> Change:
    return "worse" if lost > 0 else "better" if lost < 0 else "same"


def _outputs(session: Session, finished: Finished, objects: BlobStore | None) -> Sequence[str]:
    if finished.outputs_sha256 is None:
        return [""] * len(unpack(finished.outcomes))
    return _unpacked(session, finished.outputs_sha256, objects)


def _unpacked(session: Session, outputs_sha256: str, objects: BlobStore | None) -> Sequence[str]:
    packed = blobs.bytes_of(blobs.locate(session, outputs_sha256), objects)
    found: list[str] = json.loads(zlib.decompress(packed))
    return found


def _numbers(outcome: Outcome) -> tuple[float, ...]:
    return tuple(outcome) if isinstance(outcome, list | tuple) else (float(outcome),)  # type: ignore[arg-type]  # a Sequence is a list here
