import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from headstart.judging import metrics, reliability
from tests.judged import make


class TestEce:
    def test_of_a_plain_overconfidence(self):
        # 400 pictures at 0.9 of which 240 are right: one confidence, one bin, a gap of 0.3.
        probabilities = np.tile([0.9, 0.1], (400, 1))
        labels = (np.arange(400) >= 240).astype(int)
        found = reliability.ece(metrics.judge(probabilities, labels))
        assert found.value == pytest.approx(0.3, abs=1e-3)
        assert 0.2 < found.low < 0.3 < found.high < 0.4

    def test_of_two_bins(self):
        # 20 pictures at 0.6, all right (gap 0.4, no variance); 20 at 0.9, all right (gap 0.1).
        probabilities = np.repeat([[0.6, 0.4], [0.9, 0.1]], 20, axis=0)
        assert reliability.ece(metrics.judge(probabilities, np.zeros(40, int))).value == pytest.approx(0.25)

    def test_expected_absolute_is_the_mean_of_a_folded_normal(self):
        drawn = np.abs(np.random.default_rng(0).normal(0.3, 0.2, 1_000_000)).mean()
        found = reliability._expected_absolute(np.array([0.3]), np.array([0.2]))
        assert found[0] == pytest.approx(drawn, abs=1e-3)

    def test_of_calibrated_probabilities(self):
        calibrated, plain = [], []
        for seed in range(100):
            outcome = metrics.judge(*make(150, 3, seed=seed, skill=1.5))
            error = reliability.ece(outcome, seed)
            calibrated.append(error.low == 0)
            residuals = outcome.confidence - outcome.correct
            gaps = np.bincount(reliability._calibration_bins(outcome), residuals)
            plain.append((error.value, np.abs(gaps).sum() / 150))
        assert np.mean(calibrated) >= 0.9
        corrected, uncorrected = np.mean(plain, axis=0)
        assert corrected < 0.8 * uncorrected


class TestTable:
    def test_bins_are_scikit_learns_quantiles(self):
        probabilities, labels = make(600, 4, seed=1, skill=2.0)
        outcome = metrics.judge(probabilities, labels)
        table = reliability.reliability(outcome)
        right, said = calibration_curve(
            outcome.correct, outcome.confidence, n_bins=reliability.MOST_BINS, strategy="quantile"
        )
        assert [row.confidence for row in table] == pytest.approx(said, abs=2e-3)
        assert [row.accuracy.value for row in table] == pytest.approx(right, abs=0.03)
        assert [row.n for row in table] == [40] * 15

    def test_equal_confidences_stay_together(self):
        probabilities = np.repeat([[0.6, 0.4], [0.9, 0.1]], [100, 300], axis=0)
        table = reliability.reliability(metrics.judge(probabilities, np.arange(400) % 2))
        assert [(row.n, row.confidence) for row in table] == [(100, pytest.approx(0.6)), (300, pytest.approx(0.9))]

    def test_calibrated_bins_hold_their_confidence(self):
        table = reliability.reliability(metrics.judge(*make(20_000, 3, seed=5, skill=2.0)))
        held = [row.accuracy.low <= row.confidence <= row.accuracy.high for row in table]
        assert sum(held) >= 12

    def test_few_pictures_make_one_bin_and_none_no_bin(self):
        assert len(reliability.reliability(metrics.judge(*make(30, 3)))) == 1
        assert reliability.reliability(metrics.judge(np.zeros((0, 3)), np.zeros(0, int))) == ()

    def test_json(self):
        (row,) = reliability.reliability(metrics.judge(np.array([[0.75, 0.25]]), np.array([0])))
        assert row.to_json() == {"n": 1, "confidence": 0.75, "accuracy": {"value": 1.0, "low": 0.206549, "high": 1.0}}
