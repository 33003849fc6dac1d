"""What was decided about pictures in review: a layer over the data, which itself is never changed."""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from headstart.errors import UsageError
from headstart.pictures.dataset import Dataset, Part, Problem, Sample

LONGEST_NAME = 200


@dataclass(frozen=True)
class Overlay:
    """What holds of pictures, named by the SHA-256 of their files, whatever the data says.

    `relabelled`: the label of a picture. `excluded`: pictures that are left out. `accepted`: labels that were looked at
    and confirmed; a key may also be a pair of nearly the same pictures, `pair_key` of the two, with any value.
    `renamed`: for class names of the data the names that they have now; two with one new name are merged. `added`:
    pictures from outside the data, each with its absolute path and its label. Values are names as they are now: the
    renaming is never applied to them.
    """

    relabelled: Mapping[str, str] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    accepted: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    added: tuple[tuple[str, str], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing and confirms nothing."""
        return not (self.relabelled or self.excluded or self.accepted or self.renamed or self.added)

    @property
    def digest(self) -> str:
        """The SHA-256 of all that it holds, in lower-case hexadecimal; equal overlays have equal digests."""
        return sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def class_name(self, name: str) -> str:
        """The name that a class of the data has now."""
        return self.renamed.get(name, name)

    def is_confirmed(self, digest: str, label: str) -> bool:
        """Whether a person has said that the picture is of the class `label`."""
        return label in (self.relabelled.get(digest), self.accepted.get(digest))

    def to_json(self) -> dict[str, Any]:
        """Everything, in an order of its own."""
        return {
            "relabelled": dict(sorted(self.relabelled.items())),
            "excluded": sorted(self.excluded),
            "accepted": dict(sorted(self.accepted.items())),
            "renamed": dict(sorted(self.renamed.items())),
            "added": sorted(list(pair) for pair in self.added),
        }


NOTHING = Overlay()


def with_added(dataset: Dataset, overlay: Overlay) -> Dataset:
    """The data set, which has not been read yet, with the pictures that the overlay adds to it."""
    if not overlay.added:
        return dataset
    # Where some parts are given, what has none is for training, and so are pictures that were labelled one by one.
    given: Part | None = "train" if any(sample.given for sample in dataset.samples) else None
    present = {posixpath.join(dataset.root.as_posix(), sample.path) for sample in dataset.samples}
    new = [Sample(path, label, given) for path, label in overlay.added if path not in present]
    samples = sorted((*dataset.samples, *new), key=lambda sample: sample.path)
    return replace(dataset, samples=tuple(samples))


def apply(dataset: Dataset, overlay: Overlay) -> Dataset:
    """The data set as the overlay makes it; the same one where the overlay is empty.

    All samples have digests. Copies of a picture get the same decision, so that a decision also settles copies with
    different labels. A picture that is left out becomes a Problem.
    """
    if overlay.is_empty:
        return dataset
    excluded = {sample.path for sample in dataset.samples if sample.digest in overlay.excluded}
    samples = tuple(_labelled(sample, overlay) for sample in dataset.samples if sample.path not in excluded)
    problems = tuple(Problem(path, "ignored", "excluded in review", "left out") for path in sorted(excluded))
    return replace(dataset, samples=samples, problems=dataset.problems + problems)


def _labelled(sample: Sample, overlay: Overlay) -> Sample:
    label = overlay.relabelled.get(sample.digest, overlay.class_name(sample.label))
    return sample if label == sample.label else replace(sample, label=label)


def pair_key(one: str, other: str) -> str:
    """The key of two pictures that were looked at together.

    >>> pair_key("b", "a")
    'a+b'
    """
    return "+".join(sorted((one, other)))


def checked_name(name: str) -> str:
    """`name` without the spaces around it, as the name of a class.

    Raises:
        UsageError: no folder could be called so.
    """
    name = name.strip()
    parts = name.split("/")
    if not name or len(name) > LONGEST_NAME:
        raise UsageError(f"the name of a class has 1 to {LONGEST_NAME} letters; received {len(name)}.")
    if not name.isprintable() or "\\" in name or any(part != part.strip() or part.startswith(".") for part in parts):
        raise UsageError(f"no class folder can be called {name!r}. Choose a name without control characters and dots.")
    if not all(parts):
        raise UsageError(f"no class folder can be called {name!r}. Choose a name without a slash at its ends.")
    return name
