"""The training rows, scaled and turned onto the eigenvectors of their covariance."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart import scratch
from headstart.parallel import core_count

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Real = NDArray[np.floating[Any]]  # float32 or float64, as far as a fit has come
Integers = NDArray[np.intp]
Scaling = Literal["centred", "standardised"]
Block = tuple[slice, int]  # places among the rotated rows, and the fold that they all belong to

BLOCK_ROWS, BLOCK_NUMBERS = 512, 2**22
STREAMED_BYTES = 2 * 1024**3
"""Rotated rows up to this size, 400,000 of 1,280 columns, are in memory; more of them in a file."""


@dataclass(frozen=True)
class TrainingSet:
    """What a head is fitted to; row i of the training set is `vectors[rows[i]]`.

    `vectors` float32 [N, d], finite where used; `rows` int [n], positions in `vectors`; `labels` int [n] in
    0..classes-1; `folds` int [n]: the fold that holds the row out, or -1 for a row that every fold trains on.
    """

    vectors: Float32
    rows: Integers
    labels: Integers
    folds: Integers
    classes: int


def is_large(vectors: Float32, rows: Integers) -> bool:
    """Whether the `rows` of `vectors`, once rotated, are to lie in a file."""
    return 4 * len(rows) * int(vectors.shape[1] + 1) > STREAMED_BYTES


def slices(count: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Cut 0..count into slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


@dataclass(frozen=True)
class Scale:
    """u = (x - mean) / divisor: `mean`, `divisor` float64 [d]; the divisor of a constant column is infinite."""

    mean: Float64
    divisor: Float64

    def apply(self, vectors: Float32) -> Float64:
        """The scaled features, float64 [n, d], of `vectors` [n, d]."""
        return np.asarray((vectors - self.mean) / self.divisor)


def measure_scale(vectors: Float32, rows: Integers, scaling: Scaling) -> Scale:
    """The scale under which the mean squared norm of the rows is one (zero if all rows are equal)."""
    parts = [rows[part] for part in slices(len(rows))]
    mean = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts) / len(rows)
    variance = sum(((vectors[part] - mean) ** 2).sum(axis=0) for part in parts) / len(rows)
    deviation = np.sqrt(variance)
    varies = deviation > np.finfo(np.float32).eps * np.abs(mean)  # the rest is rounding
    if scaling == "centred":
        deviation = np.full_like(deviation, np.sqrt(variance[varies].sum()))
    else:
        deviation = deviation * np.sqrt(varies.sum())
    return Scale(mean, np.where(varies, deviation, np.inf))


@dataclass(frozen=True)
class Rotated:
    """The training rows in the eigenbasis, in the order of their folds.

    `values` float32 [n, r + 1]: coordinates by falling eigenvalue, then a column of ones for the bias; `order`
    int [n]: the training row at each place; `blocks`: (slice of places, fold), each block within one fold;
    `unrotate` takes weights [k, r] on coordinates back to weights on the scaled features, [k, d]. `pool` is for
    work on the blocks; its threads end with this record. `samples`: ever larger random samples of the blocks, where
    `streaming` drew them.
    """

    values: Float32
    order: Integers
    blocks: tuple[Block, ...]
    scale: Scale
    unrotate: Callable[[Float64], Float64]
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(core_count()))
    samples: tuple[tuple[Block, ...], ...] = ()


def rotate(training: TrainingSet, scaling: Scaling) -> Rotated:
    """Scale and rotate the training rows; the only copy of them that is ever made."""
    order = np.argsort(training.folds, kind="stable")
    rows, folds = training.rows[order], training.folds[order]
    scale = measure_scale(training.vectors, rows, scaling)
    rotate = _rotate_few if len(rows) <= training.vectors.shape[1] else _rotate_many
    values, unrotate = rotate(training.vectors, rows, scale)
    return Rotated(values, order, cut(folds, training.classes), scale, unrotate)


def chosen(everything: Rotated, training: TrainingSet) -> Rotated:
    """The training rows of `everything`, all of `training.vectors` rotated in their order, in the order of their folds.

    They are no longer centred, nor is their mean squared norm one: see `spread`.
    """
    order = np.argsort(training.folds, kind="stable")
    values = everything.values[training.rows[order]]
    blocks = cut(training.folds[order], training.classes)
    return Rotated(values, order, blocks, everything.scale, everything.unrotate, everything.pool)


def spread(rotated: Rotated) -> float:
    """The mean squared distance of the rows from their mean, in units of their scale."""
    u = rotated.values[:, :-1]
    mean = u.mean(axis=0, dtype=np.float64)
    squares = sum(float(np.einsum("ij,ij->", u[part], u[part], dtype=np.float64)) for part in slices(len(u)))
    return squares / len(u) - float(mean @ mean)


def cut(folds: Integers, classes: int, levels: Integers | None = None) -> tuple[Block, ...]:
    """Blocks of rows whose `folds`, int [n], do not fall; each within one of the `levels`, int [n], where given."""
    size = max(64, min(BLOCK_ROWS, BLOCK_NUMBERS // (classes * max(1, folds.max() + 1))))
    changes = np.diff(folds) > 0 if levels is None else (np.diff(folds) > 0) | (np.diff(levels) != 0)
    starts = np.flatnonzero(np.append(True, changes)).tolist()
    return tuple(
        (slice(start + part.start, start + part.stop), int(folds[start]))
        for start, stop in zip(starts, [*starts[1:], len(folds)], strict=True)
        for part in slices(stop - start, size)
    )


Rotation = tuple[Float32, Callable[[Float64], Float64]]


def _rotate_many(vectors: Float32, rows: Integers, scale: Scale) -> Rotation:
    """The rotation when rows outnumber columns: eigenvectors of u'u, [d, d]; rotated block by block in place."""
    n, d = len(rows), vectors.shape[1]
    values = (scratch.empty if is_large(vectors, rows) else np.empty)((n, d + 1), np.float32)
    values[:, d] = 1
    gram = np.zeros((d, d))
    for part in slices(n):
        block = values[part, :d]
        block[:] = scale.apply(vectors[rows[part]])
        gram += block.T @ block
    basis = np.ascontiguousarray(np.linalg.eigh(gram)[1][:, ::-1])
    rotation = basis.astype(np.float32)
    for part in slices(n):
        values[part, :d] = values[part, :d] @ rotation
    return values, lambda weight: weight @ basis.T


def _rotate_few(vectors: Float32, rows: Integers, scale: Scale) -> Rotation:
    """The rotation when columns outnumber rows: eigenvectors of u u', [n, n], in at most n coordinates.

    Directions below 1e-10 of the largest eigenvalue are rounding (one of them always is: the mean is gone).
    """
    scaled = scale.apply(vectors[rows])
    eigenvalues, left = np.linalg.eigh(scaled @ scaled.T)
    kept = np.flatnonzero(eigenvalues > 1e-10 * max(eigenvalues[-1], 1e-300))[::-1]
    lengths = np.sqrt(eigenvalues[kept])
    values = np.ones((len(rows), len(kept) + 1), dtype=np.float32)
    values[:, :-1] = left[:, kept] * lengths
    dual = (left[:, kept] / lengths).T
    return values, lambda weight: (weight @ dual) @ scaled
