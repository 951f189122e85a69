"""What texts share with their references, over a whole set: scores that are functions of summed counts.

Each takes sums (R, columns) over the items of R resamples, and gives (R,). The columns are those of an item's outcome:

bleu    tokens, reference's tokens; n-grams that match, for n = 1 to 4; n-grams there are, for n = 1 to 4
nist    information of the n-grams that match, for n = 1 to 5; n-grams there are, for n = 1 to 5; mean length of the references
meteor  the 23 numbers of METEOR 1.5's `SCORE`; a text that is its reference has no chunk, as where that program adds up
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLEU_ORDERS, NIST_ORDERS = 4, 5
BLEU_COLUMNS, NIST_COLUMNS, METEOR_COLUMNS = 2 + 2 * BLEU_ORDERS, 2 * NIST_ORDERS + 1, 23
# METEOR 1.5 for English, tuned to rankings (Denkowski & Lavie 2014): exact, stem, synonym, paraphrase.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STAGES, _KINDS = np.array([1.0, 0.6, 0.8, 0.6]), np.array([_DELTA, 1 - _DELTA])
# NIST's brevity is one half where a system writes two thirds of the references' tokens (Doddington 2002).
_NIST_BETA = -math.log(0.5) / math.log(1.5) ** 2


def bleu(sums: Array) -> Array:
    """BLEU (Papineni et al. 2002), 0 to 1. An order of which nothing matches counts as half, a quarter, … of one match,
    as in sacrebleu; where nothing matches at all, or nothing is long enough, it is 0."""
    tokens, reference = sums[:, 0], sums[:, 1]
    matches, there = sums[:, 2 : 2 + BLEU_ORDERS], sums[:, 2 + BLEU_ORDERS :]
    without = np.asarray(matches == 0)
    smoothed = np.where(without, 0.5 ** np.cumsum(without, axis=1), matches)
    precision = np.divide(smoothed, there, out=np.zeros_like(there), where=there > 0)
    is_scored = np.asarray((precision > 0).all(1) & ~without.all(1))
    mean = np.exp(np.log(np.where(is_scored[:, None], precision, 1.0)).mean(1))
    ratio = np.divide(reference, tokens, out=np.ones_like(tokens), where=tokens > 0)
    return np.where(is_scored, np.exp(np.minimum(0.0, 1 - ratio)) * mean, 0.0)


def nist(sums: Array) -> Array:
    """NIST (Doddington 2002): the information of what matches for each n-gram written, summed over the orders."""
    information, there, reference = sums[:, :NIST_ORDERS], sums[:, NIST_ORDERS:-1], sums[:, -1]
    per_ngram = np.divide(information, there, out=np.zeros_like(there), where=there > 0).sum(1)
    ratio = np.divide(there[:, 0], reference, out=np.zeros_like(reference), where=reference > 0)
    shortness = np.log(np.clip(ratio, 1e-300, 1.0))
    return np.asarray(per_ngram * np.exp(-_NIST_BETA * shortness**2), dtype=np.float64)


def meteor(sums: Array) -> Array:
    """METEOR 1.5: the harmonic mean of weighted precision and recall, less for matches that lie scattered."""
    stages = sums[:, 4:20].reshape(len(sums), len(_STAGES), 2, 2)  # stage; content, function words; text, reference
    return _meteor(sums, np.einsum("rskt,s,k->rt", stages, _STAGES, _KINDS))


def meteor_of_many(sums: Array) -> Array:
    """The same but for its last digits, in a quarter of the time. Those of a score are signed."""
    return _meteor(sums, sums[:, 4:20] @ np.kron(np.outer(_STAGES, _KINDS).reshape(-1, 1), np.eye(2)))


def _meteor(sums: Array, matches: Array) -> Array:
    lengths, function = sums[:, 0:2], sums[:, 2:4]  # of the text, of its reference
    there = _DELTA * (lengths - function) + (1 - _DELTA) * function
    precision, recall = np.divide(matches, there, out=np.zeros_like(there), where=there > 0).T
    mean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    scatter = _ratio(sums[:, 20], sums[:, 21:23].mean(1))  # chunks, words that match
    return np.asarray(mean * (1 - _GAMMA * scatter**_BETA), dtype=np.float64)


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
