import json
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headstart.judging import growth as module
from headstart.judging.growth import Measured, forecast, growth, measure
from headstart.learning.eigenbasis import TrainingSet
from headstart.learning.head import fit_head

SIZES = np.array([100.0, 200.0, 400.0, 800.0])


def blobs(n=600, d=40, classes=3, distance=0.35, seed=0):
    """Classes that overlap, and whose directions only many pictures tell."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    vectors = generator.standard_normal((n, d)) + distance * generator.choice([-1, 1], (classes, d))[labels]
    return TrainingSet(vectors.astype(np.float32), np.arange(n), labels, np.arange(n) // classes % 5, classes)


def measured(errors, deviation=0.002, seed=0):
    """Error rates as if measured, whose resamples vary by `deviation`."""
    noise = np.random.default_rng(seed).standard_normal((module.RESAMPLES, len(errors))) * deviation
    return Measured(SIZES, np.array(errors), np.clip(np.array(errors) + noise, 0, 1), 1000)


class TestForecast:
    @pytest.mark.parametrize(("a", "b", "c"), [(0.05, 2.0, 0.5), (0.0, 1.0, 0.3), (0.02, 5.0, 0.8)])
    def test_a_power_law_is_continued(self, a, b, c):
        found = forecast(measured(a + b * SIZES**-c, deviation=1e-5), 1000)
        assert [point.n for point in found.forecast] == [2000, 4000]
        for point in found.forecast:
            assert point.accuracy.value == pytest.approx(1 - a - b * point.n**-c, abs=2e-3)

    def test_the_interval_grows_with_the_distance_and_the_doubt(self):
        errors = 0.05 + 2 * SIZES**-0.5
        near, far = forecast(measured(errors), 1000).forecast
        assert far.accuracy.high - far.accuracy.low > near.accuracy.high - near.accuracy.low
        doubtful = forecast(measured(errors, 0.01), 1000).forecast[0]
        assert doubtful.accuracy.high - doubtful.accuracy.low > 2 * (near.accuracy.high - near.accuracy.low)

    def test_errors_that_rise_are_taken_as_flat(self):
        found = forecast(measured([0.10, 0.11, 0.12, 0.13], 1e-5), 1000)
        assert found.forecast[1].accuracy.value == pytest.approx(0.885)

    def test_without_a_mistake_nothing_is_certain(self):
        found = forecast(measured([0.02, 0.01, 0.0, 0.0], 0.0), 1000)
        assert found.forecast[0].accuracy.low <= found.points[-1].accuracy.low < 1

    def test_verdicts(self):
        steep = forecast(measured(2 * SIZES**-0.5, 1e-3), 1000)
        assert steep.verdict.startswith(
            "twice as many pictures would probably bring the accuracy from 93.7 to 95.5 % (9"
        )
        flat = forecast(measured([0.1, 0.1, 0.1, 0.1], 1e-4), 1000)
        assert flat.verdict.startswith(
            "twice as many pictures would hardly help: the accuracy would go from 90.0 to 90.0 % ("
        )
        unclear = forecast(measured([0.16, 0.14, 0.12, 0.11], 0.03), 1000)
        assert unclear.verdict.startswith(
            "what twice as many pictures would bring cannot be told from 1,000 pictures: "
        )


class TestMeasure:
    def test_accuracies_are_those_of_heads_fitted_to_such_parts(self):
        training = blobs()
        fitted = fit_head(training)
        found = measure(training, np.arange(600), fitted)
        assert found.learnt.tolist() == [60, 120, 240, 480]
        expected = []
        for size in (60, 120, 240, 480):
            rates = []
            for seed in range(5):
                fold = seed % 5
                inside = np.flatnonzero(training.folds != fold)
                generator = np.random.default_rng(seed)
                rows = np.concatenate(
                    [generator.permutation(inside[training.labels[inside] == c])[: size // 3] for c in range(3)]
                )
                scale = math.sqrt(((training.vectors - training.vectors.mean(axis=0)) ** 2).sum(axis=1).mean())
                strength = fitted.strength * 480 / size
                oracle = LogisticRegression(C=1 / (strength * size), max_iter=2000)
                oracle.fit(training.vectors[rows] / scale, training.labels[rows])
                outside = training.folds == fold
                rates.append(1 - oracle.score(training.vectors[outside] / scale, training.labels[outside]))
            expected.append(np.mean(rates))
        assert found.errors == pytest.approx(np.array(expected), abs=0.025)
        assert found.errors[0] > found.errors[-1] + 0.05

    def test_the_last_is_the_cross_validation(self):
        training = blobs(300)
        fitted = fit_head(training)
        wrong = fitted.out_of_fold_logits.argmax(axis=1) != training.labels[fitted.held_out]
        assert measure(training, np.arange(300), fitted).errors[-1] == wrong.mean()

    def test_groups_are_not_divided(self):
        groups = np.arange(240) // 2
        ladders = module._ladders(np.arange(240) // 120, groups, np.random.default_rng(0))
        for part in (part for ladder in ladders for part in ladder):
            members = np.bincount(groups[part], minlength=120)
            assert set(members.tolist()) == {0, 2}

    def test_parts_are_nested_and_hold_every_class_by_its_share(self):
        labels = np.repeat([0, 1, 2], [160, 80, 16])
        ladders = module._ladders(labels, np.arange(256), np.random.default_rng(1))
        halves = [set(ladder[-1].tolist()) for ladder in ladders]
        assert not halves[0] & halves[1]
        for ladder in ladders:
            eighth, quarter, half = (set(part.tolist()) for part in ladder)
            assert eighth < quarter < half
            assert np.bincount(labels[list(eighth)]).tolist() == [20, 10, 2]
            assert np.bincount(labels[list(half)]).tolist() == [80, 40, 8]

    def test_copies_widen_the_intervals(self):
        one = blobs(300)
        rows = np.repeat(np.arange(300), 3)
        copied = TrainingSet(one.vectors, rows, one.labels[rows], one.folds[rows], 3)
        fitted = fit_head(copied)
        honest, naive = measure(copied, rows, fitted), measure(copied, np.arange(900), fitted)
        wide, narrow = (found.points[-1].accuracy for found in (honest, naive))
        assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


@pytest.mark.slow
def test_the_forecast_is_honest():
    """From a quarter of the pictures, the accuracy with all of them: how often the interval holds it."""
    held = []
    for seed in range(8):
        many = blobs(1600, seed=seed)
        quarter = np.arange(400)
        few = TrainingSet(many.vectors, quarter, many.labels[quarter], many.folds[quarter], 3)
        found = growth(few, quarter, fit_head(few), seed=seed)
        everything = fit_head(many)
        right = everything.out_of_fold_logits.argmax(axis=1) == many.labels[everything.held_out]
        assert found.forecast[1].n == 1600
        held.append(found.forecast[1].accuracy.low <= right.mean() <= found.forecast[1].accuracy.high)
    assert np.mean(held) >= 0.8


def test_json_and_determinism():
    training = blobs(300)
    fitted = fit_head(training)
    found = [growth(training, np.arange(300), fitted, seed=1).to_json() for _ in range(2)]
    assert found[0] == found[1] == json.loads(json.dumps(found[0], allow_nan=False))
    assert set(found[0]) == {"points", "forecast", "verdict"}
    assert [point["n"] for point in found[0]["points"]] == [30, 60, 120, 240]
    assert set(found[0]["forecast"][0]["accuracy"]) == {"value", "low", "high"}


def test_too_few_pictures():
    few = blobs(90)
    assert growth(few, np.arange(90), fit_head(few)) is None
    grouped = blobs(300)
    assert growth(grouped, np.arange(300) // 6, fit_head(grouped)) is None
