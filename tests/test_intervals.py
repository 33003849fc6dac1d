import math

import numpy as np
import pytest
from scipy.stats import binomtest

from headstart.judging import intervals
from headstart.judging.intervals import UNKNOWN, Interval


class TestWilson:
    @pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 10), (145, 153), (1, 9999)])
    def test_it_is_scipys(self, hits, n):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        found = intervals.wilson(hits / n, n)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)

    @pytest.mark.parametrize(("share", "n"), [(0.95, 50), (0.7, 30), (0.99, 200)])
    def test_it_holds_the_truth(self, share, n):
        hits = np.random.default_rng(0).binomial(n, share, 2000)
        held = [(found := intervals.wilson(h / n, n)).low <= share <= found.high for h in hits]
        assert 0.92 <= np.mean(held) <= 0.98


class TestProportion:
    def test_effective_size(self):
        hits = np.array([True, True, False, False, True, True, True, True])
        assert intervals.effective_size(hits, np.arange(8)) == 8
        assert intervals.effective_size(hits, np.arange(8) // 2) == 4  # pairs that agree count once
        assert intervals.effective_size(hits, np.arange(8) % 4) == pytest.approx(8)  # pairs that do not, twice
        assert intervals.effective_size(np.ones(8, bool), np.arange(8) // 4) == 2  # all right: nothing to learn from
        assert intervals.effective_size(hits, np.zeros(8, int)) == 1

    @pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
    def test_correlated_pictures(self, correlation):
        generator, groups, held = np.random.default_rng(1), np.repeat(np.arange(60), np.arange(60) % 5 + 1), []
        for _ in range(600):
            together = generator.random(60) < 0.8
            alone = generator.random(len(groups)) < 0.8
            hits = np.where((generator.random(60) < math.sqrt(correlation))[groups], together[groups], alone)
            found = intervals.proportion(hits, groups)
            held.append(found.low <= 0.8 <= found.high)
        assert 0.91 <= np.mean(held) <= 0.985


class TestMeanShare:
    def test_of_one_class_it_is_about_wilsons(self):
        hits, groups = np.arange(50) > 4, np.arange(50)
        found, expected = intervals.mean_share(hits, np.zeros(50, int), groups, np.ones(1, bool)), 0.9
        assert found.value == pytest.approx(expected)
        wilson = intervals.wilson(0.9, 50)
        assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=0.005)

    def test_keys_that_are_not_averaged_do_not_count_and_empty_ones_count_nought(self):
        hits, keys = np.array([True, False, True, True]), np.array([0, 0, 1, 2])
        averaged = np.array([True, True, False, True, False])
        assert intervals.mean_share(hits, np.where(keys == 2, 4, keys), np.arange(4), averaged).value == 0.5
        assert intervals.mean_share(hits[:0], keys[:0], keys[:0], averaged) == Interval(0, 0, 1)
        assert math.isnan(intervals.mean_share(hits, keys, np.arange(4), np.zeros(5, bool)).value)

    def test_one_group_says_nothing(self):
        found = intervals.mean_share(np.ones(9, bool), np.arange(9) % 2, np.zeros(9, int), np.ones(2, bool))
        assert (found.low, found.high) == (0, 1)

    @pytest.mark.parametrize(
        ("sizes", "shares"),
        [((120, 60, 20), (0.95, 0.9, 0.7)), ((36, 18, 6), (0.99, 0.98, 0.97)), ((6,) * 10, (0.9,) * 10)],
    )
    def test_it_holds_the_truth_of_uneven_shares(self, sizes, shares):
        generator, keys, held = np.random.default_rng(2), np.repeat(np.arange(len(sizes)), sizes), []
        groups, averaged = np.arange(len(keys)), np.ones(len(sizes), bool)
        for _ in range(1000):
            found = intervals.mean_share(generator.random(len(keys)) < np.array(shares)[keys], keys, groups, averaged)
            held.append(found.low <= np.mean(shares) <= found.high)
        assert 0.92 <= np.mean(held) <= 0.99

    def test_groups_that_span_classes(self):
        generator, groups, held = np.random.default_rng(3), np.arange(200) // 5, []
        for _ in range(600):
            good, keys = generator.random(40) < 0.8, generator.integers(0, 3, 200)
            hits = generator.random(200) < np.where(good[groups], 0.95, 0.5)
            found = intervals.mean_share(hits, keys, groups, np.ones(3, bool))
            held.append(found.low <= 0.86 <= found.high)
        assert 0.91 <= np.mean(held) <= 0.98


class TestFromError:
    def test_of_a_shares_own_error_it_is_wilsons(self):
        found, expected = intervals.from_error(0.8, math.sqrt(0.8 * 0.2 / 50), 1), intervals.wilson(0.8, 50)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))

    def test_without_an_error_the_least_counts(self):
        assert intervals.from_error(1.0, 0.0, 44) == intervals.wilson(1.0, 44)
        assert math.isnan(intervals.from_error(math.nan, 0.1, 44).value)


class TestBootstrap:
    def test_the_mean_of_ones_and_noughts_spreads_as_a_share(self):
        values = (np.arange(200) < 60).astype(float)

        def mean(weights):
            return intervals.total(weights, values) / intervals.total(weights, np.ones(200))

        draws = intervals.bootstrap(mean, 200, 200, seed=0)
        assert draws.shape == (intervals.RESAMPLES,)
        assert draws.mean() == pytest.approx(0.3, abs=0.005)
        assert draws.std() == pytest.approx(math.sqrt(0.3 * 0.7 / 200), rel=0.1)

    def test_chunks_of_resamples_give_what_one_gives(self, monkeypatch):
        values = np.arange(60.0)
        whole = intervals.bootstrap(lambda weights: intervals.total(weights, values), 60, 60, seed=3)
        monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 60 * 7)
        chunked = intervals.bootstrap(lambda weights: intervals.total(weights, values), 60, 60, seed=3)
        assert chunked == pytest.approx(whole)

    def test_sums_by_key(self):
        weights = np.array([[1, 0], [2, 1], [0, 3]], np.float32)
        groups, keys, values = np.array([0, 1, 1, 2]), np.array([2, 0, 2, 2]), np.array([1.0, 10.0, 100.0, 1000.0])
        assert intervals.sums_by(weights, groups, keys, 3).tolist() == [[2, 1], [0, 0], [3, 4]]
        assert intervals.sums_by(weights, groups, keys, 3, values).tolist() == [[20, 10], [0, 0], [201, 3100]]


def test_interval_is_printed_with_three_decimals():
    assert str(Interval(145 / 153, 0.9, 0.9725)) == "0.948 [0.900, 0.973]"


def test_interval_as_json():
    assert Interval(1 / 3, 0.0, 1.0).to_json() == {"value": 0.333333, "low": 0.0, "high": 1.0}
    assert UNKNOWN.to_json() is None
