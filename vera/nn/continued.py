"""An adapter that was trained further on a live model, as an archive of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vera import __version__
from vera import archive as archives
from vera.archive import Archive
from vera.errors import VeraError
from vera.nn import card
from vera.nn.attach import Attached
from vera.nn.heads import PooledHead
from vera.nn.packaging import head_tensors
from vera.nn.slots import read
from vera.projection import PairSource

Head = Mapping[str, NDArray[np.float32]]


def archive_of(
    model: Any,
    attached: Attached,
    published_head: Head,
    *,
    name: str,
    came_from: str | None,
    projection: PairSource | None,
) -> Archive:
    """The sealed archive of adapter `attached` as it is on `model` now, called `name` by its card and made from `came_from`, or from an untrained one.

    `published_head` is the head it was attached with. What was said of the first training, its scores among it, is not said of this one.
    Raises VeraError (HEAD_UNSUPPORTED) for a pooled head that is not at hand, and ArchiveError for vectors that diverged.
    """
    vectors = replace(read(attached.bank.slot(attached.name)), head=_head(model, attached, published_head))
    data, weights, head = archives.pack(vectors)
    manifest = replace(
        attached.manifest,
        weights=weights,
        head=head,
        training={
            "continued": {"digest": attached.manifest.digest, **({"from": came_from} if came_from else {})},
            "made_with": {"vera-hub": __version__, "torch": str(torch.__version__)},
        },
        files={},
    )
    return replace(archives.seal(manifest, data, card.of_continued(name, manifest, came_from)), projection=projection)


def _head(model: Any, attached: Attached, published: Head) -> Head:
    """The head that answers for the adapter, which is not part of the bank where it stands on pooled hidden states."""
    task = attached.manifest.task
    if not published or task is None or task.pooling is None:
        live = attached.bank.slot(attached.name).heads
        return {name: _unless_equal(array, _tensor_of(live, name)) for name, array in published.items()}
    if isinstance(model, PooledHead) and model.adapter == (attached.bank, attached.name):
        return head_tensors(model)
    raise VeraError(
        f"The head of {attached.ref or attached.name} is in the classifier that sdk.load gave, and not in its base: give that classifier.",
        code="HEAD_UNSUPPORTED",
    )


def _tensor_of(heads: Mapping[str, Any], name: str) -> Tensor:
    module, _, parameter = name.rpartition(".")
    tensor: Tensor = getattr(heads[module].trained, parameter)
    return tensor.detach()


def _unless_equal(published: NDArray[np.float32], live: Tensor) -> NDArray[np.float32]:
    """What is live, or what was published where that is the same but for the dtype it is held in."""
    if torch.equal(torch.from_numpy(published).to(live.device, live.dtype), live):
        return published
    array: NDArray[np.float32] = live.float().cpu().numpy().copy()
    return array
