"""What a person should look at before trusting a classifier: doubtful labels, strangers, flaws, rare classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from headstart.judging.intervals import FloatArray, IntArray
from headstart.judging.quality import find_flaws
from headstart.pictures.looks import Looks

KINDS = ("label", "outlier", "dark", "bright", "blurred", "tiny", "odd_shape", "constant", "imbalance", "shortcut")
"""The kinds of suspects, in the order in which they are shown."""

TOLERANCE = 1e-6  # of a probability against its class's threshold, for rounding
FALSE_FLAGS = 0.5  # pictures that `find_outliers` would flag in a whole set of normally distributed distances
FEWEST_DISTANCES = 20
ROUNDING = 1e-6  # of a distance: copies are not exactly alike
UPPER, UPPER_DEVIATIONS = 0.9, 1.2815515655446004  # a quantile of the standard normal distribution
IMBALANCE = 10
BLOCK_NUMBERS = 2**22  # probabilities that are compared at once


@dataclass(frozen=True, slots=True)
class Suspect:
    """Something to look at.

    `path` is that of the picture, or "" for a finding about a class or the whole set. `kind` is one of `KINDS`.
    `score`, in [0, 1], is larger for what is more suspect, within its kind. `reason` is a sentence with the numbers,
    `action` what to do about it. `label` is the class in question, `suggested` the class that is likelier, or "".
    """

    path: str
    kind: str
    score: float
    reason: str
    action: str
    label: str = ""
    suggested: str = ""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of n pictures of k classes, for `audit`.

    `paths`: [n]. `labels`: int [n], positions in `classes`. `held_out`: int [m], positions among the n of the pictures
    that a classifier was asked about which had not seen them; `probabilities`: float64 [m, k], what it said.
    `distances`: float64 [n], see `held_out_distances`; NaN where not measured. `looks`: of the n pictures.
    """

    paths: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]
    held_out: IntArray
    probabilities: FloatArray
    distances: FloatArray
    looks: Looks


@dataclass(frozen=True, eq=False)
class Doubtful:
    """Rows whose label is doubtful, the most doubtful first: `rows`, `suggested` int [m], `doubts` float64 [m]."""

    rows: IntArray
    suggested: IntArray
    doubts: FloatArray


def audit(evidence: Evidence) -> list[Suspect]:
    """Everything suspect about the labels, the pictures and the sizes of the classes; by kind, the worst first."""
    suspects = [
        *label_suspects(evidence),
        *outlier_suspects(evidence),
        *_flawed_suspects(evidence),
        *imbalance_suspects(evidence.labels, evidence.classes),
    ]
    return sorted(suspects, key=lambda one: (KINDS.index(one.kind), -one.score, one.path))


def label_doubts(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """How doubtful each label is, float64 [n] in [0, 1]: 1 - p(label).

    Turned round, it is the "self-confidence" of Northcutt, Jiang, Chuang. With 5 % of the labels of six sets changed it
    ranked the changed ones better than the normalised margin (average precision 0.91 against 0.88), and votes of the
    nearest pictures mixed in gained less than 0.01. `probabilities`: float64 [n, k], out of fold; `labels`: int [n].
    """
    doubts: FloatArray = 1 - probabilities[np.arange(len(labels)), labels]
    return np.clip(doubts, 0.0, 1.0)


def confident_joint(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """How many pictures of each label (row) are confidently of each class (column), float64 [k, k].

    A picture is confidently of class j where p_j is at least the mean p_j of the pictures labelled j; of several such
    classes the likeliest, of none: not counted. Each row is scaled to the number of pictures with its label; one
    picture of each label at least is taken for right. Source: Northcutt, Jiang, Chuang, "Confident learning:
    estimating uncertainty in dataset labels", J. Artif. Intell. Res. 70 (2021), equations 1 to 3.
    """
    k = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=k)
    own = np.bincount(labels, probabilities[np.arange(len(labels)), labels], k)
    thresholds = np.where(sizes > 0, own / np.maximum(sizes, 1), np.inf)
    joint, size = np.zeros(k * k), max(1, BLOCK_NUMBERS // k)
    for start in range(0, len(labels), size):
        block, of_block = probabilities[start : start + size], labels[start : start + size]
        confident = block >= thresholds - TOLERANCE
        counted = confident.any(axis=1)
        likeliest = np.where(confident, block, -1.0).argmax(axis=1)
        joint += np.bincount(of_block[counted] * k + likeliest[counted], minlength=k * k)
    joint = joint.reshape(k, k)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    joint *= (sizes / joint.sum(axis=1))[:, None]
    return joint


def doubtful_labels(probabilities: FloatArray, labels: IntArray) -> Doubtful:
    """The labels that are likely to be wrong: as many as the calibrated `confident_joint` has off its diagonal.

    They are the most doubtful by `label_doubts`, and only such as the classifier would answer otherwise.
    `probabilities`: float64 [n, k], from a classifier that never saw the picture or one nearly the same, k at least 2.
    `labels`: int [n].
    """
    nothing = np.empty(0, np.int64)
    if len(labels) == 0:
        return Doubtful(nothing, nothing, np.empty(0))
    joint = confident_joint(probabilities, labels)
    count = round(float(joint.sum() - joint.trace()))
    doubts = label_doubts(probabilities, labels)
    suggested = probabilities.argmax(axis=1)
    rows = np.argsort(-doubts, kind="stable")[:count]
    rows = rows[suggested[rows] != labels[rows]]
    return Doubtful(rows, suggested[rows], doubts[rows])


def find_outliers(distances: FloatArray) -> tuple[IntArray, float]:
    """The rows that lie far beyond all others, the farthest first, and the distance that is the limit.

    The limit is median + z scale. The scale is the larger of 1.4826 MAD and (90 % quantile - median) / 1.2816, either
    the standard deviation of a normal distribution; the second allows for a long tail. z is such that a set of this
    size would hold `FALSE_FLAGS` pictures beyond it if distances were normal: 2.9 for 250 pictures, 4.4 for 100,000.
    `distances`: float64 [n], NaN or infinite where unknown; fewer than 20 flag nothing (the limit is infinite). Of
    strangers put into six sets it found half: all among sign digits, hardly any among ants and bees.
    Source of the rule: Iglewicz, Hoaglin, How to detect and handle outliers (1993).
    """
    known = np.flatnonzero(np.isfinite(distances))
    if len(known) < FEWEST_DISTANCES:
        return np.empty(0, np.int64), float("inf")
    values = distances[known]
    centre = float(np.median(values))
    scale = 1.4826 * float(np.median(np.abs(values - centre)))
    scale = max(scale, (float(np.quantile(values, UPPER)) - centre) / UPPER_DEVIATIONS, ROUNDING)
    limit = centre + NormalDist().inv_cdf(1 - FALSE_FLAGS / len(known)) * scale
    rows = known[values > limit]
    return rows[np.argsort(-distances[rows], kind="stable")], limit


def imbalance_suspects(labels: IntArray, classes: tuple[str, ...]) -> list[Suspect]:
    """One finding if the largest class has more than ten times the pictures of the smallest that has any."""
    sizes = np.bincount(labels, minlength=len(classes))
    if not sizes.any():
        return []
    large, small = int(sizes.argmax()), int(np.where(sizes > 0, sizes, sizes.max()).argmin())
    ratio = sizes[large] / sizes[small]
    if ratio <= IMBALANCE:
        return []
    reason = (
        f"{classes[large]!r} has {sizes[large]:,} pictures and {classes[small]!r} {sizes[small]:,}: "
        f"{ratio:.0f} times as many"
    )
    action = "add pictures of the small classes, or train with --balanced, so that all classes count alike"
    return [Suspect("", "imbalance", float(1 - IMBALANCE / 2 / ratio), reason, action, classes[small])]


def label_suspects(evidence: Evidence) -> Iterator[Suspect]:
    """The `doubtful_labels`, the most doubtful first."""
    of_held_out = evidence.labels[evidence.held_out]
    doubtful = doubtful_labels(evidence.probabilities, of_held_out)
    for row, suggested, doubt in zip(doubtful.rows, doubtful.suggested, doubtful.doubts, strict=True):
        label, other = evidence.classes[of_held_out[row]], evidence.classes[suggested]
        p = evidence.probabilities[row]
        reason = (
            f"labelled {label!r}, but a classifier that did not see it says {other!r}: "
            f"probability {p[suggested]:.2f} against {p[of_held_out[row]]:.2f}"
        )
        action = f"look at it, and move it to {other!r} if that is what it shows"
        path = evidence.paths[evidence.held_out[row]]
        yield Suspect(path, "label", float(doubt), reason, action, label, other)


def outlier_suspects(evidence: Evidence) -> Iterator[Suspect]:
    """What `find_outliers` finds, the farthest first."""
    rows, limit = find_outliers(evidence.distances)
    if len(rows) == 0:
        return
    usual = float(np.median(evidence.distances[np.isfinite(evidence.distances)]))
    for row in rows:
        distance = float(evidence.distances[row])
        reason = (
            f"unlike all the others: distance {distance:.2f} from those most like it, "
            f"where {usual:.2f} is usual and {limit:.2f} the limit"
        )
        action = "look at it, and remove it if it does not belong here"
        score = distance / (distance + limit)
        yield Suspect(evidence.paths[row], "outlier", score, reason, action, evidence.classes[evidence.labels[row]])


def _flawed_suspects(evidence: Evidence) -> Iterator[Suspect]:
    for flaw in find_flaws(evidence.looks):
        path = "" if flaw.row is None else evidence.paths[flaw.row]
        label = "" if flaw.row is None else evidence.classes[evidence.labels[flaw.row]]
        yield Suspect(path, flaw.kind, flaw.score, flaw.reason, flaw.action, label)
