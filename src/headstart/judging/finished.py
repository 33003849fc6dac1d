"""Finished runs, and what came of comparing them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.judging.comparison import Answer, Comparison


@dataclass(frozen=True)
class FinishedRun:
    """What a comparison needs of a run folder.

    `answers`: by digest, what the run said of its held-out pictures. `groups`: by digest, the groups of those that
    have one. `options`: as `TrainOptions.to_json`. `seconds`: of each stage, and the "total". `megabytes`: of the
    weights on disk, a million bytes each. `data`: what it was trained on, as it was given. `computed`: what it was
    made with beside its options, as in run.json: "device", "engine", "precision", and the "recipe" of its epochs.
    """

    name: str
    folder: Path
    answers: Mapping[str, Answer]
    groups: Mapping[str, str]
    options: Mapping[str, Any]
    classes: tuple[str, ...]
    backbone: str
    tune: str
    n_train: int
    seconds: Mapping[str, float]
    pictures_per_second: float
    megabytes: float
    data: str = ""
    computed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """How long the training took, in seconds."""
        return self.seconds["total"]

    @property
    def embedding(self) -> float:
        """How much of that went into features, in seconds; next to nothing where they were in the cache."""
        return self.seconds.get("features", 0.0)


@dataclass(frozen=True)
class Compared:
    """Runs and their comparison; `failures` names the candidates that could not be trained, with the reason.

    `runs`: by name, in the order of their accuracy. `cost`: by name, the seconds that count when runs are equally
    good: those of the training, less embedding where all have one backbone, as the first of them embeds for all.
    `groups`: by digest, the groups of pictures that are not independent. `reused`: the candidates that were there.
    """

    runs: Mapping[str, FinishedRun]
    comparison: Comparison
    cost: Mapping[str, float]
    notes: tuple[str, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    reused: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_embedding_aside(self) -> bool:
        """Whether `cost` leaves out the time that went into features."""
        return any(self.cost[name] < run.total for name, run in self.runs.items())
