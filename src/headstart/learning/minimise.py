"""Minimising the objective of the softmax head by preconditioned L-BFGS, all problems in the same products.

Source: Nocedal and Wright, "Numerical optimization" (2006), algorithms 7.4 and 7.5.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.learning.eigenbasis import Float64, Real
from headstart.learning.objective import Preconditioner, Problems, Value, evaluate, precondition

MOST_STEPS, PATIENCE = 1000, 40  # steps in all, and without a smaller gap: then rounding hides the way
HISTORY_PAIRS, HISTORY_NUMBERS = 6, 2**26


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


def _descend(gradient: Real, pairs: list[_Pair], preconditioner: Preconditioner) -> Real:
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
    problems: Problems, solution: Real, value: Value, direction: Real, strength: float
) -> tuple[Real, Value, NDArray[np.bool_]]:
    """Step along `direction` where it descends; returns solution, value, and whether each problem has moved.

    The full step is taken unless it went too far: F is higher than Armijo's rule allows *and* its slope points
    back. (A slope that still descends proves, F being convex, that F is lower, whatever rounding says.) Then the
    step is shortened to where the two slopes would cancel.
    """
    slope = _dot(value.gradient, direction)
    length = np.ones(len(slope))
    pending = slope < 0
    trial, reached = solution.copy(), Value(value.objective.copy(), value.gradient.copy())
    for _ in range(25):
        if not pending.any():
            break
        trial[pending] = solution[pending] + _times(length[pending], direction[pending])
        new = evaluate(problems.only(pending), trial[pending], strength)
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
class Solved:
    """Solutions [p, k, r + 1] with F, float64 [p], and how far above its minimum it may be, relative to F, [p]."""

    solution: Real
    objective: Float64
    gap: Float64


@dataclass(frozen=True)
class Goal:
    """When to stop: the relative gap to reach, how it is known, and how many coordinates earn a full block.

    The gap is estimated as g' P g / 2 under the preconditioner P, or if `proven` bounded by strong convexity:
    |g|^2 / (2 strength) for the weights (the bias, which has no penalty, keeps the estimate).
    """

    gap: float
    leading: int = 0
    proven: bool = False

    def measure(self, value: Value, preconditioner: Preconditioner, strength: float) -> Float64:
        """The relative gap of each problem, float64 [p]."""
        natural = preconditioner.apply(value.gradient)
        if self.proven:
            natural[:, :, :-1] = value.gradient[:, :, :-1] / strength
        return _dot(value.gradient, natural) / 2 / value.objective


LOOSE, FOLD, FINAL = Goal(1e-3), Goal(3e-5, leading=64), Goal(1e-7, leading=64, proven=True)
NEAR, SHOWN = Goal(1e-3, leading=64), Goal(1e-6, leading=64)  # of fits that begin near: see `refit`


def minimise(
    problems: Problems, start: Real, strength: float, goal: Goal, preconditioner: Preconditioner | None = None
) -> Solved:
    """Bring each problem to the goal by preconditioned L-BFGS; the preconditioner is that of `start` unless given.

    A problem that has arrived, or that rounding keeps from moving or improving, stays where it is while the others
    go on.
    """
    solution, pairs = start, list[_Pair]()
    value = evaluate(problems, solution, strength)
    preconditioner = preconditioner or precondition(problems, solution, strength, goal.leading)
    most_pairs = max(3, min(HISTORY_PAIRS, HISTORY_NUMBERS // (2 * solution.size)))
    stalled, patience = np.zeros(len(solution), dtype=bool), np.full(len(solution), PATIENCE)
    smallest = np.full(len(solution), np.inf)
    for _ in range(MOST_STEPS):
        gap = goal.measure(value, preconditioner, strength)
        patience = np.where(gap < smallest, PATIENCE, patience - 1)
        smallest = np.minimum(gap, smallest)
        arrived = (gap <= goal.gap) | (patience <= 0) | stalled
        if arrived.all():
            break
        direction = _descend(value.gradient, pairs, preconditioner)
        direction[arrived] = 0
        moved, reached, has_moved = _search(problems, solution, value, direction, strength)
        stalled |= ~has_moved & ~arrived
        pairs = [*pairs, _pair(moved - solution, reached.gradient - value.gradient)][-most_pairs:]
        solution, value = moved, reached
    return Solved(solution, value.objective, gap)
