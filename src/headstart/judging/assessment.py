"""How far a classifier and its data can be trusted: every judgement of one training, from what it left in memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart import scratch
from headstart.features.engines import EnginePlan
from headstart.features.extract import Features
from headstart.judging.baselines import Baseline, baselines
from headstart.judging.growth import Growth, growth
from headstart.judging.intervals import BoolArray, FloatArray, IntArray
from headstart.judging.promises import Promises, check_promises
from headstart.judging.robustness import Robustness, robustness
from headstart.judging.shortcuts import Shortcut, as_suspects, find_shortcuts
from headstart.judging.slices import Slice, slices
from headstart.judging.suspects import Evidence, Suspect, audit
from headstart.judging.trial import Trial
from headstart.learning.examples import Examples
from headstart.learning.novelty import held_out_distances
from headstart.learning.solve import Solved
from headstart.pictures.dataset import Dataset
from headstart.pictures.split import TEST
from headstart.progress import SILENT, Progress

ENOUGH_FOR_SLICES = 100
"""With fewer held-out pictures, those that were held out of a fold are sliced with them."""

MOST_GROUPS_SLICED = 20


@dataclass(frozen=True)
class Audit:
    """What is suspect about the data, by kind and the worst first, and what gives classes away before anyone looks."""

    suspects: tuple[Suspect, ...]
    shortcuts: tuple[Shortcut, ...]

    def to_json(self) -> dict[str, Any]:
        """The "audit" object of metrics.json."""
        kinds: dict[str, int] = {}
        for suspect in self.suspects:
            kinds[suspect.kind] = kinds.get(suspect.kind, 0) + 1
        return {"kinds": kinds, "shortcuts": [shortcut.to_json() for shortcut in self.shortcuts]}


@dataclass(frozen=True)
class OnTrial:
    """A classifier with the examples that it was made of, and what it said of those that are held out."""

    solved: Solved
    examples: Examples
    trial: Trial

    @property
    def judged(self) -> IntArray:
        """The samples, as positions in the dataset, that were predicted by a head that had not seen them, int [m]."""
        return np.concatenate([self.solved.held_out, self.examples.split.test])

    @property
    def correct(self) -> BoolArray:
        """Where those predictions are right, bool [m]; the last ones are the held-out samples."""
        likeliest = [of.argmax(axis=1) for of in (self.solved.out_of_fold, self.trial.probabilities)]
        correct: BoolArray = np.equal(np.concatenate(likeliest), self.examples.labels[self.judged])
        return correct

    @property
    def probabilities(self) -> FloatArray:
        """Those predictions, float64 [m, k]."""
        parts = (self.solved.out_of_fold, self.trial.probabilities)
        together = scratch.empty((sum(map(len, parts)), parts[0].shape[1]), np.float64)
        return np.concatenate(parts, out=together)


@dataclass(frozen=True)
class Assessment:
    """What was found out about a classifier beside its evaluation; None where there was too little to find it out."""

    promises: Promises
    baselines: tuple[Baseline, ...]
    growth: Growth | None
    robustness: Robustness | None
    slices: tuple[Slice, ...]

    def to_json(self) -> dict[str, Any]:
        """The objects that it adds to metrics.json."""
        return {
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "promises": self.promises.to_json(),
            "growth": None if self.growth is None else self.growth.to_json(),
            "robustness": None if self.robustness is None else self.robustness.to_json(),
            "slices": [one.to_json() for one in self.slices],
        }


def examine(head: OnTrial, *, seed: int = 0) -> Audit:
    """Look for what is wrong with the data, by the predictions of pictures that the solved head had not seen.

    `head` is the solved head, whose folds predicted every training picture; `seed` draws permutations.
    """
    examples, labels, classes = head.examples, head.examples.labels, head.examples.dataset.classes
    looks = examples.features.looks.measures(examples.rows)
    parts = examples.split.parts.astype(np.int64)
    folds = np.where(parts == TEST, parts.max() + 1, parts)
    evidence = Evidence(
        paths=tuple(sample.path for sample in examples.dataset.samples),
        labels=labels,
        classes=classes,
        held_out=head.judged,
        probabilities=head.probabilities,
        distances=held_out_distances(examples.vectors, labels, folds, examples.groups),
        looks=looks,
    )
    shortcuts = find_shortcuts(
        looks, labels, examples.groups, classes, classifier=_mean_recall(head.correct, labels[head.judged]), seed=seed
    )
    return Audit((*audit(evidence), *as_suspects(shortcuts)), tuple(shortcuts))


def look_over(dataset: Dataset, features: Features) -> Audit:
    """What is suspect about pictures that no classifier can be made of: how they look."""
    rows = features.rows(dataset.samples)
    labels = np.searchsorted(dataset.classes, [sample.label for sample in dataset.samples]).astype(np.int64)
    evidence = Evidence(
        paths=tuple(sample.path for sample in dataset.samples),
        labels=labels,
        classes=dataset.classes,
        held_out=np.empty(0, np.int64),
        probabilities=np.empty((0, len(dataset.classes))),
        distances=np.full(len(rows), np.nan),
        looks=features.looks.measures(rows),
    )
    return Audit(tuple(audit(evidence)), ())


def assess(
    kept: OnTrial,
    head: OnTrial,
    plan: EnginePlan,
    *,
    balanced: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Assessment:
    """Check what a classifier promises, set it beside simple ones, and find where it is worse and what would help.

    Args:
        kept: the classifier.
        head: the solved head that it began from, or is; more pictures are imagined for that one.
        plan: where the backbone runs, for worse versions of some held-out pictures.
        balanced: whether the head weighs classes equally.
        seed: draws samples and resamples.
        progress: shows long work.
    """
    examples, trial = kept.examples, kept.trial
    test = examples.split.test
    labels, groups = examples.labels[test], examples.groups[test]
    learnt = head.examples.split.train
    return Assessment(
        promises=check_promises(kept.solved.classifier, trial.probabilities, labels, trial.predictions.novelty, groups),
        baselines=tuple(baselines(examples, kept.correct[len(kept.solved.held_out) :])),
        growth=growth(
            head.examples.training_set,
            head.examples.groups[learnt],
            head.solved.fitted,
            balanced=balanced,
            seed=seed,
        ),
        robustness=_robustness(kept, plan, seed, progress),
        slices=tuple(_slices(kept)),
    )


def _robustness(kept: OnTrial, plan: EnginePlan, seed: int, progress: Progress) -> Robustness | None:
    examples, trial = kept.examples, kept.trial
    if not trial.samples:
        return None
    groups, root = examples.groups[examples.split.test], examples.dataset.root
    return robustness(kept.solved.classifier, plan, trial.samples, root, groups, seed=seed, progress=progress)


def _slices(kept: OnTrial) -> list[Slice]:
    """The slices of the held-out pictures, and of those held out of folds too where the former are few."""
    examples, few = kept.examples, len(kept.trial.samples) < ENOUGH_FOR_SLICES
    taken = slice(0 if few else len(kept.solved.held_out), None)
    rows = kept.judged[taken]
    named = [examples.dataset.samples[row].group for row in rows]
    columns = {"group": named} if 1 < len(set(named)) <= MOST_GROUPS_SLICED else {}
    looks = examples.features.looks.measures(examples.rows[rows])
    return slices(kept.correct[taken], examples.groups[rows], looks, columns)


def _mean_recall(correct: BoolArray, labels: IntArray) -> float | None:
    """The mean over classes of the share of their pictures that were predicted rightly."""
    if not len(labels):
        return None
    sizes = np.bincount(labels)
    return float((np.bincount(labels, correct)[sizes > 0] / sizes[sizes > 0]).mean())
