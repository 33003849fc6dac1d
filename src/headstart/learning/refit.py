"""The head fitted again after a few labels changed: from where the former fit ended, for the eyes that wait.

F is convex, so that the start does not matter to the solution, only to the time that it takes. Three things are kept
from one fit to the next: the features in their eigenbasis (which know no labels), the solutions of folds and of all
rows, and the choice of strength. The strength goes one step up or down the grid where that is better; scalings are not
tried anew. And the fit stops where hardly a prediction changes any more, without the proof. So the outcome is that of
`fit_head` but where strengths are about as good, of which this keeps the one that was, and where many labels changed at
once. Sets that `fit_head` is done with soon are left to it.

All pictures are rotated together, with test pictures and those that are not trained on at the moment: any rotation and
shift gives the same head. Their scale is another than that of the training rows alone, by which the strength counts;
if D² and E² are the mean squared distances of both from their means, strength times E²/D² gives what `fit_head` gives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from headstart.learning import head
from headstart.learning.eigenbasis import Real, Rotated, TrainingSet, chosen, rotate, spread
from headstart.learning.head import (
    NO_FOLD,
    STRONGEST_INDEX,
    WEAKEST_INDEX,
    Candidate,
    FittedHead,
    fit_head,
    strength_at,
)
from headstart.learning.minimise import FOLD, NEAR, SHOWN, minimise
from headstart.learning.objective import pose

SOON = 2_500
"""Rows times classes up to which `fit_head` takes less than half a second."""

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Footing:
    """What a fit leaves to the next: see the module.

    `solutions`: for each index of the grid that was solved last, float32 [p, k, r + 1], of the folds `skipped`; `final`
    float32 [1, k, r + 1], of all rows. `classes`: the names of the k classes.
    """

    everything: Rotated
    classes: Names
    skipped: tuple[int, ...]
    index: int
    solutions: dict[int, Real]
    final: Real | None


def refit(
    training: TrainingSet, classes: Names, former: Footing | None = None, *, balanced: bool = False
) -> tuple[FittedHead, Footing | None]:
    """`fit_head` of `training`, whose classes are called `classes`, begun at `former`; and what the next begins from.

    Without a `former`, and where its choices do not carry over, it is `fit_head` itself; None is left where the next
    fit gains nothing.
    """
    if len(training.rows) * training.classes <= SOON:
        return fit_head(training, balanced=balanced), None
    if former is None:
        fitted = fit_head(training, balanced=balanced)
        return fitted, _footing(training, classes, fitted) if fitted.scaling == "centred" else None
    head._check(training)
    with threadpool_limits(1, "blas"):
        return _go_on(training, classes, former, balanced)


def _footing(training: TrainingSet, classes: Names, fitted: FittedHead) -> Footing:
    """Nothing but the rotation and the strength: the first refit solves the folds from the start."""
    count = len(training.vectors)
    none = np.zeros(count, dtype=np.intp)
    with threadpool_limits(1, "blas"):
        everything = rotate(TrainingSet(training.vectors, np.arange(count), none, none, 1), "centred")
    return Footing(everything, classes, (), head._index_of(fitted.strength), {}, None)


def _go_on(training: TrainingSet, classes: Names, former: Footing, balanced: bool) -> tuple[FittedHead, Footing]:
    rotated = chosen(former.everything, training)
    unit = spread(rotated)
    folds = [int(fold) for fold in np.unique(training.folds) if fold >= 0]
    judge = head._cross_validation(training, rotated, folds, balanced)
    solutions, losses = dict[int, Real](), dict[int, float]()

    def loss(index: int) -> float:
        """The log loss at an index of the grid, solved from what is nearest."""
        if index not in losses:
            start = _start(judge.problems.start(), classes, tuple(folds), former, solutions, index)
            goal = FOLD if index == former.index else NEAR
            solutions[index] = minimise(judge.problems, start, strength_at(index) * unit, goal).solution
            losses[index] = judge.mean_loss(solutions[index])
        return losses[index]

    best = _choose(former.index, loss)
    strength = strength_at(best) * unit
    if best != former.index:
        solutions[best] = minimise(judge.problems, solutions[best], strength, FOLD).solution
        losses[best] = judge.mean_loss(solutions[best])
    solution = solutions[best]
    everything = pose(training, rotated, [NO_FOLD], balanced)
    begun = solution.mean(axis=0, keepdims=True)
    if former.final is not None and former.index == best:
        begun = _renamed(begun, former.final, classes, former.classes)
    final = minimise(everything, begun, strength, SHOWN)
    fitted = FittedHead(
        head=head._unscale(rotated, final.solution[0]),
        without_first_fold=head._unscale(rotated, solution[0]),
        scaling="centred",
        strength=strength_at(best),
        held_out=judge.held_out,
        out_of_fold_logits=judge.scores(solution),
        candidates=tuple(Candidate("centred", strength_at(i), losses[i]) for i in sorted(losses)),
        objective=float(final.objective[0]),
        gap=float(final.gap[0]),
        converged=bool(final.gap[0] < head.ACCEPTED_GAP),
        at_edge=best in (STRONGEST_INDEX, WEAKEST_INDEX),
    )
    return fitted, Footing(former.everything, classes, tuple(folds), best, solutions, final.solution)


def _choose(index: int, loss: Callable[[int], float]) -> int:
    """The index next to `index` that is better, or itself: weaker where that pays, stronger where as good."""
    if index < WEAKEST_INDEX and head._worthwhile(loss(index + 1), loss(index)):
        return index + 1
    if index > STRONGEST_INDEX and loss(index - 1) <= loss(index):
        return index - 1
    return index


def _start(
    empty: Real, classes: Names, skipped: tuple[int, ...], former: Footing, solved: dict[int, Real], index: int
) -> Real:
    """Where to begin at `index`: at the former solution there, at the nearest one, or at `empty`."""
    if index in former.solutions and former.skipped == skipped:
        return _renamed(empty, former.solutions[index], classes, former.classes)
    if solved:
        return solved[min(solved, key=lambda other: abs(other - index))]
    if former.solutions and former.skipped == skipped:
        nearest = min(former.solutions, key=lambda other: abs(other - index))
        return _renamed(empty, former.solutions[nearest], classes, former.classes)
    return empty


def _renamed(empty: Real, solution: Real, classes: Names, former: Names) -> Real:
    """`solution`, whose classes are `former`, for `classes`: those that are new stay as in `empty`."""
    started = empty.copy()
    both = [name for name in classes if name in former]
    started[:, [classes.index(name) for name in both]] = solution[:, [former.index(name) for name in both]]
    return started
