"""How far the probabilities can be believed: the calibration error, and the table behind a reliability diagram."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.judging.intervals import (
    TAILS,
    FloatArray,
    IntArray,
    Interval,
    Weights,
    Z,
    bagged,
    bootstrap,
    gathered,
    number,
    percentiles,
    proportion,
    sums_by,
    total,
    within,
)
from headstart.judging.metrics import Outcome, accuracy

MOST_BINS, GROUPS_PER_BIN = 15, 20  # fewer bins rather than fewer groups in each


@dataclass(frozen=True, slots=True)
class Bin:
    """`n` pictures of about equal confidence: the mean `confidence`, in [0, 1], and how many it was right about."""

    n: int
    confidence: float
    accuracy: Interval

    def to_json(self) -> dict[str, Any]:
        """A row of "reliability" in metrics.json."""
        return {"n": self.n, "confidence": number(self.confidence), "accuracy": self.accuracy.to_json()}


def reliability(outcome: Outcome) -> tuple[Bin, ...]:
    """The bins of `ece` that hold pictures, from the least confident: calibrated ones are right as often as they say.

    A confidence outside of the interval of the accuracy is off by more than chance explains; of fifteen calibrated bins
    one is so every other time.
    """
    bins = _calibration_bins(outcome)
    rows = (np.flatnonzero(bins == number) for number in np.unique(bins))
    return tuple(
        Bin(len(of), float(outcome.confidence[of].mean()), proportion(outcome.correct[of], outcome.groups[of]))
        for of in rows
    )


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
    groups, count = bagged(outcome.groups, outcome.group_count)
    sizes, size = np.bincount(groups), outcome.size
    cells = groups, bins, residuals
    if count < outcome.group_count:
        cells = gathered(groups, count, bins, residuals)
        size = len(cells[0])

    def uncorrected(weights: Weights) -> FloatArray:
        gaps: FloatArray = np.abs(sums_by(weights, *cells[:2], MOST_BINS, cells[2])).sum(axis=0)
        return gaps / total(weights, sizes)

    if outcome.group_count < 2:
        return percentiles(uncorrected, outcome.group_count, outcome.size, seed)
    sums, counts = np.bincount(bins, residuals, MOST_BINS), np.maximum(np.bincount(bins, None, MOST_BINS), 1)
    gaps, errors = np.abs(sums) / len(bins), _gap_errors(outcome, bins, residuals - (sums / counts)[bins])
    value = max(0.0, float((2 * gaps - _expected_absolute(gaps, errors)).sum()))
    draws = bootstrap(uncorrected, count, size, seed)
    low, high = np.quantile(draws, TAILS) + (value - draws.mean())
    chance = _gap_errors(outcome, bins, np.sqrt(outcome.confidence * (1 - outcome.confidence)))
    spread = math.sqrt((1 - 2 / math.pi) * (chance**2).sum())  # of a sum of half-normal gaps
    if gaps.sum() <= math.sqrt(2 / math.pi) * chance.sum() + Z * spread:
        low = 0.0
    if outcome.correct.all():
        high = max(high, value + 1 - accuracy(outcome).low)
    return within(value, float(low), float(high))


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
