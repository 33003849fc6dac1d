import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from headstart.features.extract import Features
from headstart.judging.baselines import baselines, by_colour, by_nearest, commonest
from headstart.judging.comparison import sign_test
from headstart.learning.examples import Examples
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.split import TEST, Split
from tests.test_slices import looks


def histograms(generator, labels, classes=3, bins=64):
    """Colours that tell the class most of the time."""
    centres = generator.dirichlet(np.ones(bins) * 0.3, classes)
    return np.stack([generator.dirichlet(centres[label] * 15 + 0.05) for label in labels]).astype(np.float32)


def examples(seed=0, n=150, test=50, copies=1):
    """Pictures whose colours and features tell the class; the first `test` are held out."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, n, p=(0.5, 0.3, 0.2))
    vectors = generator.standard_normal((n, 16)) + 2 * np.eye(16)[labels]
    colours = histograms(generator, labels)
    which = np.concatenate([np.repeat(np.arange(test), copies), np.arange(test, n)])
    samples = tuple(Sample(f"{row:04}", "abc"[labels[i]], digest=f"{i:04}") for row, i in enumerate(which))
    features = Features(tuple(f"{i:04}" for i in range(n)), vectors.astype(np.float32), n, looks(n, colours=colours))
    parts = np.where(which < test, TEST, which % 5).astype(np.int32)
    return Examples(Dataset(Path(), samples), features, Split(parts))


def test_each_against_the_classifier():
    made = examples()
    test, train = made.split.test, made.split.train
    correct = np.arange(len(test)) % 10 > 0
    found = {one.name: one for one in baselines(made, correct)}
    assert list(found) == ["majority", "colour", "nearest"]
    said = np.full(len(test), np.bincount(made.labels[train]).argmax())
    right = said == made.labels[test]
    assert found["majority"].accuracy.value == right.mean()
    assert found["majority"].p == sign_test(int((correct & ~right).sum()), int((right & ~correct).sum()))
    assert found["colour"].accuracy.value > 0.75 > found["majority"].accuracy.value
    assert found["nearest"].accuracy.value > 0.75


def test_copies_count_once():
    alone, copied = examples(), examples(copies=3)
    correct = np.arange(50) % 10 > 0
    for one, other in zip(baselines(alone, correct), baselines(copied, correct.repeat(3)), strict=True):
        assert one.p == other.p
        assert (one.accuracy.low, one.accuracy.high) == pytest.approx((other.accuracy.low, other.accuracy.high))


def test_colour_is_a_ridge_on_square_roots():
    generator = np.random.default_rng(1)
    labels = generator.choice(3, 120, p=(0.6, 0.3, 0.1))
    colours, others = histograms(generator, labels), histograms(generator, generator.integers(0, 3, 80))
    oracle = Ridge(alpha=1.0).fit(np.sqrt(colours, dtype=np.float64), np.eye(4)[labels])
    expected = oracle.predict(np.sqrt(others, dtype=np.float64)).argmax(axis=1)
    assert (by_colour(colours, labels, others, 4) == expected).all()


def test_nearest_is_scikit_learns(monkeypatch):
    generator = np.random.default_rng(2)
    vectors = (generator.standard_normal((200, 12)) * generator.uniform(0.1, 10, (200, 1))).astype(np.float32)
    rows, others, labels = np.arange(0, 200, 2), np.arange(1, 200, 2), generator.integers(0, 5, 100)
    oracle = KNeighborsClassifier(1, metric="cosine").fit(vectors[rows], labels)
    expected = oracle.predict(vectors[others])
    assert (by_nearest(vectors, rows, labels, others) == expected).all()
    monkeypatch.setattr("headstart.judging.baselines.BLOCK_NUMBERS", 700)
    assert (by_nearest(vectors, rows, labels, others) == expected).all()


def test_commonest_of_equals_is_the_first():
    assert commonest(np.array([2, 1, 2, 1]), 3).tolist() == [1, 1, 1]


def test_the_held_out_labels_are_not_learnt_from():
    made = examples()
    samples = list(made.dataset.samples)
    for row in made.split.test:
        samples[row] = Sample(samples[row].path, "c", digest=samples[row].digest)
    changed = Examples(Dataset(Path(), tuple(samples)), made.features, made.split)
    majority = baselines(changed, np.ones(50, bool))[0]
    assert majority.accuracy.value == 0  # still the commonest of the training pictures


def test_nothing_held_out():
    made = examples(test=0)
    assert baselines(made, np.zeros(0, bool)) == []


def test_json():
    found = [one.to_json() for one in baselines(examples(), np.ones(50, bool))]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [set(one) for one in found] == [{"name", "label", "accuracy", "p"}] * 3
