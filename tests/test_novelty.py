import numpy as np
import pytest

from headstart.learning.novelty import FALSE_REJECT_RATE, fit_novelty


@pytest.fixture
def clusters():
    random = np.random.default_rng(0)
    labels = np.arange(3000) % 3
    centres = np.eye(3, 16) * 20
    vectors = (centres[labels] + random.normal(size=(3000, 16))).astype(np.float32)
    return vectors, labels, np.arange(3000) % 5


def test_what_lies_between_the_classes_scores_above_one(clusters):
    vectors, labels, folds = clusters
    novelty = fit_novelty(vectors, np.arange(3000), labels, folds)
    assert novelty.centres.shape == (3, 16)
    assert (novelty.scores(np.full((1, 16), 30, np.float32)) > 1).all()
    assert (novelty.scores(novelty.centres) < 0.01).all()


def test_few_unseen_pictures_of_known_kinds_are_rejected(clusters):
    vectors, labels, folds = clusters
    train = np.arange(2000)
    novelty = fit_novelty(vectors, train, labels[train], folds[train])
    assert (novelty.scores(vectors[2000:]) > 1).mean() == pytest.approx(FALSE_REJECT_RATE, abs=0.01)


def test_pictures_that_are_never_held_out_still_make_the_centres(clusters):
    vectors, labels, folds = clusters
    one_fold = np.where(folds == 0, 0, -1)
    novelty = fit_novelty(vectors, np.arange(3000), labels, one_fold)
    assert novelty.centres[0] == pytest.approx(vectors[labels == 0].mean(axis=0), abs=1e-4)


def test_equal_pictures_do_not_divide_by_zero():
    vectors = np.ones((6, 4), np.float32)
    novelty = fit_novelty(vectors, np.arange(6), np.arange(6) % 2, np.arange(6) // 2)
    assert np.isfinite(novelty.scores(vectors)).all()
