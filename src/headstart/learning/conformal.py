"""Promises from out-of-fold probabilities: sets that contain the truth, and answers that are right, so often.

Both rest on one assumption: that new pictures are drawn like those trained on (exchangeable with them). A picture of
another kind is the business of `novelty`.

Exactly, a rank among n calibrating pictures promises something of the n + 1st where one and the same model judges
them all, and has seen none. Here each picture is judged by the head of the fold that did not see it, at one
temperature fitted to all of them, while new pictures get the head fitted to all folds (cross-conformal: Vovk, Ann.
Math. Artif. Intell. 74, 2015). Proven for a close relative of that is only 1 - 2 (1 - coverage) (Barber et al., Ann.
Stat. 49, 2021). The head of all folds has seen more, and so does a little better than those that calibrated it.
Coverage holds on average over what might have been drawn to calibrate with: the sets of one classifier cover a little
more or less, by a standard deviation of sqrt(coverage (1 - coverage) / n). Wanted accuracies hold for nine classifiers
of ten. `judging.promises` measures what became of both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Integers = NDArray[np.int64]

Kind = Literal["threshold", "adaptive", "per_class"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COVERAGES = (0.80, 0.90, 0.95, 0.99)
WANTED = (0.90, 0.95, 0.98, 0.99)
FREE_RANKS, PRICE_OF_RANK = 5, 0.01  # of `adaptive`: from the sixth class on each costs so much
DOUBT = 0.1  # in how many draws the wanted accuracy may be missed
BLOCK_NUMBERS = 2**22


@dataclass(frozen=True)
class PredictionSets:
    """When a class belongs to a picture's prediction set; a number for each of `COVERAGES`, built by `fit_sets`.

    threshold   p(class) >= floor. The smallest sets on average for their coverage. Source: Sadinle, Lei, Wasserman,
                J. Am. Stat. Assoc. 114 (2019).
    adaptive    sum of p over the classes before it, likeliest first, + 0.01 for each rank after the fifth <= ceiling.
                Larger sets where a picture is hard, and singles where it is easy. Sources: Romano, Sesia, Candès
                (2020); the price of ranks: Angelopoulos et al. (2021).
    per_class   p(class) >= floor of that class: the coverage holds for the pictures of each class, not only for all
                together. A class with too few pictures has floor 0 and stands in every set: see `always_in`.

    The likeliest class is in every set, so that none is empty; where it alone is right more often than the coverage
    asked for, more is covered than asked. The mass in `adaptive` is that before the class, without the class itself
    and without a random share of it: so the same picture always gets the same set, and the likeliest is in by rule.
    The sum that calibrates is taken in the same way, so that coverage is at least what was asked without randomness,
    and above it only where scores are equal, which they are at 0, for pictures whose likeliest class is the truth.

    `threshold`: floors in [0, 1], float [c]. `adaptive`: ceilings >= 0, float [c]; infinite with too few pictures.
    `per_class`: floors, float [c][k].
    """

    threshold: tuple[float, ...]
    adaptive: tuple[float, ...]
    per_class: tuple[tuple[float, ...], ...]

    def members(self, probabilities: Float64, kind: Kind = "threshold", coverage: float = 0.95) -> NDArray[np.bool_]:
        """Which classes belong to the sets of `probabilities` float64 [n, k], bool [n, k]; `coverage` of `COVERAGES`.

        Raises:
            ValueError: no such kind or coverage.
        """
        place = _place(coverage, COVERAGES, "coverage")
        if kind == "threshold":
            members = probabilities >= self.threshold[place]
        elif kind == "adaptive":
            members = _adaptive_members(probabilities, self.adaptive[place])
        elif kind == "per_class":
            members = probabilities >= np.array(self.per_class[place])
        else:
            raise ValueError(f"the kind of a set is one of {', '.join(KINDS)}; received {kind!r}.")
        members[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
        return np.asarray(members)

    def always_in(self, kind: Kind, coverage: float) -> list[int]:
        """The numbers of the classes that stand in every set, since too few pictures calibrate: see `fewest`."""
        place = _place(coverage, COVERAGES, "coverage")
        everyone = self.threshold[place] <= 0 if kind == "threshold" else math.isinf(self.adaptive[place])
        return [c for c, floor in enumerate(self.per_class[place]) if (floor <= 0 if kind == "per_class" else everyone)]

    def to_json(self) -> list[dict[str, Any]]:
        """The table, one row a coverage; an infinite ceiling is null."""
        ceilings = [None if math.isinf(ceiling) else ceiling for ceiling in self.adaptive]
        columns = zip(COVERAGES, self.threshold, ceilings, self.per_class, strict=True)
        return [
            {"coverage": coverage, "threshold": floor, "adaptive": ceiling, "per_class": list(floors)}
            for coverage, floor, ceiling, floors in columns
        ]

    @classmethod
    def from_json(cls, record: Sequence[dict[str, Any]], classes: int) -> "PredictionSets":
        """The table that `to_json` wrote for so many classes.

        Raises:
            ValueError, KeyError, TypeError: it is another table.
        """
        if tuple(row["coverage"] for row in record) != COVERAGES:
            raise ValueError(f"prediction_sets must have one row for each coverage of {COVERAGES}.")
        sets = cls(
            threshold=tuple(float(row["threshold"]) for row in record),
            adaptive=tuple(math.inf if row["adaptive"] is None else float(row["adaptive"]) for row in record),
            per_class=tuple(tuple(float(floor) for floor in row["per_class"]) for row in record),
        )
        if any(len(floors) != classes for floors in sets.per_class):
            raise ValueError(f"prediction_sets must have a floor for each of the {classes} classes.")
        floors = [*sets.threshold, *(floor for row in sets.per_class for floor in row)]
        if not all(0 <= floor <= 1 for floor in floors) or not all(ceiling >= 0 for ceiling in sets.adaptive):
            raise ValueError("the floors of prediction_sets must lie in 0..1, and the ceilings not below 0.")
        return sets


@dataclass(frozen=True)
class Abstention:
    """From which probability on answers are right as often as wanted: a threshold for each of `WANTED`.

    None where no threshold can promise it. Built by `fit_abstention`.
    """

    thresholds: tuple[float | None, ...]

    def threshold(self, wanted: float) -> float | None:
        """The lowest probability of an answer that can be given, at a `wanted` accuracy of `WANTED`.

        Raises:
            ValueError: no such accuracy.
        """
        return self.thresholds[_place(wanted, WANTED, "wanted accuracy")]

    def is_unsure(self, probabilities: Float64, wanted: float) -> NDArray[np.bool_]:
        """Where the likeliest class of `probabilities` float64 [n, k] cannot be answered, bool [n]."""
        threshold = self.threshold(wanted)
        return np.asarray(probabilities.max(axis=1) < (math.inf if threshold is None else threshold))

    def to_json(self) -> list[dict[str, Any]]:
        """The table, one row a wanted accuracy."""
        return [{"wanted": wanted, "threshold": t} for wanted, t in zip(WANTED, self.thresholds, strict=True)]

    @classmethod
    def from_json(cls, record: Sequence[dict[str, Any]]) -> "Abstention":
        """The table that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is another table.
        """
        if tuple(row["wanted"] for row in record) != WANTED:
            raise ValueError(f"abstain must have one row for each wanted accuracy of {WANTED}.")
        thresholds = tuple(None if row["threshold"] is None else float(row["threshold"]) for row in record)
        if not all(threshold is None or 0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError("the thresholds of abstain must lie in 0..1.")
        return cls(thresholds)


def conformal_rank(count: int, coverage: float) -> int:
    """The rank (from 1) among `count` scores that a new score does not exceed in this share of cases.

    ceil((count + 1) coverage), where the new score is as likely to come at any place among the others. `count` + 1
    where they are too few to tell.

    >>> conformal_rank(18, 0.95), conformal_rank(19, 0.95)
    (19, 19)
    """
    return math.ceil(round((count + 1) * coverage, 9))


def fewest(coverage: float) -> int:
    """The fewest calibrating pictures that can promise a coverage below 1.

    >>> [fewest(coverage) for coverage in COVERAGES]
    [4, 9, 19, 99]
    """
    return math.ceil(round(coverage / (1 - coverage), 9))


def fit_sets(probabilities: Float64, labels: Integers) -> PredictionSets:
    """The floors and ceilings that cover as many new pictures as asked, by split conformal prediction.

    Each is the `conformal_rank`-th of the calibrating pictures' own scores, the largest probabilities of a true class
    or the smallest masses before it. `probabilities` float64 [n, k] must be out-of-fold, of pictures with `labels` int
    [n] in 0..k-1; n may be 0, and every class is then in every set. The module says what is not exact.
    """
    count, classes = probabilities.shape
    of_truth = probabilities[np.arange(count), labels]
    descending, masses = -np.sort(-of_truth), np.sort(_mass_before_truth(probabilities, labels))
    ends = np.cumsum(np.bincount(labels, minlength=classes))[:-1]
    of_class = np.split(of_truth[np.lexsort((-of_truth, labels))], ends)
    return PredictionSets(
        threshold=tuple(_ranked(descending, coverage, 0.0) for coverage in COVERAGES),
        adaptive=tuple(_ranked(masses, coverage, math.inf) for coverage in COVERAGES),
        per_class=tuple(tuple(_ranked(scores, coverage, 0.0) for scores in of_class) for coverage in COVERAGES),
    )


def fit_abstention(probabilities: Float64, labels: Integers) -> Abstention:
    """The lowest threshold above which answers are right as often as wanted, as far as the pictures can show it.

    `probabilities` float64 [n, k] are out-of-fold, of pictures with `labels` int [n]; answered are those whose
    likeliest class has a probability of at least the threshold. With a = answered, e = errors among them and
    q = 1 - wanted, a threshold passes where e / a < q and

        a KL(e / a, q) >= ln 10,    KL(p, q) = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)).

    Were it fixed beforehand, answers that are wrong more often than q would pass in at most one of ten draws
    (Hoeffding, J. Am. Stat. Assoc. 58, 1963, theorem 1). That the lowest is taken of all that pass makes it more likely
    again, as much as the bound is too strict: simulated, with 40 to 1,000 pictures and accuracies of 0.83 to 0.93, the
    wanted accuracy was missed in at most 9 of 100 draws. (e + 1) / (a + 1) <= q, which keeps it on average over draws,
    missed it in up to 47. It takes 22, 45, 114 or 230 answers without an error, and more with one.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], (probabilities.argmax(axis=1) != labels)[order]
    errors, answered = np.cumsum(wrong), np.arange(1, len(wrong) + 1)
    ends = np.append(confidence[1:] < confidence[:-1], True)[: len(wrong)]  # pictures of one probability stay together
    thresholds: list[float | None] = []
    for wanted in WANTED:
        kept = np.flatnonzero(ends & (_evidence(errors / answered, 1 - wanted) * answered >= -math.log(DOUBT)))
        thresholds.append(float(confidence[kept[-1]]) if len(kept) else None)
    return Abstention(tuple(thresholds))


def _evidence(shares: Float64, rate: float) -> Float64:
    """KL(share, rate) of `shares` [n] of errors that are below `rate`, 0 for the others."""
    some = np.maximum(shares, np.finfo(np.float64).tiny)
    divergence = shares * np.log(some / rate) + (1 - shares) * np.log(np.maximum(1 - shares, 1 - rate) / (1 - rate))
    return np.where(shares < rate, divergence, 0.0)


def _ranked(ascending: Float64, coverage: float, without: float) -> float:
    """The score of the conformal rank among scores that worsen; `without` where there are too few."""
    rank = conformal_rank(len(ascending), coverage)
    return float(ascending[rank - 1]) if rank <= len(ascending) else without


def _masses_before(probabilities: Float64) -> Float64:
    """The score of `adaptive` for every class, float64 [n, k]; equal probabilities count in the order of classes."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    masses = np.zeros_like(probabilities)
    np.cumsum(np.take_along_axis(probabilities, order[:, :-1], axis=1), axis=1, out=masses[:, 1:])
    masses += PRICE_OF_RANK * np.maximum(np.arange(probabilities.shape[1]) + 1 - FREE_RANKS, 0)
    scores = np.empty_like(masses)
    np.put_along_axis(scores, order, masses, axis=1)
    return scores


def _mass_before_truth(probabilities: Float64, labels: Integers) -> Float64:
    """The score of `adaptive` for the true class, float64 [n]."""
    size = max(1, BLOCK_NUMBERS // probabilities.shape[1])
    found = np.empty(len(labels))
    for start in range(0, len(labels), size):
        block, of_block = probabilities[start : start + size], labels[start : start + size]
        found[start : start + size] = _masses_before(block)[np.arange(len(block)), of_block]
    return found


def _adaptive_members(probabilities: Float64, ceiling: float) -> NDArray[np.bool_]:
    size = max(1, BLOCK_NUMBERS // probabilities.shape[1])
    members = np.empty(probabilities.shape, dtype=np.bool_)
    for start in range(0, len(members), size):
        members[start : start + size] = _masses_before(probabilities[start : start + size]) <= ceiling
    return members


def _place(value: float, known: tuple[float, ...], what: str) -> int:
    if value not in known:
        raise ValueError(f"the {what} is one of {', '.join(map(str, known))}; received {value}.")
    return known.index(value)
