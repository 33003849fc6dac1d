"""Pictures that are the same, byte for byte: conflicting labels, leaks into the test, and what must stay together."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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
    """The data set without the contradictions that exact copies make, each of them named in its problems.

    Copies of one picture are told by their digests. In this order:

    - under two or more labels: every copy is left out, of training and of test (`conflicting_label`);
    - in a given test, and in training too: the training copy is removed; so is a training copy of a picture
      in the given `val`, and a `val` copy of one in the test (`leak`);
    - listed twice, by the same path: the second is left out (`duplicate`);
    - otherwise: kept, and named (`duplicate`); `groups` keeps them together.

    Args:
        dataset: all of its samples have digests.
        keep_leaks: whether to keep the training copies of test pictures, which are named all the same.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for position, sample in enumerate(dataset.samples):
        assert sample.digest, f"{sample.path} has not been read"
        copies[sample.digest].append(position)
    verdict = Verdict()
    for positions in copies.values():
        if len(positions) > 1:
            _judge(dataset.samples, positions, keep_leaks, verdict)
    kept = tuple(sample for position, sample in enumerate(dataset.samples) if position not in verdict.left_out)
    return replace(dataset, samples=kept, problems=dataset.problems + tuple(verdict.problems))


def _judge(samples: tuple[Sample, ...], positions: list[int], keep_leaks: bool, verdict: Verdict) -> None:
    """Decide on all copies of one picture."""
    if len({samples[position].label for position in positions}) > 1:
        _leave_out_conflicting(samples, positions, verdict)
        return
    _remove_leaks(samples, positions, keep_leaks, verdict)
    remaining = [position for position in positions if position not in verdict.left_out]
    for part in _by_rank(samples, remaining).values():
        _name_duplicates(samples, part, verdict)


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
        if not keep:
            verdict.left_out.add(position)
        detail = f"the same picture is in {twin.given}: {twin.path}"
        action = "kept" if keep else f"removed from {'selection' if sample.given == 'val' else 'training'}"
        verdict.problems.append(Problem(sample.path, "leak", detail, action))


def _listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    all_names = list(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + more


def groups(dataset: Dataset) -> NDArray[np.int64]:
    """Which samples must stay together: those with the same digest or the same `group`, and so on from one to the next.

    Returns:
        int64 [n], the number of each sample's group, from 0 without gaps. Groups are numbered in the order of
        their smallest digests, so that neither the order of files nor their names matter.
    """
    leaders = _leaders(dataset.samples)
    smallest: dict[int, str] = {}
    for leader, sample in zip(leaders, dataset.samples, strict=True):
        smallest[leader] = min(sample.digest, smallest.get(leader, sample.digest))
    ordered = sorted(smallest, key=lambda leader: smallest[leader])
    numbers = {leader: number for number, leader in enumerate(ordered)}
    return np.array([numbers[leader] for leader in leaders], dtype=np.int64)


def _leaders(samples: tuple[Sample, ...]) -> list[int]:
    """For each sample the position of one that stands for its whole group (union-find with path halving)."""
    parent = list(range(len(samples)))

    def find(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    first: dict[tuple[str, str], int] = {}
    for position, sample in enumerate(samples):
        for bond in _bonds(sample):
            parent[find(position)] = find(first.setdefault(bond, position))
    return [find(position) for position in range(len(samples))]


def _bonds(sample: Sample) -> Iterator[tuple[str, str]]:
    """What binds a sample to others: its content, and the group that the user named."""
    yield "digest", sample.digest
    if sample.group is not None:
        yield "group", sample.group
