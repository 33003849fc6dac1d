"""Would more pictures help? The accuracy with half, a quarter and an eighth of them, and where that leads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from headstart.judging.intervals import (
    RESAMPLES,
    TAILS,
    BoolArray,
    FloatArray,
    IntArray,
    Interval,
    Weights,
    bootstrap,
    from_error,
    within,
)
from headstart.learning.eigenbasis import Real, Rotated, TrainingSet, rotate, slices
from headstart.learning.head import NO_FOLD, FittedHead
from headstart.learning.minimise import LOOSE, minimise
from headstart.learning.objective import Problems, shares_of
from headstart.parallel import core_count

PARTS, DRAWS = (8, 4, 2), 2  # two eighths, quarters and halves of the pictures that a fold trains on; then all
FEWEST, FEWEST_OF_A_CLASS = 100, 20  # groups held out, and on average: an eighth of them still knows the classes
MOST_LEARNT = 30_000  # training pictures that parts are taken of
ENOUGH = 1000  # held-out pictures: of further folds the curve would gain less than it costs
TIMES = (1, 2, 4)
EXPONENTS = np.linspace(0.1, 1.0, 19)
LEAST_DEVIATION = 1e-4  # of a measured error rate

Climb = tuple[list[IntArray], IntArray, IntArray]
"""Where the pictures of each part lie, those of all parts' folds, and those that the fold holds out."""
WORTH_IT, HARDLY, SURE = 0.005, 0.01, 0.9  # gains in accuracy, and the share of resamples that must agree


@dataclass(frozen=True, slots=True)
class Point:
    """The accuracy with `n` training pictures, measured or forecast."""

    n: int
    accuracy: Interval

    def to_json(self) -> dict[str, Any]:
        """An entry of "points" or "forecast" in metrics.json."""
        return {"n": self.n, "accuracy": self.accuracy.to_json()}


@dataclass(frozen=True)
class Growth:
    """The accuracy with fewer training pictures, that to expect of twice and four times as many, and a verdict."""

    points: tuple[Point, ...]
    forecast: tuple[Point, ...]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """The "growth" object of metrics.json."""
        points, forecast = ([point.to_json() for point in some] for some in (self.points, self.forecast))
        return {"points": points, "forecast": forecast, "verdict": self.verdict}


@dataclass(frozen=True, eq=False)
class Measured:
    """Error rates with s numbers of training pictures.

    `learnt`: [s], the numbers, ascending. `errors`: [s], in [0, 1]. `resampled`: [RESAMPLES, s], the same with the
    held-out pictures drawn anew by groups, and with the luck of which pictures were learnt from. `groups`: how many
    independent groups the held-out pictures come in.
    """

    learnt: FloatArray
    errors: FloatArray
    resampled: FloatArray
    groups: int

    @property
    def points(self) -> tuple[Point, ...]:
        """The accuracies with their intervals."""
        deviations = self.resampled.std(axis=0)
        columns = zip(self.learnt.tolist(), (1 - self.errors).tolist(), deviations.tolist(), strict=True)
        return tuple(Point(round(n), from_error(value, deviation, self.groups)) for n, value, deviation in columns)


def growth(
    training: TrainingSet, groups: IntArray, fitted: FittedHead, *, balanced: bool = False, seed: int = 0
) -> Growth | None:
    """Learn from parts of the training pictures, and forecast what twice and four times as many would bring.

    Args:
        training: what `fitted` was fitted to. The test is not looked at.
        groups: int [n], those of the training rows; what belongs together is drawn together.
        fitted: the head, whose scaling, strength and out-of-fold scores are used.
        balanced: whether `fitted` weighs classes equally.
        seed: draws the parts and the bootstrap.

    Returns:
        None with fewer than 100 groups or, on average, 20 of a class. See `measure` and `forecast`.
    """
    n = len(training.rows)
    if len(np.unique(groups[fitted.held_out])) < max(FEWEST, FEWEST_OF_A_CLASS * training.classes):
        return None
    return forecast(measure(training, groups, fitted, balanced=balanced, seed=seed), n)


def measure(
    training: TrainingSet, groups: IntArray, fitted: FittedHead, *, balanced: bool = False, seed: int = 0
) -> Measured:
    """The error rates of heads that learnt from parts of the training pictures, on those that their fold holds out.

    For each fold, of as many as hold out a thousand pictures (two at least), two eighths, quarters and halves of the
    pictures it trains on are drawn, class by class and group by group, the smaller inside the larger. The heads that
    learnt from all of them are those of the cross-validation. A head that learns from m of n pictures has n / m times
    the strength: the same weight of the penalty against each picture. How much it matters which pictures were drawn is
    told by the two draws of a size; of all the pictures there is one draw, for which half the variance of the halves is
    taken.

    Of more than `MOST_LEARNT` pictures the parts are parts of so many, drawn likewise, and all numbers are of those of
    them that are held out; only the last is still of what was learnt from all.
    """
    kept = _kept(training.labels, groups, seed)
    judged = _enough(training.folds[fitted.held_out]) & np.isin(fitted.held_out, kept)
    held_out = fitted.held_out[judged]
    learnt, wrong, variance = _learn_from_parts(training, kept, groups, fitted, held_out, balanced, seed)
    truth = training.labels[held_out]
    wrong[-1] = fitted.out_of_fold_logits[judged].argmax(axis=1) != truth
    _, numbers, sizes = np.unique(groups[held_out], return_inverse=True, return_counts=True)
    sums = np.stack([*(np.bincount(numbers, of) for of in wrong), sizes], axis=1).astype(np.float64)

    def shares(weights: Weights) -> FloatArray:
        drawn = np.einsum("gr,gs->rs", weights, sums)
        rates: FloatArray = drawn[:, :-1] / drawn[:, -1:]
        return rates

    resampled = bootstrap(shares, len(sizes), len(truth), seed)
    luck = np.random.default_rng([seed, *b"growth luck"]).standard_normal(resampled.shape) * np.sqrt(variance)
    return Measured(learnt, wrong.mean(axis=1), np.clip(resampled + luck, 0.0, 1.0), len(sizes))


def _enough(folds: IntArray) -> BoolArray:
    """Whether the fold of a held-out picture, int [m], is among the first that hold `ENOUGH`, and two at least."""
    names, sizes = np.unique(folds, return_counts=True)
    count = max(2, 1 + int(np.searchsorted(np.cumsum(sizes), ENOUGH)))
    return np.isin(folds, names[:count])


def _kept(labels: IntArray, groups: IntArray, seed: int) -> IntArray:
    """The training rows, at most about `MOST_LEARNT`, ascending, of which parts are taken: of each class its share."""
    if len(labels) <= MOST_LEARNT:
        return np.arange(len(labels))
    place, numbers = _places(labels, groups, np.random.default_rng([seed, *b"growth of many"]))
    return np.flatnonzero((place < MOST_LEARNT / len(labels))[numbers])


def _learn_from_parts(
    everything: TrainingSet,
    kept: IntArray,
    groups: IntArray,
    fitted: FittedHead,
    held_out: IntArray,
    balanced: bool,
    seed: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Numbers of pictures learnt from, [s]; mistakes on those `held_out`, [s, m]; variance of their mean by luck, [s].

    The last row of the mistakes, of all pictures, is left empty. Parts are taken of the rows `kept` of `everything`.
    """
    training = TrainingSet(
        everything.vectors, everything.rows[kept], everything.labels[kept], everything.folds[kept], everything.classes
    )
    groups, held_out = groups[kept], np.searchsorted(kept, held_out)
    of_all = {fold: int((everything.folds != fold).sum()) for fold in np.unique(training.folds[held_out]).tolist()}
    generator = np.random.default_rng([seed, *b"growth"])
    rates: list[FloatArray] = []
    learnt, wrong, taken = np.zeros(len(PARTS) + 1), np.zeros((len(PARTS) + 1, len(held_out))), 0
    with threadpool_limits(1, "blas"):
        rotated = rotate(training, fitted.scaling)
        labels, folds = training.labels[rotated.order], training.folds[rotated.order]
        climbs = []
        for fold in np.unique(training.folds[held_out]):
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            for ladder in _ladders(labels[inside], groups[rotated.order[inside]], generator):
                climbs.append(([inside[part] for part in ladder], inside, outside))

        def mistakes(climb: Climb) -> list[BoolArray]:
            places, _, outside = climb
            problems = [_pose(rotated, labels, of_part, training.classes, balanced) for of_part in places]
            heads = _climb(problems, fitted.strength * of_all[int(folds[outside[0]])])
            return [(rotated.values[outside] @ head.T).argmax(axis=1) != labels[outside] for head in heads]

        # Threads of their own: what is large uses those of `rotated` besides.
        with ThreadPoolExecutor(core_count()) as pool:
            for (places, inside, outside), mistaken in zip(climbs, pool.map(mistakes, climbs), strict=True):
                columns = np.searchsorted(held_out, rotated.order[outside])
                learnt += np.array([*map(len, places), of_all[int(folds[outside[0]])]])
                taken += len(inside)
                wrong[: len(PARTS), columns] += np.stack(mistaken) / DRAWS
                rates.append(np.array([of_part.mean() for of_part in mistaken]))
    return learnt / len(rates), wrong, _luck(np.reshape(rates, (-1, DRAWS, len(PARTS))), taken / learnt[-1])


def _climb(problems: list[Problems], penalty: float) -> Iterator[Real]:
    """The head [k, r + 1] of each problem, each begun from the smaller one before; `penalty` is shared by the rows."""
    start = problems[0].start()
    for problem in problems:
        start = minimise(problem, start, penalty / len(problem.labels), LOOSE).solution
        yield start[0]


def _luck(rates: FloatArray, share: float) -> FloatArray:
    """The variance of the mean of `rates` [folds, DRAWS, parts] by which pictures were drawn, [parts + 1].

    `share`: of all pictures, those that parts were taken of; 1 or less.
    """
    single = rates.var(axis=1, ddof=1).mean(axis=0)
    of_all = single[-1] / PARTS[-1] * share
    return np.append(single / DRAWS, of_all) / len(rates)


def _ladders(labels: IntArray, groups: IntArray, generator: np.random.Generator) -> list[list[IntArray]]:
    """For each draw the positions of the pictures of each part, the smaller parts inside the larger ones.

    A part is an interval of the `_places`: every class is in it by its share, as far as whole groups allow.
    """
    place, numbers = _places(labels, groups, generator)
    starts = [draw / DRAWS for draw in range(DRAWS)]
    inside = [[(place >= start) & (place < start + 1 / part) for part in PARTS] for start in starts]
    return [[np.flatnonzero(here[numbers]) for here in parts] for parts in inside]


def _places(labels: IntArray, groups: IntArray, generator: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """The place of each group in [0, 1), and the number of each picture's group.

    Those of a class (of a group's first picture) are evenly spread in an order by chance.
    """
    _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
    of_class = labels[first]
    shuffled = generator.permutation(len(first))
    by_class = shuffled[np.argsort(of_class[shuffled], kind="stable")]
    counts = np.bincount(of_class)
    rank = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(first))
    place[by_class] = (rank + generator.random(len(counts))[of_class[by_class]]) / counts[of_class[by_class]]
    return place, numbers


def _pose(rotated: Rotated, labels: IntArray, places: IntArray, classes: int, balanced: bool) -> Problems:
    """The problem of learning from the rows at `places` of `rotated` alone."""
    chosen = labels[places]
    blocks = tuple((part, -1) for part in slices(len(places)))
    part = Rotated(
        rotated.values[places], np.arange(len(places)), blocks, rotated.scale, rotated.unrotate, rotated.pool
    )
    shares = shares_of(chosen, classes, balanced)[None]
    return Problems(part, chosen, classes, shares, np.array([NO_FOLD]))


def forecast(measured: Measured, n: int) -> Growth:
    """What error rates fall to with more pictures, by a power law: error(n) = a + b n^-c, a and b not negative.

    c lies in [0.1, 1]: nearly flat curves and ones that fall as fast as 1 / n. The law is fitted to each resample by
    least squares, so that the interval holds what the held-out pictures, the luck of the drawn ones, and the doubt
    about the law's numbers leave open; not that another law may hold further on. It takes pictures like those given.
    Where the head is right about all, the interval of today's accuracy stands in. Source: Hestness et al., arXiv
    1712.00409 (2017); for a small range of sizes Viering, Loog, IEEE Trans. Pattern Anal. 45 (2023).

    Args:
        measured: the error rates.
        n: how many pictures there are to learn from, of which the folds saw a part.
    """
    deviations = np.maximum(measured.resampled.std(axis=0), LEAST_DEVIATION)
    scale = measured.learnt[-1]
    ahead = n * np.array(TIMES) / scale
    stacked = np.concatenate([measured.errors[None], measured.resampled])
    expected = _power_law(measured.learnt / scale, stacked, deviations, ahead)
    today = measured.points[-1].accuracy
    points = []
    for times, values in zip(TIMES, expected.T, strict=True):
        low, high = np.quantile(1 - values[1:], TAILS)
        least = today.low if measured.errors[-1] == 0 else low
        points.append(Point(n * times, within(1 - float(values[0]), float(min(low, least)), float(high))))
    gains = expected[:, 0] - expected[:, 1]
    return Growth(measured.points, tuple(points[1:]), _verdict(points[0], points[1], gains[1:]))


def _power_law(sizes: FloatArray, errors: FloatArray, deviations: FloatArray, ahead: FloatArray) -> FloatArray:
    """The best-fitting law's error at `ahead` [t], for each row of `errors` [r, s] at `sizes` [s]: [r, t]."""
    weights = deviations**-2
    best, expected = np.full(len(errors), np.inf), np.zeros((len(errors), len(ahead)))
    for exponent in EXPONENTS:
        x = sizes**-exponent
        w, wx, wxx = weights.sum(), weights @ x, weights @ x**2
        wy, wxy = errors @ weights, errors @ (weights * x)
        b = np.maximum((w * wxy - wx * wy) / (w * wxx - wx * wx), 0.0)
        a = (wy - b * wx) / w
        b, a = np.where(a < 0, wxy / wxx, b), np.maximum(a, 0.0)
        misfit = (errors - a[:, None] - b[:, None] * x) ** 2 @ weights
        better = misfit < best
        best[better] = misfit[better]
        expected[better] = (a[:, None] + b[:, None] * ahead**-exponent)[better]
    return np.clip(expected, 0.0, 1.0)


def _verdict(now: Point, twice: Point, gains: FloatArray) -> str:
    """What twice as many pictures would bring, in words; `gains` [RESAMPLES] in accuracy."""
    assert len(gains) == RESAMPLES
    value, coming = f"{now.accuracy.value * 100:.1f}", twice.accuracy
    ends = f"{coming.low * 100:.1f} to {coming.high * 100:.1f} %"
    change = f"from {value} to {coming.value * 100:.1f} % ({ends})"
    if (gains >= WORTH_IT).mean() >= SURE:
        return f"twice as many pictures would probably bring the accuracy {change}"
    if (gains < HARDLY).mean() >= SURE:
        return f"twice as many pictures would hardly help: the accuracy would go {change}"
    unknown = f"what twice as many pictures would bring cannot be told from {now.n:,} pictures"
    return f"{unknown}: an accuracy of {value} % may become {ends}"
