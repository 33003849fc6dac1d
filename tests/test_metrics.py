import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from headstart.judging import metrics
from headstart.judging.metrics import Interval
from headstart.judging.reliability import ece
from tests.judged import make, outcomes

SHARES = (metrics.accuracy, metrics.balanced_accuracy, metrics.macro_precision, metrics.macro_f1, ece)
ALL_INTERVALS = (*SHARES, metrics.log_loss, metrics.brier)


def shares_of_classes(outcome):
    return (*metrics.precision(outcome), *metrics.recall(outcome), *metrics.f1(outcome))


class TestAgainstOracles:
    @pytest.mark.parametrize(("n", "k"), [(40, 2), (300, 7), (500, 60)])
    def test_values_are_scikit_learns(self, n, k):
        probabilities, labels = make(n, k, seed=k, skill=3.0)
        outcome, names = metrics.judge(probabilities, labels), np.arange(k)
        predicted, present = probabilities.argmax(axis=1), np.unique(labels)
        assert metrics.accuracy(outcome).value == oracle.accuracy_score(labels, predicted)
        assert (metrics.confusion(outcome) == oracle.confusion_matrix(labels, predicted, labels=names)).all()
        precision, recall, f1, count = oracle.precision_recall_fscore_support(
            labels, predicted, labels=names, zero_division=np.nan
        )
        seen = count > 0
        np.testing.assert_allclose([of.value for of in metrics.precision(outcome)], precision)
        np.testing.assert_allclose([of.value for of in metrics.recall(outcome)], recall)
        np.testing.assert_allclose(np.array([of.value for of in metrics.f1(outcome)])[seen], f1[seen])
        assert metrics.balanced_accuracy(outcome).value == pytest.approx(recall[seen].mean())
        expected = oracle.precision_score(labels, predicted, labels=present, average="macro", zero_division=0)
        assert metrics.macro_precision(outcome).value == pytest.approx(expected)
        assert metrics.macro_f1(outcome).value == pytest.approx(f1[seen].mean())
        assert metrics.log_loss(outcome).value == pytest.approx(oracle.log_loss(labels, probabilities, labels=names))
        expected = oracle.brier_score_loss(labels, probabilities, labels=names, scale_by_half=False)
        assert metrics.brier(outcome).value == pytest.approx(expected)
        if k > 5:
            expected = oracle.top_k_accuracy_score(labels, probabilities, k=5, labels=names)
            assert metrics.top5(outcome).value == pytest.approx(expected)

    def test_log_loss_of_certain_mistakes_is_clipped_as_in_scikit_learn(self):
        probabilities, labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]), np.array([1, 0, 0])
        found = metrics.log_loss(metrics.judge(probabilities, labels))
        assert found.value == pytest.approx(oracle.log_loss(labels, probabilities))
        assert found.high <= -math.log(metrics.SMALLEST_PROBABILITY)


class TestByHand:
    def test_confusion_rows_are_the_truth(self):
        probabilities = np.eye(3)[[0, 1, 1, 1, 2]]
        outcome = metrics.judge(probabilities, np.array([0, 0, 1, 1, 1]))
        assert metrics.confusion(outcome).tolist() == [[1, 1, 0], [0, 2, 1], [0, 0, 0]]
        assert [of.value for of in metrics.precision(outcome)] == pytest.approx([1, 2 / 3, 0])
        assert [of.value for of in metrics.f1(outcome)[:2]] == pytest.approx([2 / 3, 2 / 3])
        assert math.isnan(metrics.f1(outcome)[2].value)
        assert metrics.macro_f1(outcome).value == pytest.approx(2 / 3)
        assert metrics.macro_precision(outcome).value == pytest.approx(5 / 6)
        assert metrics.balanced_accuracy(outcome).value == pytest.approx((1 / 2 + 2 / 3) / 2)
        assert math.isnan(metrics.recall(outcome)[2].value)

    def test_f1_interval_is_wilsons_of_the_share_of_hits_among_all_concerned(self):
        # 8 hits, 2 missed, 1 false alarm: J = 8 / 11, F1 = 16 / 19.
        labels = np.array([0] * 10 + [1] * 10)
        predicted = np.array([0] * 8 + [1] * 2 + [0] + [1] * 9)
        found = metrics.f1(metrics.judge(np.eye(2)[predicted], labels))[0]
        expected = metrics.wilson(8 / 11, 11)
        assert found.value == pytest.approx(16 / 19)
        assert found.low == pytest.approx(2 * expected.low / (1 + expected.low))
        assert found.high == pytest.approx(2 * expected.high / (1 + expected.high))

    def test_a_class_that_is_never_predicted_counts_nought(self):
        labels = np.array([0] * 30 + [1] * 10)
        outcome = metrics.judge(np.tile([0.7, 0.3], (40, 1)), labels)
        assert math.isnan(metrics.precision(outcome)[1].value)
        found = metrics.macro_precision(outcome)
        assert found.value == pytest.approx(0.75 / 2)
        assert found.low < 0.2

    def test_brier_of_the_extremes(self):
        certain = np.eye(2)[[0, 0, 0, 0]]
        assert metrics.brier(metrics.judge(certain, np.zeros(4, int))).value == 0
        assert metrics.brier(metrics.judge(certain, np.ones(4, int))).value == 2
        assert metrics.brier(metrics.judge(np.full((4, 4), 0.25), np.arange(4))).value == pytest.approx(0.75)

    def test_ties_go_to_the_first_class(self):
        outcome = metrics.judge(np.full((8, 8), 1 / 8), np.arange(8))
        assert metrics.accuracy(outcome).value == 1 / 8
        assert metrics.top5(outcome).value == 5 / 8


class TestProperties:
    @settings(max_examples=60, deadline=None)
    @given(outcomes())
    def test_intervals_hold_their_value_and_stay_in_range(self, data):
        outcome = metrics.judge(*data)
        for interval in (*(metric(outcome) for metric in ALL_INTERVALS), *shares_of_classes(outcome)):
            if not math.isnan(interval.value):
                assert 0 <= interval.low <= interval.value <= interval.high <= 36.05
        for interval in (*(metric(outcome) for metric in SHARES), *shares_of_classes(outcome)):
            assert not interval.high > 1
        assert metrics.brier(outcome).high <= 2

    @settings(max_examples=60, deadline=None)
    @given(outcomes(), st.randoms(use_true_random=False))
    def test_order_of_pictures_does_not_matter(self, data, random):
        order = random.sample(range(len(data[1])), len(data[1]))
        given_order, shuffled = metrics.judge(*data), metrics.judge(*(array[order] for array in data))
        for metric in ALL_INTERVALS:
            first, second = metric(given_order), metric(shuffled)
            assert (first.value, first.low, first.high) == pytest.approx(
                (second.value, second.low, second.high), abs=1e-6
            )

    @settings(max_examples=60, deadline=None)
    @given(outcomes(least=2), st.integers(2, 5))
    def test_copies_of_everything_change_nothing(self, data, copies):
        probabilities, labels, _ = data
        once = metrics.judge(probabilities, labels, np.arange(len(labels)))
        many = metrics.judge(*(np.repeat(array, copies, axis=0) for array in (*data[:2], np.arange(len(labels)))))
        for metric in ALL_INTERVALS:
            first, second = metric(once), metric(many)
            assert (first.value, first.low, first.high) == pytest.approx(
                (second.value, second.low, second.high), abs=1e-6
            )


class TestGroups:
    def test_copies_of_some_photos_do_not_narrow_the_intervals(self):
        probabilities, labels = make(100, 3, seed=2, skill=2.0)
        rows = np.concatenate([np.arange(100), np.repeat(np.arange(20), 10)])
        known = metrics.judge(probabilities[rows], labels[rows], rows)
        unknown = metrics.judge(probabilities[rows], labels[rows])
        for metric in ALL_INTERVALS:
            honest, naive = metric(known), metric(unknown)
            assert honest.high - honest.low > 1.3 * (naive.high - naive.low)

    def test_without_groups_every_picture_is_its_own(self):
        probabilities, labels = make(50, 3)
        bare, numbered = metrics.judge(probabilities, labels), metrics.judge(probabilities, labels, np.arange(50) * 7)
        assert [metric(bare) for metric in ALL_INTERVALS] == [metric(numbered) for metric in ALL_INTERVALS]

    def test_one_group_says_nothing_about_others(self):
        probabilities, labels = make(30, 2)
        outcome = metrics.judge(probabilities, labels, np.zeros(30, int))
        assert (metrics.macro_f1(outcome).low, metrics.macro_f1(outcome).high) == (0, 1)
        assert (metrics.brier(outcome).low, metrics.brier(outcome).high) == (0, 2)
        assert (ece(outcome).low, ece(outcome).high) == (0, 1)
        assert metrics.accuracy(outcome).high - metrics.accuracy(outcome).low > 0.7


class TestExtremes:
    def test_no_pictures(self):
        outcome = metrics.judge(np.zeros((0, 6)), np.zeros(0, int))
        for interval in (*(metric(outcome) for metric in ALL_INTERVALS), metrics.top5(outcome)):
            assert math.isnan(interval.value)
            assert math.isnan(interval.low)
            assert math.isnan(interval.high)
        assert not metrics.confusion(outcome).any()
        assert np.isnan([of.value for of in shares_of_classes(outcome)]).all()

    @pytest.mark.parametrize("label", [0, 1])
    def test_one_picture(self, label):
        outcome = metrics.judge(np.array([[1.0, 0.0]]), np.array([label]))
        assert metrics.accuracy(outcome).value == 1 - label
        assert ece(outcome) == Interval(float(label), 0.0, 1.0)
        assert metrics.log_loss(outcome).high == pytest.approx(36.04, abs=0.01)

    def test_perfection_is_not_certainty(self):
        outcome = metrics.judge(np.eye(2)[np.arange(44) % 2], np.arange(44) % 2)
        assert metrics.accuracy(outcome).low == pytest.approx(0.9197, abs=1e-4)
        assert metrics.macro_f1(outcome) == metrics.accuracy(outcome)
        for metric in (metrics.balanced_accuracy, metrics.macro_precision):
            assert metric(outcome).low == pytest.approx(0.9197, abs=0.01)
        assert ece(outcome).high == pytest.approx(1 - 0.9197, abs=1e-4)

    def test_float32_rows_that_exceed_one(self):
        outcome = metrics.judge(np.array([[1.0000001, 0.0]] * 30), np.zeros(30, int))
        assert metrics.log_loss(outcome).value == 0
        assert metrics.brier(outcome).value == pytest.approx(0, abs=1e-12)
        assert ece(outcome).low == 0

    def test_a_thousand_classes(self):
        probabilities, labels = make(2000, 1000, skill=8.0)
        outcome = metrics.judge(probabilities, labels)
        assert metrics.confusion(outcome).shape == (1000, 1000)
        assert len(metrics.recall(outcome)) == len(metrics.precision(outcome)) == len(metrics.f1(outcome)) == 1000
        for found in (metrics.macro_f1(outcome), metrics.balanced_accuracy(outcome)):
            assert found.low < found.value < found.high

    def test_seed_decides_the_bootstrap(self):
        outcome = metrics.judge(*make(60, 4))
        assert metrics.log_loss(outcome, 1) == metrics.log_loss(outcome, 1)
        assert metrics.log_loss(outcome, 1) != metrics.log_loss(outcome, 2)


class TestCoverage:
    """How often a 95 % interval holds the truth, over simulated tests whose truth is known."""

    def test_over_simulated_tests(self):
        many = metrics.judge(*make(200_000, 3, seed=99, skill=1.5))
        measured = (metrics.log_loss, metrics.brier, metrics.balanced_accuracy, metrics.macro_precision)
        truth = {metric: metric(many).value for metric in (metrics.balanced_accuracy, metrics.macro_precision)}
        truth |= {metrics.log_loss: many.loss.mean(), metrics.brier: many.squared.mean()}
        truth_f1, held, held_f1 = [of.value for of in metrics.f1(many)], [], []
        for seed in range(100):
            outcome = metrics.judge(*make(150, 3, seed=seed, skill=1.5))
            held.append([(found := metric(outcome)).low <= truth[metric] <= found.high for metric in measured])
            of_classes = zip(metrics.f1(outcome), truth_f1, strict=True)
            held_f1.append([found.low <= true <= found.high for found, true in of_classes])
        assert (np.mean(held, axis=0) >= 0.89).all()
        assert (np.mean(held, axis=0) <= 0.99).all()
        assert 0.92 <= np.mean(held_f1) <= 0.98


def test_importing_it_loads_no_scipy(tmp_path):
    import subprocess
    import sys

    code = "import sys, headstart.judging.evaluation; print([m for m in ('scipy', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == "[]"
