"""What a classifier did on held-out pictures: the evaluation that is printed, reported and saved."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.judging import metrics
from headstart.judging.intervals import FloatArray, IntArray, Interval, number
from headstart.judging.metrics import Outcome
from headstart.judging.ranking import Ranking, rank
from headstart.judging.reliability import Bin, ece, reliability

ROW_SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from 1: room for float32 and a wide softmax, none for logits."""

MEASURED = (
    *("accuracy", "balanced_accuracy", "macro_precision", "macro_f1"),
    *("log_loss", "brier", "ece", "average_precision", "roc_auc"),
)
"""The intervals that every evaluation has."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fared: its number of pictures, and NaN for what they cannot tell; see `metrics`, `ranking`."""

    n: int
    precision: Interval
    recall: Interval
    f1: Interval
    average_precision: float
    roc_auc: float

    def to_json(self) -> dict[str, Any]:
        """The class's entry in "per_class" of metrics.json."""
        return {
            "n": self.n,
            "precision": self.precision.to_json(),
            "recall": self.recall.to_json(),
            "f1": self.f1.to_json(),
            "average_precision": number(self.average_precision),
            "roc_auc": number(self.roc_auc),
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a classifier did on `n` held-out pictures of `classes`; built by `evaluate`.

    Intervals are 95 % and NaN where nothing was measured. `top5` is None up to five classes. `confusion`: int
    [k, k], rows the truth, columns the prediction. `reliability`: bins from the least confident. `mistakes`: int [m],
    the rows of the wrongly predicted pictures, the most confident mistake first.
    """

    n: int
    classes: tuple[str, ...]
    accuracy: Interval
    balanced_accuracy: Interval
    macro_precision: Interval
    macro_f1: Interval
    log_loss: Interval
    brier: Interval
    ece: Interval
    top5: Interval | None
    average_precision: Interval
    roc_auc: Interval
    per_class: dict[str, ClassScore]
    confusion: IntArray
    reliability: tuple[Bin, ...]
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
            **{name: getattr(self, name).to_json() for name in MEASURED},
            "top5": None if self.top5 is None else self.top5.to_json(),
            "per_class": {name: score.to_json() for name, score in self.per_class.items()},
            "confusion": self.confusion.tolist(),
            "reliability": [of.to_json() for of in self.reliability],
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
    ranking = rank(probabilities, outcome)
    return Evaluation(
        n=len(labels),
        classes=tuple(classes),
        accuracy=metrics.accuracy(outcome),
        balanced_accuracy=metrics.balanced_accuracy(outcome),
        macro_precision=metrics.macro_precision(outcome),
        macro_f1=metrics.macro_f1(outcome, seed),
        log_loss=metrics.log_loss(outcome, seed),
        brier=metrics.brier(outcome, seed),
        ece=ece(outcome, seed),
        top5=metrics.top5(outcome),
        average_precision=ranking.average_precision,
        roc_auc=ranking.roc_auc,
        per_class=dict(zip(classes, _class_scores(outcome, ranking), strict=True)),
        confusion=confusion,
        reliability=reliability(outcome),
        mistakes=mistakes,
    )


def _class_scores(outcome: Outcome, ranking: Ranking) -> list[ClassScore]:
    columns = (
        np.bincount(outcome.labels, minlength=outcome.class_count).tolist(),
        metrics.precision(outcome),
        metrics.recall(outcome),
        metrics.f1(outcome),
        ranking.average_precisions.tolist(),
        ranking.roc_aucs.tolist(),
    )
    return [ClassScore(*of_class) for of_class in zip(*columns, strict=True)]


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
