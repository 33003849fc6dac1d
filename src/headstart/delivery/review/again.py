"""Training again in the desk: the head is solved anew from features in memory, and set beside the one before."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headstart.delivery import run_folder
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import UsageError
from headstart.features.backbones import DEFAULT, Backbone, load_backbone
from headstart.features.engines import EnginePlan, plan_engine
from headstart.features.extract import Features, extract
from headstart.judging import comparison, metrics
from headstart.judging.comparison import Answer, Contestant
from headstart.judging.metrics import FloatArray, IntArray, Interval
from headstart.learning.examples import Examples
from headstart.learning.refit import Footing, refit
from headstart.learning.solve import Solved, complete
from headstart.pictures.classes import check_classes
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.duplicates import resolve
from headstart.pictures.near import near_duplicates, with_twins
from headstart.pictures.overlay import Overlay, apply, with_added
from headstart.pictures.scan import scan
from headstart.pictures.split import split
from headstart.pictures.tree import read_tree
from headstart.progress import SILENT, Progress

MOST_FLIPPED = 200
"""Pictures whose prediction changed, as far as they are listed; all are counted."""


@dataclass(frozen=True, eq=False)
class Material:
    """All that a run is trained again from, in memory.

    `dataset` are the readable pictures of the data, as their folders or manifest label them; `outside` those from
    elsewhere, without a label: of the folder that was given, and those that were added before; `features` of both.
    `earlier` is the part of each digest in the run's split.
    """

    run: Path
    data: Path
    options: TrainOptions
    dataset: Dataset
    outside: tuple[Sample, ...]
    features: Features
    backbone: Backbone
    plan: EnginePlan
    earlier: Mapping[str, int]
    _pairs: dict[frozenset[str], Dataset] = field(default_factory=dict)

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Where a picture lies, by its digest; of copies the first."""
        found: dict[str, Path] = {}
        for sample in (*self.dataset.samples, *self.outside):
            found.setdefault(sample.digest, self.dataset.root / sample.path)
        return found

    @cached_property
    def shown_paths(self) -> dict[str, str]:
        """The path of each picture as it is shown, by its digest: relative to the data where it belongs to them."""
        found: dict[str, str] = {}
        for sample in (*self.dataset.samples, *self.outside):
            found.setdefault(sample.digest, sample.path)
        return found

    @cached_property
    def given_labels(self) -> dict[str, str]:
        """The label that the data give each of their pictures, by its digest; of copies the first's."""
        found: dict[str, str] = {}
        for sample in self.dataset.samples:
            found.setdefault(sample.digest, sample.label)
        return found

    @cached_property
    def labels_of_copies(self) -> dict[str, set[str]]:
        """All labels that the data give the copies of a picture, by its digest."""
        found: dict[str, set[str]] = {}
        for sample in self.dataset.samples:
            found.setdefault(sample.digest, set()).add(sample.label)
        return found

    def assembled(self, overlay: Overlay) -> Dataset:
        """The data set with the pictures that `overlay` adds, and the twins among them; not yet otherwise changed."""
        by_path = {sample.path: sample.digest for sample in self.outside}
        samples = []
        for sample in with_added(self.dataset, overlay).samples:
            if sample.digest or sample.path in by_path:
                samples.append(sample if sample.digest else replace(sample, digest=by_path[sample.path]))
        key = frozenset(path for path, _ in overlay.added)
        if key not in self._pairs:
            self._pairs.clear()
            self._pairs[key] = self._paired({sample.digest for sample in samples})
        found = self._pairs[key]
        return replace(self.dataset, samples=tuple(samples), twins=found.twins, mirrored=found.mirrored)

    def _paired(self, digests: set[str]) -> Dataset:
        rows = np.flatnonzero([digest in digests for digest in self.features.digests])
        pairs = near_duplicates(self.features.looks.take(rows), self.features.vectors[rows])
        return with_twins(self.dataset, [self.features.digests[row] for row in rows], pairs)


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training in the desk gave, with the decisions up to `revision`.

    `probabilities` float64 [m, k]: of the `judged` samples, each from a head that has not seen it; the last
    `len(examples.split.test)` of them are the held-out ones. `accuracy`: on those. `footing`: for the next training.
    """

    overlay: Overlay
    revision: int
    assembled: Dataset
    examples: Examples
    solved: Solved
    probabilities: FloatArray
    accuracy: Interval
    seconds: float
    footing: Footing | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.examples.dataset.classes

    @property
    def judged(self) -> IntArray:
        """The samples, as positions in the data set, that have a prediction, int [m]."""
        return np.concatenate([self.solved.held_out, self.examples.split.test])

    @cached_property
    def labels(self) -> dict[str, str]:
        """The label of each picture that took part, by its digest."""
        return {sample.digest: sample.label for sample in self.examples.dataset.samples}

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """What was said of each judged picture, by its digest."""
        samples, classes = self.examples.dataset.samples, self.classes
        numbers, best = self.probabilities.argmax(axis=1).tolist(), self.probabilities.max(axis=1).tolist()
        return {
            samples[place].digest: Answer(samples[place].path, samples[place].label, classes[number], p)
            for place, number, p in zip(self.judged.tolist(), numbers, best, strict=True)
        }

    @cached_property
    def held_out(self) -> frozenset[str]:
        """The digests of the held-out pictures."""
        return frozenset(self.examples.dataset.samples[place].digest for place in self.examples.split.test)


@dataclass(frozen=True)
class Change:
    """What training again has changed, on the held-out pictures that both trainings share, by their labels now.

    `difference` is the accuracy now less that before. `flipped`: the digests whose prediction is another, the held-out
    ones first; `relabelled` of the held-out pictures have another label than in the data.
    """

    n: int
    before: Interval
    after: Interval
    difference: Interval
    only_before: int
    only_after: int
    p: float
    flipped: tuple[str, ...]
    held_out_flipped: int
    relabelled: int


def load(run: Path, overlay: Overlay, unlabelled: Path | None = None, progress: Progress = SILENT) -> Material:
    """Read the data of `run`, and take its features from the store; pictures that the store does not know are embedded.

    Args:
        run: a finished run.
        overlay: what was decided so far; pictures that it adds are read too.
        unlabelled: a folder of pictures to label.
        progress: shows long work.

    Raises:
        HeadstartError: the run is damaged, or its data are gone.
    """
    if not run_folder.is_run(run):
        raise UsageError(f"{run} is not a run. Give a folder that `headstart train` made.")
    data, options = run_folder.recorded(run)
    plan = plan_engine(options.device, options.precision)
    name, weights = run_folder.backbone_asked(run)
    backbone = load_backbone(name or DEFAULT, weights, progress=progress)
    if options.fit is not None:
        backbone = replace(backbone, preprocess=backbone.preprocess.with_fit(options.fit))
    scanned = scan(data, group_by=options.group_by, test=options.test_folder)
    outside = _outside(overlay, unlabelled)
    everything = replace(scanned, samples=(*scanned.samples, *outside))
    read, features = extract(everything, backbone, plan, progress=progress)
    absolute = {sample.path for sample in outside}
    return Material(
        run=run,
        data=data,
        options=options,
        dataset=replace(read, samples=tuple(one for one in read.samples if one.path not in absolute)),
        outside=tuple(one for one in read.samples if one.path in absolute),
        features=features,
        backbone=backbone,
        plan=plan,
        earlier=run_folder.earlier_split(run, options) or {},
    )


def train(material: Material, overlay: Overlay, revision: int, former: Trained | None = None) -> Trained:
    """Train the head on the data as `overlay` makes them: `workflow.train` from the features on.

    Where `former` is given, the fit begins at what it found (see `refit`), and its "none of these" score is kept.

    Raises:
        DataError: a class has too few pictures.
    """
    started = time.perf_counter()
    examples = divided(material, overlay)
    parts = examples.split
    footing = None if former is None else former.footing
    fitted, footing = refit(
        examples.training_set, examples.dataset.classes, footing, balanced=material.options.balanced
    )
    novelty = None if former is None else former.solved.classifier.novelty
    solved = complete(examples, fitted, material.backbone, material.plan.precision, novelty)
    probabilities = solved.classifier.probabilities(examples.test_vectors)
    outcome = metrics.judge(probabilities, examples.labels[parts.test], examples.groups[parts.test])
    return Trained(
        overlay=overlay,
        revision=revision,
        assembled=material.assembled(overlay),
        examples=examples,
        solved=solved,
        probabilities=np.concatenate([solved.out_of_fold, probabilities]),
        accuracy=metrics.accuracy(outcome),
        seconds=time.perf_counter() - started,
        footing=footing,
    )


def divided(material: Material, overlay: Overlay) -> Examples:
    """The pictures as `overlay` makes them, with their features, in the parts of the run's split, which is extended.

    Raises:
        DataError: a class has too few pictures.
    """
    options = material.options
    scanned = {overlay.class_name(name) for name in material.dataset.classes}
    decided = apply(material.assembled(overlay), overlay)
    dataset = check_classes(resolve(decided, keep_leaks=options.keep_leaks), scanned=scanned)
    parts = split(dataset, test_fraction=options.test_fraction, seed=options.seed, earlier=material.earlier)
    return Examples(dataset, material.features, parts)


def compare(before: Trained, after: Trained) -> Change:
    """What the second training has changed against the first."""
    names = _names_now(before, after)
    shared = after.held_out & before.held_out
    now = {digest: said for digest, said in after.answers.items() if digest in shared}
    then = {
        digest: replace(before.answers[digest], label=said.label, predicted=names[before.answers[digest].predicted])
        for digest, said in now.items()
    }
    numbers = after.examples.groups.tolist()
    samples = after.examples.dataset.samples
    groups = {sample.digest: str(number) for sample, number in zip(samples, numbers, strict=True)}
    found = comparison.compare([Contestant("before", then), Contestant("after", now)], groups)
    (pair,) = found.pairs
    forward = pair.better == "after"
    ends = pair.difference
    flipped = [
        digest
        for digest, said in after.answers.items()
        if digest in before.answers and names[before.answers[digest].predicted] != said.predicted
    ]
    flipped.sort(key=lambda digest: (digest not in after.held_out, -after.answers[digest].probability))
    return Change(
        n=found.n,
        before=found.accuracy["before"],
        after=found.accuracy["after"],
        difference=ends if forward else Interval(0.0 - ends.value, 0.0 - ends.high, 0.0 - ends.low),
        only_before=pair.only_worse if forward else pair.only_better,
        only_after=pair.only_better if forward else pair.only_worse,
        p=pair.p,
        flipped=tuple(flipped),
        held_out_flipped=sum(digest in after.held_out for digest in flipped),
        relabelled=relabelled_held_out(after),
    )


def relabelled_held_out(trained: Trained) -> int:
    """How many held-out pictures have another label than the data give them, renaming aside."""
    given = {sample.digest: trained.overlay.class_name(sample.label) for sample in trained.assembled.samples}
    return sum(given[digest] != trained.labels[digest] for digest in trained.held_out)


def to_json(change: Change, before: Trained, after: Trained) -> dict[str, Any]:
    """The change as the page shows it; see `app`."""
    names = _names_now(before, after)
    return {
        "n": change.n,
        "before": change.before.to_json(),
        "after": change.after.to_json(),
        "difference": change.difference.to_json(),
        "only_before": change.only_before,
        "only_after": change.only_after,
        "p": change.p,
        "certain": change.p < comparison.CERTAIN_BELOW,
        "flipped": {
            "count": len(change.flipped),
            "held_out": change.held_out_flipped,
            "pictures": [_flip(digest, names, before, after) for digest in change.flipped[:MOST_FLIPPED]],
        },
        "held_out_relabelled": change.relabelled,
    }


def _flip(digest: str, names: Mapping[str, str], before: Trained, after: Trained) -> dict[str, Any]:
    said, then = after.answers[digest], before.answers[digest]
    return {
        "id": digest,
        "path": said.path,
        "label": said.label,
        "held_out": digest in after.held_out,
        "before": {"label": names[then.predicted], "probability": round(then.probability, 6)},
        "after": {"label": said.predicted, "probability": round(said.probability, 6)},
    }


def _names_now(before: Trained, after: Trained) -> dict[str, str]:
    """What each class of the training before is called in the one after it.

    A class of the data goes by its renaming; one that exists by decisions alone, and not under its name, by what most
    of its pictures are now.
    """
    named = {before.overlay.class_name(name): after.overlay.class_name(name) for name in before.assembled.classes}
    names = {}
    for name in before.classes:
        if name in named:
            names[name] = named[name]
            continue
        votes = Counter(after.labels.get(digest, "") for digest, label in before.labels.items() if label == name)
        votes.pop("", None)
        names[name] = name if name in after.classes or not votes else votes.most_common(1)[0][0]
    return names


def _outside(overlay: Overlay, unlabelled: Path | None) -> list[Sample]:
    """The pictures that do not belong to the data: those that were added before, and those of a folder."""
    paths = dict.fromkeys(path for path, _ in overlay.added)
    if unlabelled is not None:
        base = unlabelled.resolve()
        tree, _ = read_tree(base)
        paths.update(dict.fromkeys((base / path).as_posix() for inner in tree.walk() for path in inner.pictures))
    return [Sample(path, label="") for path in paths]
