"""Promises by simulation, at the finite sizes that they are made for, and by plain loops as oracles."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from headstart.learning import conformal
from headstart.learning.calibration import softmax
from headstart.learning.conformal import COVERAGES, KINDS, WANTED, Abstention, PredictionSets, fit_abstention, fit_sets


def drawn(seed, count, classes=5, spread=2.0, truth=1.0):
    """Probabilities [n, k] and labels drawn from their `truth`-th powers; 1: perfectly calibrated."""
    random = np.random.default_rng([seed, classes])
    logits = random.normal(0, spread, (count, classes))
    chances = softmax(truth * logits).cumsum(axis=1)
    return softmax(logits), (random.random((count, 1)) > chances[:, :-1]).sum(axis=1)


def covered(members, labels):
    return members[np.arange(len(labels)), labels]


def plain_masses(row):
    """The score of every class by the definition."""
    scores = [0.0] * len(row)
    before = 0.0
    for place, c in enumerate(sorted(range(len(row)), key=lambda c: (-row[c], c))):
        scores[c] = before + 0.01 * max(0, place + 1 - 5)
        before += row[c]
    return scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truth", [1.0, 0.3])
def test_sets_cover_what_they_promise_at_small_sizes(kind, truth):
    """Over many draws of few pictures, whether the probabilities are right or far too sure."""
    promised = dict.fromkeys(COVERAGES, 0.0)
    draws, new = 400, 200
    for seed in range(draws):
        probabilities, labels = drawn(seed, 60 + new, truth=truth)
        sets = fit_sets(probabilities[:60], labels[:60])
        for coverage in COVERAGES:
            members = sets.members(probabilities[60:], kind, coverage)
            promised[coverage] += covered(members, labels[60:]).mean() / draws
    for coverage, held in promised.items():
        assert held >= coverage - 0.007, (kind, coverage)
    if truth < 1 and kind == "threshold":  # where the likeliest class alone is right less often, nothing is given away
        assert promised[0.80] == pytest.approx(math.ceil(61 * 0.8) / 61, abs=0.008)


def test_adaptive_sets_are_not_wasteful_where_the_likeliest_class_is_often_wrong():
    probabilities, labels = drawn(0, 4000, truth=0.3)
    sets = fit_sets(probabilities[:2000], labels[:2000])
    held = covered(sets.members(probabilities[2000:], "adaptive", 0.9), labels[2000:]).mean()
    assert held == pytest.approx(0.9, abs=0.025)


def test_floors_of_each_class_cover_each_class():
    """One class is hard: it is covered by its own floor, and not by the floor of all."""
    random = np.random.default_rng(0)
    labels = random.choice(3, 6000, p=[0.45, 0.45, 0.1])
    logits = random.normal(0, 1, (6000, 3))
    logits[np.arange(6000), labels] += np.where(labels == 2, 0, 4)
    probabilities = softmax(logits)
    sets = fit_sets(probabilities[:3000], labels[:3000])
    hard = labels[3000:] == 2

    def held(kind):
        return covered(sets.members(probabilities[3000:], kind, 0.9), labels[3000:])[hard].mean()

    assert held("per_class") == pytest.approx(0.9, abs=0.05)
    assert held("threshold") < 0.6


@given(st.integers(19, 60), st.integers(0, 1000), st.sampled_from(KINDS))
@settings(deadline=None)
def test_the_calibrating_pictures_themselves_are_covered(count, seed, kind):
    probabilities, labels = drawn(seed, count)
    sets = fit_sets(probabilities, labels)
    for coverage in COVERAGES:
        assert covered(sets.members(probabilities, kind, coverage), labels).mean() >= coverage


@given(st.integers(0, 1000), st.sampled_from(KINDS), st.integers(2, 12))
@settings(deadline=None)
def test_sets_hold_the_likeliest_class_and_grow_with_the_coverage(seed, kind, classes):
    probabilities, labels = drawn(seed, 300, classes)
    sets = fit_sets(probabilities, labels)
    members = [sets.members(probabilities, kind, coverage) for coverage in COVERAGES]
    for narrow, wide in itertools.pairwise(members):
        assert (narrow <= wide).all()
    assert members[0][np.arange(300), probabilities.argmax(axis=1)].all()
    order = np.random.default_rng(seed).permutation(300)
    assert fit_sets(probabilities[order], labels[order]) == sets


def test_the_rules_are_those_of_the_definition(monkeypatch):
    monkeypatch.setattr(conformal, "BLOCK_NUMBERS", 50)  # several blocks
    probabilities, labels = drawn(3, 100, 8)
    probabilities[:20] = np.round(probabilities[:20], 1)  # equal ones too
    sets = fit_sets(probabilities, labels)
    masses = np.array([plain_masses(row) for row in probabilities])
    of_truth = sorted(masses[np.arange(100), labels])
    assert sets.adaptive[2] == pytest.approx(of_truth[math.ceil(101 * 0.95) - 1], abs=1e-12)
    ceiling = np.nextafter(sets.adaptive[2], 2) + 1e-12
    np.testing.assert_array_equal(sets.members(probabilities, "adaptive", 0.95), masses <= ceiling)
    own = sorted(probabilities[np.arange(100), labels], reverse=True)
    assert sets.threshold == (own[80], own[90], own[95], own[99])
    one = sorted(probabilities[labels == 1, 1], reverse=True)
    rank = math.ceil((len(one) + 1) * 0.8 - 1e-9)
    assert sets.per_class[0][1] == one[rank - 1]


def test_with_few_pictures_nothing_can_be_left_out():
    for coverage, enough in zip(COVERAGES, (4, 9, 19, 99), strict=True):
        assert conformal.fewest(coverage) == enough
        for count, names in ((enough - 1, [0, 1, 2, 3, 4]), (enough, [])):
            probabilities, labels = drawn(0, count)
            sets = fit_sets(probabilities, labels)
            for kind in ("threshold", "adaptive"):
                assert sets.always_in(kind, coverage) == names
                assert sets.members(probabilities, kind, coverage).all() == bool(names)


def test_a_class_with_few_pictures_stands_in_every_set_for_itself_alone():
    probabilities, labels = drawn(0, 3000, 3)
    labels[np.flatnonzero(labels == 2)[18:]] = 0
    sets = fit_sets(probabilities, labels)
    assert sets.always_in("per_class", 0.95) == [2]
    assert sets.always_in("per_class", 0.90) == []
    members = sets.members(probabilities, "per_class", 0.95)
    assert members[:, 2].all()
    assert not members[:, 0].all()


def test_without_any_picture_nothing_is_promised():
    sets, abstention = (fit(np.empty((0, 3)), np.empty(0, np.int64)) for fit in (fit_sets, fit_abstention))
    probabilities = np.array([[0.98, 0.01, 0.01]])
    for kind in KINDS:
        assert sets.members(probabilities, kind, 0.8).all()
    assert abstention.thresholds == (None,) * 4
    assert abstention.is_unsure(probabilities, 0.9).all()


@given(st.integers(0, 1000), st.integers(1, 300))
@settings(deadline=None)
def test_the_threshold_of_an_accuracy_is_the_lowest_that_passes(seed, count):
    probabilities, labels = drawn(seed, count, 3)
    probabilities = np.round(probabilities, 2)  # many equal ones
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    found = fit_abstention(probabilities, labels)
    for wanted, share in zip(WANTED, (10, 5, 2, 1), strict=True):
        passing = []
        for threshold in np.unique(confidence):
            answered = confidence >= threshold
            errors, rate = (answered & ~right).sum() / answered.sum(), share / 100
            divergence = rel_entr(errors, rate) + rel_entr(1 - errors, 1 - rate)
            if errors < rate and answered.sum() * divergence >= math.log(10):
                passing.append(threshold)
        assert found.threshold(wanted) == (min(passing) if passing else None)


@pytest.mark.parametrize("count", [60, 400])
def test_a_wanted_accuracy_is_missed_in_few_draws(count):
    """The true accuracy above the threshold, from 50,000 fresh answers, is below what was wanted in a tenth at most."""
    fresh, truth = drawn(999, 50_000, 3, spread=3.0, truth=0.8)
    right, confidence = fresh.argmax(axis=1) == truth, fresh.max(axis=1)
    draws, missed, given = 300, np.zeros(4), np.zeros(4)
    for seed in range(draws):
        found = fit_abstention(*drawn(seed, count, 3, spread=3.0, truth=0.8))
        for place, wanted in enumerate(WANTED):
            threshold = found.threshold(wanted)
            if threshold is not None:
                given[place] += 1 / draws
                missed[place] += (right[confidence >= threshold].mean() < wanted) / draws
    assert (missed <= 0.1).all()
    assert given[0] > 0.3  # and it is no idle caution


def test_fewer_answers_without_an_error_than_needed_promise_nothing():
    for wanted, enough in zip(WANTED, (22, 45, 114, 230), strict=True):
        probabilities = np.tile([0.9, 0.1], (enough, 1))
        labels = np.zeros(enough, np.int64)
        assert fit_abstention(probabilities, labels).threshold(wanted) == 0.9
        assert fit_abstention(probabilities[1:], labels[1:]).threshold(wanted) is None


def test_tables_come_back_from_json_as_they_were():
    probabilities, labels = drawn(0, 50)
    sets, abstention = fit_sets(probabilities, labels), fit_abstention(probabilities, labels)
    text = json.dumps([sets.to_json(), abstention.to_json()], allow_nan=False)
    of_sets, of_abstention = json.loads(text)
    assert math.isinf(sets.adaptive[3])
    assert PredictionSets.from_json(of_sets, 5) == sets
    assert Abstention.from_json(of_abstention) == abstention


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (1, {"coverage": 0.5}),
        (0, {"threshold": 1.5}),
        (0, {"threshold": math.nan}),
        (2, {"adaptive": -0.1}),
        (3, {"per_class": [0.1, 0.2]}),
        (3, {"per_class": [0.1] * 4 + [-1]}),
    ],
)
def test_damaged_tables_of_sets_are_refused(row, change):
    table = fit_sets(*drawn(0, 50)).to_json()
    table[row] = {**table[row], **change}
    with pytest.raises(ValueError, match="prediction_sets"):
        PredictionSets.from_json(table, 5)


def test_damaged_tables_of_thresholds_are_refused():
    table = fit_abstention(*drawn(0, 50)).to_json()
    for bad in (table[:3], [{**table[0], "threshold": 2.0}, *table[1:]]):
        with pytest.raises(ValueError, match="abstain"):
            Abstention.from_json(bad)


def test_what_there_is_not_cannot_be_asked_for():
    sets, abstention = fit_sets(*drawn(0, 50)), fit_abstention(*drawn(0, 50))
    with pytest.raises(ValueError, match=r"coverage is one of 0.8, 0.9, 0.95, 0.99; received 0.5"):
        sets.members(np.ones((1, 5)), "threshold", 0.5)
    with pytest.raises(ValueError, match="kind of a set"):
        sets.members(np.ones((1, 5)), "smallest", 0.95)
    with pytest.raises(ValueError, match="wanted accuracy"):
        abstention.threshold(0.5)
