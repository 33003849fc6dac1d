"""Dataset -> Split: which pictures are the test, and in which fold each of the others is held out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from headstart.errors import UsageError
from headstart.pictures.dataset import Dataset
from headstart.pictures.duplicates import groups

TEST = -2
"""The part of a picture that is only looked at to judge the finished classifier."""

ALWAYS_TRAIN = -1
"""The part of a training picture that no fold holds out, because the user gave a `val` part for that."""

TRAINING_GROUPS = 2
"""So many groups of each class are never drawn for the test: one to learn from, one to choose by."""

_UNDECIDED = -3


@dataclass(frozen=True, eq=False)
class Split:
    """The part of each sample: `parts` int32 [n], each TEST, ALWAYS_TRAIN, or the number of a fold from 0."""

    parts: NDArray[np.int32]

    @property
    def test(self) -> NDArray[np.int64]:
        """The positions of the test samples, ascending, int64 [n_test]."""
        return np.flatnonzero(self.parts == TEST)

    @property
    def train(self) -> NDArray[np.int64]:
        """The positions of all other samples, ascending, int64 [n_train]."""
        return np.flatnonzero(self.parts != TEST)

    @property
    def folds(self) -> NDArray[np.int32]:
        """The fold that holds out each of the `train` samples, int32 [n_train]; ALWAYS_TRAIN where none does."""
        return self.parts[self.train]


@dataclass(frozen=True, slots=True)
class Group:
    """Samples that must stay together: how many there are of each class, and the part they already have, if any."""

    number: int
    counts: Mapping[str, int]
    part: int | None


def split(
    dataset: Dataset,
    *,
    test_fraction: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    earlier: Mapping[str, int] | None = None,
) -> Split:
    """Divide the samples into test and folds, class by class, without dividing a group (see `groups`).

    Parts that the user gave are respected: a given test is the test; a given `val` is the one fold, and the
    samples beside it are always trained on. Otherwise about `test_fraction` of each class is drawn for the
    test, as closely as whole groups allow, with at least one picture of each class that has three groups or
    more. The other samples are dealt into folds: as many as asked for, but no more than the largest class has
    groups, and at least two. A class with fewer groups than folds is held out by some of them only.

    What is drawn depends on the digests and the seed, not on names or the order of files. A group much larger
    than a class's share of the test is never drawn: the test is then of the smaller groups.

    Args:
        dataset: samples with digests, with contradictions resolved and classes checked.
        test_fraction: between 0 and 1, both excluded.
        folds: 2 or more.
        seed: 0 or more.
        earlier: the part of each digest in a former split, which is extended: its pictures stay where they
            were, others of their group join them (in the test, if the group has become one with a part of
            it), and new groups fill what each part lacks. A former split also fixes the number of folds.

    Raises:
        UsageError: a number is out of its range.
    """
    _check_options(test_fraction, folds, seed)
    parts = _given_parts(dataset)
    undecided = np.flatnonzero(parts == _UNDECIDED)
    test_is_given = bool((parts == TEST).any())
    known = {digest: part for digest, part in (earlier or {}).items() if not (test_is_given and part == TEST)}
    numbers = groups(dataset)
    members = _gather(dataset, numbers, undecided, known)
    in_test: set[int] = set()
    if not test_is_given:
        in_test = draw_test(_shuffled(members, seed, "test"), test_fraction)
    training = [group for group in members if group.number not in in_test]
    part_of = dict.fromkeys(in_test, TEST) | deal(_shuffled(training, seed, "folds"), folds)
    for position in undecided:
        parts[position] = part_of[int(numbers[position])]
    return Split(parts)


def draw_test(candidates: list[Group], fraction: float) -> set[int]:
    """The numbers of the groups that are the test: those that are in it already, and those drawn.

    First come, first served: a group is taken if every class in it still wants that many. Then, the smallest
    first, those that bring the classes closer to their share although they exceed it, and last one group for
    each class that has none yet. `TRAINING_GROUPS` groups of each class are always left.
    """
    totals = _count(candidates)
    wanted = {label: max(1, int(fraction * total + 0.5)) for label, total in totals.items()}
    taken = {group.number for group in candidates if group.part == TEST}
    have = _count(group for group in candidates if group.part == TEST)
    left = Counter(label for group in candidates if group.part != TEST for label in group.counts)
    free = [group for group in candidates if group.part is None]
    small_first = sorted(free, key=lambda group: sum(group.counts.values()))

    def take(group: Group) -> None:
        if group.number in taken or any(left[label] <= TRAINING_GROUPS for label in group.counts):
            return
        taken.add(group.number)
        _add(have, group)
        left.subtract(dict.fromkeys(group.counts, 1))

    def gain(group: Group) -> float:
        lacking = {label: wanted[label] - have[label] for label in group.counts}
        return sum((abs(lacking[label]) - abs(lacking[label] - n)) / totals[label] for label, n in group.counts.items())

    for group in free:
        if all(have[label] + n <= wanted[label] for label, n in group.counts.items()):
            take(group)
    for group in small_first:
        if gain(group) > 0:
            take(group)
    for group in small_first:
        if any(have[label] == 0 for label in group.counts):
            take(group)
    return taken


def deal(training: list[Group], folds: int) -> dict[int, int]:
    """The fold of each group: the largest first, each to the fold that has least of the group's classes.

    Groups that have a fold keep it, and their number of folds is kept too.
    """
    totals = _count(training)
    part_of = {group.number: group.part for group in training if group.part is not None and group.part >= 0}
    if part_of:
        folds = max(part_of.values()) + 1
    else:
        largest = max(Counter(label for group in training for label in group.counts).values(), default=folds)
        folds = min(folds, largest)
    folds = max(folds, 2)
    have: list[Counter[str]] = [Counter() for _ in range(folds)]
    sizes = [0] * folds

    def give(group: Group, fold: int) -> None:
        part_of[group.number] = fold
        _add(have[fold], group)
        sizes[fold] += sum(group.counts.values())

    def fullness(group: Group, fold: int) -> tuple[float, int]:
        full = 0.0
        for label in group.counts:
            full += have[fold][label] / totals[label]
        return full, sizes[fold]

    for group in training:
        if group.number in part_of:
            give(group, part_of[group.number])
    for group in sorted(training, key=lambda group: -sum(group.counts.values())):
        if group.number not in part_of:
            give(group, min(range(folds), key=lambda fold: fullness(group, fold)))
    return part_of


def _check_options(test_fraction: float, folds: int, seed: int) -> None:
    if not 0 < test_fraction < 1:
        raise UsageError(f"the test fraction must lie between 0 and 1, but is {test_fraction}. 0.2 is usual.")
    if folds < 2:
        raise UsageError(f"the number of folds must be 2 or more, but is {folds}. 5 is usual.")
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, but is {seed}.")


def _given_parts(dataset: Dataset) -> NDArray[np.int32]:
    """The parts that the user's own parts decide, int32 [n]; `_UNDECIDED` elsewhere."""
    rest = ALWAYS_TRAIN if any(sample.given == "val" for sample in dataset.samples) else _UNDECIDED
    fixed = {"test": TEST, "val": 0, "train": rest, None: rest}
    return np.array([fixed[sample.given] for sample in dataset.samples], dtype=np.int32)


def _gather(
    dataset: Dataset, numbers: NDArray[np.int64], positions: NDArray[np.int64], known: Mapping[str, int]
) -> list[Group]:
    """The groups of the samples at `positions`, in the order of their numbers."""
    parts: dict[int, set[int]] = defaultdict(set)
    for position in positions.tolist() if known else ():
        if (digest := dataset.samples[position].digest) in known:
            parts[int(numbers[position])].add(known[digest])
    ordered = positions[np.argsort(numbers[positions], kind="stable")]
    labels = (dataset.samples[position].label for position in ordered.tolist())
    alike: dict[tuple[tuple[str, int], ...], Counter[str]] = {}  # most groups are one picture: few different counts
    groups = []
    for number, members in groupby(zip(numbers[ordered].tolist(), labels, strict=True), key=itemgetter(0)):
        counts = Counter([label for _, label in members])
        part = _joint_part(parts[number]) if number in parts else None
        groups.append(Group(number, alike.setdefault(tuple(counts.items()), counts), part))
    return groups


def _joint_part(parts: set[int]) -> int | None:
    """The part of a group whose known members are in `parts`: what was in the test stays in the test."""
    if TEST in parts:
        return TEST
    return min(parts - {ALWAYS_TRAIN}, default=ALWAYS_TRAIN) if parts else None


def _shuffled(members: list[Group], seed: int, purpose: str) -> list[Group]:
    generator = np.random.default_rng([seed, *purpose.encode()])
    return [members[position] for position in generator.permutation(len(members))]


def _add(counts: Counter[str], group: Group) -> None:
    for label, n in group.counts.items():  # a third of the time of `update`
        counts[label] += n


def _count(members: Iterable[Group]) -> Counter[str]:
    """The number of samples of each class."""
    counts: Counter[str] = Counter()
    for group in members:
        _add(counts, group)
    return counts
