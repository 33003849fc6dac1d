import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest
from sklearn import metrics as oracle

from headstart.judging import metrics
from headstart.judging.metrics import Interval

ALL_INTERVALS = (metrics.accuracy, metrics.macro_f1, metrics.log_loss, metrics.ece)


def make(n, k, seed=0, skill=1.0):
    """Calibrated probabilities [n, k] and labels drawn from them."""
    generator = np.random.default_rng(seed)
    logits = skill * generator.standard_normal((n, k))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1).clip(max=k - 1)
    return probabilities, labels


@st.composite
def outcomes(draw, least=1):
    n, k = draw(st.integers(least, 40)), draw(st.integers(1, 8))
    scores = draw(hnp.arrays(np.float64, (n, k), elements=st.sampled_from([0.0, 1e-12, 0.1, 0.5, 1.0])))
    scores[:, 0] += scores.sum(axis=1) == 0
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, k - 1)))
    groups = draw(hnp.arrays(np.int64, n, elements=st.integers(-3, 12)))
    return probabilities, labels, groups


class TestAgainstOracles:
    @pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 10), (145, 153), (1, 9999)])
    def test_wilson_is_scipys(self, hits, n):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        found = metrics.wilson(hits / n, n)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)

    @pytest.mark.parametrize(("n", "k"), [(40, 2), (300, 7), (500, 60)])
    def test_values_are_scikit_learns(self, n, k):
        probabilities, labels = make(n, k, seed=k, skill=3.0)
        outcome, names = metrics.judge(probabilities, labels), np.arange(k)
        predicted = probabilities.argmax(axis=1)
        assert metrics.accuracy(outcome).value == oracle.accuracy_score(labels, predicted)
        assert (metrics.confusion(outcome) == oracle.confusion_matrix(labels, predicted, labels=names)).all()
        precision, recall, f1, count = oracle.precision_recall_fscore_support(
            labels, predicted, labels=names, zero_division=np.nan
        )
        seen = count > 0
        np.testing.assert_allclose(metrics.precision(outcome), precision)
        np.testing.assert_allclose([of.value for of in metrics.recall(outcome)], recall)
        np.testing.assert_allclose(metrics.f1(outcome)[seen], f1[seen])
        assert metrics.macro_f1(outcome).value == pytest.approx(f1[seen].mean())
        assert metrics.log_loss(outcome).value == pytest.approx(oracle.log_loss(labels, probabilities, labels=names))
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
        assert metrics.precision(outcome).tolist() == pytest.approx([1, 2 / 3, 0])
        assert metrics.f1(outcome)[:2].tolist() == pytest.approx([2 / 3, 2 / 3])
        assert math.isnan(metrics.f1(outcome)[2])
        assert metrics.macro_f1(outcome).value == pytest.approx(2 / 3)
        assert math.isnan(metrics.recall(outcome)[2].value)

    def test_ece_of_a_plain_overconfidence(self):
        # 400 pictures at 0.9 of which 240 are right: one confidence, one bin, a gap of 0.3.
        probabilities = np.tile([0.9, 0.1], (400, 1))
        labels = (np.arange(400) >= 240).astype(int)
        found = metrics.ece(metrics.judge(probabilities, labels))
        assert found.value == pytest.approx(0.3, abs=1e-3)
        assert 0.2 < found.low < 0.3 < found.high < 0.4

    def test_ece_of_two_bins(self):
        # 20 pictures at 0.6, all right (gap 0.4, no variance); 20 at 0.9, all right (gap 0.1).
        probabilities = np.repeat([[0.6, 0.4], [0.9, 0.1]], 20, axis=0)
        assert metrics.ece(metrics.judge(probabilities, np.zeros(40, int))).value == pytest.approx(0.25)

    def test_ties_go_to_the_first_class(self):
        outcome = metrics.judge(np.full((8, 8), 1 / 8), np.arange(8))
        assert metrics.accuracy(outcome).value == 1 / 8
        assert metrics.top5(outcome).value == 5 / 8

    def test_expected_absolute_is_the_mean_of_a_folded_normal(self):
        drawn = np.abs(np.random.default_rng(0).normal(0.3, 0.2, 1_000_000)).mean()
        assert metrics._expected_absolute(np.array([0.3]), np.array([0.2]))[0] == pytest.approx(drawn, abs=1e-3)

    def test_effective_size(self):
        hits = np.array([True, True, False, False, True, True, True, True])
        assert metrics.effective_size(hits, np.arange(8)) == 8
        assert metrics.effective_size(hits, np.arange(8) // 2) == 4  # pairs that agree count once
        assert metrics.effective_size(hits, np.arange(8) % 4) == pytest.approx(8)  # pairs that do not, twice
        assert metrics.effective_size(np.ones(8, bool), np.arange(8) // 4) == 2  # all right: nothing to learn from
        assert metrics.effective_size(hits, np.zeros(8, int)) == 1

    def test_interval_is_printed_with_three_decimals(self):
        assert str(Interval(145 / 153, 0.9, 0.9725)) == "0.948 [0.900, 0.973]"


class TestProperties:
    @settings(max_examples=60, deadline=None)
    @given(outcomes())
    def test_intervals_hold_their_value_and_stay_in_range(self, data):
        outcome = metrics.judge(*data)
        for interval in (*(metric(outcome) for metric in ALL_INTERVALS), *metrics.recall(outcome)):
            if not math.isnan(interval.value):
                assert 0 <= interval.low <= interval.value <= interval.high <= 36.05
        for metric in (metrics.accuracy, metrics.macro_f1, metrics.ece):
            assert metric(outcome).high <= 1

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
        assert (metrics.ece(outcome).low, metrics.ece(outcome).high) == (0, 1)
        assert metrics.accuracy(outcome).high - metrics.accuracy(outcome).low > 0.7


class TestExtremes:
    def test_no_pictures(self):
        outcome = metrics.judge(np.zeros((0, 6)), np.zeros(0, int))
        for interval in (*(metric(outcome) for metric in ALL_INTERVALS), metrics.top5(outcome)):
            assert math.isnan(interval.value)
            assert math.isnan(interval.low)
            assert math.isnan(interval.high)
        assert not metrics.confusion(outcome).any()
        assert np.isnan(metrics.f1(outcome)).all()

    @pytest.mark.parametrize("label", [0, 1])
    def test_one_picture(self, label):
        outcome = metrics.judge(np.array([[1.0, 0.0]]), np.array([label]))
        assert metrics.accuracy(outcome).value == 1 - label
        assert metrics.ece(outcome) == Interval(float(label), 0.0, 1.0)
        assert metrics.log_loss(outcome).high == pytest.approx(36.04, abs=0.01)

    def test_perfection_is_not_certainty(self):
        outcome = metrics.judge(np.eye(2)[np.arange(44) % 2], np.arange(44) % 2)
        assert metrics.accuracy(outcome).low == pytest.approx(0.9197, abs=1e-4)
        assert metrics.macro_f1(outcome) == metrics.accuracy(outcome)
        assert metrics.ece(outcome).high == pytest.approx(1 - 0.9197, abs=1e-4)

    def test_float32_rows_that_exceed_one(self):
        outcome = metrics.judge(np.array([[1.0000001, 0.0]] * 30), np.zeros(30, int))
        assert metrics.log_loss(outcome).value == 0
        assert metrics.ece(outcome).low == 0

    def test_a_thousand_classes(self):
        probabilities, labels = make(2000, 1000, skill=8.0)
        outcome = metrics.judge(probabilities, labels)
        assert metrics.confusion(outcome).shape == (1000, 1000)
        assert len(metrics.recall(outcome)) == len(metrics.f1(outcome)) == 1000
        found = metrics.macro_f1(outcome)
        assert found.low < found.value < found.high

    def test_chunks_of_resamples_give_what_one_gives(self, monkeypatch):
        outcome = metrics.judge(*make(60, 4))
        whole = metrics.macro_f1(outcome)
        monkeypatch.setattr(metrics, "CELLS_AT_ONCE", 60 * 7)
        chunked = metrics.macro_f1(outcome)
        assert (whole.low, whole.high) == pytest.approx((chunked.low, chunked.high))

    def test_seed_decides_the_bootstrap(self):
        outcome = metrics.judge(*make(60, 4))
        assert metrics.log_loss(outcome, 1) == metrics.log_loss(outcome, 1)
        assert metrics.log_loss(outcome, 1) != metrics.log_loss(outcome, 2)


class TestCoverage:
    """How often a 95 % interval holds the truth, over simulated tests whose truth is known."""

    @pytest.mark.parametrize(("share", "n"), [(0.95, 50), (0.7, 30), (0.99, 200)])
    def test_wilson(self, share, n):
        hits = np.random.default_rng(0).binomial(n, share, 2000)
        held = [(found := metrics.wilson(h / n, n)).low <= share <= found.high for h in hits]
        assert 0.92 <= np.mean(held) <= 0.98

    @pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
    def test_accuracy_of_correlated_pictures(self, correlation):
        generator, groups, held = np.random.default_rng(1), np.repeat(np.arange(60), np.arange(60) % 5 + 1), []
        for _ in range(600):
            together = generator.random(60) < 0.8
            alone = generator.random(len(groups)) < 0.8
            hits = np.where((generator.random(60) < math.sqrt(correlation))[groups], together[groups], alone)
            found = metrics.proportion(hits, groups)
            held.append(found.low <= 0.8 <= found.high)
        assert 0.91 <= np.mean(held) <= 0.985

    def test_bootstrap_and_calibration(self):
        truth = metrics.judge(*make(200_000, 3, seed=99, skill=1.5)).loss.mean()
        losses, calibrated, plain = [], [], []
        for seed in range(100):
            outcome = metrics.judge(*make(150, 3, seed=seed, skill=1.5))
            loss, error = metrics.log_loss(outcome, seed), metrics.ece(outcome, seed)
            losses.append(loss.low <= truth <= loss.high)
            calibrated.append(error.low == 0)
            residuals = outcome.confidence - outcome.correct
            gaps = np.bincount(metrics._calibration_bins(outcome), residuals)
            plain.append((error.value, np.abs(gaps).sum() / 150))
        assert 0.89 <= np.mean(losses) <= 0.99
        assert np.mean(calibrated) >= 0.9
        corrected, uncorrected = np.mean(plain, axis=0)
        assert corrected < 0.8 * uncorrected


def test_importing_it_loads_no_scipy(tmp_path):
    import subprocess
    import sys

    code = "import sys, headstart.judging.evaluation; print([m for m in ('scipy', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == "[]"
