"""Which of several backbones to take: the fastest that is not worse than the best, as far as can be told.

All of it rests on out-of-fold predictions of training pictures. The held-out pictures choose nothing: what the
candidates do on them is reported beside it, as the check.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headstart.features.names import JOINT
from headstart.features.pace import Pace
from headstart.judging.comparison import Answer, Comparison, Contestant, Pair, compare
from headstart.judging.metrics import IntArray, Interval

RUNG_SHARE, RUNG_LEAST, RUNG_MOST, RUNG_EACH = 4, 200, 2000, 10
"""The first rung takes a quarter of the training pictures, but no more than 2,000. It is skipped where that is below
200 pictures, or 10 for each class."""

SLIGHT = 0.02
"""A candidate that is this much worse at most, at the end of the interval, is called as good as the best."""

SAME_PACE = 0.9
"""What is at least this much as fast as another counts as being as fast: a measured pace is no more exact."""


@dataclass(frozen=True)
class Entrant:
    """A candidate: what it is, and what it costs. `megabytes`: of its weights, a million bytes each; `side`: pixels."""

    name: str
    pace: Pace
    megabytes: float
    licence: str
    dimension: int
    side: int

    @staticmethod
    def join(entrants: Sequence["Entrant"], pace: Pace) -> "Entrant":
        """The candidate that has the features of all of these."""
        return Entrant(
            name=JOINT.join(one.name for one in entrants),
            pace=pace,
            megabytes=sum(one.megabytes for one in entrants),
            licence=" and ".join(dict.fromkeys(one.licence for one in entrants)),
            dimension=sum(one.dimension for one in entrants),
            side=max(one.side for one in entrants),
        )


@dataclass(frozen=True)
class Result:
    """What a candidate did on pictures that its heads had not seen.

    `out_of_fold` and `held_out`: its answers by digest, of training pictures by the head of the fold that left them
    out, and of held-out ones. `log_loss`: of the first, with its 95 % interval.
    """

    entrant: Entrant
    out_of_fold: Mapping[str, Answer]
    held_out: Mapping[str, Answer]
    log_loss: Interval

    @property
    def name(self) -> str:
        """The name of the candidate."""
        return self.entrant.name


@dataclass(frozen=True)
class Stopped:
    """A candidate that the first rung stopped: its accuracy and log loss there, and the `pair` that the best won.

    `n`: the pictures of the rung; `best`: the accuracy of the best there; `faster`: one that is at least as accurate
    there and as fast.
    """

    entrant: Entrant
    n: int
    accuracy: Interval
    log_loss: float
    best: Interval
    pair: Pair
    faster: str


@dataclass(frozen=True)
class Advice:
    """Which candidate to take.

    `name`: the fastest that cannot be told apart from the best, or is it. `best`: the most accurate out of fold.
    `pair`: the best against `name`, None where it is the best itself. `times`: how many times as many pictures a
    second it does as the best. `sooner`: those that are faster and surely worse, as pairs that the best won, the
    fastest first.
    """

    name: str
    best: str
    pair: Pair | None
    times: float
    sooner: tuple[Pair, ...]

    @property
    def at_most_worse(self) -> float:
        """How much worse than the best it may be, in [0, 1]: the end of the 95 % interval of the difference."""
        return 0.0 if self.pair is None else max(0.0, self.pair.difference.high)

    @property
    def is_as_good(self) -> bool:
        """Whether it is at most slightly worse, and not only too few pictures to tell."""
        return self.at_most_worse <= SLIGHT


@dataclass(frozen=True)
class Joining:
    """Whether joining two candidates pays: `pair` is the joined one against the better of the two, or the reverse."""

    name: str
    single: str
    pair: Pair

    @property
    def pays(self) -> bool:
        """Whether the joined one is surely better."""
        return self.pair.better == self.name and self.pair.is_certain


@dataclass(frozen=True)
class Choice:
    """What comparing backbones on one set of pictures has found.

    `data`: the pictures, as they were given; `run`: where a run of them goes; `options`: as `TrainOptions.to_json`;
    `asked`: the candidates as they were named, and whether joining was to be tried. `results`: by name, the most
    accurate out of fold first. `comparison`: of those, on training pictures out of fold; `check`: the same on the
    held-out pictures. `left_out`: candidates that could not be had, with the reason. `rung`: how many pictures the
    first rung took, None where it was skipped. `computed`: what it was made with.
    """

    n_train: int
    classes: int
    results: Mapping[str, Result]
    comparison: Comparison
    check: Comparison
    advice: Advice
    stopped: tuple[Stopped, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    joining: Joining | None = None
    data: str = ""
    run: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    is_join_asked: bool = False
    rung: int | None = None
    computed: Mapping[str, object] = field(default_factory=dict)

    @property
    def fastest(self) -> Entrant:
        """The fastest of all candidates; it is never stopped."""
        return max((result.entrant for result in self.results.values()), key=lambda one: one.pace.per_second)

    @property
    def is_right(self) -> bool:
        """Whether the held-out pictures bear the advice out: the best on them is not surely better."""
        pair = self.check.against_best(self.advice.name)
        return pair is None or not pair.is_certain


def rung_size(n_train: int, classes: int) -> int | None:
    """How many training pictures the first rung takes; None where it is not worth its while.

    >>> rung_size(1650, 10), rung_size(600, 2), rung_size(100_000, 5)
    (412, None, 2000)
    """
    size = min(n_train // RUNG_SHARE, RUNG_MOST)
    return size if size >= max(RUNG_LEAST, RUNG_EACH * classes) else None


def draw_rung(labels: IntArray, folds: IntArray, size: int, seed: int) -> IntArray:
    """About `size` positions of training pictures, ascending: as many of each class in each fold as its share.

    At least one of each: no fold goes without a class. `labels`, `folds`: int [n].
    """
    generator = np.random.default_rng([seed, *b"rung"])
    taken = []
    for label in np.unique(labels):
        for fold in np.unique(folds[labels == label]):
            there = np.flatnonzero((labels == label) & (folds == fold))
            taken.append(generator.permutation(there)[: max(1, round(size * len(there) / len(labels)))])
    return np.sort(np.concatenate(taken))


def judge(results: Sequence[Result], groups: Mapping[str, str]) -> tuple[Comparison, Comparison]:
    """The comparison out of fold, and the one on held-out pictures; of equals the faster one comes first.

    `groups`: by digest; pictures of one group are not independent, see `headstart.judging.comparison.compare`.
    """
    out_of_fold = [Contestant(one.name, one.out_of_fold, _cost(one.entrant)) for one in results]
    held_out = [Contestant(one.name, one.held_out, _cost(one.entrant)) for one in results]
    return compare(out_of_fold, groups), compare(held_out, groups)


def advise(comparison: Comparison, paces: Mapping[str, Pace]) -> Advice:
    """The fastest candidate that is not surely worse than the best; `paces` by name.

    Of those that are about as fast the most accurate. Surely: by the exact paired test of `comparison`, corrected for
    all its pairs. What cannot be told apart on few pictures may still differ: `Advice.at_most_worse` says by how much.
    """
    best = comparison.best
    against = {name: pair for name in comparison.names if (pair := comparison.against_best(name)) is not None}
    able = [best, *(name for name, pair in against.items() if not pair.is_certain)]
    most = max(paces[one].per_second for one in able)
    name = next(one for one in comparison.names if one in able and paces[one].per_second >= SAME_PACE * most)
    sooner = [pair for one, pair in against.items() if paces[one].per_second > paces[name].per_second]
    return Advice(
        name=name,
        best=best,
        pair=against.get(name),
        times=paces[name].per_second / paces[best].per_second,
        sooner=tuple(sorted(sooner, key=lambda pair: -paces[pair.worse].per_second)),
    )


def hopeless(comparison: Comparison, paces: Mapping[str, Pace]) -> dict[str, str]:
    """The candidates that need not go on after a first comparison, each with one that makes it superfluous.

    A candidate stops where it is surely worse than the best, by the exact paired test corrected for all pairs, and is
    not on the front of accuracy and speed: another is at least as fast and at least as accurate.
    """
    found: dict[str, str] = {}
    for place, name in enumerate(comparison.names):
        pair = comparison.against_best(name)
        faster = [one for one in comparison.names[:place] if paces[one].per_second >= paces[name].per_second]
        if pair is not None and pair.is_certain and faster:
            found[name] = faster[0]
    return found


def joining(comparison: Comparison, joined: str, parts: Iterable[str]) -> Joining:
    """Whether the candidate `joined` is surely better than the best of its `parts`, all of which were compared."""
    single = min(parts, key=comparison.names.index)
    pair = next(pair for pair in comparison.pairs if {pair.better, pair.worse} == {joined, single})
    return Joining(joined, single, pair)


def _cost(entrant: Entrant) -> float:
    return 1 / entrant.pace.per_second
