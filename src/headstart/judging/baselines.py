"""What far simpler methods reach on the same held-out pictures: without them an accuracy says little."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart import scratch
from headstart.judging.comparison import sign_test
from headstart.judging.intervals import BoolArray, IntArray, Interval, number, proportion
from headstart.learning.eigenbasis import BLOCK_ROWS, Float32
from headstart.learning.examples import Examples
from headstart.learning.novelty import unit

RIDGE = 1.0  # of the colours: the weight of one picture, whatever their number
BLOCK_NUMBERS = 2**24  # cosines in memory
MOST_COLOURED = 100_000  # training pictures whose colours are learnt from
MOST_SEARCHED, MOST_ASKED = 50_000, 10_000  # training pictures among which the most similar is found, and for how many


@dataclass(frozen=True, slots=True)
class Baseline:
    """A simple method's `accuracy` on the held-out pictures.

    `p` is that of the sign test against the classifier: how likely a difference as large is where both are equally
    good. `name` is "majority", "colour" or "nearest", `label` says what it does.
    """

    name: str
    label: str
    accuracy: Interval
    p: float

    def to_json(self) -> dict[str, Any]:
        """An entry of "baselines" in metrics.json."""
        accuracy = self.accuracy.to_json()
        return {"name": self.name, "label": self.label, "accuracy": accuracy, "p": number(self.p)}


def baselines(examples: Examples, correct: BoolArray) -> list[Baseline]:
    """The accuracy of three simple methods, made from the training pictures alone, on the held-out ones.

    Args:
        examples: training and held-out pictures with their features and looks.
        correct: bool [n_test], where the classifier is right, in the order of `examples.split.test`.

    Returns:
        The commonest class; a linear classifier on the colour histograms; the class of the most similar training
        picture by the backbone's features. None where nothing is held out. Those of the second that come close to
        the classifier tell that colour alone gives the class away; those of the third, that the head adds little.
        The second learns from 100,000 pictures at most; for the third, 50,000 at most are searched, for 10,000 of
        those held out: its label says so, and its p is of these.
    """
    train, test = examples.split.train, examples.split.test
    if len(test) == 0:
        return []
    labels, rows, groups = examples.labels, examples.rows, examples.groups[test]
    vectors, colours = examples.features.vectors, examples.features.looks.colours
    classes, truth = len(examples.dataset.classes), labels[test]
    some, searched = train[_some(len(train), MOST_COLOURED)], train[_some(len(train), MOST_SEARCHED)]
    asked = _some(len(test), MOST_ASKED)
    said = {
        ("majority", "always the commonest class"): commonest(labels[train], len(test)),
        ("colour", "colours alone"): by_colour(colours[rows[some]], labels[some], colours[rows[test]], classes),
    }
    found = [_baseline(name, predicted == truth, correct, groups) for name, predicted in said.items()]
    nearest = by_nearest(vectors, rows[searched], labels[searched], rows[test[asked]])
    _, numbers = np.unique(groups[asked], return_inverse=True)
    name = "nearest", _nearest_label(len(searched), len(train), len(asked), len(test))
    return [*found, _baseline(name, nearest == truth[asked], correct[asked], numbers)]


def _some(count: int, most: int) -> IntArray:
    """Places of at most `most` of `count`, ascending, drawn at random and always the same."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng([*b"baselines"]).choice(count, most, replace=False))


def _nearest_label(searched: int, learnt: int, asked: int, held_out: int) -> str:
    """What "nearest" does, with the numbers where not all pictures were looked at."""
    label = "the most similar training picture" if searched == learnt else f"the most similar of {searched:,} pictures"
    return label if asked == held_out else f"{label}, on {asked:,} held-out ones"


def commonest(labels: IntArray, count: int) -> IntArray:
    """The commonest of the training `labels` int [n], the first of equals, for each of `count` pictures."""
    return np.full(count, np.bincount(labels).argmax(), dtype=np.int64)


def by_colour(colours: Float32, labels: IntArray, of_test: Float32, classes: int) -> IntArray:
    """The classes int [m] that the colours `of_test` [m, c] tell, learnt from `colours` [n, c] and `labels` int [n].

    Least squares with a ridge, min ||X W + 1 b' - Y||² + RIDGE ||W||², from the square roots of the histograms (rows of
    length one, so that distances are Hellinger's) to the classes as columns of 0 and 1; the largest score wins.
    """
    roots = np.sqrt(colours, dtype=np.float64)
    mean, shares = roots.mean(axis=0), np.bincount(labels, minlength=classes) / len(labels)
    roots -= mean
    by_class = np.zeros((classes, roots.shape[1]))
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    by_class[present] = np.add.reduceat(roots[order], starts, axis=0)
    weight = np.linalg.solve(roots.T @ roots + RIDGE * np.eye(roots.shape[1]), by_class.T)
    others = np.sqrt(of_test, dtype=np.float64) - mean
    size = max(1, BLOCK_NUMBERS // classes)
    blocks = (others[start : start + size] for start in range(0, len(others), size))
    return np.concatenate([(block @ weight + shares).argmax(axis=1) for block in blocks])


def by_nearest(vectors: Float32, rows: IntArray, labels: IntArray, of_test: IntArray) -> IntArray:
    """The class int [m] of the training picture whose features have the largest cosine with each test picture's.

    `rows` int [n] and `of_test` int [m] are positions in `vectors` [N, d], `labels` int [n] those of the former: 10,000
    against 50,000 cost as many products as embedding some hundred pictures.
    """
    references = scratch.empty((len(rows), vectors.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        references[start : start + BLOCK_ROWS] = unit(vectors[rows[start : start + BLOCK_ROWS]])
    size = max(1, BLOCK_NUMBERS // len(rows))
    blocks = (vectors[of_test[start : start + size]] for start in range(0, len(of_test), size))
    nearest = np.concatenate([(unit(block) @ references.T).argmax(axis=1) for block in blocks])
    return np.asarray(labels[nearest])


def _baseline(name: tuple[str, str], right: BoolArray, correct: BoolArray, groups: IntArray) -> Baseline:
    """The method `name`, which is `right` where the classifier is `correct` or not; both [n]."""
    net = np.bincount(groups, correct.astype(np.float64) - right)
    p = sign_test(int((net > 0).sum()), int((net < 0).sum()))
    return Baseline(*name, proportion(right, groups), p)
