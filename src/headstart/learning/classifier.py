"""Classifier: a backbone, the head on it, its calibration and its class names; and what it says of a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from headstart import scratch
from headstart.features.backbones import Backbone
from headstart.features.picked import Vectors
from headstart.learning.calibration import softmax
from headstart.learning.conformal import Abstention, Kind, PredictionSets
from headstart.learning.novelty import Novelty

COVERAGE = 0.95  # of the sets that are given where no other is asked for
BLOCK = 2048  # features turned into float64 at once, and predictions made at once


@dataclass(frozen=True)
class Asked:
    """What predictions are to promise: the kind and coverage of their sets, and the accuracy of sure answers, if any.

    `coverage` is one of `conformal.COVERAGES`, `wanted` None or one of `conformal.WANTED`.
    """

    kind: Kind = "threshold"
    coverage: float = COVERAGE
    wanted: float | None = None


DEFAULT = Asked()


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture; where the picture could not be read, only `path` and `error`.

    `ranking` holds every class with its calibrated probability, the likeliest first; `set` the classes that
    together contain the truth for 95 % of pictures like those trained on, or for the share that was asked for;
    `novelty` is above 1, and `is_none_of_these` true, for a picture unlike every class. `is_unsure` is true where an
    accuracy was wanted and `label` is not probable enough to keep it, None where none was wanted.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    ranking: tuple[tuple[str, float], ...] = ()
    set: tuple[str, ...] = ()
    novelty: float | None = None
    is_none_of_these: bool | None = None
    is_unsure: bool | None = None
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
            **({} if self.is_unsure is None else {"unsure": self.is_unsure}),
        }


@dataclass(frozen=True)
class Classifier:
    """features -> probabilities = softmax(features @ weight.T + bias), and how far to trust them.

    `weight` float32 [k, d] and `bias` float32 [k] have the calibration's temperature folded in. `sets` says
    which classes belong to a picture's prediction set, `abstention` from which probability on an answer is sure.
    `trained_on` uint64 [n] holds the first eight bytes of the SHA-256 of every training picture, sorted, so that an
    evaluation can tell whether it judges pictures that were learnt from. `precision` is what computed the features.
    """

    backbone: Backbone
    classes: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    novelty: Novelty
    sets: PredictionSets
    abstention: Abstention
    trained_on: NDArray[np.uint64]
    precision: str

    def probabilities(self, features: Vectors) -> NDArray[np.float64]:
        """Probabilities float64 [n, k] of `features` float32 [n, d]."""
        weight = self.weight.T.astype(np.float64)
        found = scratch.empty((len(features), len(self.classes)), np.float64)
        for i in range(0, len(features), BLOCK):
            found[i : i + BLOCK] = softmax(features[i : i + BLOCK].astype(np.float64) @ weight + self.bias)
        return found

    def answers(self, paths: Sequence[str], features: Vectors) -> "Answers":
        """What the classifier says of the pictures at `paths` [n], whose features float32 [n, d] are given."""
        return Answers(self, paths, self.probabilities(features), self.novelty.scores(features))

    def predictions(self, paths: Sequence[str], features: Vectors, asked: Asked = DEFAULT) -> list[Prediction]:
        """The `answers` made all at once, with the promises that are `asked` for.

        Raises:
            ValueError: `asked` names a kind, coverage or accuracy that there is not.
        """
        said = self.answers(paths, features)
        return self.spoken(paths, said.probabilities, said.novelty, asked)

    def spoken(
        self,
        paths: Sequence[str],
        probabilities: NDArray[np.float64],
        novelty: NDArray[np.float64],
        asked: Asked = DEFAULT,
    ) -> list[Prediction]:
        """Predictions of the pictures at `paths` [n] from `probabilities` [n, k] and `novelty` scores [n].

        Raises:
            ValueError: `asked` names a kind, coverage or accuracy that there is not.
        """
        members = self.sets.members(probabilities, asked.kind, asked.coverage)
        unsure = None if asked.wanted is None else self.abstention.is_unsure(probabilities, asked.wanted).tolist()
        return [
            self._prediction(path, probabilities[row], members[row], score, None if unsure is None else unsure[row])
            for row, (path, score) in enumerate(zip(paths, novelty.tolist(), strict=True))
        ]

    def has_seen(self, digest: str) -> bool:
        """Whether the picture with this SHA-256 was trained on."""
        key = short_digest(digest)
        position = int(np.searchsorted(self.trained_on, key))
        return position < len(self.trained_on) and bool(self.trained_on[position] == key)

    def _prediction(
        self,
        path: str,
        probabilities: NDArray[np.float64],
        members: NDArray[np.bool_],
        novelty: float,
        unsure: bool | None,
    ) -> Prediction:
        order = np.argsort(-probabilities, kind="stable").tolist()
        ranking = tuple((self.classes[c], float(probabilities[c])) for c in order)
        inside = tuple(self.classes[c] for c in order if members[c])
        return Prediction(path, *ranking[0], ranking, inside, novelty, novelty > 1, unsure)


@dataclass(frozen=True, eq=False)
class Answers(Sequence[Prediction]):
    """What a classifier says of n pictures, as numbers; a `Prediction` is made of them when it is asked for.

    `paths`: [n]. `probabilities`: float64 [n, k]. `novelty`: float64 [n], the scores.
    """

    classifier: Classifier
    paths: Sequence[str]
    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> list[Prediction]: ...
    def __getitem__(self, place: int | slice) -> Prediction | list[Prediction]:
        if isinstance(place, slice):
            return self.classifier.spoken(self.paths[place], self.probabilities[place], self.novelty[place])
        row = range(len(self))[place]
        return self[row : row + 1][0]

    def __iter__(self) -> Iterator[Prediction]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]


def short_digest(digest: str) -> np.uint64:
    """The first eight bytes of a hexadecimal SHA-256, as a number."""
    return np.uint64(int(digest[:16], 16))
