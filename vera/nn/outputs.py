"""What the outputs of a head say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vera.errors import VeraError


def classes_of(outputs: NDArray[np.float32]) -> list[int]:
    """The place of the largest output of each item (items, outputs). Raises as `values_of` does: of no numbers the first would be
    the largest."""
    return [int(place) for place in _checked(outputs).argmax(-1)] if len(outputs) else []


def values_of(outputs: NDArray[np.float32]) -> list[float]:
    """The one output of each item (items, 1). Raises VeraError (OUTPUT_NONFINITE) for what is no finite number."""
    return [float(value) for value in _checked(outputs)[:, 0]] if len(outputs) else []


def _checked(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    wrong = np.flatnonzero(~np.isfinite(outputs).all(-1))
    if len(wrong):
        raise VeraError(
            f"The outputs of {len(wrong)} of {len(outputs)} items, item {wrong[0]} the first, are no finite numbers "
            f"({', '.join(map(str, outputs[wrong[0]][:4]))}): the base or the adapter is beyond what its dtype can hold. Load the base "
            "in float32 or bfloat16.",
            code="OUTPUT_NONFINITE",
            item=int(wrong[0]),
        )
    return outputs
