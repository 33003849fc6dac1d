"""How far a picture lies from everything trained on: the score behind "none of these"."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    2,000 or five a class; `radius` is the distance that a share of `FALSE_REJECT_RATE` of the training pictures exceeds
    when the references of its own fold are left out.

    Limits: with few training pictures the radius is near the largest distance seen; the score sees only what the frozen
    backbone tells apart. Source: Sun et al. 2022 (deep nearest neighbours), with a few neighbours' mean.
    """

    references: NDArray[np.float16]
    radius: float

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
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
    references = _unit(vectors[rows[chosen]]).astype(np.float16)
    measured = shuffled[folds[shuffled] >= 0][:MOST_MEASURED]
    distances = [np.empty(0)]
    for fold in np.unique(folds[measured]):
        others = references[folds[chosen] != fold].astype(np.float32)
        out = rows[measured[folds[measured] == fold]]
        distances.extend(_distances(vectors[out[i : i + BLOCK]], others) for i in range(0, len(out), BLOCK))
    radius = float(np.quantile(np.concatenate(distances), 1 - FALSE_REJECT_RATE))
    return Novelty(references, max(radius, float(np.finfo(np.float16).eps)))


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
    cosines = _unit(features) @ references.T
    nearest = np.partition(cosines, len(references) - count, axis=1)[:, -count:]
    return np.asarray(1 - nearest.mean(axis=1, dtype=np.float64))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows of `features`, each divided by its length; zero stays zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
