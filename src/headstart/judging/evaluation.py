"""What a classifier did on held-out pictures: the evaluation that is printed, reported and saved."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.judging import metrics
from headstart.judging.metrics import FloatArray, IntArray, Interval

ROW_SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from 1: room for float32 and a wide softmax, none for logits."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fared: its number of pictures, and NaN for what they cannot tell; see `metrics`."""

    n: int
    precision: float
    recall: Interval
    f1: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a classifier did on `n` held-out pictures of `classes`; built by `evaluate`.

    Intervals are 95 % and NaN where nothing was measured. `top5` is None up to five classes. `confusion`: int
    [k, k], rows the truth, columns the prediction. `mistakes`: int [m], the rows of the wrongly predicted pictures,
    the most confident mistake first.
    """

    n: int
    classes: tuple[str, ...]
    accuracy: Interval
    macro_f1: Interval
    log_loss: Interval
    ece: Interval
    top5: Interval | None
    per_class: dict[str, ClassScore]
    confusion: IntArray
    mistakes: IntArray

    def __str__(self) -> str:
        if self.n == 0:
            return "accuracy unknown, no held-out pictures"
        return f"accuracy {self.accuracy}, n = {self.n:,} held-out picture{'' if self.n == 1 else 's'}"

    def most_confused(self, limit: int) -> list[tuple[str, str, int]]:
        """The `limit` commonest mistakes: (true class, predicted class, how often), the commonest first."""
        counts = self.confusion.copy()
        np.fill_diagonal(counts, 0)
        flat = counts.ravel()
        pairs = np.flatnonzero(flat)
        pairs = pairs[np.argsort(-flat[pairs], kind="stable")][:limit]
        names, k = self.classes, len(self.classes)
        return [(names[pair // k], names[pair % k], int(flat[pair])) for pair in pairs]

    def worst_mistakes(self, limit: int) -> list[int]:
        """The rows of the `limit` most confident mistakes among the evaluated pictures, the worst first."""
        return [int(row) for row in self.mistakes[:limit]]

    def to_json(self) -> dict[str, Any]:
        """The "test" object of metrics.json: six significant digits, null for what is not known."""
        return {
            "n": self.n,
            "accuracy": _interval(self.accuracy),
            "macro_f1": _interval(self.macro_f1),
            "log_loss": _interval(self.log_loss),
            "ece": _interval(self.ece),
            "top5": None if self.top5 is None else _interval(self.top5),
            "per_class": {
                name: {
                    "n": score.n,
                    "precision": _number(score.precision),
                    "recall": _interval(score.recall),
                    "f1": _number(score.f1),
                }
                for name, score in self.per_class.items()
            },
            "confusion": self.confusion.tolist(),
        }


def evaluate(
    probabilities: FloatArray, labels: IntArray, groups: IntArray | None, classes: tuple[str, ...], *, seed: int = 0
) -> Evaluation:
    """Measure what a classifier did on held-out pictures.

    `probabilities`: float [n, k], rows sum to 1; float32 is measured in float64. `labels`: int [n], positions in
    `classes`, which are k different names. `groups`: int [n]; pictures with the same number are not independent
    (near-duplicates, one animal, one camera) and intervals count them accordingly; None when all are. `seed`
    draws the bootstrap. n may be 0. Raises ValueError when shapes, labels or probabilities are not as above.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    _check(probabilities, labels, groups, classes)
    outcome = metrics.judge(probabilities, labels.astype(np.int64), groups)
    wrong = np.flatnonzero(~outcome.correct)
    mistakes = wrong[np.argsort(-outcome.confidence[wrong], kind="stable")]
    confusion = metrics.confusion(outcome)
    for array in (confusion, mistakes):
        array.setflags(write=False)
    columns = (confusion.sum(axis=1), metrics.precision(outcome), metrics.recall(outcome), metrics.f1(outcome))
    return Evaluation(
        n=len(labels),
        classes=tuple(classes),
        accuracy=metrics.accuracy(outcome),
        macro_f1=metrics.macro_f1(outcome, seed),
        log_loss=metrics.log_loss(outcome, seed),
        ece=metrics.ece(outcome, seed),
        top5=metrics.top5(outcome),
        per_class={
            name: ClassScore(int(n), float(precision), recall, float(f1))
            for name, n, precision, recall, f1 in zip(classes, *columns, strict=True)
        },
        confusion=confusion,
        mistakes=mistakes,
    )


def _check(probabilities: FloatArray, labels: IntArray, groups: IntArray | None, classes: tuple[str, ...]) -> None:
    """Refuse what cannot be measured, before it becomes a number that looks like a measurement."""
    n, k = len(labels), len(classes)
    if k == 0 or len(set(classes)) != k:
        raise ValueError(f"classes must be different names, at least one; received {list(classes)}.")
    if probabilities.shape != (n, k):
        raise ValueError(
            f"probabilities must have one row per label and one column per class, ({n}, {k}); "
            f"received shape {probabilities.shape}."
        )
    if groups is not None and np.shape(groups) != (n,):
        raise ValueError(f"groups must be one number per label, ({n},); received shape {np.shape(groups)}.")
    if n == 0:
        return
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= k:
        raise ValueError(
            f"labels must be integers from 0 to {k - 1}; received {labels.dtype} from {labels.min()} to {labels.max()}."
        )
    sums = probabilities.sum(axis=1)
    bad = ~((probabilities >= 0).all(axis=1) & (np.abs(sums - 1) <= ROW_SUM_TOLERANCE))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"probabilities must be 0 or more and sum to 1 in each row; row {row} (of {bad.sum()} such rows) "
            f"has sum {sums[row]:.6g} and least value {probabilities[row].min():.6g}. Pass a softmax, not logits."
        )


def _number(value: float) -> float | None:
    """Six significant digits; None for NaN, which JSON does not know."""
    return None if math.isnan(value) else float(f"{value:.6g}")


def _interval(interval: Interval) -> dict[str, float | None] | None:
    """An interval as JSON, or None when nothing was measured."""
    if math.isnan(interval.value):
        return None
    return {end: _number(getattr(interval, end)) for end in ("value", "low", "high")}
