"""A classifier at work: pictures in, predictions out, in order and with flat memory."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.features.engines import Engine, EnginePlan
from headstart.features.extract import Prepared, embed, prepare
from headstart.learning.classifier import DEFAULT, Asked, Classifier, Prediction
from headstart.pictures.dataset import Sample

BLOCK = 32  # predictions made at once: small, so that answers stream


@dataclass(frozen=True)
class Predictor:
    """A loaded model: `classifier` and the engine that runs its backbone on this machine."""

    classifier: Classifier
    plan: EnginePlan
    engine: Engine

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.classifier.classes

    def predict(self, pictures: Iterable[str | Path], asked: Asked = DEFAULT) -> list[Prediction]:
        """What the classifier says of the picture files, in their order; unreadable ones carry an `error`.

        `asked` says which sets and which accuracy the predictions are to promise.
        """
        return list(self.stream(pictures, asked))

    def stream(self, pictures: Iterable[str | Path], asked: Asked = DEFAULT) -> Iterator[Prediction]:
        """`predict`, one by one as they come: `pictures` may be endless, and memory stays flat."""
        items = self._embedded(pictures)
        while block := list(itertools.islice(items, BLOCK)):
            readable = [item for item in block if item.problem is None]
            vectors = np.stack([_vector(item) for item in readable]) if readable else self._no_vectors()
            made = iter(self.classifier.predictions([item.sample.path for item in readable], vectors, asked))
            for item in block:
                if item.problem is None:
                    yield next(made)
                else:
                    yield Prediction(item.sample.path, error=item.problem.detail)

    def features(self, pictures: Iterable[str | Path]) -> NDArray[np.float32]:
        """The backbone's features float32 [n, d] of the picture files.

        Raises:
            DataError: one of them cannot be read.
        """
        vectors = []
        for item in self._embedded(pictures):
            if item.problem is not None:
                raise DataError(f"{item.sample.path}: {item.problem.detail}")
            vectors.append(_vector(item))
        return np.stack(vectors) if vectors else self._no_vectors()

    def _embedded(self, pictures: Iterable[str | Path]) -> Iterator[Prepared]:
        samples = (Sample(str(picture), label="") for picture in pictures)
        prepared = prepare(samples, Path(), self.classifier.backbone.preprocess)
        return embed(prepared, self.plan, lambda: self.engine)

    def _no_vectors(self) -> NDArray[np.float32]:
        return np.empty((0, self.classifier.backbone.dimension), dtype=np.float32)


def _vector(item: Prepared) -> NDArray[np.float32]:
    assert item.vector is not None
    return item.vector
