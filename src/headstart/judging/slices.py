"""On which kinds of pictures the classifier does worse: dark ones, small ones, those of one camera.

Each slice of the held-out pictures is compared with all others. Among thirty slices of nothing but chance one looks
bad more often than not, so that the p of each is corrected for their number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart.judging.comparison import holm
from headstart.judging.intervals import BoolArray, FloatArray, IntArray, Interval, number, proportion
from headstart.pictures.looks import Looks

LEAST_PICTURES = 10  # in a slice and outside of it
MOST_VALUES = 20  # of a column: more are names, not kinds

THIRDS = {
    "brightness": ("darkest third", "middle third", "brightest third"),
    "contrast": ("flattest third", "middle third", "most contrasting third"),
    "sharpness": ("most blurred third", "middle third", "sharpest third"),
    "size": ("smallest third", "middle third", "largest third"),
    "aspect": ("tallest third", "middle third", "widest third"),
}


@dataclass(frozen=True, slots=True)
class Slice:
    """`n` held-out pictures of one kind, `name` among those that `by` tells apart.

    `accuracy` is theirs, `rest` that of all others, with 95 % intervals. `p`, corrected by `holm` for all slices, is
    how likely a slice of pictures no harder than the rest does as badly or worse.
    """

    by: str
    name: str
    n: int
    accuracy: Interval
    rest: Interval
    p: float

    def to_json(self) -> dict[str, Any]:
        """An entry of "slices" in metrics.json."""
        accuracies = {"accuracy": self.accuracy.to_json(), "rest": self.rest.to_json()}
        return {"by": self.by, "name": self.name, "n": self.n, **accuracies, "p": number(self.p)}


def slices(
    correct: BoolArray,
    groups: IntArray,
    looks: Looks | None = None,
    columns: Mapping[str, Sequence[str | None]] | None = None,
) -> list[Slice]:
    """Compare each slice of the held-out pictures with the rest, the least probable by chance first.

    The test is Fisher's exact one, one-sided (more mistakes in the slice), on counts that are divided by the slice's
    `design_effect` where pictures come in groups. It finds that pictures of a kind are harder, not why: the dark third
    may be that of the hardest class.

    Args:
        correct: bool [n], where the classifier is right about held-out pictures.
        groups: int [n]; pictures of one number are not independent.
        looks: of the n pictures: thirds by brightness, contrast, sharpness, size, aspect; and formats.
        columns: further columns [n] by name, such as the user's groups; a picture that has none is in no slice, and a
            column of more than `MOST_VALUES` values is left out. Within a column that is itself what `groups` were made
            from, the pictures of a value stand for themselves, as the value is what is asked about.

    Returns:
        All slices with at least `LEAST_PICTURES` pictures inside and outside.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    found = []
    for by, name, inside in _cut(looks, columns or {}):
        if LEAST_PICTURES <= inside.sum() <= len(correct) - LEAST_PICTURES:
            bound = np.arange(len(correct)) if by in (columns or {}) and _makes(inside, numbers) else numbers
            found.append(_compare(by, name, inside, correct, bound))
    corrected = holm([one.p for one in found])
    return sorted((replace(one, p=p) for one, p in zip(found, corrected, strict=True)), key=lambda one: one.p)


def _cut(looks: Looks | None, columns: Mapping[str, Sequence[str | None]]) -> list[tuple[str, str, BoolArray]]:
    """All slices: by what, the name, and which pictures are inside, bool [n]."""
    cuts = []
    if looks is not None:
        width, height = looks.width.astype(np.float64), looks.height.astype(np.float64)
        values = (looks.brightness, looks.contrast, looks.sharpness, width * height, width / height)
        for (by, names), of in zip(THIRDS.items(), values, strict=True):
            third = _thirds(np.asarray(of, np.float64))
            cuts += [(by, name, third == place) for place, name in enumerate(names)]
    for by, column in {"format": () if looks is None else looks.format, **columns}.items():
        places = {value: place for place, value in enumerate(sorted({value for value in column if value is not None}))}
        if 2 <= len(places) <= MOST_VALUES:
            of_column = np.array([-1 if value is None else places[value] for value in column])
            cuts += [(by, value, of_column == place) for value, place in places.items()]
    return cuts


def _thirds(values: FloatArray) -> IntArray:
    """Which third of the values each is in, int [n], 0 to 2; equal values are never divided."""
    if len(values) == 0:
        return np.empty(0, np.int64)
    cuts = np.sort(values)[[len(values) // 3, 2 * len(values) // 3]]
    return np.searchsorted(cuts, values, side="right")


def _makes(inside: BoolArray, groups: IntArray) -> bool:
    """Whether the slice is one whole group."""
    of_slice = groups[inside]
    return bool((of_slice == of_slice[0]).all()) and not bool((groups[~inside] == of_slice[0]).any())


def _compare(by: str, name: str, inside: BoolArray, correct: BoolArray, groups: IntArray) -> Slice:
    effect = design_effect(inside, correct, groups)
    less, more = (inside & ~correct, ~inside & correct), (inside & correct, ~inside & ~correct)
    wrong, right_outside = (math.floor(of.sum() / effect) for of in less)  # rounded away from a finding
    right, wrong_outside = (math.ceil(of.sum() / effect) for of in more)
    return Slice(
        by,
        name,
        int(inside.sum()),
        proportion(correct[inside], groups[inside]),
        proportion(correct[~inside], groups[~inside]),
        fisher(wrong, right, wrong_outside, right_outside),
    )


def design_effect(inside: BoolArray, correct: BoolArray, groups: IntArray) -> float:
    """How many grouped pictures say as little about a slice as one independent picture, at least 1.

    The variance between groups of the difference of two shares, if they were equal, over the variance that independent
    pictures would have; at most sum m² / n, m the sizes of the groups, which is also taken where there is nothing to
    tell it by. Source: Rao, Scott, Biometrics 48 (1992), 577-585.
    """
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n, count = len(groups), len(sizes)
    if count == n:
        return 1.0
    most = float((sizes * sizes).sum() / n)
    parts = np.where(inside, 1 / inside.sum(), -1 / (~inside).sum()) * (correct - correct.mean())
    alone = float((parts**2).sum())
    if count == 1 or alone == 0:
        return most
    together = float((np.bincount(numbers, parts) ** 2).sum()) * count / (count - 1)
    return min(most, max(1.0, together / alone))


def fisher(wrong_inside: int, right_inside: int, wrong_outside: int, right_outside: int) -> float:
    """The p of as many mistakes inside or more, where mistakes fall on the pictures at random.

    The upper tail of the hypergeometric distribution, Fisher's exact test of one side. Source: R. A. Fisher,
    J. R. Stat. Soc. 98 (1935), 39-82.

    >>> round(fisher(3, 1, 1, 3), 4)
    0.2429
    """
    inside, wrong = wrong_inside + right_inside, wrong_inside + wrong_outside
    n = inside + wrong_outside + right_outside
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # of factorials
    counts = np.arange(wrong_inside, min(inside, wrong) + 1)
    counts = counts[n - wrong - inside + counts >= 0]
    terms = logs[wrong] - logs[counts] - logs[wrong - counts]
    terms += logs[n - wrong] - logs[inside - counts] - logs[n - wrong - inside + counts]
    return min(1.0, float(np.exp(terms - (logs[n] - logs[inside] - logs[n - inside])).sum()))
