"""How often a classifier is right and how far off its probabilities are, each with its interval.

Every metric is a pure function of an `Outcome`, what is left of (probabilities, labels, groups). Intervals are
95 %: Wilson's for proportions, percentiles of a bootstrap over whole groups for the rest; see `intervals`. What the
probabilities are worth is in `reliability`, how well they rank the pictures in `ranking`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.judging.intervals import (
    UNKNOWN,
    BoolArray,
    FloatArray,
    IntArray,
    Interval,
    Weights,
    bagged,
    gathered,
    mean_share,
    percentiles,
    proportion,
    sums_by,
    total,
    wilson,
    within,
)

__all__ = ["UNKNOWN", "BoolArray", "FloatArray", "IntArray", "Interval", "Outcome", "judge", "proportion", "wilson"]

_Cells = tuple[IntArray, IntArray, FloatArray | None]
"""Groups, keys, and how many pictures of both there are; None: one each."""

BLOCK_NUMBERS = 2**22  # probabilities that are compared at once
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # for log loss; scikit-learn clips at the same


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of each of n pictures, for k classes; built by `judge`.

    `labels`, `predicted`: int [n], in [0, k). `confidence`: [n], the probability of the predicted class.
    `loss`: [n], -ln of the probability of the true class. `squared`: [n], in [0, 2], the squared distance of the
    probabilities from the truth. `rank`: int [n], how many classes came before the true one. `groups`: int [n], in
    [0, group_count), every number used.
    """

    labels: IntArray
    predicted: IntArray
    confidence: FloatArray
    loss: FloatArray
    squared: FloatArray
    rank: IntArray
    groups: IntArray
    group_count: int
    class_count: int

    @property
    def correct(self) -> BoolArray:
        """Where the predicted class is the true one, bool [n]."""
        return np.equal(self.predicted, self.labels)

    @property
    def size(self) -> int:
        """How many numbers a resample takes: pictures, or classes if there are more."""
        return max(len(self.labels), self.class_count)

    @property
    def seen(self) -> BoolArray:
        """Which classes have pictures, bool [k]."""
        return np.bincount(self.labels, minlength=self.class_count) > 0


def judge(probabilities: FloatArray, labels: IntArray, groups: IntArray | None = None) -> Outcome:
    """Look at each picture once.

    `probabilities`: [n, k], rows sum to 1. `labels`: int [n], in [0, k). `groups`: int [n], pictures of one number
    belong together; None: each for itself. The most probable class is predicted, the first of equals.
    """
    n, class_count = probabilities.shape
    true = probabilities[np.arange(n), labels][:, None]
    names, numbers = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    return Outcome(
        labels=labels,
        predicted=probabilities.argmax(axis=1),
        confidence=np.minimum(probabilities.max(axis=1), 1.0),
        loss=-np.log(np.clip(true[:, 0], SMALLEST_PROBABILITY, 1.0)),
        squared=np.maximum(np.einsum("nk,nk->n", probabilities, probabilities) + 1 - 2 * true[:, 0], 0.0),
        rank=_ranks(probabilities, labels, true),
        groups=numbers.astype(np.int64),
        group_count=len(names),
        class_count=class_count,
    )


def _ranks(probabilities: FloatArray, labels: IntArray, true: FloatArray) -> IntArray:
    """How many classes come before the `labels` int [n], whose probabilities are `true` [n, 1], int [n]."""
    ranks, size = np.empty(len(labels), np.int64), max(1, BLOCK_NUMBERS // probabilities.shape[1])
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        before = np.arange(probabilities.shape[1]) < labels[part, None]
        more, equal = probabilities[part] > true[part], probabilities[part] == true[part]
        ranks[part] = (more | (equal & before)).sum(axis=1)
    return ranks


def accuracy(outcome: Outcome) -> Interval:
    """The share of pictures whose predicted class is the true one."""
    return proportion(outcome.correct, outcome.groups)


def top5(outcome: Outcome) -> Interval | None:
    """The share of pictures whose true class is among the five most probable; None up to five classes."""
    return proportion(outcome.rank < 5, outcome.groups) if outcome.class_count > 5 else None


def confusion(outcome: Outcome) -> IntArray:
    """How many pictures of each class were taken for which, int [k, k]: rows the truth, columns the prediction."""
    k = outcome.class_count
    return np.bincount(outcome.labels * k + outcome.predicted, minlength=k * k).reshape(k, k)


def precision(outcome: Outcome) -> list[Interval]:
    """TP / (TP + FP) of each class with Wilson's interval; NaN for a class that was never predicted."""
    return _shares_by(outcome.predicted, outcome.correct, outcome.groups, outcome.class_count)


def recall(outcome: Outcome) -> list[Interval]:
    """TP / (TP + FN) of each class with Wilson's interval; NaN for a class without pictures."""
    return _shares_by(outcome.labels, outcome.correct, outcome.groups, outcome.class_count)


def f1(outcome: Outcome) -> list[Interval]:
    """2 TP / (2 TP + FP + FN) of each class with its interval; NaN for a class without pictures.

    F1 = 2 J / (1 + J), J being the share TP / (TP + FP + FN) of the pictures that are of the class or were taken for
    it; the ends are those of Wilson's interval of J, carried over. Source: Lam, Gopal, Qian, arXiv 2309.14621 (2024),
    "Wilson indirect".
    """
    wrong = ~outcome.correct
    keys = np.concatenate([outcome.labels, outcome.predicted[wrong]])
    hits = np.concatenate([outcome.correct, np.zeros(int(wrong.sum()), np.bool_)])
    groups = np.concatenate([outcome.groups, outcome.groups[wrong]])
    shares = _shares_by(keys, hits, groups, outcome.class_count)
    return [
        Interval(*(2 * end / (1 + end) for end in (share.value, share.low, share.high))) if seen else UNKNOWN
        for share, seen in zip(shares, outcome.seen, strict=True)
    ]


def _shares_by(keys: IntArray, hits: BoolArray, groups: IntArray, count: int) -> list[Interval]:
    """The share of `hits` among the pictures of each key in [0, count); NaN where there are none."""
    order = np.argsort(keys, kind="stable")
    ends = np.cumsum(np.bincount(keys, minlength=count))[:-1]
    return [proportion(hits[of], groups[of]) for of in np.split(order, ends)]


def balanced_accuracy(outcome: Outcome) -> Interval:
    """The mean of `recall` over the classes that have pictures, in [0, 1]; its interval by `mean_share`."""
    return mean_share(outcome.correct, outcome.labels, outcome.groups, outcome.seen)


def macro_precision(outcome: Outcome) -> Interval:
    """The mean of `precision` over the classes that have pictures, in [0, 1]; its interval by `mean_share`.

    A class that was never predicted counts 0, as in scikit-learn: the classifier did not find it.
    """
    return mean_share(outcome.correct, outcome.predicted, outcome.groups, outcome.seen)


def macro_f1(outcome: Outcome, seed: int = 0) -> Interval:
    """The mean of `f1` over the classes that have pictures, in [0, 1].

    A resample leaves out the classes that it did not draw. Where nothing was mistaken every resample is
    perfect, which would claim certainty: there the interval of the accuracy stands in.
    """
    if outcome.correct.all():
        return accuracy(outcome)

    groups, count = bagged(outcome.groups, outcome.group_count)
    right, wrong = outcome.correct, ~outcome.correct
    cells: list[_Cells] = [
        (groups[of], keys[of], None)
        for of, keys in ((right, outcome.labels), (wrong, outcome.labels), (wrong, outcome.predicted))
    ]
    if count < outcome.group_count:
        cells = [gathered(groups, count, keys) for groups, keys, _ in cells]
    size = max(outcome.class_count, len(outcome.labels) if count == outcome.group_count else len(cells[0][0]))

    def mean(weights: Weights) -> FloatArray:
        averages: FloatArray = np.nanmean(_class_f1(cells, outcome.class_count, weights), axis=0)
        return averages

    return percentiles(mean, count, size, seed)


def log_loss(outcome: Outcome, seed: int = 0) -> Interval:
    """The mean of -ln p(true class), in [0, 36.04] as no p below `SMALLEST_PROBABILITY` is believed.

    No interval foresees a confident mistake of a kind that the test pictures do not hold.
    """
    left = np.maximum(1 - outcome.confidence, SMALLEST_PROBABILITY)
    return _mean(outcome, outcome.loss, -np.log(left), seed, most=-math.log(SMALLEST_PROBABILITY))


def brier(outcome: Outcome, seed: int = 0) -> Interval:
    """The mean over the pictures of sum over the classes of (p - truth)², in [0, 2]; truth is 1 for the label, else 0.

    0 is perfect, 1 - 1/k is what equal probabilities for k classes get, 2 is certain of a mistake each time. For two
    classes it is twice the score of one of them. Source: G. W. Brier, Monthly Weather Review 78 (1950), 1-3.
    """
    return _mean(outcome, outcome.squared, 2 * outcome.confidence**2, seed, most=2.0)


def _mean(outcome: Outcome, values: FloatArray, mistaken: FloatArray, seed: int, most: float) -> Interval:
    """The mean of a value of each picture, in [0, most]; `mistaken` [n]: what it would be, were the prediction wrong.

    A bootstrap cannot draw mistakes that were not made. So `high` admits as many more of them as the accuracy's
    interval does, each as costly as those that were made, or as the classifier's own doubts foretell if that is more.
    """
    groups, count = bagged(outcome.groups, outcome.group_count)
    sums, sizes = np.bincount(groups, values), np.bincount(groups)
    size = outcome.size if count == outcome.group_count else count
    drawn = percentiles(lambda draw: total(draw, sums) / total(draw, sizes), count, size, seed, most)
    right, correct = accuracy(outcome), outcome.correct
    if not correct.any():
        return drawn
    doubt = np.maximum(1 - outcome.confidence, SMALLEST_PROBABILITY)
    cost = float((doubt * mistaken).sum() / doubt.sum())
    if not correct.all():
        cost = max(cost, float(values[~correct].mean()))
    more = (right.value - right.low) * max(0.0, cost - float(values[correct].mean()))
    return within(drawn.value, drawn.low, max(drawn.high, drawn.value + more), most)


def _class_f1(cells: Sequence[_Cells], k: int, weights: Weights) -> FloatArray:
    """F1 of each class in each resample, [k, r]; NaN where the resample has no picture of the class.

    `cells`: the groups and classes of hits, of pictures that were missed, and of false alarms.
    """
    hits, missed, false_alarms = (sums_by(weights, groups, keys, k, counts) for groups, keys, counts in cells)
    return np.where(hits + missed > 0, 2 * hits / np.maximum(2 * hits + missed + false_alarms, 1), math.nan)
