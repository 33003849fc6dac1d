"""A decision about pictures or classes, as a row of the journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Subject:
    """One of the pictures (or classes) of a decision: its digest (or name), and what was decided before and after."""

    id: str
    path: str
    label: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """One row: `id` is its revision, from 1; `target` the revision that an "undo" or a "redo" is about."""

    id: int
    at: str
    who: str
    action: str
    value: str | None
    target: int | None
    subjects: tuple[Subject, ...]

    @property
    def is_of_classes(self) -> bool:
        """Whether its subjects are classes, also where it takes such a decision back."""
        return bool(self.subjects) and not self.subjects[0].before and not self.subjects[0].after
