"""Where the training loop gets its inputs from: pictures augmented anew, or activations computed once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headstart.learning.activations import PLAIN, Activations, Look
from headstart.learning.pixels import Key, Pictures, batches
from headstart.learning.randomness import number
from headstart.pictures.dataset import Problem


class Fetched(NamedTuple):
    """Inputs [m, ...] of those wanted rows that could be read, `places` int [m], and the problems of the others."""

    inputs: Tensor
    places: NDArray[np.int64]
    problems: tuple[Problem, ...] = ()


class Wanted(NamedTuple):
    """Training samples that are wanted in `epoch`, by their rows among the training samples."""

    epoch: int
    rows: Sequence[int]


@dataclass(frozen=True)
class Growth:
    """The side of the training pictures of each epoch: `sides` one after the other, in equal shares of `epochs`.

    The last epoch always has the last side.
    """

    sides: tuple[int, ...]
    epochs: int

    def side(self, epoch: int) -> int:
        """The side of the pictures of `epoch`, counted from 0."""
        to_go = self.epochs - 1 - min(epoch, self.epochs - 1)
        return self.sides[len(self.sides) - 1 - to_go * len(self.sides) // self.epochs]

    @property
    def settled(self) -> int:
        """The first epoch of the last side."""
        return next(epoch for epoch in range(self.epochs) if self.side(epoch) == self.side(self.epochs - 1))


class Source(Protocol):
    """The inputs of the loop."""

    @property
    def growth(self) -> Growth:
        """The sides of the training pictures."""

    def training(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        """Augmented inputs, in the order in which they are wanted."""

    def plain(self, wanted: Iterable[Sequence[int]]) -> Iterator[Fetched]:
        """Inputs of validation samples as the finished classifier will see them."""


@dataclass(frozen=True)
class FromPictures:
    """Pictures, epoch by epoch augmented anew."""

    training_pictures: Pictures
    validation_pictures: Pictures
    growth: Growth
    seed: int
    workers: int
    pin_memory: bool = False

    def training(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        """See `Source.training`."""
        keys = ([self._key(one.epoch, row) for row in one.rows] for one in wanted)
        for batch in batches(self.training_pictures, keys, self.workers, pin_memory=self.pin_memory):
            yield Fetched(batch.pixels, batch.places, batch.problems)

    def plain(self, wanted: Iterable[Sequence[int]]) -> Iterator[Fetched]:
        """See `Source.plain`."""
        for batch in batches(self.validation_pictures, ([Key(row) for row in rows] for rows in wanted), 0):
            yield Fetched(batch.pixels, batch.places, batch.problems)

    def _key(self, epoch: int, row: int) -> Key:
        return Key(row, self.growth.side(epoch), number(self.seed, "picture", epoch, row))


@dataclass(frozen=True)
class FromActivations:
    """Activations, of `views` draws for each side, which take turns."""

    training_activations: Activations
    validation_activations: Activations
    growth: Growth
    views: int

    def training(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        """See `Source.training`."""
        for one in wanted:
            yield Fetched(*self.training_activations.take(look(self.growth, self.views, one.epoch), one.rows))

    def plain(self, wanted: Iterable[Sequence[int]]) -> Iterator[Fetched]:
        """See `Source.plain`."""
        for rows in wanted:
            yield Fetched(*self.validation_activations.take(PLAIN, rows))


def look(growth: Growth, views: int, epoch: int) -> Look:
    """What `epoch` sees of the pictures where each side has `views` draws."""
    return Look(growth.side(epoch), epoch % views)


def order(labels: NDArray[np.int64], epoch: int, seed: int, *, balanced: bool) -> NDArray[np.int64]:
    """The rows of the training samples in the order in which `epoch` takes them, int [n].

    Every row once; or, `balanced`, n rows drawn with replacement so that every class has the same share.
    """
    random = np.random.default_rng([seed, *b"order", epoch])
    if not balanced:
        return random.permutation(len(labels))
    counts = np.bincount(labels)
    weights = 1 / counts[labels]
    return random.choice(len(labels), len(labels), p=weights / weights.sum())
