"""How far a picture lies from everything trained on: the score behind "none of these"."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALSE_REJECT_RATE = 0.01
BLOCK = 4096


@dataclass(frozen=True)
class Novelty:
    """Distance to the nearest class centre, in units of the distance that few training pictures exceed.

    score(x) = min_c ||x - centre_c|| / radius. A picture that scores above 1 is unlike every class. `radius` is
    the distance that a share of `FALSE_REJECT_RATE` of the training pictures exceeds when its own fold takes no
    part in the centres. `centres` float32 [k, d].

    Limits: with few training pictures the radius is close to the largest distance seen; the score sees
    only what the frozen backbone's features tell apart.
    """

    centres: NDArray[np.float32]
    radius: float

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores float64 [n] of `features` float32 [n, d]."""
        nearest: NDArray[np.float64] = _squared_distances(features, self.centres).min(axis=1)
        return np.sqrt(nearest) / self.radius


def fit_novelty(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> Novelty:
    """Centres of the classes of the training pictures `vectors[rows]`, and the radius from held-out distances.

    Args:
        vectors: float32 [N, d].
        rows: int [n], the training pictures among them.
        labels: int [n], 0..k-1, each class at least once.
        folds: int [n], fold numbers; pictures of fold -1 are never held out.
    """
    sums, counts = _class_sums(vectors, rows, labels, int(labels.max()) + 1)
    distances: list[NDArray[np.float64]] = []
    for fold in np.unique(folds[folds >= 0]):
        out = folds == fold
        fold_sums, fold_counts = _class_sums(vectors, rows[out], labels[out], len(counts))
        left = counts - fold_counts
        centres = ((sums - fold_sums)[left > 0] / left[left > 0, None]).astype(np.float32)
        distances.extend(_squared_distances(vectors[block], centres).min(axis=1) for block in _blocks(rows[out]))
    radius = float(np.sqrt(np.quantile(np.concatenate(distances), 1 - FALSE_REJECT_RATE)))
    smallest = float(np.finfo(np.float32).tiny)
    return Novelty((sums / counts[:, None]).astype(np.float32), max(radius, smallest))


def _class_sums(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    sums = np.zeros((classes, vectors.shape[1]))
    for label in range(classes):
        for block in _blocks(rows[labels == label]):
            sums[label] += vectors[block].sum(axis=0, dtype=np.float64)
    return sums, np.bincount(labels, minlength=classes)


def _squared_distances(features: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float64]:
    """||x - c||^2 float64 [n, k], through the binomial formula; rounding below zero is cut off."""
    x, c = features.astype(np.float64), centres.astype(np.float64)
    squared = (x**2).sum(axis=1)[:, None] - 2 * x @ c.T + (c**2).sum(axis=1)
    return np.asarray(np.maximum(squared, 0.0))


def _blocks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
