"""How well one number of each picture tells classes apart: by a probe, by ranks, by exact counts."""

import math
from typing import Any

import numpy as np

from headstart.judging.intervals import UNKNOWN, BoolArray, FloatArray, IntArray, Interval, wilson

FOLDS = 5
SMOOTHING = 0.5  # added to the count of each class in each bin


def binned(values: FloatArray, most: int) -> IntArray:
    """The bin of each value, int [n], equally full ones as far as ties allow; -1 where it is not known."""
    known = values[~np.isnan(values)]
    edges = np.unique(known)[1:]
    if len(edges) >= most:
        edges = np.unique(np.quantile(known, np.arange(1, most) / most, method="inverted_cdf"))
    return np.where(np.isnan(values), -1, np.searchsorted(edges, values, side="right"))


def recalls_of(cells: IntArray, folds: IntArray, labels: IntArray, k: int) -> FloatArray:
    """The share of each class that a count of classes in the other folds' bins finds, [r, k], of `labels` [r, n].

    The class is the one whose pictures are most often in that bin, whatever its size. NaN for a class of which nothing
    is known.
    """
    known, rounds = cells >= 0, len(labels)
    bins = int(cells.max()) + 1
    keys = (folds[known] * bins + cells[known]) * k + labels[:, known]
    keys += np.arange(rounds)[:, None] * (FOLDS * bins * k)
    counts = np.bincount(keys.ravel(), minlength=rounds * FOLDS * bins * k).reshape(rounds, FOLDS, bins, k)
    others = counts.sum(axis=1, keepdims=True) - counts
    shares = (others + SMOOTHING) / (others.sum(axis=2, keepdims=True) + SMOOTHING * bins)
    guess = shares.argmax(axis=3)
    hits = np.take_along_axis(counts, guess[..., None], axis=3)[..., 0]
    places = guess + np.arange(rounds)[:, None, None] * k
    found = np.bincount(places.ravel(), hits.ravel(), minlength=rounds * k).reshape(rounds, k)
    sizes = counts.sum(axis=(1, 2))
    return np.where(sizes > 0, found / np.maximum(sizes, 1), np.nan)


def mean_recall(recalls: FloatArray) -> Any:
    """The balanced accuracy: the mean of the last axis, of what is known."""
    known = ~np.isnan(recalls)
    return np.where(known, recalls, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)


def interval_of(recalls: FloatArray, sizes: IntArray) -> Interval:
    """The balanced accuracy of `recalls` [k], with Wilson's interval for as many pictures as have its variance.

    The variance is that of a mean of independent shares, each with a hit and a miss added so that none is zero.
    `sizes`: int [k], of the classes; those that are empty do not count.
    """
    recalls, sizes = recalls[sizes > 0], sizes[sizes > 0]
    if len(recalls) == 0:
        return UNKNOWN
    smooth = (recalls * sizes + 1) / (sizes + 2)
    variance = float((smooth * (1 - smooth) / sizes).sum()) / len(recalls) ** 2
    centre = float(smooth.mean())
    return wilson(float(recalls.mean()), centre * (1 - centre) / variance)


def areas(values: FloatArray, labels: IntArray, sizes: IntArray) -> tuple[FloatArray, list[float]]:
    """The area under the ROC curve of each class against the rest, [k], and its two-sided p; `sizes` [k] of classes.

    P(a picture of the class has a larger value than one of the rest) + P(equal) / 2.
    """
    distinct, places, ties = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) == 1:
        return np.full(len(sizes), 0.5), [1.0] * len(sizes)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[places]
    n, rest = len(values), len(values) - sizes
    pairs = np.maximum(sizes * rest, 1).astype(np.float64)
    wins = np.bincount(labels, ranks, len(sizes)) - sizes * (sizes + 1) / 2
    aucs = np.where(sizes * rest > 0, wins / pairs, 0.5)
    if len(distinct) == 2:
        return aucs, fisher(places == 1, labels, sizes)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (n * (n - 1.0))
    deviations = np.sqrt((n + 1 - tied) / 12 / pairs)
    return aucs, [math.erfc(abs(z) / math.sqrt(2)) for z in (aucs - 0.5) / deviations]


def fisher(has: BoolArray, labels: IntArray, sizes: IntArray) -> list[float]:
    """Fisher's exact p, twice the smaller tail, that `has` bool [n] is as common in each class as in the rest."""
    n, holders = len(has), int(has.sum())
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])

    def ways(of: Any, many: Any) -> Any:
        return logs[of] - logs[many] - logs[of - many]

    values = []
    for hits, size in zip(np.bincount(labels, has, len(sizes)).astype(np.int64), sizes, strict=True):
        least = max(0, size + holders - n)
        counts = np.arange(least, min(size, holders) + 1)
        chances = np.exp(ways(size, counts) + ways(n - size, holders - counts) - ways(n, holders))
        tails = chances[: hits - least + 1].sum(), chances[hits - least :].sum()
        values.append(min(1.0, 2 * float(min(tails))))
    return values
