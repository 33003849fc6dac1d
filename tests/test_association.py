import numpy as np
import pytest

from headstart.judging.association import areas, binned, fisher, interval_of, mean_recall, recalls_of


@pytest.mark.parametrize("ties", [False, True])
def test_areas_and_their_p_are_those_of_mann_and_whitney(ties):
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    values = random.normal(size=200) + 0.3 * labels
    values = values.round(0) if ties else values
    aucs, p = areas(values, labels, np.bincount(labels))
    for cls in range(3):
        own, rest = values[labels == cls], values[labels != cls]
        expected = stats.mannwhitneyu(own, rest, method="asymptotic", use_continuity=False)
        assert aucs[cls] == pytest.approx(expected.statistic / len(own) / len(rest))
        assert p[cls] == pytest.approx(expected.pvalue)


def test_rare_properties_have_the_exact_p_of_the_hypergeometric_distribution():
    stats = pytest.importorskip("scipy.stats")
    labels, has = np.repeat([0, 1], [12, 600]), np.zeros(612, bool)
    has[[0, 1, 2, 400]] = True
    for cls, p in enumerate(fisher(has, labels, np.bincount(labels))):
        frozen = stats.hypergeom(612, 4, (labels == cls).sum())
        hits = has[labels == cls].sum()
        assert p == pytest.approx(min(1, 2 * min(frozen.cdf(hits), frozen.sf(hits - 1))))


def test_the_probe_is_a_cross_validated_count():
    random = np.random.default_rng(0)
    cells, folds, labels = random.integers(0, 4, 300), random.integers(0, 5, 300), random.integers(0, 3, 300)
    cells[:9] = -1
    right = np.zeros(3)
    for row in np.flatnonzero(cells >= 0):
        others = (folds != folds[row]) & (cells >= 0)
        shares = [((cells[others] == cells[row]) & (labels[others] == c)).sum() + 0.5 for c in range(3)] / (
            np.array([(labels[others] == c).sum() for c in range(3)]) + 0.5 * 4
        )
        right[labels[row]] += shares.argmax() == labels[row]
    expected = right / np.bincount(labels[cells >= 0])
    several = np.stack([random.permutation(labels), labels])
    assert recalls_of(cells, folds, several, 3)[1] == pytest.approx(expected)


def test_bins_are_equally_full_and_keep_equal_values_together():
    values = np.append(np.random.default_rng(0).normal(size=1000), np.nan)
    bins = binned(values, 10)
    assert bins[-1] == -1
    assert np.bincount(bins[:-1]).min() > 90
    assert list(binned(np.array([5.0, 3, 5, 9]), 10)) == [1, 0, 1, 2]


def test_the_interval_of_a_balanced_accuracy_holds_the_truth():
    random, truth, sizes = np.random.default_rng(0), np.array([0.9, 0.6, 0.99]), np.array([200, 40, 60])
    held = 0
    for _ in range(500):
        interval = interval_of(random.binomial(sizes, truth) / sizes, sizes)
        held += interval.low <= truth.mean() <= interval.high
    assert 0.92 < held / 500 < 0.99


def test_perfect_recalls_have_an_interval_and_empty_classes_do_not_count():
    interval = interval_of(np.array([1.0, np.nan, 1.0]), np.array([30, 0, 20]))
    assert interval.value == 1
    assert 0.8 < interval.low < 0.95
    assert mean_recall(np.array([[1.0, np.nan, 0.5]])) == pytest.approx(0.75)
