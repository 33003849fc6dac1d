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
(4) More rows than fit into memory lie in a file and are solved with the help of samples of them, drawn alike each time:
see `streaming`. `bench/streamed_head.py` measures it against the head of rows in memory.
"""

import math
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from headstart import scratch
from headstart.errors import DataError
from headstart.learning.eigenbasis import (
    Float32,
    Float64,
    Integers,
    Real,
    Rotated,
    Scaling,
    TrainingSet,
    rotate,
    slices,
)
from headstart.learning.minimise import FINAL, FOLD, LOOSE, SHOWN, Solved
from headstart.learning.objective import Problems, pose, shares_of, softmax_in_place
from headstart.learning.streaming import draw, pays, rotate_streamed, sample_of, solve
from headstart.progress import SILENT, Advance, Progress

__all__ = ["Candidate", "FittedHead", "Head", "Scaling", "TrainingSet", "fit_head", "strength_at"]

STRONGEST_INDEX, FIRST_INDEX, WEAKEST_INDEX = -4, 0, 12
FEWEST_STRENGTHS = 8
WORTHWHILE, WORTHWHILE_NATS = 0.02, 0.001  # a weaker strength is taken only where it lowers the loss by both
STEPS_BACK = 2  # from a sample's choice to a strength whose every step before was worthwhile, with more rows too
ACCEPTED_GAP = 1e-6
NO_FOLD = -2


def strength_at(index: int) -> float:
    """The strength at `index` of the grid: two steps to a factor of ten, weaker with a larger index; 0 is 0.1."""
    return float(10.0 ** (-1.0 - index / 2))


def _index_of(strength: float) -> int:
    """The inverse of `strength_at`."""
    return round(-2 * (math.log10(strength) + 1))


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

    `held_out` int [m]: the training rows (positions 0..n-1, ascending) that some fold holds out; `out_of_fold_logits`
    float32 [m, k]: their scores from the head of the fold that never saw them, at the chosen strength and scaling.
    `without_first_fold` is the head that never saw the first fold. `candidates`: all that were tried with every fold,
    in order. `objective`: F at the optimum; `gap`: a proven bound on what it is above the true minimum, relative to it.
    `converged` is False if the bound could not be brought below 1e-6 (by few passes, where rows lie in a file),
    `at_edge` is True if the best strength is the last one of the grid.
    """

    head: Head
    without_first_fold: Head
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

    Of rows that do not fit into memory (`eigenbasis.STREAMED_BYTES`) a sample is tried like this. With all of them,
    strengths are tried in the same way from two steps above its choice, and standardised features if its first fold
    is better with them by however little.

    Scaling and rotation are computed from the features of all training rows, held-out ones included: they know no
    labels. `balanced` gives every class the same total share. Raises DataError for numbers that are not finite, for
    fewer than two classes, for a class without training rows, and where no row is held out.
    """
    _check(training)
    # One BLAS thread: ours divide the rows, and BLAS's own wait for each other in a spin when cores are busy.
    streamed = pays(training)
    steps = (WEAKEST_INDEX - FIRST_INDEX + 2) * (1 + streamed)
    with threadpool_limits(1, "blas"), progress.stage("head", steps) as advance:
        if streamed:
            return _stream(training, balanced, advance)
        return _choose(training, balanced, advance)


def _choose(training: TrainingSet, balanced: bool, advance: Advance) -> FittedHead:
    """The head with the better scaling."""
    fitted = _select(training, "centred", balanced, advance)
    if _wins(*_lead(training, rotate(training, "standardised"), balanced, fitted, FIRST_INDEX)):
        fitted = _select(training, "standardised", balanced, advance)
    return fitted


def _stream(training: TrainingSet, balanced: bool, advance: Advance) -> FittedHead:
    """The head with the better scaling, of rows that do not fit into memory.

    More rows want less regularisation. So strengths that a sample's choice has left well behind are not tried, and
    standardised features are not tried either where they are no better in the sample.
    """
    levels = draw(training)
    sample = sample_of(training, levels)
    of_sample = _select(sample, "centred", balanced, advance)
    lead, _ = _lead(sample, rotate(sample, "standardised"), balanced, of_sample, FIRST_INDEX)
    first = max(FIRST_INDEX, _index_of(of_sample.strength) - STEPS_BACK)
    at_least = max(STEPS_BACK, FIRST_INDEX + FEWEST_STRENGTHS - first)
    indices = range(first, WEAKEST_INDEX + 1)
    fitted = _fit(
        training, rotate_streamed(training, "centred", levels), "centred", balanced, indices, at_least, advance
    )
    if lead > 0:
        rotated = rotate_streamed(training, "standardised", levels)
        if _wins(*_lead(training, rotated, balanced, fitted, first)):
            fitted = _fit(training, rotated, "standardised", balanced, indices, at_least, advance)
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
    bad = sum(int((~np.isfinite(vectors[rows[part]])).any(axis=1).sum()) for part in slices(len(rows)))
    if bad:
        raise DataError(
            f"The features of {bad:,} of {len(rows):,} pictures are not finite numbers. "
            "Clear the cache of features, or try full precision or another backbone."
        )


def _held_out_scores(problems: Problems, solution: Real, held_out: Integers) -> Float32:
    """Scores float32 [m, k] of the training rows `held_out`, each from the problem that skips its fold."""
    index = np.zeros(len(problems.labels), dtype=np.intp)
    index[held_out] = np.arange(len(held_out))
    scores = scratch.empty((len(held_out), problems.classes), np.float32)
    for part, fold in problems.rotated.blocks:
        for problem in np.flatnonzero(problems.skipped == fold):
            places = index[problems.rotated.order[part]]
            scores[places] = problems.rotated.values[part] @ solution[problem].T.astype(np.float32)
    return scores


def _losses(scores: Real, labels: Integers) -> Float64:
    """-log of the probability of the label, float64 [m], from `scores` [m, k]."""
    losses = np.empty(len(labels))
    for part in slices(len(labels)):
        losses[part] = softmax_in_place(scores[part].T.astype(np.float64)[None], labels[part])[0]
    return losses


@dataclass(frozen=True)
class _Judge:
    """Cross-validates solutions of `problems` on the rows `held_out` [m], whose shares of the loss are `shares`."""

    problems: Problems
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


def _cross_validation(training: TrainingSet, rotated: Rotated, skipped: list[int], balanced: bool) -> _Judge:
    """The problems that leave out the folds `skipped`, and the rows to judge them by."""
    held_out = np.flatnonzero(np.isin(training.folds, skipped))
    labels = training.labels[held_out]
    problems = pose(training, rotated, skipped, balanced)
    return _Judge(problems, held_out, labels, shares_of(labels, training.classes, balanced))


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
        ahead = latest + (latest - earlier) if len(walk.losses) > 1 else latest
        earlier, latest = latest, solve(judge.problems, ahead, strength_at(index), LOOSE).solution
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
        start = walk.solution if judge.problems.rotated.samples else judge.problems.start()
        solution = solve(judge.problems, start, strength_at(index), LOOSE).solution
        walk.losses[index] = judge.mean_loss(solution)
        advance()
        if not _worthwhile(walk.losses[walk.best], walk.losses[index]):
            walk.best, walk.solution = index, solution


def _select(training: TrainingSet, scaling: Scaling, balanced: bool, advance: Advance) -> FittedHead:
    """Choose the strength with every fold, make the folds' heads accurate there, and fit the head to all rows."""
    indices = range(FIRST_INDEX, WEAKEST_INDEX + 1)
    return _fit(training, rotate(training, scaling), scaling, balanced, indices, FEWEST_STRENGTHS, advance)


def _fit(
    training: TrainingSet,
    rotated: Rotated,
    scaling: Scaling,
    balanced: bool,
    indices: range,
    at_least: int,
    advance: Advance,
) -> FittedHead:
    """`_select` on rows that are rotated, trying `indices` of the grid, `at_least` so many of them."""
    folds = [int(fold) for fold in np.unique(training.folds) if fold >= 0]
    judge = _cross_validation(training, rotated, folds, balanced)
    walk = _walk(judge, indices, at_least, advance)
    _strengthen(judge, walk, advance)
    strength = strength_at(walk.best)
    solution = solve(judge.problems, walk.solution, strength, FOLD).solution
    walk.losses[walk.best] = judge.mean_loss(solution)
    final = _finish(pose(training, rotated, [NO_FOLD], balanced), solution, strength)
    advance()
    return FittedHead(
        head=_unscale(rotated, final.solution[0]),
        without_first_fold=_unscale(rotated, solution[0]),
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


def _finish(everything: Problems, of_folds: Real, strength: float) -> Solved:
    """The head of all rows, from the mean of the folds' heads: in float32 as far as that goes, then in float64.

    Where passes over the rows are dear, the gap is estimated, and proven as far as few passes go.
    """
    start = of_folds.mean(axis=0, keepdims=True)
    streamed = bool(everything.rotated.samples)
    if streamed:
        start = solve(everything, start, strength, SHOWN).solution
    near = solve(everything, start, strength, FINAL, sparing=streamed).solution
    return solve(everything, near.astype(np.float64), strength, FINAL, sparing=streamed)


def _unscale(rotated: Rotated, solution: Real) -> Head:
    """The head on raw features of a `solution` [k, r + 1]; its biases are centred, which changes no probability."""
    exact = solution.astype(np.float64)
    weight = rotated.unrotate(exact[:, :-1]) / rotated.scale.divisor
    bias = exact[:, -1] - exact[:, -1].mean() - weight @ rotated.scale.mean
    return Head(np.ascontiguousarray(weight), bias)


def _lead(
    training: TrainingSet, rotated: Rotated, balanced: bool, fitted: FittedHead, start: int
) -> tuple[float, float]:
    """By how much another scaling, by which the rows are `rotated`, beats the fitted head on the first fold.

    The lead in mean log loss, and its standard error; strengths are tried from the index `start` on.
    """
    tried = range(start, max(FIRST_INDEX + FEWEST_STRENGTHS, _index_of(fitted.strength) + 2))
    first = int(training.folds[fitted.held_out].min())
    judge = _cross_validation(training, rotated, [first], balanced)
    with SILENT.stage("", len(tried)) as advance:
        walk = _walk(judge, tried, len(tried), advance)
    same = np.isin(fitted.held_out, judge.held_out)
    others = _losses(fitted.out_of_fold_logits[same], judge.labels)
    margin = (others - judge.losses(walk.solution)) * judge.shares
    return float(margin.sum()), float(np.sqrt(len(margin)) * margin.std())


def _wins(lead: float, error: float) -> bool:
    """Whether the lead is more than two standard errors of the paired differences."""
    return lead > 2 * error
