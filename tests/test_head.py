"""The head against scikit-learn, its honesty, and data that break careless solvers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from headstart.errors import DataError
from headstart.learning import eigenbasis
from headstart.learning import head as module
from headstart.learning.head import TrainingSet, fit_head


def make(n=150, d=12, k=3, seed=0, spread=1.0, folds=5):
    """A Gaussian mixture, non-negative as features after a ReLU are, with columns of very different sizes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    sizes = np.geomspace(3, 0.05, d)
    centres = rng.normal(size=(k, d)) * spread
    vectors = np.maximum(centres[labels] + rng.normal(size=(n, d)), -0.5) * sizes + 1
    return TrainingSet(vectors.astype(np.float32), np.arange(n), labels, np.arange(n) // k % folds, k)


def scaled(training, scaling):
    """The scaled features, and what they were divided by, written independently of the module."""
    x = training.vectors[training.rows].astype(np.float64)
    centred = x - x.mean(axis=0)
    if scaling == "centred":
        divisor = np.full(x.shape[1], np.sqrt((centred**2).sum(axis=1).mean()))
    else:
        divisor = centred.std(axis=0) * np.sqrt(x.shape[1])
    return centred / divisor, divisor


def objective(u, labels, shares, weight, bias, strength):
    losses = -log_softmax(u @ weight.T + bias, axis=1)[np.arange(len(labels)), labels]
    return losses @ shares + strength / 2 * (weight**2).sum()


def oracle(u, training, strength, balanced):
    """Weight and bias of scikit-learn for our objective; its model of two classes has one vector, half of it each."""
    n, k = len(u), training.classes
    model = LogisticRegression(
        C=(2 if k == 2 else 1) / (n * strength),
        tol=1e-9,
        max_iter=20_000,
        class_weight="balanced" if balanced else None,
    ).fit(u, training.labels)
    if k > 2:
        return model, model.coef_, model.intercept_
    half = model.coef_[0] / 2
    return model, np.stack([-half, half]), np.array([-0.5, 0.5]) * model.intercept_[0]


def shares_of(training, balanced):
    weights = 1 / np.bincount(training.labels) if balanced else np.ones(training.classes)
    return weights[training.labels] / weights[training.labels].sum()


def assert_optimal(training, fitted, balanced=False):
    """The objective is scikit-learn's to 1e-6, and so are the decisions."""
    u, divisor = scaled(training, fitted.scaling)
    shares = shares_of(training, balanced)
    model, weight, bias = oracle(u, training, fitted.strength, balanced)
    theirs = objective(u, training.labels, shares, weight, bias, fitted.strength)
    x = training.vectors[training.rows].astype(np.float64)
    raw_bias = fitted.head.bias + fitted.head.weight @ x.mean(axis=0)
    ours = objective(u, training.labels, shares, fitted.head.weight * divisor, raw_bias, fitted.strength)
    assert ours == pytest.approx(fitted.objective, rel=1e-6)
    assert abs(ours - theirs) < 1e-6 * theirs
    decided = fitted.head.logits(training.vectors[training.rows]).argmax(axis=1)
    np.testing.assert_array_equal(decided, model.predict(u))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), [(150, 12, 3), (45, 60, 2), (60, 90, 5), (200, 20, 2)])
def test_reaches_the_optimum_of_scikit_learn(n, d, k, balanced):
    training = make(n, d, k, spread=0.7)
    if balanced:
        kept = np.flatnonzero((training.labels > 0) | (np.arange(n) % 4 < 2))
        training = replace(training, **{f: getattr(training, f)[kept] for f in ("rows", "labels", "folds")})
    fitted = fit_head(training, balanced=balanced)
    assert fitted.converged
    assert fitted.gap < 1e-6
    assert_optimal(training, fitted, balanced)


def test_standardised_features_are_chosen_where_they_clearly_win():
    rng = np.random.default_rng(0)
    training = make(300, 30, 2, spread=0)
    vectors = rng.normal(size=(300, 30)).astype(np.float32)
    vectors[:, :5] *= 1e5  # loud columns that say nothing
    vectors[:, 5] += 4 * training.labels
    training = replace(training, vectors=vectors)
    fitted = fit_head(training)
    assert fitted.scaling == "standardised"
    assert_optimal(training, fitted)


def test_tries_at_least_eight_strengths_and_takes_a_good_one():
    fitted = fit_head(make(spread=0.5))
    losses = [candidate.log_loss for candidate in fitted.candidates]
    chosen = next(c for c in fitted.candidates if c.strength == fitted.strength)
    assert len(losses) >= 8
    assert chosen.log_loss < min(losses) * 1.05
    assert not fitted.at_edge


def test_features_that_say_nothing_get_a_strong_penalty_and_the_class_frequencies():
    training = make(120, 10, 3, spread=0)
    fitted = fit_head(training)
    probabilities = np.exp(log_softmax(fitted.head.logits(training.vectors), axis=1))
    assert fitted.strength > 0.1
    np.testing.assert_allclose(probabilities.mean(axis=0), 1 / 3, atol=1e-3)


def test_a_single_validation_fold_judges_only_its_rows():
    training = make(folds=3)
    training = replace(training, folds=np.where(training.folds == 0, 0, -1))
    fitted = fit_head(training)
    np.testing.assert_array_equal(fitted.held_out, np.flatnonzero(training.folds == 0))
    assert fitted.out_of_fold_logits.shape == (len(fitted.held_out), 3)
    assert_optimal(training, fitted)


def test_out_of_fold_logits_belong_to_their_rows():
    training = make(spread=4)
    fitted = fit_head(training)
    np.testing.assert_array_equal(fitted.held_out, np.arange(150))
    assert (fitted.out_of_fold_logits.argmax(axis=1) == training.labels).mean() > 0.95


def fold_logits(training, strength=0.01):
    """Out-of-fold logits at a given strength, as the walk ends them."""
    judge = module._cross_validation(training, module.rotate(training, "centred"), [0, 1, 2, 3, 4], False)
    return judge.scores(module.solve(judge.problems, judge.problems.start(), strength, module.FOLD).solution)


@pytest.mark.parametrize("row", [0, 77])
def test_a_row_s_own_label_does_not_touch_its_out_of_fold_logits(row):
    training = make()
    labels = training.labels.copy()
    labels[row] = (labels[row] + 1) % 3
    before, after = fold_logits(training), fold_logits(replace(training, labels=labels))
    same_fold = training.folds == training.folds[row]
    np.testing.assert_allclose(after[same_fold], before[same_fold], rtol=1e-5, atol=1e-6)
    assert np.abs(after[~same_fold] - before[~same_fold]).max() > 1e-3


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(2, 4), d=st.integers(3, 70))
def test_the_order_of_rows_does_not_matter(seed, k, d):
    training = make(50, d, k, seed=seed)
    order = np.random.default_rng(seed).permutation(50)
    shuffled = TrainingSet(training.vectors, order, training.labels[order], training.folds[order], k)
    one, other = fit_head(training), fit_head(shuffled)
    assert one.strength == other.strength
    np.testing.assert_allclose(one.head.weight, other.head.weight, rtol=0.02, atol=0.01)
    probabilities = np.exp(log_softmax(one.head.logits(training.vectors), axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_same_input_same_bytes():
    one, other = fit_head(make(300, 40, 4)), fit_head(make(300, 40, 4))
    assert one.head.weight.tobytes() == other.head.weight.tobytes()
    assert one.head.bias.tobytes() == other.head.bias.tobytes()
    assert one.out_of_fold_logits.tobytes() == other.out_of_fold_logits.tobytes()
    assert one.candidates == other.candidates


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    training = make(400, 20, 3)
    whole = fit_head(training)
    monkeypatch.setattr(eigenbasis, "BLOCK_ROWS", 64)
    cut = fit_head(training)
    assert cut.strength == whole.strength
    assert cut.objective == pytest.approx(whole.objective, rel=1e-6)


@pytest.mark.parametrize("factor", [1e-20, 1e-6, 1e6, 1e20])
@pytest.mark.parametrize("d", [12, 200])
def test_the_unit_of_the_features_does_not_matter(factor, d):
    training = make(d=d)
    fitted = fit_head(replace(training, vectors=(training.vectors * np.float32(factor))))
    plain = fit_head(training)
    assert fitted.strength == plain.strength
    np.testing.assert_allclose(fitted.head.weight * factor, plain.head.weight, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("d", [12, 200])
def test_constant_columns_get_no_weight(d):
    training = make(d=d)
    training.vectors[:, 3] = 0.1
    training.vectors[:, 5] = 0
    fitted = fit_head(training)
    np.testing.assert_array_equal(fitted.head.weight[:, [3, 5]], 0)
    assert fitted.converged


def test_rows_that_are_all_equal_give_the_class_frequencies():
    training = make()
    training.vectors[:] = 0.7
    fitted = fit_head(training)
    np.testing.assert_allclose(fitted.head.weight, 0)
    np.testing.assert_allclose(fitted.head.bias, 0, atol=1e-3)


@pytest.mark.parametrize("d", [12, 200])
def test_duplicate_rows(d):
    training = make(d=d)
    doubled = TrainingSet(
        training.vectors, *(np.tile(part, 2) for part in (training.rows, training.labels, training.folds)), 3
    )
    fitted = fit_head(doubled)
    assert fitted.converged
    assert_optimal(doubled, fitted)


def test_rounding_in_float32_does_not_keep_the_proof_from_float64():
    training = make(d=200, spread=30)
    everything = module.pose(training, module.rotate(training, "centred"), [module.NO_FOLD], False)
    solved = module._finish(everything, everything.start(), 1e-8)
    assert solved.gap[0] < 1e-6


@pytest.mark.parametrize("d", [12, 200])
def test_perfectly_separable_rows(d):
    fitted = fit_head(make(d=d, spread=30))
    assert fitted.converged
    assert np.isfinite(fitted.head.weight).all()
    assert (fitted.out_of_fold_logits.argmax(axis=1) == np.arange(150) % 3).all()


def test_a_class_with_a_single_row_is_absent_from_one_fold():
    training = make()
    labels = np.where(np.arange(150) == 40, 3, training.labels)
    fitted = fit_head(replace(training, labels=labels, classes=4))
    assert np.isfinite(fitted.out_of_fold_logits).all()
    assert np.isfinite([candidate.log_loss for candidate in fitted.candidates]).all()
    assert fitted.converged


def test_fewer_rows_than_classes_in_the_folds():
    training = make(n=24, d=40, k=12, folds=2)
    fitted = fit_head(training)
    assert fitted.head.weight.shape == (12, 40)
    assert np.isfinite(fitted.head.weight).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    training = make()
    training.vectors[7, 2] = bad
    with pytest.raises(DataError, match="1 of 150 pictures are not finite"):
        fit_head(training)
    kept = np.flatnonzero(np.arange(150) != 7)
    parts = (part[kept] for part in (training.rows, training.labels, training.folds))
    assert fit_head(TrainingSet(training.vectors, *parts, 3)).converged  # rows that are not used are not looked at


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 4}, "1 classes have no training picture"),
        ({"classes": 1, "labels": np.zeros(150, dtype=int)}, "at least 2 classes"),
        ({"folds": np.full(150, -1)}, "held out by any fold"),
        ({"folds": np.zeros(150, dtype=int)}, "nothing is left to train on"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        fit_head(replace(make(), **change))
