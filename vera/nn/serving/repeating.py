"""What a form keeps from its first call for inputs of a shape: the next ones are addresses and launches.

In eager passes a group of modules is Python: some 100 µs of arguments that are the same every time (docs/performance.md).
"""

# B batch, T tokens of a row, I in_features

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from vera.nn.kernels.launching import Repeats, may_repeat

if TYPE_CHECKING:
    from vera.nn.serving.products import GroupProduct


class Known:
    """The launches of one form of one group, for inputs of one shape, layout and alignment."""

    def __init__(self) -> None:
        self.launches: Repeats = {}
        self._weights: list[int] | None = None

    def keep(self, product: GroupProduct, x_BTI: Tensor) -> None:
        """After a call for x: what it has launched may be repeated, while the weights are where they are."""
        self._weights = addresses_of(product) if self.launches and x_BTI.is_contiguous() else None

    def serves(self, product: GroupProduct, x_BTI: Tensor) -> bool:
        return self._weights is not None and may_repeat(x_BTI) and self._weights == addresses_of(product)


def addresses_of(product: GroupProduct) -> list[int]:
    return [
        parameter.data_ptr()
        for parameters in product.parameters
        for parameter in parameters.values()
        if parameter is not None
    ]
