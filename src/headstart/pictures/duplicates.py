"""Pictures that are the same, or nearly: conflicting labels, leaks into the test, and what must stay together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from headstart.pictures.dataset import Dataset, Problem, Sample

_RANK: Mapping[str | None, int] = {None: 0, "train": 0, "val": 1, "test": 2}
"""Of two copies in different parts the one with the higher rank stays: the test is never changed for training."""


@dataclass
class Verdict:
    """What `resolve` has found so far: the positions of samples to leave out, and the problems."""

    left_out: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def resolve(dataset: Dataset, *, keep_leaks: bool = False) -> Dataset:
    """The data set without the contradictions that copies make, each of them named in its problems.

    Exact copies of one picture are told by their digests. In this order:

    - under two or more labels: every copy is left out, of training and of test (`conflicting_label`);
    - in a given test, and in training too: the training copy is removed; so is a training copy of a picture
      in the given `val`, and a `val` copy of one in the test (`leak`);
    - listed twice, by the same path: the second is left out (`duplicate`);
    - otherwise: kept, and named (`duplicate`); `groups` keeps them together.

    Then the dataset's `twins`, pictures that are nearly the same, as far as both are left:

    - under one label and in different parts, as exact copies: the one of lower rank is removed (`leak`);
    - under different labels: both are kept, and named (`near_duplicate`), for nearly the same pictures may rightly
      differ;
    - otherwise: kept, and the later is named (`near_duplicate`).

    A picture with many twins is named once, with the first of them in the order of `twins`.

    Args:
        dataset: all of its samples have digests.
        keep_leaks: whether to keep the training copies of test pictures, which are named all the same.
    """
    copies = _copies(dataset)
    verdict = Verdict()
    several = [positions for positions in copies.values() if len(positions) > 1]
    for positions in several:
        if len({dataset.samples[position].label for position in positions}) > 1:
            _leave_out_conflicting(dataset.samples, positions, verdict)
        else:
            _remove_leaks(dataset.samples, positions, keep_leaks, verdict)
    _remove_near_leaks(dataset, copies, keep_leaks, verdict)
    for positions in several:
        for part in _by_rank(dataset.samples, _left(positions, verdict)).values():
            _name_duplicates(dataset.samples, part, verdict)
    _name_twins(dataset, copies, verdict)
    kept = tuple(sample for position, sample in enumerate(dataset.samples) if position not in verdict.left_out)
    return replace(dataset, samples=kept, problems=dataset.problems + tuple(verdict.problems))


def _copies(dataset: Dataset) -> dict[str, list[int]]:
    """The positions of each picture that stands in the data twice or has a twin, by digest."""
    seen: set[str] = set()
    wanted = {digest for pair in dataset.twins for digest in pair}
    for sample in dataset.samples:
        assert sample.digest, f"{sample.path} has not been read"
        (wanted if sample.digest in seen else seen).add(sample.digest)
    copies: dict[str, list[int]] = defaultdict(list)
    for position, sample in enumerate(dataset.samples):
        if sample.digest in wanted:
            copies[sample.digest].append(position)
    return copies


def _left(positions: list[int], verdict: Verdict) -> list[int]:
    return [position for position in positions if position not in verdict.left_out]


def _leave_out_conflicting(samples: tuple[Sample, ...], positions: list[int], verdict: Verdict) -> None:
    for position in positions:
        sample = samples[position]
        others = [samples[other] for other in positions if samples[other].label != sample.label]
        detail = "the same picture is also " + _listed(f"{other.label!r} ({other.path})" for other in others)
        verdict.problems.append(Problem(sample.path, "conflicting_label", detail, "left out"))
    verdict.left_out.update(positions)


def _by_rank(samples: tuple[Sample, ...], positions: list[int]) -> dict[int, list[int]]:
    parts: dict[int, list[int]] = defaultdict(list)
    for position in positions:
        parts[_RANK[samples[position].given]].append(position)
    return parts


def _name_duplicates(samples: tuple[Sample, ...], positions: list[int], verdict: Verdict) -> None:
    """Name the copies beyond the first within one part; leave out those that are the same file."""
    first, *others = positions
    listed = {samples[first].path}
    for position in others:
        path = samples[position].path
        if path in listed:
            verdict.left_out.add(position)
            verdict.problems.append(Problem(path, "duplicate", "listed twice", "left out"))
        else:
            listed.add(path)
            detail = f"the same picture as {samples[first].path}"
            verdict.problems.append(Problem(path, "duplicate", detail, "kept, together with its twin in one part"))


def _remove_leaks(samples: tuple[Sample, ...], positions: list[int], keep: bool, verdict: Verdict) -> None:
    """Remove the copies from all parts but the one that stays."""
    highest = max(_RANK[samples[position].given] for position in positions)
    twin = next(samples[position] for position in positions if _RANK[samples[position].given] == highest)
    for position in positions:
        sample = samples[position]
        if _RANK[sample.given] == highest:
            continue
        _tell_leak(position, sample, f"the same picture is in {twin.given}: {twin.path}", keep, verdict)


def _tell_leak(position: int, sample: Sample, detail: str, keep: bool, verdict: Verdict) -> None:
    if not keep:
        verdict.left_out.add(position)
    action = "kept" if keep else f"removed from {'selection' if sample.given == 'val' else 'training'}"
    verdict.problems.append(Problem(sample.path, "leak", detail, action))


def _twin_pairs(dataset: Dataset, copies: Mapping[str, list[int]], verdict: Verdict) -> list[tuple[int, int, bool]]:
    """The positions of nearly the same pictures that are left, and whether one is mirrored; of copies the first."""

    def standing(digest: str) -> list[int]:
        parts = _by_rank(dataset.samples, _left(copies.get(digest, []), verdict))
        return [part[0] for part in parts.values()]

    return [
        (one, other, pair in dataset.mirrored)
        for pair in dataset.twins
        for one in standing(pair[0])
        for other in standing(pair[1])
    ]


def _remove_near_leaks(dataset: Dataset, copies: Mapping[str, list[int]], keep: bool, verdict: Verdict) -> None:
    """Remove each picture that has a twin of its label in a part of higher rank, with all copies in its own part.

    A picture in `val` that is itself removed for a twin in the test takes none of training with it.
    """
    samples = dataset.samples
    pairs = _twin_pairs(dataset, copies, verdict)
    told: set[int] = set()
    for highest in (_RANK["test"], _RANK["val"]):
        for one, other, mirrored in pairs:
            low, high = sorted((one, other), key=lambda position: _RANK[samples[position].given])
            rank, twin = _RANK[samples[low].given], samples[high]
            if samples[low].label != twin.label or rank >= highest or _RANK[twin.given] != highest:
                continue
            if low in told or high in verdict.left_out:
                continue
            like = "nearly the same picture" + (", mirrored," if mirrored else "")
            for position in _left(copies[samples[low].digest], verdict):
                if _RANK[samples[position].given] == rank:
                    _tell_leak(position, samples[position], f"{like} is in {twin.given}: {twin.path}", keep, verdict)
                    told.add(position)


def _name_twins(dataset: Dataset, copies: Mapping[str, list[int]], verdict: Verdict) -> None:
    """Name the twins that are left: both of a pair with different labels, else the later in each part."""
    samples, named = dataset.samples, set[int]()

    def name(one: int, other: int, mirrored: bool) -> None:
        if one not in named:
            named.add(one)
            _name_twin(samples[one], samples[other], mirrored, verdict)

    pairs = _twin_pairs(dataset, copies, verdict)
    for one, other, mirrored in pairs:
        if samples[one].label != samples[other].label:
            name(one, other, mirrored)
            name(other, one, mirrored)
    for one, other, mirrored in pairs:
        mine, theirs = samples[one], samples[other]
        if (mine.label, _RANK[mine.given]) == (theirs.label, _RANK[theirs.given]):
            name(max(one, other), min(one, other), mirrored)


def _name_twin(sample: Sample, twin: Sample, mirrored: bool, verdict: Verdict) -> None:
    detail, action = f"nearly the same as {twin.path}", "kept, together with its twin in one part"
    if mirrored:
        detail += ", mirrored"
    if twin.label != sample.label:
        detail, action = f"{detail}, which is {twin.label!r}", "kept; look at their labels"
    verdict.problems.append(Problem(sample.path, "near_duplicate", detail, action))


def _listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    all_names = list(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + more


def groups(dataset: Dataset) -> NDArray[np.int64]:
    """Which samples must stay together: those with the same digest or the same `group`, twins, and so on in chains.

    Returns:
        int64 [n], the number of each sample's group, from 0 without gaps. Groups are numbered in the order of
        their smallest digests, so that neither the order of files nor their names matter.
    """
    if not dataset.samples:
        return np.empty(0, np.int64)
    leaders = _leaders(dataset.samples, dataset.twins)
    by_digest = sorted(range(len(leaders)), key=lambda position: dataset.samples[position].digest)
    ranks = np.empty(len(leaders), np.int64)
    ranks[by_digest] = np.arange(len(leaders))
    smallest = np.full(len(leaders), len(leaders))
    np.minimum.at(smallest, leaders, ranks)
    return np.unique(smallest[leaders], return_inverse=True)[1].astype(np.int64)


def _leaders(samples: tuple[Sample, ...], twins: tuple[tuple[str, str], ...]) -> NDArray[np.int64]:
    """For each sample the position of one that stands for its whole group (union-find with path halving)."""
    parent = list(range(len(samples)))

    def find(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    of_digest: dict[str, int] = {}
    of_group: dict[str, int] = {}
    for position, sample in enumerate(samples):
        parent[find(position)] = find(of_digest.setdefault(sample.digest, position))
        if sample.group is not None:
            parent[find(position)] = find(of_group.setdefault(sample.group, position))
    for one, other in twins:
        ends = of_digest.get(one), of_digest.get(other)
        if ends[0] is not None and ends[1] is not None:
            parent[find(ends[0])] = find(ends[1])
    return np.fromiter((find(position) for position in range(len(samples))), dtype=np.int64)
