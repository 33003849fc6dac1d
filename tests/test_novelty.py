import numpy as np
import pytest

from headstart.learning import novelty as module
from headstart.learning.novelty import FALSE_REJECT_RATE, fit_novelty


@pytest.fixture
def clusters():
    """Three kinds of directions in 16 dimensions, with their folds."""
    random = np.random.default_rng(0)
    labels = np.arange(3000) % 3
    vectors = (np.eye(3, 16)[labels] * 20 + random.normal(size=(3000, 16))).astype(np.float32)
    return vectors, labels, np.arange(3000) // 3 % 5


def test_what_points_elsewhere_scores_above_one(clusters):
    vectors, labels, folds = clusters
    novelty = fit_novelty(vectors, np.arange(3000), labels, folds)
    strangers = np.eye(16, dtype=np.float32)[5:] * 20
    assert (novelty.scores(strangers) > 1).all()
    assert (novelty.scores(vectors) <= 1).mean() > 0.98


def test_few_unseen_pictures_of_known_kinds_are_rejected(clusters):
    vectors, labels, folds = clusters
    train = np.arange(2000)
    novelty = fit_novelty(vectors, train, labels[train], folds[train])
    assert (novelty.scores(vectors[2000:]) > 1).mean() == pytest.approx(FALSE_REJECT_RATE, abs=0.01)


@pytest.mark.parametrize("count", [40, 98, 99, 300])
def test_the_promised_rate_is_kept_at_small_sizes(count):
    """Over many draws a new picture is rejected about as often as said: 1 in n + 1 where n is below 99."""
    rejected, draws = 0.0, 300
    for seed in range(draws):
        random = np.random.default_rng([seed, count])
        vectors = random.normal(3, 1, (count + 200, 8)).astype(np.float32)
        folds = random.permutation(count) % 5
        novelty = fit_novelty(vectors, np.arange(count), np.zeros(count, np.int64), folds)
        assert novelty.false_reject_rate == max(FALSE_REJECT_RATE, 1 / (count + 1))
        rejected += (novelty.scores(vectors[count:]) > 1).mean() / draws
    assert 0.4 * novelty.false_reject_rate < rejected < 1.2 * novelty.false_reject_rate


def test_with_few_pictures_the_radius_is_the_largest_distance():
    for count, rank in ((50, 50), (98, 98), (99, 99), (100, 100), (198, 198), (199, 198), (1000, 991)):
        distances = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
        assert module._radius(distances)[0] == rank


def test_the_length_of_features_does_not_matter(clusters):
    vectors, labels, folds = clusters
    novelty = fit_novelty(vectors, np.arange(3000), labels, folds)
    assert novelty.scores(vectors[:50] * 7) == pytest.approx(novelty.scores(vectors[:50]), abs=1e-4)


def test_references_are_bounded_and_of_every_class(clusters, monkeypatch):
    vectors, labels, folds = clusters
    monkeypatch.setattr(module, "MOST_REFERENCES", 60)
    labels = np.where(np.arange(3000) < 7, 2, labels % 2)
    novelty = fit_novelty(vectors, np.arange(3000), labels, folds)
    assert novelty.references.shape == (20 + 20 + 7, 16)
    assert novelty.references.dtype == np.float16


def test_an_only_fold_is_measured_against_what_is_always_trained_on(clusters):
    vectors, labels, folds = clusters
    novelty = fit_novelty(vectors, np.arange(3000), labels, np.where(folds == 0, 0, -1))
    assert (novelty.scores(vectors) <= 1).mean() > 0.98


def test_equal_and_empty_features_do_not_divide_by_zero():
    for vectors in (np.ones((6, 4), np.float32), np.zeros((6, 4), np.float32)):
        novelty = fit_novelty(vectors, np.arange(6), np.arange(6) % 2, np.arange(6) // 2)
        assert np.isfinite(novelty.scores(vectors)).all()
