"""Classifier: a backbone, the head on it, its calibration and its class names; and what it says of a picture."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.backbones import Backbone
from headstart.learning.calibration import softmax
from headstart.learning.novelty import Novelty

COVERAGE = 0.95
BLOCK = 2048  # features turned into float64 at once


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture; where the picture could not be read, only `path` and `error`.

    `ranking` holds every class with its calibrated probability, the likeliest first; `set` the classes that
    together contain the truth for 95 % of pictures like those trained on; `novelty` is above 1, and
    `is_none_of_these` true, for a picture unlike every class.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    ranking: tuple[tuple[str, float], ...] = ()
    set: tuple[str, ...] = ()
    novelty: float | None = None
    is_none_of_these: bool | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of `predict --format jsonl`."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.ranking),
            "set": list(self.set),
            "none_of_these": {"flag": self.is_none_of_these, "score": self.novelty},
        }


@dataclass(frozen=True)
class Classifier:
    """features -> probabilities = softmax(features @ weight.T + bias), and how far to trust them.

    `weight` float32 [k, d] and `bias` float32 [k] have the calibration's temperature folded in. A class belongs to
    a picture's prediction set when its probability is at least `set_floor`; the likeliest always does.
    `trained_on` uint64 [n] holds the first eight bytes of the SHA-256 of every training picture, sorted, so that an
    evaluation can tell whether it judges pictures that were learnt from. `precision` is what computed the features.
    """

    backbone: Backbone
    classes: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    novelty: Novelty
    set_floor: float
    trained_on: NDArray[np.uint64]
    precision: str

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities float64 [n, k] of `features` float32 [n, d]."""
        weight = self.weight.T.astype(np.float64)
        blocks = (features[i : i + BLOCK].astype(np.float64) for i in range(0, len(features), BLOCK))
        return np.concatenate([np.empty((0, len(self.classes))), *(softmax(x @ weight + self.bias) for x in blocks)])

    def predictions(self, paths: list[str], features: NDArray[np.float32]) -> list[Prediction]:
        """What the classifier says of the pictures at `paths` [n], whose features float32 [n, d] are given."""
        rows = zip(paths, self.probabilities(features), self.novelty.scores(features), strict=True)
        return [self._prediction(path, probabilities, float(score)) for path, probabilities, score in rows]

    def has_seen(self, digest: str) -> bool:
        """Whether the picture with this SHA-256 was trained on."""
        key = short_digest(digest)
        position = int(np.searchsorted(self.trained_on, key))
        return position < len(self.trained_on) and self.trained_on[position] == key

    def _prediction(self, path: str, probabilities: NDArray[np.float64], novelty: float) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")
        ranking = tuple((self.classes[c], float(probabilities[c])) for c in order)
        label, probability = ranking[0]
        members = tuple(name for name, p in ranking if p >= self.set_floor) or (label,)
        return Prediction(path, label, probability, ranking, members, novelty, novelty > 1)


def short_digest(digest: str) -> np.uint64:
    """The first eight bytes of a hexadecimal SHA-256, as a number."""
    return np.uint64(int(digest[:16], 16))


def fit_set_floor(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The probability down to which classes join the prediction set, for a coverage of at least 95 %.

    Split conformal prediction with the score 1 - p(true class) (Sadinle et al. 2019): the floor is the
    ceil((n + 1) 0.95)-th largest probability of a true class. `probabilities` float64 [n, k] must be out-of-fold,
    of pictures with `labels` int [n]. With fewer than 19 pictures the floor is 0: every class is in every set.
    """
    count = len(labels)
    rank = math.ceil((count + 1) * COVERAGE)
    if rank > count:
        return 0.0
    of_truth = np.sort(probabilities[np.arange(count), labels])[::-1]
    return float(of_truth[rank - 1])
