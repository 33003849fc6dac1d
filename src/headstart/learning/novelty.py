"""How far a picture lies from everything trained on: the score behind "none of these".

Which score: measured on frozen features of six sets (ants and bees, pastries, fruit, hand signs, bricks, cars), at most
500 training pictures each, two draws, the radius from five folds. Strangers are 300 pictures of each of the other five
sets ("other") or of a class of the same set that was kept from training ("near"): mean area under the ROC curve, and
the share that was caught at a promised false reject rate of 1 %.

    score                                              other           near
    mean cosine with the five nearest (this one)   0.9987  88 %    0.760  14 %
    cosine with the nearest one                    0.9986  87 %    0.786  20 %
    Mahalanobis, unit features, Ledoit-Wolf        0.9988  90 %    0.769  18 %
    five nearest, unit features, whitened within   0.9987  90 %    0.768  19 %
    Mahalanobis, plain features, Ledoit-Wolf       0.9940  69 %    0.752   8 %
    five nearest, centred features                 0.9914  79 %    0.772   7 %
    five nearest, standardised features            0.9924  72 %    0.695   4 %
    five nearest, unit features, whitened          0.9942  72 %    0.716   3 %
    1 - largest softmax probability                0.8053  20 %    0.757  11 %
    relative Mahalanobis                           0.3381  17 %    0.472   2 %

The first four are equal but for ants and bees (30, 23, 41 and 42 % caught). The two that whiten need a d x d matrix in
the model and six of its decompositions, more work than the head itself. No score tells a near
class well from the known ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.features.picked import Vectors
from headstart.learning.conformal import conformal_rank

FALSE_REJECT_RATE = 0.01
NEIGHBOURS = 5
MOST_REFERENCES, FEWEST_OF_A_CLASS = 2000, 5
MOST_MEASURED = 10_000  # held-out pictures that the radius is taken from
BLOCK = 2048


@dataclass(frozen=True)
class Novelty:
    """Distance to the nearest training pictures, in units of the distance that few such pictures exceed.

    score(x) = (1 - mean cosine of x with its five nearest references) / radius. A picture that scores above 1 is unlike
    everything trained on. `references` float16 [m, d] are training pictures' features of length one, at most
    2,000 or five a class. `radius` is of the n distances of training pictures, each without the references of its own
    fold, the ceil((n + 1) 0.99)-th smallest, or the largest where n is below 99: a new picture like them exceeds it in
    at most a share of `false_reject_rate`, which is 0.01, or 1 / (n + 1) below 99.

    Limits: below 199 pictures the radius is the largest distance seen, so that one odd picture in training makes room
    for strangers; the score sees only what the frozen backbone tells apart. The rate holds on average over what might
    have been drawn for training, and as new pictures have all folds to be near to, a little fewer are rejected.
    Source: Sun et al. 2022 (deep nearest neighbours), with a few neighbours' mean.
    """

    references: NDArray[np.float16]
    radius: float
    false_reject_rate: float = FALSE_REJECT_RATE

    def scores(self, features: Vectors) -> NDArray[np.float64]:
        """Scores float64 [n] of `features` float32 [n, d]."""
        references = self.references.astype(np.float32)
        blocks = (features[i : i + BLOCK] for i in range(0, len(features), BLOCK))
        return np.concatenate([np.empty(0), *(_distances(block, references) for block in blocks)]) / self.radius


def fit_novelty(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> Novelty:
    """Choose references among the training pictures `vectors[rows]`, and take the radius from held-out distances.

    Args:
        vectors: float32 [N, d].
        rows: int [n], the training pictures among them.
        labels: int [n], 0..k-1, each class at least once.
        folds: int [n], fold numbers; pictures of fold -1 are never held out.
    """
    shuffled = np.random.default_rng([*b"novelty"]).permutation(len(rows))
    chosen = _of_each_class(shuffled, labels)
    references = unit(vectors[rows[chosen]]).astype(np.float16)
    measured = shuffled[folds[shuffled] >= 0][:MOST_MEASURED]
    distances = [np.empty(0)]
    for fold in np.unique(folds[measured]):
        others = references[folds[chosen] != fold].astype(np.float32)
        out = rows[measured[folds[measured] == fold]]
        distances.extend(_distances(vectors[out[i : i + BLOCK]], others) for i in range(0, len(out), BLOCK))
    radius, rate = _radius(np.concatenate(distances))
    return Novelty(references, max(radius, float(np.finfo(np.float16).eps)), rate)


def held_out_distances(
    vectors: Vectors, labels: NDArray[np.int64], folds: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How far each training picture lies from others: 1 - mean cosine with the five nearest references, float64 [n].

    The references are chosen as those of `fit_novelty`; those of the picture's own fold are left out, for
    a picture that no fold holds out those of its group. `vectors`: float32 [n, d]. `labels`, `folds` (-1: held out by
    none), `groups`: int [n]. Infinite where nothing is left.
    """
    shuffled = np.random.default_rng([*b"novelty"]).permutation(len(labels))
    chosen = _of_each_class(shuffled, labels)
    references = unit(vectors[chosen])
    apart = np.where(folds >= 0, folds, -1 - groups)
    distances = np.full(len(labels), np.inf)
    for start in range(0, len(labels), BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = unit(vectors[rows]) @ references.T
        cosines[apart[rows, None] == apart[chosen]] = -np.inf
        count = min(NEIGHBOURS, len(chosen))
        nearest = np.partition(cosines, len(chosen) - count, axis=1)[:, -count:]
        there = np.isfinite(nearest)
        means = np.where(there, nearest, 0).sum(axis=1, dtype=np.float64) / np.maximum(there.sum(axis=1), 1)
        distances[rows] = np.where(there.any(axis=1), 1 - means, np.inf)
    return distances


def _radius(distances: NDArray[np.float64]) -> tuple[float, float]:
    """The distance that a new picture exceeds in at most `FALSE_REJECT_RATE` of cases, or the largest with its rate."""
    rank = min(conformal_rank(len(distances), 1 - FALSE_REJECT_RATE), len(distances))
    return float(np.sort(distances)[rank - 1]), max(FALSE_REJECT_RATE, 1 / (len(distances) + 1))


def _of_each_class(shuffled: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first pictures of each class in the order of `shuffled`, equally many as far as there are; ascending."""
    classes = int(labels.max()) + 1
    most = max(FEWEST_OF_A_CLASS, MOST_REFERENCES // classes)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels, minlength=classes)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[place < most])


def _distances(features: NDArray[np.float32], references: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - mean cosine of each row of `features` [n, d] with its nearest `references` [m, d], float64 [n]."""
    count = min(NEIGHBOURS, len(references))
    cosines = unit(features) @ references.T
    nearest = np.partition(cosines, len(references) - count, axis=1)[:, -count:]
    return np.asarray(1 - nearest.mean(axis=1, dtype=np.float64))


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows of `features`, each divided by its length; zero stays zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
