import math

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as oracle

from headstart.judging.metrics import judge
from headstart.judging.ranking import _average_precision, _roc_auc, _sorted, rank
from tests.judged import make, outcomes


def ranking(probabilities, labels, groups=None):
    return rank(probabilities, judge(probabilities, labels, groups))


@pytest.mark.parametrize(("n", "k", "digits"), [(40, 2, 9), (300, 7, 9), (300, 7, 1), (500, 60, 9)])
def test_values_are_scikit_learns(n, k, digits):
    probabilities, labels = make(n, k, seed=k, skill=3.0)
    scores = probabilities.round(digits)  # one digit: many are equal
    found = ranking(scores, labels)
    truth = np.arange(k) == labels[:, None]
    seen = truth.any(axis=0)
    assert np.isnan(found.average_precisions[~seen]).all()
    precisions = [oracle.average_precision_score(truth[:, c], scores[:, c]) for c in np.flatnonzero(seen)]
    areas = [oracle.roc_auc_score(truth[:, c], scores[:, c]) for c in np.flatnonzero(seen)]
    np.testing.assert_allclose(found.average_precisions[seen], precisions)
    np.testing.assert_allclose(found.roc_aucs[seen], areas)
    assert found.average_precision.value == pytest.approx(np.mean(precisions))
    assert found.roc_auc.value == pytest.approx(np.mean(areas))


def test_mean_area_is_scikit_learns_one_against_the_rest():
    probabilities, labels = make(300, 4, seed=1)
    expected = oracle.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert ranking(probabilities, labels).roc_auc.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("measure", "reference"),
    [(_average_precision, oracle.average_precision_score), (_roc_auc, oracle.roc_auc_score)],
)
@pytest.mark.parametrize("digits", [9, 1])
def test_derivatives_are_those_by_the_weights(measure, reference, digits):
    generator = np.random.default_rng(3)
    scores, truth = generator.random(40).round(digits), generator.random(40) < 0.4
    ranked = _sorted(scores, truth)
    derivatives = np.empty(40)
    derivatives[ranked.order] = measure(ranked)[1]
    step = 1e-5
    for picture in range(40):
        weights = np.ones(40)
        weights[picture] += step
        above = reference(truth, scores, sample_weight=weights)
        weights[picture] -= 2 * step
        below = reference(truth, scores, sample_weight=weights)
        assert derivatives[picture] == pytest.approx((above - below) / 2 / step, abs=1e-7)


def test_error_is_that_of_a_bootstrap_over_groups():
    probabilities, labels = make(240, 3, seed=4, skill=1.5)
    groups = np.arange(240) // 4
    probabilities, labels = np.repeat(probabilities, 2, axis=0), np.repeat(labels, 2)
    groups = np.repeat(groups, 2)
    found = ranking(probabilities, labels, groups)
    generator, drawn = np.random.default_rng(5), []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in generator.integers(0, 60, 60)])
        again = ranking(probabilities[rows], labels[rows])
        drawn.append((again.average_precision.value, again.roc_auc.value))
    for interval, deviation in zip((found.average_precision, found.roc_auc), np.std(drawn, axis=0), strict=True):
        assert (interval.high - interval.low) / 2 / 1.96 == pytest.approx(deviation, rel=0.15)


@settings(max_examples=60, deadline=None)
@given(outcomes())
def test_intervals_hold_their_value_and_stay_in_range(data):
    found = ranking(*data)
    for interval in (found.average_precision, found.roc_auc):
        if not math.isnan(interval.value):
            assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_perfection_is_not_certainty():
    labels = np.arange(40) % 2
    found = ranking(np.eye(2)[labels] * 0.8 + 0.1, labels)
    assert found.roc_auc.value == found.average_precision.value == 1
    assert found.roc_auc.low == found.average_precision.low == pytest.approx(0.8389, abs=1e-4)  # Wilson's, 20 of 20


def test_copies_change_nothing():
    probabilities, labels = make(80, 3, seed=6)
    once = ranking(probabilities, labels)
    many = ranking(np.repeat(probabilities, 3, axis=0), np.repeat(labels, 3), np.repeat(np.arange(80), 3))
    for first, second in ((once.average_precision, many.average_precision), (once.roc_auc, many.roc_auc)):
        assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))


def test_what_cannot_be_ranked():
    nothing = ranking(np.zeros((0, 3)), np.zeros(0, int))
    assert math.isnan(nothing.average_precision.value)
    one_class = ranking(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert math.isnan(one_class.roc_auc.value)
    assert one_class.average_precisions.tolist() == [1.0, pytest.approx(math.nan, nan_ok=True)]
    one_group = ranking(*make(30, 2), np.zeros(30, int))
    assert (one_group.roc_auc.low, one_group.roc_auc.high) == (0, 1)


@pytest.mark.parametrize("skill", [1.5, 4.0])
def test_intervals_hold_the_truth(skill):
    truth = ranking(*make(200_000, 3, seed=99, skill=skill))
    held = []
    for seed in range(300):
        found = ranking(*make(150, 3, seed=seed, skill=skill))
        pairs = ((found.average_precision, truth.average_precision), (found.roc_auc, truth.roc_auc))
        held.append([interval.low <= true.value <= interval.high for interval, true in pairs])
    assert (np.mean(held, axis=0) >= 0.91).all()
    assert (np.mean(held, axis=0) <= 0.99).all()
