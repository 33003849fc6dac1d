"""Where compared runs part: the pictures that some got right and others not, and the classes that gain or lose."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from headstart.judging.comparison import Answer, Contestant, compare, holm
from headstart.judging.finished import Compared
from headstart.judging.metrics import Interval

MOST_PICTURES = 24
"""Of each kind of change."""

MOST_CLASSES = 60


@dataclass(frozen=True)
class Said:
    """What the runs `who` all said of a picture, with the probability that each gave it."""

    predicted: str
    is_right: bool
    who: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Changed:
    """A picture, by its digest and its path in the first run, and what each run said of it, the right answer first."""

    digest: str
    path: str
    label: str
    said: tuple[Said, ...]


@dataclass(frozen=True)
class Kind:
    """Pictures on which the best run was right (`is_gain`) or wrong, others being the contrary; of `of`."""

    is_gain: bool
    shown: tuple[Changed, ...]
    of: int


@dataclass(frozen=True)
class Changes:
    """The pictures that some runs got right and others not. `missing`, of those shown, have no picture to show."""

    best: str
    rival: str | None
    n: int
    of: int
    kinds: tuple[Kind, ...]
    missing: int = 0

    @property
    def digests(self) -> list[str]:
        """The pictures to show."""
        return [one.digest for kind in self.kinds for one in kind.shown]


@dataclass(frozen=True)
class Score:
    """A class of `n` shared pictures, and the recall of each run on it; `p`, of two runs, is corrected."""

    name: str
    n: int
    recalls: tuple[Interval, ...]
    p: float | None

    @property
    def gain(self) -> int:
        """How many more of its pictures the best run found than the one that differs most from it."""
        return _gain([round(recall.value * self.n) for recall in self.recalls])

    @property
    def reach(self) -> Interval:
        """From the lowest of the recalls to the highest."""
        values = [recall.value for recall in self.recalls]
        return Interval(values[0], min(values), max(values))


@dataclass(frozen=True)
class Classes:
    """Classes by run: those that gain most with the best run first; `gained` and `lost` count such classes, `of` all.

    `names` are the runs, the best first.
    """

    names: tuple[str, ...]
    shown: tuple[Score, ...]
    of: int
    gained: int
    lost: int


def changes(compared: Compared) -> Changes | None:
    """Which pictures changed; None where there is only one run."""
    found, runs = compared.comparison, compared.runs
    if len(runs) < 2:
        return None
    sides: dict[bool, list[str]] = {True: [], False: []}
    for digest in found.changed:
        sides[runs[found.best].answers[digest].correct].append(digest)
    kinds = [
        Kind(is_gain, tuple(_changed(compared, digest) for digest in digests[:MOST_PICTURES]), len(digests))
        for is_gain, digests in sides.items()
        if digests
    ]
    return Changes(
        best=found.best,
        rival=found.names[1] if len(runs) == 2 else None,
        n=found.n,
        of=len(found.changed),
        kinds=tuple(kinds),
    )


def classes(compared: Compared) -> Classes | None:
    """Which classes gain and which lose; None where there is only one run, or one class."""
    runs = list(compared.runs.values())
    pictures: dict[str, list[str]] = {}
    for digest, answer in runs[0].answers.items():
        if all(digest in run.answers for run in runs):
            pictures.setdefault(answer.label, []).append(digest)
    if len(runs) < 2 or len(pictures) < 2:
        return None
    gains = {
        name: _gain([sum(run.answers[digest].correct for digest in digests) for run in runs])
        for name, digests in pictures.items()
    }
    largest = sorted(sorted(gains), key=lambda name: -abs(gains[name]))[:MOST_CLASSES]
    scored = sorted(pictures) if len(runs) == 2 else largest  # each p of two runs is corrected for all classes
    scores = {name: _score(name, pictures[name], compared) for name in scored}
    if len(runs) == 2:
        corrected = holm([score.p or 0.0 for score in scores.values()])
        scores = {name: replace(score, p=p) for (name, score), p in zip(scores.items(), corrected, strict=True)}
    return Classes(
        names=tuple(run.name for run in runs),
        shown=tuple(scores[name] for name in sorted(largest, key=lambda name: -gains[name])),
        of=len(gains),
        gained=sum(gain > 0 for gain in gains.values()),
        lost=sum(gain < 0 for gain in gains.values()),
    )


def _gain(counts: Sequence[int]) -> int:
    """How many more of a class the first run found than the one that differs most from it."""
    return counts[0] - max(counts[1:], key=lambda count: abs(count - counts[0]))


def _changed(compared: Compared, digest: str) -> Changed:
    answers = {name: run.answers[digest] for name, run in compared.runs.items()}
    first = next(iter(answers.values()))
    return Changed(digest, first.path, first.label, tuple(_said(answers)))


def _said(answers: Mapping[str, Answer]) -> Iterator[Said]:
    """The answers, with the runs that gave them: the right one first, then as many runs gave them."""
    by_class: dict[str, list[tuple[str, float]]] = {}
    for name, answer in answers.items():
        by_class.setdefault(answer.predicted, []).append((name, answer.probability))
    label = next(iter(answers.values())).label
    for predicted, who in sorted(by_class.items(), key=lambda item: (item[0] != label, -len(item[1]))):
        yield Said(predicted, predicted == label, tuple(who))


def _score(name: str, digests: Sequence[str], compared: Compared) -> Score:
    """The recall of each run on the pictures of one class; of two runs, with the p of their difference."""
    runs = compared.runs.values()
    found = compare(
        [Contestant(run.name, {digest: run.answers[digest] for digest in digests}) for run in runs], compared.groups
    )
    p = found.pairs[0].p if len(found.pairs) == 1 else None
    return Score(name, len(digests), tuple(found.accuracy[run.name] for run in runs), p)
