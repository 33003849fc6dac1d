"""The records that describe a user's pictures: Sample, Problem, Dataset."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Part = Literal["train", "val", "test"]
"""A part that the user's own folders or manifest assign."""

ProblemKind = Literal[
    "unreadable",
    "too_large",
    "empty_class",
    "too_few",
    "duplicate",
    "near_duplicate",
    "conflicting_label",
    "leak",
    "ignored",
    "vanished",
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture.

    `path` is relative to `Dataset.root`, with forward slashes, or absolute for a picture outside of it.
    `label` is the name of its class. `given` is the part that the user assigned, if any. Samples with the
    same `group` must not be divided between parts. `digest` is the SHA-256 of the file's bytes in lower-case
    hexadecimal; it is empty until the picture has been read.
    """

    path: str
    label: str
    given: Part | None = None
    group: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the data, reported as data.

    `detail` says what is wrong, `action` what was done about it ("left out", "kept", ...).
    """

    path: str
    kind: ProblemKind
    detail: str
    action: str


@dataclass(frozen=True)
class Dataset:
    """Samples in the order of their paths, the sorted names of their classes, and every problem met so far.

    `twins` are pairs of digests of nearly the same pictures, the likest first; a digest may be in several, and need
    not be a sample's. `mirrored` are those of the pairs where one is the other's mirror image.
    """

    root: Path
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    twins: tuple[tuple[str, str], ...] = ()
    mirrored: frozenset[tuple[str, str]] = frozenset()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that have at least one sample, sorted by code point."""
        return tuple(sorted({sample.label for sample in self.samples}))

    def counts(self) -> Counter[str]:
        """The number of samples of each class."""
        return Counter(sample.label for sample in self.samples)

    def locate(self, sample: Sample) -> Path:
        """Where the sample's file is."""
        return self.root / sample.path

    def without(self, paths: set[str], problems: tuple[Problem, ...]) -> "Dataset":
        """This dataset less the samples at `paths`, with `problems` added to its own."""
        kept = tuple(sample for sample in self.samples if sample.path not in paths)
        return replace(self, samples=kept, problems=self.problems + problems)
