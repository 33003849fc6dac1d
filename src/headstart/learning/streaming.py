"""The head of more rows than fit into memory: few passes over a file, and many over random samples of it.

The rotated rows lie in a file, each fold's in the order of the level at which they were drawn: the rows of level 0 are
a random sample of all rows, those up to level 1 a larger one, and so on; every class of every fold is in each of them.
Samples are where work is done twice over; all rows are read for what samples do not know, the gradient. A solve

1. starts on the smallest sample, and goes on with larger ones, where nothing is known yet (Byrd, Chin, Nocedal and Wu,
   2012, "Sample size selection in optimization methods for machine learning");
2. reads all rows for F and its gradient at w, and minimises F of a sample, tilted so that it has this gradient at w
   (Shamir, Srebro and Zhang, 2014, "Communication-efficient distributed optimization using an approximate Newton-type
   method"); the gap shrinks by the square of what the sample misjudges of the curvature. It repeats that;
3. ends with L-BFGS on all rows if that does not get on.
"""

from dataclasses import replace

import numpy as np

from headstart import scratch
from headstart.learning.eigenbasis import (
    Block,
    Float32,
    Float64,
    Integers,
    Real,
    Rotated,
    Scale,
    Scaling,
    TrainingSet,
    cut,
    is_large,
    measure_scale,
    slices,
)
from headstart.learning.minimise import LOOSE, Goal, Solved, minimise
from headstart.learning.objective import Preconditioner, Problems, Value, evaluate, precondition
from headstart.learning.randomness import generator
from headstart.parallel import core_count, in_order

SAMPLE_BYTES = 128 * 1024**2
"""Of the smallest sample: 26,000 rows of 1,280 columns."""
GROWTH, LARGEST_SHARE = 4, 0.5
"""From one sample to the next; a sample of more than this share of all rows is all of them."""
ROWS_PER_COLUMN = 8
"""Of a sample: fewer know too little of the covariance, of the curvature and of what strength is best."""
MOST_TURNS, INNER, WORTHWHILE = 20, 0.02, 0.5
"""Passes; what a sample is to leave of the gap; what a pass must leave of it at most, or L-BFGS goes on."""


def pays(training: TrainingSet) -> bool:
    """Whether the rows are too many for memory, and for all samples to be good ones."""
    enough = ROWS_PER_COLUMN * training.vectors.shape[1] * GROWTH / LARGEST_SHARE
    return is_large(training.vectors, training.rows) and len(training.rows) >= enough


def draw(training: TrainingSet) -> Integers:
    """The level of each row, int [n]: see the module. Shares of classes and folds are the same in all samples."""
    columns = training.vectors.shape[1]
    rows = max(SAMPLE_BYTES // (4 * (columns + 1)), ROWS_PER_COLUMN * columns)
    shares = [min(rows / len(training.rows), LARGEST_SHARE)]
    while shares[-1] * GROWTH <= LARGEST_SHARE:
        shares.append(shares[-1] * GROWTH)
    shuffled = generator(0, "levels").permutation(len(training.rows))
    groups = training.folds * training.classes + training.labels
    order = shuffled[np.argsort(groups[shuffled], kind="stable")]
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    ranks = np.arange(len(order)) - np.repeat(starts, counts)
    levels = np.empty(len(order), dtype=np.intp)
    levels[order] = np.searchsorted(shares, ranks / np.repeat(counts, counts), side="right")
    return levels


def sample_of(training: TrainingSet, levels: Integers) -> TrainingSet:
    """The smallest sample of the training rows."""
    inside = levels == 0
    rows, labels, folds = training.rows[inside], training.labels[inside], training.folds[inside]
    return TrainingSet(training.vectors, rows, labels, folds, training.classes)


def rotate_streamed(training: TrainingSet, scaling: Scaling, levels: Integers) -> Rotated:
    """Scale and rotate the training rows into a file, reading them in the order in which they lie."""
    order = np.lexsort((training.rows, levels, training.folds))
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    reading = np.argsort(training.rows, kind="stable")
    rows, place = training.rows[reading], place[reading]
    scale = measure_scale(training.vectors, rows, scaling)
    basis = _basis(training.vectors, rows[levels[reading] == 0], scale)
    values = scratch.empty((len(rows), len(basis) + 1), np.float32)
    blocks = cut(training.folds[order], training.classes, levels[order])
    level_of = [int(levels[order[part.start]]) for part, _ in blocks]
    samples = tuple(
        tuple(block for block, level in zip(blocks, level_of, strict=True) if level <= largest)
        for largest in range(max(level_of))
    )
    rotated = Rotated(values, order, blocks, scale, lambda weight: weight @ basis.T, samples=samples)
    rotation = basis.astype(np.float32)

    def turned(part: slice) -> Float32:
        block = np.ones((part.stop - part.start, len(basis) + 1), dtype=np.float32)
        np.matmul(scale.apply(training.vectors[rows[part]]).astype(np.float32), rotation, out=block[:, :-1])
        return block

    parts = list(slices(len(rows)))
    for part, block in zip(parts, in_order(rotated.pool, turned, parts, 2 * core_count()), strict=True):
        values[place[part]] = block
    return rotated


def _basis(vectors: Float32, rows: Integers, scale: Scale) -> Float64:
    """The eigenvectors, [d, d], of the covariance of `rows`, by falling eigenvalue."""
    gram = np.zeros((vectors.shape[1], vectors.shape[1]))
    for part in slices(len(rows)):
        block = scale.apply(vectors[rows[part]]).astype(np.float32)
        gram += block.T @ block
    return np.ascontiguousarray(np.linalg.eigh(gram)[1][:, ::-1])


def sampled(problems: Problems, blocks: tuple[Block, ...]) -> Problems:
    """The `problems` on the rows of `blocks`, where each class keeps its share of the objective."""
    inside = np.zeros(len(problems.labels), dtype=bool)
    for part, _ in blocks:
        inside[part] = True
    shares = np.where(inside, problems.shares, 0)
    for here, everywhere in zip(shares, problems.shares, strict=True):
        few, all_of_them = (np.bincount(problems.labels, part, problems.classes) for part in (here, everywhere))
        here *= (all_of_them / np.where(few > 0, few, np.inf))[problems.labels]
        here /= here.sum()
    return replace(problems, rotated=replace(problems.rotated, blocks=blocks, samples=()), shares=shares)


def solve(problems: Problems, start: Real, strength: float, goal: Goal, *, sparing: bool = False) -> Solved:
    """`minimise`; of streamed rows as the module says, with a gap that is measured on all of them.

    `sparing` leaves out its last part, so that the goal may be missed.
    """
    samples = problems.rotated.samples
    if not samples:
        return minimise(problems, start, strength, goal)
    if not start[:, :, :-1].any():
        for blocks in samples:
            start = minimise(sampled(problems, blocks), start, strength, LOOSE).solution
    sample = sampled(problems, samples[-1])
    preconditioner = precondition(sample, start, strength, goal.leading)
    solved = _turn(problems, sample, start, strength, goal, preconditioner)
    if sparing or (solved.gap <= goal.gap).all():
        return solved
    return minimise(problems, solved.solution, strength, goal)


def _turn(
    problems: Problems, sample: Problems, start: Real, strength: float, goal: Goal, preconditioner: Preconditioner
) -> Solved:
    """Go from all rows to the sample and back while the largest gap shrinks well."""
    estimated, value = replace(goal, proven=False), evaluate(problems, start, strength)
    best = Solved(start, value.objective, goal.measure(value, preconditioner, strength))
    for _ in range(MOST_TURNS):
        if (best.gap <= goal.gap).all():
            break
        inner = replace(estimated, gap=INNER * float(estimated.measure(value, preconditioner, strength).max()))
        tilted = _tilted(sample, best.solution, value, strength)
        ahead = minimise(tilted, best.solution, strength, inner, preconditioner).solution
        value, before = evaluate(problems, ahead, strength), float(best.gap.max())
        gap = goal.measure(value, preconditioner, strength)
        if gap.max() < before:
            best = Solved(ahead, value.objective, gap)
        if gap.max() > WORTHWHILE * before:
            break
    return best


def _tilted(sample: Problems, solution: Real, value: Value, strength: float) -> Problems:
    """The problems of the `sample`, with the `value` that all rows have at the `solution`.

    F is never negative. A tilted one can be, where the sample knows too little; `minimise` stops there.
    """
    here = evaluate(sample, solution, strength)
    tilt = value.gradient - here.gradient
    level = value.objective - here.objective - (tilt * solution.astype(np.float64)).sum(axis=(1, 2))
    return replace(sample, tilt=tilt, level=level)
