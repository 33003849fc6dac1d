"""The objective of the softmax head, for several folds at once: its value, its gradient and its curvature.

    F(W, b) = sum_i s_i * -log softmax(W z_i + b)[y_i]  +  strength / 2 * ||W||^2

over rows z_i in their eigenbasis, with shares s_i that sum to one; the bias is not penalised.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.learning.eigenbasis import Block, Float32, Float64, Integers, Real, Rotated, TrainingSet
from headstart.parallel import core_count, in_order

Result = TypeVar("Result")

WORTH_THREADS = 5_000_000  # multiplications in a product with the rows; below, handing over costs more
LEAST_CURVATURE = 1e-6  # of a bias whose class is nearly certain everywhere


@dataclass(frozen=True)
class Problems:
    """Several fits to the same rows, solved at once: problem p trains on all rows but those of one fold.

    `skipped` int [p]: that fold, or -2 for none; `shares` float64 [p, n]: the s_i of each problem, zero for a row
    that it skips; `labels` int [n]; both in the order of `rotated`. `tilt` [p, k, r + 1] and `level` float64 [p]: each
    problem is to minimise F(w) + tilt . w + level, where they are given.
    """

    rotated: Rotated
    labels: Integers
    classes: int
    shares: Float64
    skipped: Integers
    tilt: Real | None = None
    level: Float64 | None = None

    def only(self, chosen: NDArray[np.bool_]) -> "Problems":
        """Those of the problems where `chosen`, bool [p], is True."""
        if chosen.all():
            return self
        tilt = None if self.tilt is None else self.tilt[chosen]
        level = None if self.level is None else self.level[chosen]
        return replace(self, shares=self.shares[chosen], skipped=self.skipped[chosen], tilt=tilt, level=level)

    def start(self) -> Float32:
        """No weights, and the smoothed logarithm of class frequencies as bias: float32 [p, k, r + 1]."""
        solution = np.zeros((len(self.skipped), self.classes, self.rotated.values.shape[1]), dtype=np.float32)
        for problem, shares in enumerate(self.shares):
            share = np.bincount(self.labels, weights=shares, minlength=self.classes)
            solution[problem, :, -1] = np.log(share + 1.0 / len(self.labels))
        return solution


def shares_of(labels: Integers, classes: int, balanced: bool) -> Float64:
    """The share of each row in the objective, float64 [n], summing to one; `labels` are those of the rows."""
    if not balanced:
        return np.full(len(labels), 1.0 / len(labels))
    weights = 1.0 / np.maximum(np.bincount(labels, minlength=classes), 1)
    shares = weights[labels]
    return np.asarray(shares / shares.sum())


def pose(training: TrainingSet, rotated: Rotated, skipped: list[int], balanced: bool) -> Problems:
    """The problems that leave out the folds `skipped`; balanced shares count only labels that a problem sees."""
    labels, folds = training.labels[rotated.order], training.folds[rotated.order]
    shares = np.zeros((len(skipped), len(labels)))
    for problem, fold in enumerate(skipped):
        seen = folds != fold
        if not seen.any():
            raise DataError(f"Fold {fold} holds out every training picture, so nothing is left to train on.")
        shares[problem, seen] = shares_of(labels[seen], training.classes, balanced)
    return Problems(rotated, labels, training.classes, shares, np.array(skipped))


@dataclass
class Value:
    """At a solution [p, k, r + 1]: F float64 [p], and its gradient [p, k, r + 1]."""

    objective: Float64
    gradient: Real


def evaluate(problems: Problems, solution: Real, strength: float) -> Value:
    """F and its gradient, block of rows by block of rows, in the precision of `solution`."""
    penalty = _penalty(solution, strength)
    gradient = penalty * solution
    loss = (penalty * solution.astype(np.float64) ** 2).sum(axis=(1, 2)) / 2
    if problems.tilt is not None and problems.level is not None:
        gradient += problems.tilt
        loss += problems.level + (problems.tilt * solution.astype(np.float64)).sum(axis=(1, 2))

    def of_block(block: Block) -> tuple[Integers, Float64, Real]:
        here, values, residual = _scores(problems, solution, block)
        labels, shares = problems.labels[block[0]], problems.shares[here, block[0]]
        losses = (shares * softmax_in_place(residual, labels)).sum(axis=1)
        residual[:, labels, np.arange(len(labels))] -= 1
        residual *= shares.astype(solution.dtype)[:, None, :]
        return here, losses, _project(residual, values)

    for here, losses, slope in _over_blocks(problems, solution, of_block):
        loss[here] += losses
        gradient[here] += slope
    return Value(loss, gradient)


def _penalty(solution: Real, strength: float) -> Real:
    """The strength for each coordinate of `solution`, [r + 1]; zero for the bias."""
    penalty: Real = np.full(solution.shape[-1], strength, dtype=solution.dtype)
    penalty[-1] = 0
    return penalty


def _over_blocks(problems: Problems, solution: Real, of_block: Callable[[Block], Result]) -> Iterator[Result]:
    """`of_block` of each block that some problem trains on, in order; by several threads where it is worth it.

    The sum over blocks is thus the same whatever the number of threads.
    """
    rotated = problems.rotated
    blocks = [block for block in rotated.blocks if (problems.skipped != block[1]).any()]
    if len(rotated.values) * solution.size < WORTH_THREADS:
        return map(of_block, blocks)
    return in_order(rotated.pool, of_block, blocks, 2 * core_count())


def _scores(problems: Problems, solution: Real, block: Block) -> tuple[Integers, Real, Real]:
    """Of a block: the problems q that train on it, its values, and their scores [q, k, rows]."""
    part, fold = block
    here = np.flatnonzero(problems.skipped != fold)
    values = problems.rotated.values[part].astype(solution.dtype, copy=False)
    flat = solution[here].reshape(-1, solution.shape[-1])
    return here, values, (flat @ values.T).reshape(len(here), problems.classes, -1)


def _project(of_rows: Real, values: Real) -> Real:
    """Numbers of rows, [q, k, rows], times values [rows, r + 1], summed over the rows: [q, k, r + 1]."""
    problems, classes, count = of_rows.shape
    return np.asarray((of_rows.reshape(-1, count) @ values).reshape(problems, classes, -1))


def softmax_in_place(scores: Real, labels: Integers) -> Real:
    """Turn `scores` [p, k, rows] into probabilities; returns -log of those of the labels, [p, rows]."""
    scores -= scores.max(axis=1, keepdims=True)
    of_labels = scores[:, labels, np.arange(len(labels))]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1)
    scores /= total[:, None, :]
    return np.asarray(np.log(total) - of_labels)


@dataclass(frozen=True)
class Preconditioner:
    """An approximate inverse Hessian: blocks over the leading coordinates of each class, a diagonal for the rest.

    `diagonal` [p, k, r + 1]; `leading` int [q]: the coordinates with the largest eigenvalues, and the bias;
    `blocks` [p, k, q, q].
    """

    diagonal: Real
    leading: Integers
    blocks: Real

    def apply(self, gradient: Real) -> Real:
        """The approximate inverse Hessian times `gradient`, both [p, k, r + 1]."""
        result = self.diagonal * gradient
        result[:, :, self.leading] = (self.blocks @ gradient[:, :, self.leading, None])[..., 0]
        return np.asarray(result)


def precondition(problems: Problems, solution: Real, strength: float, most_leading: int) -> Preconditioner:
    """Invert the parts of the Hessian at `solution` that are cheap: sum_i s_i p_i (1 - p_i) z_i z_i' + strength.

    The diagonal is exact. It misses what binds coordinates together when only few rows, those near a boundary,
    still count; that concerns the leading coordinates most.
    """
    penalty, width = _penalty(solution, strength), solution.shape[-1]
    leading = np.append(np.arange(min(most_leading, width) - 1), width - 1) if most_leading else np.arange(0)
    diagonal = np.zeros_like(solution) + penalty
    blocks = np.zeros((*solution.shape[:2], len(leading), len(leading))) + np.diag(penalty[leading])

    def of_block(block: Block) -> tuple[Integers, Real, Real]:
        here, values, curvature = _scores(problems, solution, block)
        softmax_in_place(curvature, problems.labels[block[0]])
        curvature *= 1 - curvature
        curvature *= problems.shares[here, block[0]].astype(solution.dtype)[:, None, :]
        few = np.ascontiguousarray(values[:, leading].T)
        products = np.array([[(few * weights) @ few.T for weights in classes] for classes in curvature])
        return here, _project(curvature, values**2), products

    for here, on_diagonal, products in _over_blocks(problems, solution, of_block):
        diagonal[here] += on_diagonal
        blocks[here] += products
    blocks += LEAST_CURVATURE * np.eye(len(leading))
    inverse = np.linalg.inv(blocks).astype(solution.dtype)
    return Preconditioner(1 / np.maximum(diagonal, LEAST_CURVATURE), leading, inverse)
