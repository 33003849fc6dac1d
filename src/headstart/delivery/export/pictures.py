"""The pictures of an export: those that it is proved on, and those that int8 is calibrated on, never the same."""

import csv
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.delivery import run_folder
from headstart.delivery.review.journal import Reviewed
from headstart.errors import DataError
from headstart.features.extract import prepare
from headstart.learning.classifier import Classifier
from headstart.parallel import core_count, in_order
from headstart.pictures.dataset import Sample
from headstart.pictures.decode import PictureError
from headstart.pictures.inspect import read
from headstart.pictures.overlay import NOTHING, apply
from headstart.pictures.scan import scan
from headstart.pictures.split import TEST

CALIBRATION = 300
"""How many pictures int8 is calibrated on; more hardly move the ranges that it is about."""

MOST = 2000
"""How many pictures an export is proved on; of more, so many are drawn. An agreement of 0.99 is then known to 0.005."""

SEED = 0


@dataclass(frozen=True)
class Shelf:
    """Labelled pictures under `root`, each with its digest, no two the same."""

    root: Path
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Material:
    """What an export is `proved` on, what int8 is calibrated on, and the `origin` of the former in words."""

    proved: Shelf
    calibration: Shelf
    origin: str


def gather(model: Path, classifier: Classifier, data: Path | None, *, calibrated: bool) -> Material:
    """Choose the pictures.

    Proved are those in `data` where they are given, else those that the run held out; labels are as that run was
    trained with them. Calibration is by the run's training pictures. A model without its run has none: there a third
    of `data` serves, and its groups are not proved on.

    Args:
        model: a run folder or its model/, or a model folder that stands alone.
        classifier: what is loaded from it.
        data: labelled pictures that it has not learnt from.
        calibrated: whether pictures for calibration are needed.

    Raises:
        DataError: there are no pictures to prove it on, or it has learnt from them.
    """
    run = run_of(model)
    if run is None and data is None:
        raise DataError(
            f"{model} is a model without its run, so that there are no held-out pictures to prove an export on. Name "
            "labelled pictures that it has not learnt from with --data."
        )
    held_out, training = (None, None) if run is None else _of_run(run, needed=data is None or calibrated)
    if data is not None:
        held_out = _of_data(data, classifier, None if run is None else run_folder.reviewed_of_model(run))
    assert held_out is not None
    if calibrated and training is None:
        held_out, training = _parted(held_out)
    proved = Shelf(held_out.root, tuple(drawn(held_out.samples, MOST)))
    if not proved.samples:
        raise DataError("there are no held-out pictures to prove the export on. Name labelled pictures with --data.")
    chosen = () if training is None or not calibrated else tuple(drawn(training.samples, CALIBRATION))
    origin = f"labelled in {data}" if data is not None else f"held out by {run}"
    return Material(proved, Shelf(proved.root if training is None else training.root, chosen), origin)


def run_of(model: Path) -> Path | None:
    """The run folder that `model` is, or stands in as model/; None where it stands alone."""
    return next((place for place in (model, model.resolve().parent) if run_folder.is_run(place)), None)


def drawn(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` of `samples`, of each class its share, drawn at random but always the same, in their order."""
    if len(samples) <= most:
        return list(samples)
    shuffled = np.random.default_rng(SEED).permutation(len(samples)).tolist()
    members: dict[str, list[int]] = {}
    for place in shuffled:
        members.setdefault(samples[place].label, []).append(place)
    ranked = [((rank + 0.5) / len(places), place) for places in members.values() for rank, place in enumerate(places)]
    return [samples[place] for place in sorted(place for _, place in sorted(ranked)[:most])]


def pixels(shelf: Shelf, classifier: Classifier) -> NDArray[np.uint8]:
    """The pictures of `shelf` as the network gets them, uint8 [n, h, w, 3]; those that changed are left out.

    Raises:
        DataError: none is left.
    """
    digests = [sample.digest for sample in shelf.samples]
    items = prepare(shelf.samples, shelf.root, classifier.backbone.preprocess)
    found = [
        item.pixels
        for item, digest in zip(items, digests, strict=True)
        if item.pixels is not None and item.sample.digest == digest
    ]
    if not found:
        raise DataError("there are no training pictures to calibrate int8 on: they are gone, or cannot be read.")
    return np.stack(found)


def _of_run(run: Path, *, needed: bool) -> tuple[Shelf | None, Shelf | None]:
    """The held-out and the training pictures of `run`, labelled as it was trained; None where not `needed`."""
    if not needed:
        return None, None
    try:
        data, options = run_folder.recorded(run)
    except DataError as error:
        raise DataError(f"{error} Or name labelled pictures to prove the export on with --data.") from error
    root = scan(data, group_by=options.group_by, test=options.test_folder).root
    with (run / run_folder.SPLIT).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    test = run_folder.PART_NAMES[TEST]
    parts = (
        [row for row in rows if row["part"] == test],
        [row for row in rows if row["part"] != test],
    )
    held_out, training = (
        Shelf(
            root,
            _different(Sample(row["path"], row["class"], None, row["group"] or None, row["digest"]) for row in part),
        )
        for part in parts
    )
    return held_out, training


def _of_data(data: Path, classifier: Classifier, reviewed: Reviewed | None) -> Shelf:
    """The labelled pictures in `data`, with what was decided in review; refused where the model has learnt from any."""
    overlay = NOTHING if reviewed is None else reviewed.overlay
    scanned = scan(data)
    with ThreadPoolExecutor(core_count()) as pool:
        digests = list(in_order(pool, _digest, [scanned.locate(sample) for sample in scanned.samples], 64))
    known = [
        replace(sample, digest=digest)
        for sample, digest in zip(scanned.samples, digests, strict=True)
        if digest is not None
    ]
    dataset = apply(replace(scanned, samples=tuple(known)), overlay)
    samples = _different(dataset.samples)
    _refuse_unknown({sample.label for sample in samples}, classifier)
    seen = sum(classifier.has_seen(sample.digest) for sample in samples)
    if seen:
        raise DataError(
            f"the model learnt from {seen} of the {len(samples)} pictures in {data}, so that they prove little about "
            "new ones. Leave them out."
        )
    return Shelf(scanned.root, samples)


def _refuse_unknown(labels: Collection[str], classifier: Classifier) -> None:
    if unknown := sorted(set(labels) - set(classifier.classes)):
        raise DataError(
            f"the model does not know these classes: {', '.join(unknown[:10])}. It knows "
            f"{', '.join(classifier.classes[:10])}. Rename the folders, or leave those classes out."
        )


def _digest(path: Path) -> str | None:
    try:
        return read(path)[1]
    except (PictureError, OSError):
        return None


def _parted(shelf: Shelf) -> tuple[Shelf, Shelf]:
    """`shelf` without a third of its pictures, and that third, for calibration; no group is in both."""
    members: dict[str, list[Sample]] = {}
    for sample in shelf.samples:
        members.setdefault(sample.group or sample.digest, []).append(sample)
    wanted = min(CALIBRATION, max(1, len(shelf.samples) // 3))
    names, chosen = list(members), list[Sample]()
    for place in np.random.default_rng(SEED).permutation(len(names)).tolist():
        if len(chosen) < wanted:
            chosen += members.pop(names[place])
    rest = tuple(sample for left in members.values() for sample in left)
    return Shelf(shelf.root, rest), Shelf(shelf.root, tuple(chosen))


def _different(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The first of each set of copies."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample.digest, sample)
    return tuple(first.values())
