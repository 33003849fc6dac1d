"""Fitting again from the former fit: the outcome of fitting from the start, sooner."""

from dataclasses import replace

import numpy as np
import pytest

from headstart.learning.calibration import softmax
from headstart.learning.eigenbasis import TrainingSet
from headstart.learning.head import fit_head
from headstart.learning.refit import SOON, refit

ROWS, CLASSES = 900, 4
NAMES = ("ant", "bee", "cat", "dog")


def generate(n=ROWS, k=CLASSES, width=48):
    """Classes that overlap, so that the strength matters; five folds."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.arange(n) % k)
    vectors = rng.normal(size=(k, width))[labels] * 0.45 + rng.normal(size=(n, width))
    folds = np.empty(n, dtype=np.intp)
    folds[np.argsort(labels, kind="stable")] = np.arange(n) % 5
    return TrainingSet(vectors.astype(np.float32), np.arange(n), labels, folds, k)


def corrected(training, count, seed=5):
    """Other labels for some rows."""
    rng = np.random.default_rng(seed)
    labels = training.labels.copy()
    rows = rng.permutation(len(labels))[:count]
    labels[rows] = (labels[rows] + 1) % training.classes
    return replace(training, labels=labels)


def judged(fitted, training):
    """The log loss out of fold, what is predicted out of fold, and what of the training rows."""
    labels = training.labels[fitted.held_out]
    probabilities = softmax(fitted.out_of_fold_logits)
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    scores = training.vectors[training.rows] @ fitted.head.weight.T + fitted.head.bias
    return loss, probabilities.argmax(axis=1), scores.argmax(axis=1)


def agree(again, anew, training):
    """Both heads are the same but for what their stopping leaves open."""
    loss, out_of_fold, inside = judged(again, training)
    other_loss, other_out_of_fold, other_inside = judged(anew, training)
    assert loss == pytest.approx(other_loss, rel=0.01)
    np.testing.assert_array_equal(again.held_out, anew.held_out)
    assert (out_of_fold == other_out_of_fold).mean() > 0.99
    assert (inside == other_inside).mean() > 0.99


def test_it_is_the_fit_from_the_start():
    training = generate()
    assert len(training.rows) * training.classes > SOON
    fitted, footing = refit(training, NAMES)
    agree(fitted, fit_head(training), training)
    for seed in range(3):  # each begins where the one before ended
        training = corrected(training, 10, seed)
        fitted, footing = refit(training, NAMES, footing)
        agree(fitted, fit_head(training), training)
        assert fitted.converged


def test_rows_may_come_and_go():
    training = generate()
    _, footing = refit(training, NAMES)
    kept = np.flatnonzero(np.arange(ROWS) % 11)
    fewer = TrainingSet(training.vectors, kept, training.labels[kept], training.folds[kept], CLASSES)
    fitted, footing = refit(fewer, NAMES, footing)
    agree(fitted, fit_head(fewer), fewer)
    fitted, _ = refit(training, NAMES, footing)
    agree(fitted, fit_head(training), training)


def test_classes_may_come_be_renamed_and_go():
    training = generate()
    _, footing = refit(training, NAMES)
    _, footing = refit(corrected(training, 5), NAMES, footing)
    labels = np.where((training.labels == 1) & (np.arange(ROWS) % 2 == 0), 4, training.labels)
    five = replace(training, labels=labels, classes=5)
    fitted, footing = refit(five, (*NAMES, "new"), footing)
    assert fitted.head.weight.shape == (5, training.vectors.shape[1])
    agree(fitted, fit_head(five), five)
    three = replace(training, labels=np.minimum(training.labels, 2), classes=3)
    fitted, _ = refit(three, NAMES[:3], footing)
    agree(fitted, fit_head(three), three)


def test_balanced_classes_weigh_alike():
    training = generate()
    rare = np.flatnonzero((training.labels != 0) | (np.arange(ROWS) % 4 == 0))
    uneven = TrainingSet(training.vectors, rare, training.labels[rare], training.folds[rare], CLASSES)
    _, footing = refit(uneven, NAMES, balanced=True)
    changed = corrected(uneven, 8)
    fitted, _ = refit(changed, NAMES, footing, balanced=True)
    agree(fitted, fit_head(changed, balanced=True), changed)
    plain = fit_head(changed)
    assert (judged(fitted, changed)[1] == 0).sum() > (judged(plain, changed)[1] == 0).sum()


def test_a_small_set_is_fitted_from_the_start():
    training = generate(n=200)
    fitted, footing = refit(training, NAMES)
    assert footing is None
    np.testing.assert_array_equal(fitted.head.weight, fit_head(training).head.weight)
