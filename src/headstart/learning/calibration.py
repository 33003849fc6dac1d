"""Calibration: the temperature that makes the probabilities of a classifier mean what they say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart import scratch

Float64 = NDArray[np.float64]
Real = NDArray[np.float32] | Float64
Integers = NDArray[np.intp]

COLDEST, HOTTEST = 0.05, 20.0
PRECISION = 1e-8  # of the inverse temperature, relative
MOST_STEPS = 200
BLOCK_NUMBERS = 2**22


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the mean log loss without it (at temperature 1) and with it.

    `at_bound` is True where the best temperature would lie outside 0.05..20. At 0.05 every row is right by far; at 20
    the logits say nothing about the labels.
    """

    temperature: float
    at_bound: bool
    log_loss_before: float
    log_loss_after: float


def softmax(logits: Real) -> Float64:
    """Probabilities float64 [n, k] of `logits` [n, k]: exp(z_c) / sum of exp(z), safe for logits of any size."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return np.asarray(shifted)


def calibrated(logits: Real, temperature: float) -> Float64:
    """The `softmax` of `logits` [n, k] over `temperature`, block by block into a `scratch` array float64 [n, k]."""
    found = scratch.empty((len(logits), logits.shape[1]), np.float64)
    size = max(1, BLOCK_NUMBERS // logits.shape[1])
    for start in range(0, len(logits), size):
        found[start : start + size] = softmax(logits[start : start + size] / temperature)
    return found


def fit_temperature(logits: Real, labels: Integers) -> Calibration:
    """The temperature T in 0.05..20 that minimises the mean of sum_c -t_ic log softmax(z_i / T)[c].

    `logits` [m, k] come from heads that have not seen their row (out-of-fold), m > 0; `labels` int [m] in 0..k-1. The
    targets t are 1 for the label, less e, which all classes share, with e = 1 / (m + 2): that m rows were right does
    not show that none can be wrong (Platt 1999, section 2.2). The loss is convex in 1/T: Newton's method on its slope,
    kept inside a bracket that every step narrows. Dividing by T changes no decision, only how sure it is. Source: Guo,
    Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (2017), section 4.2.
    """
    assert logits.ndim == 2
    assert labels.shape == (len(logits),)
    assert len(logits)
    before, _, _ = _loss(logits, labels, 1.0, 0.0)
    doubt = 1 / (len(labels) + 2)
    low, high = 1 / HOTTEST, 1 / COLDEST
    if _loss(logits, labels, low, doubt)[1] >= 0:
        inverse, at_bound = low, True
    elif _loss(logits, labels, high, doubt)[1] <= 0:
        inverse, at_bound = high, True
    else:
        inverse, at_bound = _root(logits, labels, (low, high), doubt), False
    after, _, _ = _loss(logits, labels, inverse, 0.0)
    return Calibration(1 / inverse, at_bound, before, after)


def _root(logits: Real, labels: Integers, bracket: tuple[float, float], doubt: float) -> float:
    """Where the slope of the loss by the inverse temperature is zero; it is negative below, positive above."""
    inverse, (low, high) = 1.0, bracket
    for _ in range(MOST_STEPS):
        _, slope, curvature = _loss(logits, labels, inverse, doubt)
        if slope > 0:
            high = inverse
        else:
            low = inverse
        newton = inverse - slope / curvature if curvature > 0 else low
        step_inside = low < newton < high
        following = newton if step_inside else float(np.sqrt(low * high))
        if abs(following - inverse) <= PRECISION * inverse:
            return following
        inverse = following
    return inverse


def _loss(logits: Real, labels: Integers, inverse: float, doubt: float) -> tuple[float, float, float]:
    """The mean loss of `inverse` * logits with targets less `doubt`; its first and second derivative by `inverse`."""
    totals = np.zeros(3)
    size = max(1, BLOCK_NUMBERS // logits.shape[1])
    for start in range(0, len(labels), size):
        block, of_block = logits[start : start + size].astype(np.float64), labels[start : start + size]
        block -= block.max(axis=1, keepdims=True)
        of_labels = (1 - doubt) * block[np.arange(len(of_block)), of_block] + doubt * block.mean(axis=1)
        probabilities = np.exp(inverse * block)
        total = probabilities.sum(axis=1)
        probabilities /= total[:, None]
        mean = (probabilities * block).sum(axis=1)
        variance = (probabilities * (block - mean[:, None]) ** 2).sum(axis=1)
        totals += [(np.log(total) - inverse * of_labels).sum(), (mean - of_labels).sum(), variance.sum()]
    loss, slope, curvature = (totals / len(labels)).tolist()
    return loss, slope, curvature
