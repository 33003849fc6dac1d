"""Whether something that nobody meant gives the classes away: file size, resolution, format, light, sharpness."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headstart.judging.association import FOLDS, areas, binned, interval_of, mean_recall, recalls_of
from headstart.judging.comparison import holm
from headstart.judging.intervals import FloatArray, IntArray, Interval, number
from headstart.judging.suspects import Suspect
from headstart.pictures.looks import Looks

CERTAIN_BELOW = 0.01  # corrected p
WORTH_NAMING = 0.1  # of the way from chance to perfect; or of an AUC from one half
GIVES_AWAY, AUC_GIVES_AWAY = 0.5, 0.4  # of the classifier's own way from chance; of an AUC from one half
FEWEST_OF_A_CLASS, MOST = 10, 10_000  # independent pictures that are looked at
MOST_BINS, FEWEST_BINS, A_BIN = 10, 3, 8  # of the probe; a bin should hold so many pictures of each class
PERMUTATIONS, HOPELESS = 999, 10  # after so many permutations at least as good, p cannot become small
ROUNDING = 1e-12  # of a balanced accuracy
CELLS_AT_ONCE = 4_000_000
NAMED = 3


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A family of facts about the files that alone tells classes apart.

    `family`: "file size", "resolution", "shape", "format", "colour mode", "brightness", "contrast", "sharpness" or
    "JPEG quality". `cls`: the class that it tells best from the rest, None if no single one stands out.
    `balanced_accuracy`: of a probe that sees nothing else, with its 95 % interval; `chance`: what guessing gets. `p`:
    corrected for everything that was tried. `effect`, in [0, 1]: how far it leads from chance to perfect, for all
    classes or for `cls`. `severity`: "strong" if it leads half as far as the classifier itself, or gives `cls` away.
    """

    family: str
    cls: str | None
    balanced_accuracy: Interval
    chance: float
    p: float
    effect: float
    reason: str
    severity: Literal["strong", "weak"]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON."""
        return {
            "family": self.family,
            "class": self.cls,
            "balanced_accuracy": self.balanced_accuracy.to_json(),
            "chance": number(self.chance),
            "p": number(self.p),
            "effect": number(self.effect),
            "reason": self.reason,
            "severity": self.severity,
        }


@dataclass(frozen=True, eq=False)
class _Fact:
    """A number of each of n pictures, `values` [n], NaN where unknown, and what to say where it is larger or not."""

    family: str
    values: FloatArray
    more: str
    less: str


@dataclass(frozen=True, slots=True)
class _Probe:
    accuracy: Interval
    chance: float
    p: float

    @property
    def lift(self) -> float:
        return _lift(self.accuracy.value, self.chance)


@dataclass(frozen=True, slots=True)
class _Test:
    """Pictures of class number `cls` against the rest, by one fact: the chance that a picture of it has more."""

    family: str
    cls: int
    auc: float
    p: float
    says: str

    @property
    def effect(self) -> float:
        return abs(self.auc - 0.5)


def find_shortcuts(
    looks: Looks,
    labels: IntArray,
    groups: IntArray,
    classes: tuple[str, ...],
    *,
    classifier: float | None = None,
    seed: int = 0,
) -> list[Shortcut]:
    """Which families of facts tell the classes apart although nothing of what the pictures show is looked at.

    Two questions are asked of each family. (1) Does a probe find the class of unseen pictures? It counts classes in up
    to ten bins of one fact; the family's best fact counts. Its p is the share of 999 permutations of the labels in
    which the best is as good (Ojala, Garriga, J. Mach. Learn. Res. 11, 2010). (2) Has one class more or less of a fact
    than the rest? The area under the ROC curve with its p by Mann and Whitney's test with ties, or, of facts that are
    there or not, by Fisher's exact test. Both are corrected by Holm, (1) for the families, (2) for all facts and
    classes. A family is named if the corrected p is below 0.01 and the probe goes a tenth of the way from chance to
    perfect, or the area is 0.6 or more (0.4 or less).

    Classes may differ honestly (bees sit on bright flowers): a finding is a question, not a fault. Of each group one
    picture of each class counts, at most 10,000 in all, and classes with fewer than ten such pictures are left out.

    Args:
        looks: of n pictures.
        labels: int [n], positions in `classes`.
        groups: int [n], pictures that are not independent share a number.
        classes: the names of k classes.
        classifier: the classifier's own balanced accuracy, in [0, 1], for comparison.
        seed: draws pictures, folds and permutations.

    Returns:
        One record a family, the largest effect first.
    """
    random = np.random.default_rng([seed, *b"shortcuts"])
    chosen = _chosen(labels, groups, random)
    numbers, own = np.unique(labels[chosen], return_inverse=True)
    if len(numbers) < 2:
        return []
    names = [classes[which] for which in numbers]
    facts = list(_facts(looks.measures(chosen)))
    probes = _probes(facts, own, _folds(groups[chosen], random), random)
    corrected = dict(zip(probes, holm([probe.p for probe in probes.values()]), strict=True))
    tests = list(_tests(facts, own, len(names)))
    certain = [
        (test, p)
        for test, p in zip(tests, holm([test.p for test in tests]), strict=True)
        if p < CERTAIN_BELOW and test.effect >= WORTH_NAMING
    ]
    found = []
    for family, probe in probes.items():
        of_family = [(test, p) for test, p in certain if test.family == family]
        told = corrected[family] < CERTAIN_BELOW and probe.lift >= WORTH_NAMING
        if told or of_family:
            found.append(_shortcut(family, probe, corrected[family] if told else None, of_family, names, classifier))
    return sorted(found, key=lambda shortcut: (-shortcut.effect, shortcut.family))


def as_suspects(shortcuts: Sequence[Shortcut]) -> list[Suspect]:
    """The same findings as rows among all that is suspect."""
    action = (
        "find out whether pictures to come will differ in the same way; if not, take or save all classes alike, "
        "or the classifier may have learnt this instead"
    )
    return [
        Suspect("", "shortcut", shortcut.effect, shortcut.reason, action, shortcut.cls or "") for shortcut in shortcuts
    ]


def _lift(accuracy: float, chance: float) -> float:
    """How far a balanced accuracy is on the way from chance, 0, to perfect, 1."""
    return max(0.0, (accuracy - chance) / (1 - chance))


def _shortcut(
    family: str,
    probe: _Probe,
    p: float | None,
    tests: list[tuple[_Test, float]],
    names: list[str],
    classifier: float | None,
) -> Shortcut:
    """The record of one family. `p`: the probe's, None if not worth naming; `tests`: of classes that are, with p."""
    best: dict[int, tuple[_Test, float]] = {}
    for test, its_p in sorted(tests, key=lambda pair: (-pair[0].effect, pair[1])):
        best.setdefault(test.cls, (test, its_p))
    said = [
        f"pictures of {names[test.cls]!r} {test.says} than the rest: AUC {0.5 + test.effect:.2f}"
        for test, _ in best.values()
    ]
    if len(said) > NAMED:
        said[NAMED:] = [f"and so on for {len(said) - NAMED} more classes"]
    if p is not None:
        accuracy = probe.accuracy
        said.insert(
            0,
            f"{family} alone finds the class with a balanced accuracy of {accuracy.value:.2f} "
            f"[{accuracy.low:.2f}, {accuracy.high:.2f}], where chance is {probe.chance:.2f}",
        )
    largest = max((test.effect for test, _ in best.values()), default=0.0)
    wanted = GIVES_AWAY * (1.0 if classifier is None else _lift(classifier, probe.chance))
    strong = (p is not None and probe.lift >= wanted) or largest >= AUC_GIVES_AWAY
    return Shortcut(
        family=family,
        cls=names[next(iter(best))] if best else None,
        balanced_accuracy=probe.accuracy,
        chance=probe.chance,
        p=min([its_p for _, its_p in best.values()] + ([] if p is None else [p])),
        effect=min(1.0, max(probe.lift if p is not None else 0.0, 2 * largest)),
        reason="; ".join(said),
        severity="strong" if strong else "weak",
    )


def _chosen(labels: IntArray, groups: IntArray, random: np.random.Generator) -> IntArray:
    """Rows of independent pictures in random order: one of each group and class, of the classes that have enough."""
    k = int(labels.max()) + 1 if len(labels) else 1
    _, numbers = np.unique(groups, return_inverse=True)
    _, rows = np.unique(numbers * k + labels, return_index=True)
    rows = random.permutation(rows)
    counts = np.bincount(labels[rows], minlength=k)
    enough = counts >= FEWEST_OF_A_CLASS
    rows = rows[enough[labels[rows]]]
    order = np.argsort(labels[rows], kind="stable")
    counts = np.where(enough, counts, 0)
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows[place < max(FEWEST_OF_A_CLASS, MOST // max(1, int(enough.sum())))]


def _folds(groups: IntArray, random: np.random.Generator) -> IntArray:
    """The fold of each picture, drawn without a look at the labels; groups are kept whole."""
    names, numbers = np.unique(groups, return_inverse=True)
    folds: IntArray = random.permutation(len(names))[numbers] % FOLDS
    return folds


def _facts(looks: Looks) -> Iterator[_Fact]:
    """All that is known of the files, without those facts that are the same for all."""
    width, height, size = (np.asarray(side, np.float64) for side in (looks.width, looks.height, looks.file_bytes))
    told: list[tuple[str, Any, str, str]] = [
        ("file size", size, "have larger files", "have smaller files"),
        ("file size", size / np.maximum(width * height, 1), "take more bytes a pixel", "take fewer bytes a pixel"),
        ("resolution", width * height, "have more pixels", "have fewer pixels"),
        ("resolution", width, "are wider", "are narrower"),
        ("resolution", height, "are taller", "are lower"),
        ("shape", width / np.maximum(height, 1), "are wider for their height", "are taller for their width"),
        ("brightness", looks.brightness, "are brighter", "are darker"),
        ("brightness", looks.darkest, "have brighter shadows", "have darker shadows"),
        ("brightness", looks.brightest, "have brighter highlights", "have darker highlights"),
        ("contrast", looks.contrast, "have more contrast", "have less contrast"),
        ("sharpness", looks.sharpness, "are sharper", "are more blurred"),
        ("JPEG quality", looks.quality, "have a higher JPEG quality", "have a lower JPEG quality"),
    ]
    for family, verb, column in (("format", "are", looks.format), ("colour mode", "are of mode", looks.mode)):
        text = np.array(column, dtype=np.str_)
        told += [
            (family, text == name, f"{verb} {name} more often", f"{verb} {name} less often") for name in np.unique(text)
        ]
    for family, values, more, less in told:
        exact = np.asarray(values, np.float64)
        known = exact[~np.isnan(exact)]
        if len(known) and known.min() < known.max():
            yield _Fact(family, exact, more, less)


def _probes(
    facts: Sequence[_Fact], labels: IntArray, folds: IntArray, random: np.random.Generator
) -> dict[str, _Probe]:
    """How well each family finds the class, by its best fact, and how often permuted labels do as well."""
    k = int(labels.max()) + 1
    bins = max(FEWEST_BINS, min(MOST_BINS, len(labels) // (A_BIN * k)))
    cells: dict[str, list[IntArray]] = {}
    for fact in facts:
        cells.setdefault(fact.family, []).append(binned(fact.values, bins))

    def accuracies(family: str, labels: IntArray) -> FloatArray:
        """The balanced accuracies [facts, r] of `labels` [r, n]."""
        return np.array([mean_recall(recalls_of(one, folds, labels, k)) for one in cells[family]])

    seen = {family: accuracies(family, labels[None])[:, 0] for family in cells}
    as_good, tried = dict.fromkeys(cells, 0), dict.fromkeys(cells, 0)
    at_once = max(1, min(PERMUTATIONS // 9, CELLS_AT_ONCE // max(len(labels), FOLDS * (bins + 1) * k)))
    for start in range(0, PERMUTATIONS, at_once):
        rounds = min(at_once, PERMUTATIONS - start)
        permuted = random.permuted(np.tile(labels, (rounds, 1)), axis=1)
        for family in [family for family in cells if as_good[family] < HOPELESS]:
            best = accuracies(family, permuted).max(axis=0)
            as_good[family] += int((best >= seen[family].max() - ROUNDING).sum())
            tried[family] += rounds
    probes = {}
    for family, of_facts in seen.items():
        known = cells[family][int(of_facts.argmax())]
        recalls = recalls_of(known, folds, labels[None], k)[0]
        sizes = np.bincount(labels[known >= 0], minlength=k)
        p = (as_good[family] + 1) / (tried[family] + 1)
        probes[family] = _Probe(interval_of(recalls, sizes), 1 / max(2, int((sizes > 0).sum())), p)
    return probes


def _tests(facts: Sequence[_Fact], labels: IntArray, k: int) -> Iterator[_Test]:
    """Each class against the rest, by each fact; of two classes only one way round."""
    for fact in facts:
        known = ~np.isnan(fact.values)
        own = labels[known]
        sizes = np.bincount(own, minlength=k)
        enough = (sizes >= FEWEST_OF_A_CLASS) & (len(own) - sizes >= FEWEST_OF_A_CLASS)
        for values, more, less in _divided(fact.values[known], fact.more, fact.less):
            aucs, p = areas(values, own, sizes)
            for cls in np.flatnonzero(enough):
                if k > 2 or aucs[cls] > 0.5 or (aucs[cls] == 0.5 and cls == 1):
                    yield _Test(fact.family, int(cls), float(aucs[cls]), p[cls], more if aucs[cls] >= 0.5 else less)


def _divided(values: FloatArray, more: str, less: str) -> Iterator[tuple[FloatArray, str, str]]:
    """The values; or, if one value is most of them, whether they are above it, and whether they are below.

    Ranks that are nearly all tied have no normal distribution, and a class can hold all the others by accident.
    """
    distinct, counts = np.unique(values, return_counts=True)
    commonest = distinct[counts.argmax()]
    if len(distinct) == 2 or counts.max() <= len(values) / 2:
        yield values, more, less
        return
    if commonest < distinct[-1]:
        yield (values > commonest).astype(np.float64), more, less
    if commonest > distinct[0]:
        yield (values >= commonest).astype(np.float64), more, less
