"""Whether a classifier keeps its promises on held-out pictures: its sets, "none of these", and its sure answers."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.judging.metrics import FloatArray, IntArray, Interval, proportion
from headstart.learning.classifier import Classifier
from headstart.learning.conformal import COVERAGES, KINDS, WANTED, Kind


@dataclass(frozen=True, slots=True)
class SetPromise:
    """Sets of one kind and coverage: how often the truth was in, how many classes were, and how often only one."""

    kind: Kind
    coverage: float
    held: Interval
    mean_size: float
    single: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """The share of pictures of the known classes that were to be called "none of these", and the share that was."""

    false_reject_rate: float
    rejected: Interval


@dataclass(frozen=True, slots=True)
class AnswerPromise:
    """Answers of at least the `threshold` (None: none can be given): how many there were, and how many were right."""

    wanted: float
    threshold: float | None
    answered: Interval
    accuracy: Interval


@dataclass(frozen=True)
class Promises:
    """What became of every promise on held-out pictures; built by `check_promises`.

    Intervals are 95 %. What no picture could tell is NaN: everything without pictures, `accuracy` without answers.
    """

    sets: tuple[SetPromise, ...]
    none_of_these: Rejection
    abstain: tuple[AnswerPromise, ...]

    def to_json(self) -> dict[str, Any]:
        """The "promises" object of metrics.json: six significant digits, null for what is not known."""
        return {
            "sets": [
                {
                    "kind": one.kind,
                    "coverage": one.coverage,
                    "held": _interval(one.held),
                    "mean_size": _number(one.mean_size),
                    "single": _number(one.single),
                }
                for one in self.sets
            ],
            "none_of_these": {
                "false_reject_rate": _number(self.none_of_these.false_reject_rate),
                "rejected": _interval(self.none_of_these.rejected),
            },
            "abstain": [
                {
                    "wanted": one.wanted,
                    "threshold": one.threshold,
                    "answered": _interval(one.answered),
                    "accuracy": _interval(one.accuracy),
                }
                for one in self.abstain
            ],
        }


def check_promises(
    classifier: Classifier,
    probabilities: FloatArray,
    labels: IntArray,
    novelty_scores: FloatArray,
    groups: IntArray | None = None,
) -> Promises:
    """Compare what `classifier` promises with what it did on n held-out pictures of its k classes.

    Args:
        classifier: whose `sets`, `abstention` and `novelty` are on trial.
        probabilities: float64 [n, k], its own of these pictures; n may be 0.
        labels: int [n], positions in its classes.
        novelty_scores: float64 [n], its own; above 1 is "none of these".
        groups: int [n]; pictures of one number are not independent, and the intervals allow for it. None: all are.
    """
    numbers = np.arange(len(labels)) if groups is None else groups
    correct = probabilities.argmax(axis=1) == labels

    def sets(kind: Kind, coverage: float) -> SetPromise:
        members = classifier.sets.members(probabilities, kind, coverage)
        sizes, covered = members.sum(axis=1), members[np.arange(len(labels)), labels]
        mean_size, single = (float(sizes.mean()), float((sizes == 1).mean())) if len(sizes) else (math.nan, math.nan)
        return SetPromise(kind, coverage, proportion(covered, numbers), mean_size, single)

    def answers(wanted: float) -> AnswerPromise:
        sure = ~classifier.abstention.is_unsure(probabilities, wanted)
        threshold = classifier.abstention.threshold(wanted)
        right = proportion(correct[sure], numbers[sure])
        return AnswerPromise(wanted, threshold, proportion(sure, numbers), right)

    return Promises(
        sets=tuple(sets(kind, coverage) for kind in KINDS for coverage in COVERAGES),
        none_of_these=Rejection(classifier.novelty.false_reject_rate, proportion(novelty_scores > 1, numbers)),
        abstain=tuple(answers(wanted) for wanted in WANTED),
    )


def _number(value: float) -> float | None:
    """Six significant digits; None for NaN, which JSON does not know."""
    return None if math.isnan(value) else float(f"{value:.6g}")


def _interval(interval: Interval) -> dict[str, float | None] | None:
    """An interval as JSON, or None when nothing was measured."""
    if math.isnan(interval.value):
        return None
    return {end: _number(getattr(interval, end)) for end in ("value", "low", "high")}
