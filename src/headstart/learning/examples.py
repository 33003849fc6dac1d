"""Examples: labelled pictures, their features, and the part that each plays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headstart.features.extract import Features
from headstart.features.picked import Picked
from headstart.learning.head import TrainingSet
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.duplicates import groups
from headstart.pictures.split import Split

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """A dataset whose pictures have been embedded and divided; all indices are positions in `dataset.samples`."""

    dataset: Dataset
    features: Features
    split: Split

    @cached_property
    def labels(self) -> Indices:
        """The class number of every sample, int [n]: its position in `dataset.classes`."""
        position = {name: number for number, name in enumerate(self.dataset.classes)}
        return np.fromiter((position[sample.label] for sample in self.dataset.samples), dtype=np.int64)

    @cached_property
    def rows(self) -> Indices:
        """The row in `features.vectors` of every sample, int [n]."""
        return self.features.rows(self.dataset.samples)

    @cached_property
    def groups(self) -> Indices:
        """The group of every sample, int [n]; samples of one group are not independent."""
        return groups(self.dataset)

    @property
    def training_set(self) -> TrainingSet:
        """The training samples, as the head wants them; no vector is copied."""
        train, folds = self.split.train, self.split.folds.astype(np.int64)
        classes = len(self.dataset.classes)
        return TrainingSet(self.features.vectors, self.rows[train], self.labels[train], folds, classes)

    @property
    def test_samples(self) -> list[Sample]:
        """The held-out samples."""
        return [self.dataset.samples[index] for index in self.split.test]

    @property
    def vectors(self) -> Picked:
        """The features float32 [n, d] of every sample; none is copied."""
        return Picked(self.features.vectors, self.rows)

    @property
    def test_vectors(self) -> Picked:
        """The features float32 [m, d] of the held-out samples; none is copied."""
        return Picked(self.features.vectors, self.rows[self.split.test])
