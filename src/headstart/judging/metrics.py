"""How often a classifier is right and how far its probabilities can be believed, each with its interval.

Every metric is a pure function of an `Outcome`, what is left of (probabilities, labels, groups). Intervals are
95 %: Wilson's for proportions, percentiles of a bootstrap over whole groups for the rest, so that a photograph
that is there five times counts as one. What cannot be measured is NaN here and null in JSON.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Weights = NDArray[np.float32]
Statistic = Callable[[Weights], FloatArray]
"""Takes weights [group_count, r], how often each group stands in each of r resamples, and returns [r]."""

Z = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
TAILS = (0.025, 0.975)
RESAMPLES = 1000
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # for log loss; scikit-learn clips at the same
MOST_BINS, GROUPS_PER_BIN = 15, 20  # of calibration: fewer bins rather than fewer groups in each
CELLS_AT_ONCE = 2_000_000  # pictures (or classes, if more) x resamples in memory, some tens of bytes each


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with the ends of its 95 % interval: `low <= value <= high`, or three NaN."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def _interval(value: float, low: float, high: float, most: float = 1.0) -> Interval:
    """The interval, in [0, most] and around its value whatever rounding did."""
    value = min(max(value, 0.0), most)
    return Interval(value, min(max(low, 0.0), value), max(min(high, most), value))


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of each of n pictures, for k classes; built by `judge`.

    `labels`, `predicted`: int [n], in [0, k). `confidence`: [n], the probability of the predicted class.
    `loss`: [n], -ln of the probability of the true class. `rank`: int [n], how many classes came before the
    true one. `groups`: int [n], in [0, group_count), every number used.
    """

    labels: IntArray
    predicted: IntArray
    confidence: FloatArray
    loss: FloatArray
    rank: IntArray
    groups: IntArray
    group_count: int
    class_count: int

    @property
    def correct(self) -> BoolArray:
        """Where the predicted class is the true one, bool [n]."""
        return np.equal(self.predicted, self.labels)


def judge(probabilities: FloatArray, labels: IntArray, groups: IntArray | None = None) -> Outcome:
    """Look at each picture once.

    `probabilities`: [n, k], rows sum to 1. `labels`: int [n], in [0, k). `groups`: int [n], pictures of one number
    belong together; None: each for itself. The most probable class is predicted, the first of equals.
    """
    n, class_count = probabilities.shape
    true = probabilities[np.arange(n), labels][:, None]
    before = np.arange(class_count) < labels[:, None]
    names, numbers = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    return Outcome(
        labels=labels,
        predicted=probabilities.argmax(axis=1),
        confidence=np.minimum(probabilities.max(axis=1), 1.0),
        loss=-np.log(np.clip(true[:, 0], SMALLEST_PROBABILITY, 1.0)),
        rank=((probabilities > true) | ((probabilities == true) & before)).sum(axis=1),
        groups=numbers.astype(np.int64),
        group_count=len(names),
        class_count=class_count,
    )


def wilson(share: float, n: float) -> Interval:
    """Wilson's score interval of a share p seen in `n` independent trials (n may be fractional).

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). Honest where p ± 1.96 standard errors is not: near 0 and
    1, and for small n. Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.
    """
    if n == 0:
        return UNKNOWN
    centre = share + Z * Z / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return _interval(share, (centre - half) / (1 + Z * Z / n), (centre + half) / (1 + Z * Z / n))


def effective_size(hits: BoolArray, groups: IntArray) -> float:
    """How many independent pictures say as much about a share as these grouped ones.

    n / (1 + r (sum m² / n - 1)), with m the sizes of the groups and r, in [0, 1], the correlation of `hits`
    within groups by analysis of variance; r = 1 where it cannot be estimated (all are hits, or none). Groups of
    one give n; exact duplicates give r = 1, so that five copies of everything count once. The interval keeps
    close to 95 % but for few or very unequal groups (83 to 93 % with 20 groups of 50 at a share of 0.95).
    Source: Saha, Miller, Wang, Int. J. Biostat. 12 (2016); Franco et al., J. Surv. Stat. Methodol. 7 (2019).
    """
    n = len(hits)
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) == n:
        return float(n)
    share, worst = float(hits.mean()), float((sizes * sizes).sum() / n)
    correlation = 1.0
    if len(sizes) > 1 and 0 < share < 1:
        between = float(((np.bincount(numbers, hits) - share * sizes) ** 2 / sizes).sum())
        within = max(0.0, n * share * (1 - share) - between) / (n - len(sizes))
        between /= len(sizes) - 1
        typical_size = (n - worst) / (len(sizes) - 1)
        correlation = (between - within) / (between + (typical_size - 1) * within)
    return n / (1 + min(1.0, max(0.0, correlation)) * (worst - 1))


def proportion(hits: BoolArray, groups: IntArray) -> Interval:
    """The share of `hits` with Wilson's interval for their `effective_size`; both [n]."""
    return wilson(float(hits.mean()), effective_size(hits, groups)) if len(hits) else UNKNOWN


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


def precision(outcome: Outcome) -> FloatArray:
    """TP / (TP + FP) of each class, [k]; NaN for a class that was never predicted."""
    table = confusion(outcome)
    times_predicted = table.sum(axis=0)
    return np.where(times_predicted > 0, table.diagonal() / np.maximum(times_predicted, 1), math.nan)


def recall(outcome: Outcome) -> list[Interval]:
    """TP / (TP + FN) of each class with Wilson's interval; NaN for a class without pictures."""
    order = np.argsort(outcome.labels, kind="stable")
    ends = np.cumsum(np.bincount(outcome.labels, minlength=outcome.class_count))[:-1]
    return [proportion(outcome.correct[of], outcome.groups[of]) for of in np.split(order, ends)]


def f1(outcome: Outcome) -> FloatArray:
    """2 TP / (2 TP + FP + FN) of each class, [k]; NaN for a class without pictures."""
    return _class_f1(outcome, np.ones((outcome.group_count, 1), np.float32))[:, 0]


def macro_f1(outcome: Outcome, seed: int = 0) -> Interval:
    """The mean of `f1` over the classes that have pictures, in [0, 1].

    A resample leaves out the classes that it did not draw. Where nothing was mistaken every resample is
    perfect, which would claim certainty: there the interval of the accuracy stands in.
    """
    if outcome.correct.all():
        return accuracy(outcome)
    return _percentiles(lambda weights: np.nanmean(_class_f1(outcome, weights), axis=0), outcome, seed, most=1.0)


def log_loss(outcome: Outcome, seed: int = 0) -> Interval:
    """The mean of -ln p(true class), in [0, 36.04] as no p below `SMALLEST_PROBABILITY` is believed.

    No interval foresees a confident mistake of a kind that the test pictures do not hold.
    """
    losses, sizes = np.bincount(outcome.groups, outcome.loss), np.bincount(outcome.groups)
    most = -math.log(SMALLEST_PROBABILITY)
    return _percentiles(lambda draw: _total(draw, losses) / _total(draw, sizes), outcome, seed, most)


def ece(outcome: Outcome, seed: int = 0) -> Interval:
    """The expected calibration error of the predicted class, sum over bins of |sum (confidence - correct)| / n.

    In [0, 1]; 0.05 says that confidences are five points off on average. Bins hold about equally many pictures.
    Chance alone opens gaps, so the plain sum is too large: what it gains on average when each bin's gap varies
    normally about the one seen, with its variance between groups, is taken off. The bootstrap is moved to that
    value. `low` is 0 unless the gaps exceed 97.5 % of those that calibrated probabilities would show; without
    a mistake, `high` admits as many as the accuracy's interval does. In simulations 81 to 100 % held the truth.
    Source: Kumar, Liang, Ma, NeurIPS 2019, `normal_debiased_ce` of their library, here in closed form.
    """
    bins, residuals = _calibration_bins(outcome), outcome.confidence - outcome.correct
    sizes = np.bincount(outcome.groups)

    def uncorrected(weights: Weights) -> FloatArray:
        gaps: FloatArray = np.abs(_sums(weights, outcome.groups, bins, MOST_BINS, residuals)).sum(axis=0)
        return gaps / _total(weights, sizes)

    if outcome.group_count < 2:
        return _percentiles(uncorrected, outcome, seed, most=1.0)
    sums, counts = np.bincount(bins, residuals, MOST_BINS), np.maximum(np.bincount(bins, None, MOST_BINS), 1)
    gaps, errors = np.abs(sums) / len(bins), _gap_errors(outcome, bins, residuals - (sums / counts)[bins])
    value = max(0.0, float((2 * gaps - _expected_absolute(gaps, errors)).sum()))
    draws = bootstrap(uncorrected, outcome, seed)
    low, high = np.quantile(draws, TAILS) + (value - draws.mean())
    chance = _gap_errors(outcome, bins, np.sqrt(outcome.confidence * (1 - outcome.confidence)))
    spread = math.sqrt((1 - 2 / math.pi) * (chance**2).sum())  # of a sum of half-normal gaps
    if gaps.sum() <= math.sqrt(2 / math.pi) * chance.sum() + Z * spread:
        low = 0.0
    if outcome.correct.all():
        high = max(high, value + 1 - accuracy(outcome).low)
    return _interval(value, float(low), float(high))


def bootstrap(statistic: Statistic, outcome: Outcome, seed: int) -> FloatArray:
    """The statistic of `RESAMPLES` samples of `group_count` groups drawn with replacement, [RESAMPLES].

    Every statistic sees the same samples. Below about twenty groups percentiles are too narrow.
    Source: Efron, Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """
    generator = np.random.default_rng([seed, *b"bootstrap"])
    count = outcome.group_count
    at_once = max(1, CELLS_AT_ONCE // max(len(outcome.labels), outcome.class_count))
    values = []
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        drawn = generator.integers(0, count, size=(rows, count)) + np.arange(rows)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        values.append(statistic(np.ascontiguousarray(weights.T, dtype=np.float32)))
    return np.concatenate(values)


def _percentiles(statistic: Statistic, outcome: Outcome, seed: int, most: float) -> Interval:
    """A statistic in [0, most] with its percentiles; one group alone says nothing about others."""
    if outcome.group_count == 0:
        return UNKNOWN
    value = float(statistic(np.ones((outcome.group_count, 1), np.float32))[0])
    if outcome.group_count == 1:
        return _interval(value, 0.0, most, most)
    low, high = np.quantile(bootstrap(statistic, outcome, seed), TAILS)
    return _interval(value, float(low), float(high), most)


def _total(weights: Weights, values: FloatArray | IntArray) -> FloatArray:
    """The sum of a value per group in each resample, [r]; without `@`, whose threads stall on a busy machine."""
    total: FloatArray = np.einsum("gr,g->r", weights, values)
    return total


def _sums(
    weights: Weights, groups: IntArray, keys: IntArray, count: int, values: FloatArray | None = None
) -> FloatArray:
    """Sums, in each resample, over the pictures of each key in [0, count), [count, r]: of `values`, or of ones."""
    order = np.argsort(keys, kind="stable")
    present, starts = np.unique(keys[order], return_index=True)
    rows = weights[groups[order]] if values is None else weights[groups[order]] * values[order, None]
    sums = np.zeros((count, weights.shape[1]))
    sums[present] = np.add.reduceat(rows, starts, axis=0)
    return sums


def _class_f1(outcome: Outcome, weights: Weights) -> FloatArray:
    """F1 of each class in each resample, [k, r]; NaN where the resample has no picture of the class."""
    right, k = outcome.correct, outcome.class_count
    hits = _sums(weights, outcome.groups[right], outcome.labels[right], k)
    missed = _sums(weights, outcome.groups[~right], outcome.labels[~right], k)
    false_alarms = _sums(weights, outcome.groups[~right], outcome.predicted[~right], k)
    return np.where(hits + missed > 0, 2 * hits / np.maximum(2 * hits + missed + false_alarms, 1), math.nan)


def _calibration_bins(outcome: Outcome) -> IntArray:
    """The bin of each picture, int [n], in [0, MOST_BINS).

    Cut at confidences, so that equal ones stay together and the order of the pictures does not matter.
    """
    count = min(MOST_BINS, max(1, outcome.group_count // GROUPS_PER_BIN))
    edges = np.sort(outcome.confidence)[[len(outcome.labels) * cut // count for cut in range(1, count)]]
    return np.searchsorted(edges, outcome.confidence, side="right")


def _gap_errors(outcome: Outcome, bins: IntArray, deviations: FloatArray) -> FloatArray:
    """The standard error of each bin's gap, [MOST_BINS], when pictures deviate so and groups do independently."""
    cells = outcome.groups * MOST_BINS + bins
    sums = np.bincount(cells, deviations, minlength=outcome.group_count * MOST_BINS).reshape(-1, MOST_BINS)
    errors: FloatArray = np.sqrt((sums**2).sum(axis=0)) / len(bins)
    return errors


def _expected_absolute(mean: FloatArray, error: FloatArray) -> FloatArray:
    """E|x| of a normal x with mean m and deviation s: m erf(m / s√2) + s √(2/π) exp(-m² / 2s²)."""
    scaled = np.minimum(mean / np.maximum(error * math.sqrt(2), 1e-300), 30.0)
    erf = np.array([math.erf(x) for x in scaled])
    expected: FloatArray = mean * erf + error * math.sqrt(2 / math.pi) * np.exp(-(scaled**2))
    return expected
