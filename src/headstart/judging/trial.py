"""A classifier put on trial: what it says of held-out samples, and how good that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.features.picked import Vectors
from headstart.judging.evaluation import Evaluation, evaluate
from headstart.learning.classifier import Answers, Classifier
from headstart.pictures.dataset import Sample


@dataclass(frozen=True)
class Trial:
    """Held-out samples, what the classifier said of each, and the evaluation of it all."""

    samples: tuple[Sample, ...]
    predictions: Answers
    evaluation: Evaluation

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Float64 [n, k], one row for each of the `samples`."""
        return self.predictions.probabilities


def try_classifier(
    classifier: Classifier,
    samples: Sequence[Sample],
    vectors: Vectors,
    groups: NDArray[np.int64],
    *,
    seed: int = 0,
) -> Trial:
    """Let `classifier` judge `samples` [n], whose labels are among its classes.

    Args:
        classifier: what is on trial.
        samples: the held-out samples.
        vectors: float32 [n, d], their features.
        groups: int [n]; samples of one group are not independent, and the intervals allow for it.
        seed: draws the bootstrap of the intervals.
    """
    position = {name: number for number, name in enumerate(classifier.classes)}
    labels = np.fromiter((position[sample.label] for sample in samples), dtype=np.int64)
    said = classifier.answers([sample.path for sample in samples], vectors)
    evaluation = evaluate(said.probabilities, labels, groups, classifier.classes, seed=seed)
    return Trial(tuple(samples), said, evaluation)
