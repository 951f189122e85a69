"""Spearman's correlation in very many resamples, exactly.

A resample is how often each item was drawn. Twice the mid-rank of an item, less that of the middle, is its standing: how many are
below it less how many are above. These are sums over the items in their order, which is sorted once for all resamples, and whole
numbers, of which nothing is rounded before the last division.
"""

# R resamples, C items

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.signedinteger]


class Spearman:
    """The correlations of the two columns of each of `tables` (C, 2), in any number of resamples."""

    def __init__(self, tables: Sequence[Array]) -> None:
        self._pairs = [(_Column.of(first), _Column.of(second)) for first, second in (table.T for table in tables)]

    def of(self, drawn_CR: Whole) -> list[Array]:
        """The correlation (R,) of each table, item c drawn `drawn_CR[c]` times: Pearson's of the mid-ranks, 0 where a column is
        constant."""
        resamples = _Resamples.of(drawn_CR)
        found: list[Array] = []
        met = None  # the right answers are the same in every table
        for first, second in self._pairs:
            if first != met:
                met, standing_CR = first, resamples.standing(first)
                first_R, weighed_CR = resamples.spread(first, standing_CR), resamples.drawn * standing_CR
            standing_CR = resamples.standing(second)
            scale_R = np.sqrt(first_R * resamples.spread(second, standing_CR))
            covariance_R = resamples.summed(weighed_CR, standing_CR)
            found.append(np.divide(covariance_R, scale_R, out=np.zeros_like(scale_R), where=scale_R > 0))
        return found


@dataclass(frozen=True)
class _Column:
    """The places of the items, the least value first, and those that share a value with others."""

    order: tuple[int, ...]
    ties: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(values: Array) -> _Column:
        order = np.argsort(values, kind="stable")
        if len(np.unique(values)) == len(values):
            return _Column(tuple(order.tolist()), ())
        equal = np.split(order, np.flatnonzero(np.diff(values[order])) + 1)
        return _Column(tuple(order.tolist()), tuple(tuple(each.tolist()) for each in equal if len(each) > 1))


@dataclass(frozen=True)
class _Resamples:
    """How often the items were drawn (C, R), in the narrowest type that holds their standings so often; how many were (R,); and the
    type of summed products."""

    drawn: Whole
    total: Whole
    sum_type: type[np.signedinteger]

    @staticmethod
    def of(drawn_CR: Whole) -> _Resamples:
        total_R = drawn_CR.sum(0, dtype=np.int64)
        largest, most = int(total_R.max()), max(4, int(drawn_CR.max()))
        narrow = next(each for each in (np.int16, np.int32, np.int64) if largest * most <= np.iinfo(each).max)
        sum_type = np.int32 if largest**3 <= np.iinfo(np.int32).max else np.int64
        return _Resamples(drawn_CR.astype(narrow, copy=False), total_R.astype(narrow), sum_type)

    def standing(self, column: _Column) -> Whole:
        standing_CR = np.empty_like(self.drawn)
        below, drawn = list(standing_CR), list(self.drawn)  # rows, which are added as they stand
        below[column.order[0]][:] = 0
        for item, following in pairwise(column.order):
            np.add(below[item], drawn[item], below[following])
        standing_CR *= 2
        standing_CR += self.drawn
        standing_CR -= self.total
        for tied in column.ties:  # as if they were not: from the lower end of the first to the upper end of the last
            first, last = tied[0], tied[-1]
            standing_CR[list(tied)] = (standing_CR[first] - drawn[first] + standing_CR[last] + drawn[last]) // 2
        return standing_CR

    def spread(self, column: _Column, standing_CR: Whole) -> Array:
        """The squares of the standings, summed over what was drawn."""
        if column.ties:
            return self.summed(self.drawn * standing_CR, standing_CR)
        return self._spread_without_ties

    @cached_property
    def _spread_without_ties(self) -> Array:
        return (self.total.astype(np.float64) ** 3 - self.summed(self.drawn**2, self.drawn)) / 3

    def summed(self, one_CR: Whole, other_CR: Whole) -> Array:
        return np.asarray(np.einsum("cr,cr->r", one_CR, other_CR, dtype=self.sum_type), dtype=np.float64)
