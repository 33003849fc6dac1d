"""Examples -> classifier: the head by cross-validation, its calibration and thresholds from out-of-fold predictions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.features.backbones import Backbone
from headstart.learning.calibration import Calibration, calibrated, fit_temperature
from headstart.learning.classifier import Classifier, short_digest
from headstart.learning.conformal import fit_abstention, fit_sets
from headstart.learning.examples import Examples
from headstart.learning.head import FittedHead, fit_head
from headstart.learning.novelty import Novelty, fit_novelty
from headstart.progress import SILENT, Progress


@dataclass(frozen=True)
class Solved:
    """A classifier and what its making showed, all of it from the training pictures alone.

    `held_out` int [m] are the training samples, as positions in the dataset, that some fold held out, and
    `out_of_fold` float64 [m, k] their calibrated probabilities from the head that never saw them.
    """

    classifier: Classifier
    fitted: FittedHead
    calibration: Calibration
    held_out: NDArray[np.int64]
    out_of_fold: NDArray[np.float64]


def solve(
    examples: Examples, backbone: Backbone, precision: str, *, balanced: bool = False, progress: Progress = SILENT
) -> Solved:
    """Fit the head, its temperature, sets and abstaining, and the "none of these" score to the training samples.

    Args:
        examples: the samples with their features and parts; the test part is not looked at.
        backbone: what computed the features.
        precision: the arithmetic that computed them, "f32" or "bf16".
        balanced: weigh classes equally, however many pictures each has.
        progress: shows the cross-validation.
    """
    fitted = fit_head(examples.training_set, balanced=balanced, progress=progress)
    return complete(examples, fitted, backbone, precision)


def complete(
    examples: Examples, fitted: FittedHead, backbone: Backbone, precision: str, novelty: Novelty | None = None
) -> Solved:
    """The classifier with the `fitted` head: all that `solve` adds to it; `novelty` is fitted unless given."""
    training = examples.training_set
    held_out_labels = training.labels[fitted.held_out]
    calibration = fit_temperature(fitted.out_of_fold_logits, held_out_labels)
    out_of_fold = calibrated(fitted.out_of_fold_logits, calibration.temperature)
    train = examples.split.train
    digests = {examples.dataset.samples[index].digest for index in train}
    classifier = Classifier(
        backbone=backbone,
        classes=examples.dataset.classes,
        weight=(fitted.head.weight / calibration.temperature).astype(np.float32),
        bias=(fitted.head.bias / calibration.temperature).astype(np.float32),
        novelty=novelty or fit_novelty(training.vectors, training.rows, training.labels, training.folds),
        sets=fit_sets(out_of_fold, held_out_labels),
        abstention=fit_abstention(out_of_fold, held_out_labels),
        trained_on=np.sort(np.array([short_digest(digest) for digest in digests], dtype=np.uint64)),
        precision=precision,
    )
    return Solved(classifier, fitted, calibration, train[fitted.held_out], out_of_fold)
