"""How well each class's probability ranks the pictures: average precision and the area under the ROC curve.

Both are means over the classes, each against the rest ("macro one-vs-rest"), and depend on the order alone: a threshold
can be chosen well where they are high, whatever the calibration.

Intervals come from the infinitesimal jackknife, the exact derivative of the number by the weight of each picture, which
for the ROC is DeLong's method and here costs one sort for each class. A bootstrap of 20,000 pictures and 100 classes
would sort and add up 2 billion numbers to learn the same. The derivatives of a group's pictures are added up before
they are squared, over all classes at once, as classes share their pictures. Sources: DeLong, DeLong, Clarke-Pearson,
Biometrics 44 (1988), 837-845; Obuchowski, Biometrics 53 (1997), 567-578 (groups); Efron, SIAM CBMS-NSF 38 (1982),
chapter 6.
"""

import math
from dataclasses import dataclass

import numpy as np

from headstart.judging.intervals import UNKNOWN, BoolArray, FloatArray, IntArray, Interval, from_error, within
from headstart.judging.metrics import Outcome


@dataclass(frozen=True, eq=False)
class Ranking:
    """Mean and single numbers: `average_precisions`, `roc_aucs` float64 [k], NaN where a class lacks pictures.

    The ROC needs pictures of the class and of others. The means leave out what is NaN.
    """

    average_precision: Interval
    roc_auc: Interval
    average_precisions: FloatArray
    roc_aucs: FloatArray


@dataclass(frozen=True, eq=False)
class _Ranked:
    """The n pictures in ascending order of one class's probability.

    `order` int [n]; `truth` bool [n], whether each is of the class; `first`, `last` int [n]: where the run of equal
    probabilities that each belongs to starts, and where the next one does.
    """

    order: IntArray
    truth: BoolArray
    first: IntArray
    last: IntArray

    @property
    def positives_below(self) -> tuple[IntArray, IntArray]:
        """How many pictures of the class rank below each picture, and how many below or equal, both [n]."""
        counts = np.concatenate([[0], np.cumsum(self.truth)])
        return counts[self.first], counts[self.last]


def rank(probabilities: FloatArray, outcome: Outcome) -> Ranking:
    """Measure how well `probabilities` [n, k] rank the pictures of `outcome`, which was judged from them."""
    k = outcome.class_count
    values, derivatives = np.full((2, k), math.nan), np.zeros((2, len(outcome.labels)))
    deciding = np.ones(k)
    for number in np.flatnonzero(outcome.seen):
        truth = outcome.labels == number
        ranked = _sorted(probabilities[:, number], truth)
        deciding[number] = _deciding(outcome, truth)
        for row, measure in enumerate((_average_precision, _roc_auc)):
            values[row, number], derivative = measure(ranked)
            derivatives[row, ranked.order] += derivative
    precision, area = (_mean(outcome, *of, deciding) for of in zip(values, derivatives, strict=True))
    return Ranking(precision, area, *values)


def _sorted(scores: FloatArray, truth: BoolArray) -> _Ranked:
    order = np.argsort(scores)
    ascending = scores[order]
    starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    lengths = np.diff(np.append(starts, len(scores)))
    first = np.repeat(starts, lengths)
    return _Ranked(order, truth[order], first, first + np.repeat(lengths, lengths))


def _deciding(outcome: Outcome, truth: BoolArray) -> int:
    """How many groups have pictures of the class, or of others if those are fewer; at least 1."""
    inside = len(np.unique(outcome.groups[truth]))
    return max(1, min(inside, outcome.group_count - inside))


def _average_precision(ranked: _Ranked) -> tuple[float, FloatArray]:
    """The mean over the class's pictures of the precision at their probability, and its derivatives [n].

    With T_i the class's pictures that rank no lower than picture i and N_i all such pictures, it is the mean of
    T_i / N_i. A weight on picture j adds to its own term, and to T and N of all that rank no higher.
    """
    n, truth = len(ranked.order), ranked.truth
    positives = int(truth.sum())
    above = positives - ranked.positives_below[0]
    all_above = n - ranked.first
    precision = above / all_above
    value = float(precision[truth].mean())
    gains = np.concatenate([[0.0], np.cumsum(truth / all_above)])[ranked.last]
    costs = np.concatenate([[0.0], np.cumsum(truth * precision / all_above)])[ranked.last]
    return value, (truth * (precision - value + gains) - costs) / positives


def _roc_auc(ranked: _Ranked) -> tuple[float, FloatArray]:
    """How often a picture of the class ranks above another one, equal ones counting half; its derivatives [n]."""
    n, truth = len(ranked.order), ranked.truth
    positives = int(truth.sum())
    negatives = n - positives
    if negatives == 0:
        return math.nan, np.zeros(n)
    below, through = ranked.positives_below
    beaten = ((ranked.first - below) + (ranked.last - through)) / 2 / negatives  # by each, of the others
    beating = 1 - (below + through) / 2 / positives  # each, of the class
    value = float(beaten[truth].mean())
    return value, np.where(truth, (beaten - value) / positives, (beating - value) / negatives)


def _mean(outcome: Outcome, values: FloatArray, derivatives: FloatArray, deciding: FloatArray) -> Interval:
    """The mean of the known `values` [k]; `derivatives` [n] are those of their sum.

    Where nothing varies (all pictures are ranked without a mistake) it is as certain as a share of 1 in so many
    independent groups as decide, `deciding` [k]: of two classes those of one, which decide the other too.
    """
    known = ~np.isnan(values)
    count = int(known.sum())
    if count == 0:
        return UNKNOWN
    mean = float(values[known].mean())
    if outcome.group_count == 1:
        return within(mean, 0.0, 1.0)
    of_groups = np.bincount(outcome.groups, derivatives, minlength=outcome.group_count) / count
    variance = float((of_groups**2).sum()) * outcome.group_count / (outcome.group_count - 1)
    independent = count**2 / float((1 / deciding[known]).sum()) / (2 if outcome.class_count == 2 else 1)
    error = math.sqrt(variance) if 1 - mean > 1e-12 else 0.0
    return from_error(mean, error, independent)
