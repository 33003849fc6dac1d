"""The exact softmax head: features -> class scores, its strength and scaling chosen by cross-validation.

For features x_i, labels y_i and shares s_i (positive, summing to one: 1/n each, or 1/(k n_class) each when
balanced) a head minimises

    F(W, b) = sum_i s_i * -log softmax(W u_i + b)[y_i]  +  strength / 2 * ||W||^2

where u_i is x_i less the mean, divided so that the mean squared norm of u is one: by one number ("centred") or
column by column ("standardised"). The division is folded into the weight afterwards, so that the head acts on raw
features. The bias is not penalised. F is convex: there is one best head, and nothing here is random.

Why it is fast. (1) The u are rotated once onto the eigenvectors of their covariance; a rotation changes neither F
nor its optimum, but the Hessian is now nearly diagonal, for every fold and strength alike. (2) Its exact diagonal,
and near the end its leading blocks, precondition L-BFGS (Nocedal and Wright, 2006, algorithm 7.4), which solves all
folds in the same matrix products. (3) Each fold walks from strong to weak strength and starts where its own last two
solutions point to, which have never seen a label of the fold. `bench/head.py` measures it against scikit-learn.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.progress import SILENT, Advance, Progress

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Real = NDArray[np.floating[Any]]  # float32 or float64, as far as a fit has come
Integers = NDArray[np.intp]
Scaling = Literal["centred", "standardised"]

STRONGEST_INDEX, FIRST_INDEX, WEAKEST_INDEX = -4, 0, 12
FEWEST_STRENGTHS = 8
WORTHWHILE, WORTHWHILE_NATS = 0.02, 0.001  # a weaker strength is taken only where it lowers the loss by both
ACCEPTED_GAP = 1e-6
MOST_STEPS = 1000
NO_FOLD = -2
LEAST_CURVATURE = 1e-6  # of a bias whose class is nearly certain everywhere
BLOCK_ROWS, BLOCK_NUMBERS = 2048, 2**22
HISTORY_PAIRS, HISTORY_NUMBERS = 6, 2**26


def strength_at(index: int) -> float:
    """The strength at `index` of the grid: two steps to a factor of ten, weaker with a larger index; 0 is 0.1."""
    return float(10.0 ** (-1.0 - index / 2))


def _index_of(strength: float) -> int:
    """The inverse of `strength_at`."""
    return round(-2 * (math.log10(strength) + 1))


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


@dataclass(frozen=True)
class Head:
    """A linear classifier on raw features: `weight` float64 [k, d], `bias` float64 [k]."""

    weight: Float64
    bias: Float64

    def logits(self, features: Real) -> Float64:
        """Class scores, float64 [n, k], of `features` [n, d]: features @ weight' + bias."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float64)


@dataclass(frozen=True)
class Candidate:
    """One cross-validated choice and its mean log loss over the held-out rows (class means averaged if balanced)."""

    scaling: Scaling
    strength: float
    log_loss: float


@dataclass(frozen=True)
class FittedHead:
    """A head fitted to all training rows, and what cross-validation said about it.

    `held_out` int [m]: the training rows (positions 0..n-1, ascending) that some fold holds out;
    `out_of_fold_logits` float32 [m, k]: their scores from the head of the fold that never saw them, at the chosen
    strength and scaling. `candidates`: all that were tried with every fold, in order. `objective`: F at the
    optimum; `gap`: a proven bound on what it is above the true minimum, relative to it. `converged` is False if the
    bound could not be brought below 1e-6, `at_edge` is True if the best strength is the last one of the grid.
    """

    head: Head
    scaling: Scaling
    strength: float
    held_out: Integers
    out_of_fold_logits: Float32
    candidates: tuple[Candidate, ...]
    objective: float
    gap: float
    converged: bool
    at_edge: bool


def fit_head(training: TrainingSet, *, balanced: bool = False, progress: Progress = SILENT) -> FittedHead:
    """Fit the best softmax head, choosing scaling and strength by the log loss of held-out rows.

    At least eight strengths, two to a factor of ten, are tried with every fold on centred features: from 0.1 down
    until a step no longer lowers the log loss by two per cent and 0.001 (or 1e-7 is reached), and up to 10 while
    the strongest is the best. So a tie goes to the stronger one: on six development sets this gave the accuracy of
    the plain minimum and a slightly better log loss on unseen pictures, and it is the cheaper one to solve.
    Standardised features are tried with one fold, at the same strengths and one more; only if they win by two
    standard errors of the paired differences do they go through the same selection with every fold.

    Scaling and rotation are computed from the features of all training rows, held-out ones included: they know no
    labels. `balanced` gives every class the same total share. Raises DataError for numbers that are not finite, for
    fewer than two classes, for a class without training rows, and where no row is held out.
    """
    _check(training)
    with progress.stage("head", WEAKEST_INDEX - FIRST_INDEX + 2) as advance:
        fitted = _select(training, "centred", balanced, advance)
        if _wins(training, "standardised", balanced, fitted):
            fitted = _select(training, "standardised", balanced, advance)
    return fitted


def _check(training: TrainingSet) -> None:
    """Refuse what no head can be fitted to."""
    vectors, rows, labels, folds = training.vectors, training.rows, training.labels, training.folds
    assert vectors.ndim == 2
    assert rows.shape == labels.shape == folds.shape == (len(rows),)
    if training.classes < 2:
        raise DataError(f"A classifier needs at least 2 classes, but there are {training.classes}.")
    missing = np.setdiff1d(np.arange(training.classes), labels)
    if len(missing):
        named = ", ".join(map(str, missing[:10]))
        raise DataError(f"{len(missing)} classes have no training picture (by number: {named}). Add or remove them.")
    if folds.max() < 0:
        raise DataError("No training picture is held out by any fold, so no strength can be chosen.")
    bad = sum(int((~np.isfinite(vectors[rows[part]])).any(axis=1).sum()) for part in _parts(len(rows)))
    if bad:
        raise DataError(
            f"The features of {bad:,} of {len(rows):,} pictures are not finite numbers. "
            "Clear the cache of features, or try full precision or another backbone."
        )


def _parts(count: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Cut 0..count into slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


# Scaling and rotation


@dataclass(frozen=True)
class _Scale:
    """u = (x - mean) / divisor: `mean`, `divisor` float64 [d]; the divisor of a constant column is infinite."""

    mean: Float64
    divisor: Float64

    def apply(self, vectors: Float32) -> Float64:
        return np.asarray((vectors - self.mean) / self.divisor)


def _measure_scale(vectors: Float32, rows: Integers, scaling: Scaling) -> _Scale:
    """The scale under which the mean squared norm of the rows is one (zero if all rows are equal)."""
    parts = [rows[part] for part in _parts(len(rows))]
    mean = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts) / len(rows)
    variance = sum(((vectors[part] - mean) ** 2).sum(axis=0) for part in parts) / len(rows)
    deviation = np.sqrt(variance)
    varies = deviation > np.finfo(np.float32).eps * np.abs(mean)  # the rest is rounding
    if scaling == "centred":
        deviation = np.full_like(deviation, np.sqrt(variance[varies].sum()))
    else:
        deviation = deviation * np.sqrt(varies.sum())
    return _Scale(mean, np.where(varies, deviation, np.inf))


@dataclass(frozen=True)
class _Rotated:
    """The training rows in the eigenbasis, in the order of their folds.

    `values` float32 [n, r + 1]: coordinates by falling eigenvalue, then a column of ones for the bias; `order`
    int [n]: the training row at each place; `blocks`: (slice of places, fold), each block within one fold;
    `unrotate` takes weights [k, r] on coordinates back to weights on the scaled features, [k, d].
    """

    values: Float32
    order: Integers
    blocks: tuple[tuple[slice, int], ...]
    scale: _Scale
    unrotate: Callable[[Float64], Float64]


def _rotate(training: TrainingSet, scaling: Scaling) -> _Rotated:
    """Scale and rotate the training rows; the only copy of them that is ever made."""
    order = np.argsort(training.folds, kind="stable")
    rows, folds = training.rows[order], training.folds[order]
    scale = _measure_scale(training.vectors, rows, scaling)
    rotate = _rotate_few if len(rows) <= training.vectors.shape[1] else _rotate_many
    values, unrotate = rotate(training.vectors, rows, scale)
    size = max(64, min(BLOCK_ROWS, BLOCK_NUMBERS // (training.classes * max(1, folds.max() + 1))))
    starts = np.flatnonzero(np.append(True, np.diff(folds) > 0)).tolist()
    blocks = tuple(
        (slice(start + part.start, start + part.stop), int(folds[start]))
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True)
        for part in _parts(stop - start, size)
    )
    return _Rotated(values, order, blocks, scale, unrotate)


_Rotation = tuple[Float32, Callable[[Float64], Float64]]


def _rotate_many(vectors: Float32, rows: Integers, scale: _Scale) -> _Rotation:
    """The rotation when rows outnumber columns: eigenvectors of u'u, [d, d]; rotated block by block in place."""
    n, d = len(rows), vectors.shape[1]
    values = np.ones((n, d + 1), dtype=np.float32)
    gram = np.zeros((d, d))
    for part in _parts(n):
        block = values[part, :d]
        block[:] = scale.apply(vectors[rows[part]])
        gram += block.T @ block
    basis = np.ascontiguousarray(np.linalg.eigh(gram)[1][:, ::-1])
    rotation = basis.astype(np.float32)
    for part in _parts(n):
        values[part, :d] = values[part, :d] @ rotation
    return values, lambda weight: weight @ basis.T


def _rotate_few(vectors: Float32, rows: Integers, scale: _Scale) -> _Rotation:
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


# The objective


@dataclass(frozen=True)
class _Problems:
    """Several fits to the same rows, solved at once: problem p trains on all rows but those of one fold.

    `skipped` int [p]: that fold, or -2 for none; `shares` float64 [p, n]: the s_i of each problem, zero for a row
    that it skips; `labels` int [n]; both in the order of `rotated`.
    """

    rotated: _Rotated
    labels: Integers
    classes: int
    shares: Float64
    skipped: Integers

    def only(self, chosen: NDArray[np.bool_]) -> "_Problems":
        """Those of the problems where `chosen`, bool [p], is True."""
        if chosen.all():
            return self
        return _Problems(self.rotated, self.labels, self.classes, self.shares[chosen], self.skipped[chosen])

    def start(self) -> Float32:
        """No weights, and the smoothed logarithm of class frequencies as bias: float32 [p, k, r + 1]."""
        solution = np.zeros((len(self.skipped), self.classes, self.rotated.values.shape[1]), dtype=np.float32)
        for problem, shares in enumerate(self.shares):
            share = np.bincount(self.labels, weights=shares, minlength=self.classes)
            solution[problem, :, -1] = np.log(share + 1.0 / len(self.labels))
        return solution


def _shares(labels: Integers, classes: int, balanced: bool) -> Float64:
    """The share of each row in the objective, float64 [n], summing to one; `labels` are those of the rows."""
    if not balanced:
        return np.full(len(labels), 1.0 / len(labels))
    weights = 1.0 / np.maximum(np.bincount(labels, minlength=classes), 1)
    shares = weights[labels]
    return np.asarray(shares / shares.sum())


def _pose(training: TrainingSet, rotated: _Rotated, skipped: list[int], balanced: bool) -> _Problems:
    """The problems that leave out the folds `skipped`; balanced shares count only labels that a problem sees."""
    labels, folds = training.labels[rotated.order], training.folds[rotated.order]
    shares = np.zeros((len(skipped), len(labels)))
    for problem, fold in enumerate(skipped):
        seen = folds != fold
        if not seen.any():
            raise DataError(f"Fold {fold} holds out every training picture, so nothing is left to train on.")
        shares[problem, seen] = _shares(labels[seen], training.classes, balanced)
    return _Problems(rotated, labels, training.classes, shares, np.array(skipped))


@dataclass
class _Value:
    """At a solution [p, k, r + 1]: F float64 [p], and its gradient [p, k, r + 1]."""

    objective: Float64
    gradient: Real


def _evaluate(problems: _Problems, solution: Real, strength: float) -> _Value:
    """F and its gradient, block of rows by block of rows, in the precision of `solution`."""
    penalty = _penalty(solution, strength)
    gradient = penalty * solution
    loss = (penalty * solution.astype(np.float64) ** 2).sum(axis=(1, 2)) / 2
    for here, part, values, residual in _blocks(problems, solution):
        labels, shares = problems.labels[part], problems.shares[here, part]
        loss[here] += (shares * _softmax_in_place(residual, labels)).sum(axis=1)
        residual[:, labels, np.arange(len(labels))] -= 1
        residual *= shares.astype(solution.dtype)[:, None, :]
        gradient[here] += _project(residual, values)
    return _Value(loss, gradient)


def _penalty(solution: Real, strength: float) -> Real:
    """The strength for each coordinate of `solution`, [r + 1]; zero for the bias."""
    penalty: Real = np.full(solution.shape[-1], strength, dtype=solution.dtype)
    penalty[-1] = 0
    return penalty


def _blocks(problems: _Problems, solution: Real) -> Iterator[tuple[Integers, slice, Real, Real]]:
    """For each block: the problems q that train on it, its slice and values, and their scores [q, k, rows]."""
    for part, fold in problems.rotated.blocks:
        here = np.flatnonzero(problems.skipped != fold)
        if len(here):
            values = problems.rotated.values[part].astype(solution.dtype, copy=False)
            flat = solution[here].reshape(-1, solution.shape[-1])
            yield here, part, values, (flat @ values.T).reshape(len(here), problems.classes, -1)


def _project(of_rows: Real, values: Real) -> Real:
    """Numbers of rows, [q, k, rows], times values [rows, r + 1], summed over the rows: [q, k, r + 1]."""
    problems, classes, count = of_rows.shape
    return np.asarray((of_rows.reshape(-1, count) @ values).reshape(problems, classes, -1))


def _softmax_in_place(scores: Real, labels: Integers) -> Real:
    """Turn `scores` [p, k, rows] into probabilities; returns -log of those of the labels, [p, rows]."""
    scores -= scores.max(axis=1, keepdims=True)
    of_labels = scores[:, labels, np.arange(len(labels))]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1)
    scores /= total[:, None, :]
    return np.asarray(np.log(total) - of_labels)


# Minimisation


@dataclass
class _Pair:
    """A step and the change of gradient along it, both [p, k, r + 1]; `rho` = 1 / (step . change) or 0, [p]."""

    step: Real
    change: Real
    rho: Float64


def _pair(step: Real, change: Real) -> _Pair:
    """A pair for the history; where rounding hides the curvature, or nothing moved, it will have no effect."""
    product = _dot(step, change)
    usable = product > 1e-12 * np.sqrt(_dot(step, step) * _dot(change, change))
    return _Pair(step, change, np.where(usable, 1 / np.where(usable, product, 1), 0.0))


def _dot(a: Real, b: Real) -> Float64:
    """Inner product of each problem, float64 [p]."""
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return np.array([np.dot(x, y) for x, y in zip(flat_a, flat_b, strict=True)], dtype=np.float64)


def _times(factor: Float64, array: Real) -> Real:
    """Each problem's array times its own factor."""
    return np.asarray(factor.astype(array.dtype)[:, None, None] * array)


@dataclass(frozen=True)
class _Preconditioner:
    """An approximate inverse Hessian: blocks over the leading coordinates of each class, a diagonal for the rest.

    `diagonal` [p, k, r + 1]; `leading` int [q]: the coordinates with the largest eigenvalues, and the bias;
    `blocks` [p, k, q, q].
    """

    diagonal: Real
    leading: Integers
    blocks: Real

    def apply(self, gradient: Real) -> Real:
        result = self.diagonal * gradient
        result[:, :, self.leading] = (self.blocks @ gradient[:, :, self.leading, None])[..., 0]
        return np.asarray(result)


def _precondition(problems: _Problems, solution: Real, strength: float, most_leading: int) -> _Preconditioner:
    """Invert the parts of the Hessian at `solution` that are cheap: sum_i s_i p_i (1 - p_i) z_i z_i' + strength.

    The diagonal is exact. It misses what binds coordinates together when only few rows, those near a boundary,
    still count; that concerns the leading coordinates most.
    """
    penalty, width = _penalty(solution, strength), solution.shape[-1]
    leading = np.append(np.arange(min(most_leading, width) - 1), width - 1) if most_leading else np.arange(0)
    diagonal = np.zeros_like(solution) + penalty
    blocks = np.zeros((*solution.shape[:2], len(leading), len(leading))) + np.diag(penalty[leading])
    for here, part, values, curvature in _blocks(problems, solution):
        _softmax_in_place(curvature, problems.labels[part])
        curvature *= 1 - curvature
        curvature *= problems.shares[here, part].astype(solution.dtype)[:, None, :]
        diagonal[here] += _project(curvature, values**2)
        few = np.ascontiguousarray(values[:, leading].T)
        if most_leading:
            for problem, of_classes in zip(here, curvature, strict=True):
                blocks[problem] += [(few * weights) @ few.T for weights in of_classes]
    blocks += LEAST_CURVATURE * np.eye(len(leading))
    inverse = np.linalg.inv(blocks).astype(solution.dtype)
    return _Preconditioner(1 / np.maximum(diagonal, LEAST_CURVATURE), leading, inverse)


def _descend(gradient: Real, pairs: list[_Pair], preconditioner: _Preconditioner) -> Real:
    """The L-BFGS direction: minus the approximate inverse Hessian, as the pairs correct it, times `gradient`."""
    direction = -gradient
    amounts = []
    for pair in reversed(pairs):
        amount = pair.rho * _dot(pair.step, direction)
        direction -= _times(amount, pair.change)
        amounts.append(amount)
    direction = preconditioner.apply(direction)
    if pairs:
        last = pairs[-1]
        scaled = last.rho * _dot(last.change, preconditioner.apply(last.change))
        direction = _times(np.where(scaled > 0, 1 / np.where(scaled > 0, scaled, 1), 1.0), direction)
    for pair, amount in zip(pairs, reversed(amounts), strict=True):
        direction += _times(amount - pair.rho * _dot(pair.change, direction), pair.step)
    return direction


def _search(
    problems: _Problems, solution: Real, value: _Value, direction: Real, strength: float
) -> tuple[Real, _Value, NDArray[np.bool_]]:
    """Step along `direction` where it descends; returns solution, value, and whether each problem has moved.

    The full step is taken unless it went too far: F is higher than Armijo's rule allows *and* its slope points
    back. (A slope that still descends proves, F being convex, that F is lower, whatever rounding says.) Then the
    step is shortened to where the two slopes would cancel.
    """
    slope = _dot(value.gradient, direction)
    length = np.ones(len(slope))
    pending = slope < 0
    trial, reached = solution.copy(), _Value(value.objective.copy(), value.gradient.copy())
    for _ in range(25):
        if not pending.any():
            break
        trial[pending] = solution[pending] + _times(length[pending], direction[pending])
        new = _evaluate(problems.only(pending), trial[pending], strength)
        reached.objective[pending] = new.objective
        reached.gradient[pending] = new.gradient
        after = _dot(reached.gradient, direction)
        pending &= (reached.objective > value.objective + 1e-4 * length * slope) & (after > 0)
        length[pending] *= np.clip(slope[pending] / (slope[pending] - after[pending]), 0.1, 0.9)
    trial[pending] = solution[pending]
    reached.objective[pending] = value.objective[pending]
    reached.gradient[pending] = value.gradient[pending]
    return trial, reached, (slope < 0) & ~pending


@dataclass
class _Solved:
    """Solutions [p, k, r + 1] with F, float64 [p], and how far above its minimum it may be, relative to F, [p]."""

    solution: Real
    objective: Float64
    gap: Float64


@dataclass(frozen=True)
class _Goal:
    """When to stop: the relative gap to reach, how it is known, and how many coordinates earn a full block.

    The gap is estimated as g' P g / 2 under the preconditioner P, or if `proven` bounded by strong convexity:
    |g|^2 / (2 strength) for the weights (the bias, which has no penalty, keeps the estimate).
    """

    gap: float
    leading: int = 0
    proven: bool = False

    def measure(self, value: _Value, preconditioner: _Preconditioner, strength: float) -> Float64:
        """The relative gap of each problem, float64 [p]."""
        natural = preconditioner.apply(value.gradient)
        if self.proven:
            natural[:, :, :-1] = value.gradient[:, :, :-1] / strength
        return _dot(value.gradient, natural) / 2 / value.objective


LOOSE, FOLD, FINAL = _Goal(1e-3), _Goal(3e-5, leading=64), _Goal(5e-7, leading=64, proven=True)


def _minimise(problems: _Problems, start: Real, strength: float, goal: _Goal) -> _Solved:
    """Bring each problem to the goal by preconditioned L-BFGS.

    A problem that has arrived, or that rounding keeps from moving, stays where it is while the others go on.
    """
    solution, pairs = start, list[_Pair]()
    value = _evaluate(problems, solution, strength)
    preconditioner = _precondition(problems, solution, strength, goal.leading)
    most_pairs = max(3, min(HISTORY_PAIRS, HISTORY_NUMBERS // (2 * solution.size)))
    stalled = np.zeros(len(solution), dtype=bool)
    for _ in range(MOST_STEPS):
        gap = goal.measure(value, preconditioner, strength)
        arrived = (gap <= goal.gap) | stalled
        if arrived.all():
            break
        direction = _descend(value.gradient, pairs, preconditioner)
        direction[arrived] = 0
        moved, reached, has_moved = _search(problems, solution, value, direction, strength)
        stalled |= ~has_moved & ~arrived
        pairs = [*pairs, _pair(moved - solution, reached.gradient - value.gradient)][-most_pairs:]
        solution, value = moved, reached
    return _Solved(solution, value.objective, gap)


# Cross-validation


def _held_out_scores(problems: _Problems, solution: Real, held_out: Integers) -> Float32:
    """Scores float32 [m, k] of the training rows `held_out`, each from the problem that skips its fold."""
    index = np.zeros(len(problems.labels), dtype=np.intp)
    index[held_out] = np.arange(len(held_out))
    scores = np.empty((len(held_out), problems.classes), dtype=np.float32)
    for part, fold in problems.rotated.blocks:
        for problem in np.flatnonzero(problems.skipped == fold):
            places = index[problems.rotated.order[part]]
            scores[places] = problems.rotated.values[part] @ solution[problem].T.astype(np.float32)
    return scores


def _losses(scores: Real, labels: Integers) -> Float64:
    """-log of the probability of the label, float64 [m], from `scores` [m, k]."""
    losses = np.empty(len(labels))
    for part in _parts(len(labels)):
        losses[part] = _softmax_in_place(scores[part].T.astype(np.float64)[None], labels[part])[0]
    return losses


@dataclass(frozen=True)
class _Judge:
    """Cross-validates solutions of `problems` on the rows `held_out` [m], whose shares of the loss are `shares`."""

    problems: _Problems
    held_out: Integers
    labels: Integers
    shares: Float64

    def scores(self, solution: Real) -> Float32:
        return _held_out_scores(self.problems, solution, self.held_out)

    def losses(self, solution: Real) -> Float64:
        """The log loss of each held-out row, float64 [m]."""
        return _losses(self.scores(solution), self.labels)

    def mean_loss(self, solution: Real) -> float:
        return float(self.losses(solution) @ self.shares)


def _cross_validation(training: TrainingSet, rotated: _Rotated, skipped: list[int], balanced: bool) -> _Judge:
    """The problems that leave out the folds `skipped`, and the rows to judge them by."""
    held_out = np.flatnonzero(np.isin(training.folds, skipped))
    labels = training.labels[held_out]
    problems = _pose(training, rotated, skipped, balanced)
    return _Judge(problems, held_out, labels, _shares(labels, training.classes, balanced))


@dataclass
class _Walk:
    """The log loss at each index of the grid that was tried, the chosen index, and its solution."""

    losses: dict[int, float]
    best: int
    solution: Real


def _worthwhile(weaker: float, stronger: float) -> bool:
    """Whether the log loss `weaker` is enough below `stronger` to give up regularisation for it."""
    return stronger - weaker > max(WORTHWHILE * stronger, WORTHWHILE_NATS)


def _walk(judge: _Judge, indices: range, at_least: int, advance: Advance) -> _Walk:
    """Go from strong to weak until a step, after `at_least` of them, is no longer worthwhile.

    Each solution starts where the last two point to: in the logarithm of the strength the path is nearly straight,
    which saves 40 to 50 per cent of the evaluations.
    """
    earlier = latest = start = judge.problems.start()
    walk = _Walk({}, indices[0], start)
    for index in indices:
        ahead = latest + (latest - earlier) if index > indices[1] else latest
        earlier, latest = latest, _minimise(judge.problems, ahead, strength_at(index), LOOSE).solution
        walk.losses[index] = judge.mean_loss(latest)
        advance()
        if index == indices[0] or _worthwhile(walk.losses[index], walk.losses[walk.best]):
            walk.best, walk.solution = index, latest
        elif len(walk.losses) >= at_least:
            break
    return walk


def _strengthen(judge: _Judge, walk: _Walk, advance: Advance) -> None:
    """Where the strongest strength so far is the best one, try still stronger ones."""
    while walk.best == min(walk.losses) and walk.best > STRONGEST_INDEX:
        index = walk.best - 1
        solution = _minimise(judge.problems, judge.problems.start(), strength_at(index), LOOSE).solution
        walk.losses[index] = judge.mean_loss(solution)
        advance()
        if not _worthwhile(walk.losses[walk.best], walk.losses[index]):
            walk.best, walk.solution = index, solution


def _select(training: TrainingSet, scaling: Scaling, balanced: bool, advance: Advance) -> FittedHead:
    """Choose the strength with every fold, make the folds' heads accurate there, and fit the head to all rows."""
    rotated = _rotate(training, scaling)
    folds = [int(fold) for fold in np.unique(training.folds) if fold >= 0]
    judge = _cross_validation(training, rotated, folds, balanced)
    walk = _walk(judge, range(FIRST_INDEX, WEAKEST_INDEX + 1), FEWEST_STRENGTHS, advance)
    _strengthen(judge, walk, advance)
    strength = strength_at(walk.best)
    solution = _minimise(judge.problems, walk.solution, strength, FOLD).solution
    walk.losses[walk.best] = judge.mean_loss(solution)
    final = _finish(_pose(training, rotated, [NO_FOLD], balanced), solution, strength)
    advance()
    return FittedHead(
        head=_unscale(rotated, final.solution[0]),
        scaling=scaling,
        strength=strength,
        held_out=judge.held_out,
        out_of_fold_logits=judge.scores(solution),
        candidates=tuple(Candidate(scaling, strength_at(i), loss) for i, loss in walk.losses.items()),
        objective=float(final.objective[0]),
        gap=float(final.gap[0]),
        converged=bool(final.gap[0] < ACCEPTED_GAP),
        at_edge=walk.best in (STRONGEST_INDEX, WEAKEST_INDEX),
    )


def _finish(everything: _Problems, of_folds: Real, strength: float) -> _Solved:
    """The head of all rows, from the mean of the folds' heads: in float32 as far as that goes, then in float64."""
    start = of_folds.mean(axis=0, keepdims=True)
    near = _minimise(everything, start, strength, FINAL).solution
    return _minimise(everything, near.astype(np.float64), strength, FINAL)


def _unscale(rotated: _Rotated, solution: Real) -> Head:
    """The head on raw features of a `solution` [k, r + 1]; its biases are centred, which changes no probability."""
    exact = solution.astype(np.float64)
    weight = rotated.unrotate(exact[:, :-1]) / rotated.scale.divisor
    bias = exact[:, -1] - exact[:, -1].mean() - weight @ rotated.scale.mean
    return Head(np.ascontiguousarray(weight), bias)


def _wins(training: TrainingSet, scaling: Scaling, balanced: bool, fitted: FittedHead) -> bool:
    """Whether `scaling` beats the fitted head on the first fold by two standard errors of the paired losses."""
    tried = range(FIRST_INDEX, max(FIRST_INDEX + FEWEST_STRENGTHS, _index_of(fitted.strength) + 2))
    first = int(training.folds[fitted.held_out].min())
    judge = _cross_validation(training, _rotate(training, scaling), [first], balanced)
    walk = _walk(judge, tried, len(tried), lambda _count=1: None)
    same = np.isin(fitted.held_out, judge.held_out)
    others = _losses(fitted.out_of_fold_logits[same], judge.labels)
    margin = (others - judge.losses(walk.solution)) * judge.shares
    error = np.sqrt(len(margin)) * margin.std()
    return bool(margin.sum() > 2 * error)
