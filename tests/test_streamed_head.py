"""The streamed head: the choice and the optimum of the exact one, honest out-of-fold scores, rows in a file."""

from dataclasses import replace

import numpy as np
import pytest

from headstart import scratch
from headstart.learning import eigenbasis, streaming
from headstart.learning import head as module
from headstart.learning.head import TrainingSet, fit_head
from headstart.learning.minimise import FOLD, minimise
from headstart.storage import cache_folder


def make(n=1600, d=8, k=3, seed=0):
    """Classes that overlap, in columns of unlike sizes; the rows lie class by class, as in a folder of classes."""
    rng = np.random.default_rng(seed)
    labels = np.sort(np.arange(n) % k)
    vectors = rng.normal(size=(k, d))[labels] + rng.normal(size=(n, d))
    vectors = vectors * np.geomspace(1.5, 0.7, d) + 1
    return TrainingSet(vectors.astype(np.float32), np.arange(n), labels, rng.permutation(np.arange(n) % 5), k)


def unbalanced():
    """Many of the first class, few of the last."""
    training = make(3000)
    kept = np.flatnonzero(np.random.default_rng(1).random(3000) < np.array([1.0, 0.6, 0.2])[training.labels])
    return replace(training, rows=kept, labels=training.labels[kept], folds=training.folds[kept])


def always_trained_on():
    """Rows that no fold holds out."""
    training = make()
    return replace(training, folds=np.where(training.folds < 2, training.folds, -1))


def rare():
    """A class of a single row, and one of three, in a set whose smallest sample holds one row in ten."""
    training = make()
    labels = training.labels.copy()
    labels[700] = 3
    labels[[3, 800, 1500]] = 4
    return replace(training, labels=labels, classes=5)


@pytest.fixture
def low(monkeypatch):
    """Limits so low that everything is streamed; the exact head of a set, fitted without them."""

    def exact(training, **options):
        with monkeypatch.context() as high:
            high.setattr(eigenbasis, "STREAMED_BYTES", 2**40)
            return fit_head(training, **options)

    monkeypatch.setattr(eigenbasis, "STREAMED_BYTES", 1000)
    monkeypatch.setattr(streaming, "SAMPLE_BYTES", 5000)
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    return exact


def probabilities(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("training", [make(), unbalanced(), always_trained_on(), rare()], ids=lambda one: len(one.rows))
def test_chooses_and_fits_what_the_exact_head_does(low, training, balanced):
    assert streaming.pays(training)
    exact, streamed = low(training, balanced=balanced), fit_head(training, balanced=balanced)
    assert (streamed.scaling, streamed.strength) == (exact.scaling, exact.strength)
    assert {one.strength for one in streamed.candidates} <= {one.strength for one in exact.candidates}
    assert streamed.objective == pytest.approx(exact.objective, rel=2e-6)
    np.testing.assert_array_equal(streamed.held_out, exact.held_out)
    of_exact, of_streamed = (probabilities(one.out_of_fold_logits) for one in (exact, streamed))
    np.testing.assert_allclose(of_streamed, of_exact, atol=0.02)
    rows = training.vectors[training.rows]
    for part in ("head", "without_first_fold"):
        of_exact, of_streamed = (probabilities(getattr(one, part).logits(rows)) for one in (exact, streamed))
        np.testing.assert_allclose(of_streamed, of_exact, atol=0.02)


def test_the_gap_is_above_what_the_objective_lacks(low, monkeypatch):
    training = make()
    best = low(training).objective
    monkeypatch.setattr(module, "SHOWN", module.LOOSE)
    monkeypatch.setattr(module, "FINAL", replace(module.FINAL, gap=0.1))
    hasty = fit_head(training)
    assert 1e-9 < hasty.objective / best - 1 < hasty.gap
    assert not hasty.converged


def test_standardised_features_are_chosen_where_they_clearly_win(low):
    rng = np.random.default_rng(0)
    training = make(1600, 10, 2)
    vectors = rng.normal(size=(1600, 10)).astype(np.float32)
    vectors[:, :3] *= 1e5  # loud columns that say nothing
    vectors[:, 5] += 3 * training.labels
    training = replace(training, vectors=vectors)
    streamed, exact = fit_head(training), low(training)
    assert streamed.scaling == exact.scaling == "standardised"
    assert streamed.objective == pytest.approx(exact.objective, rel=2e-6)


@pytest.mark.usefixtures("low")
def test_vectors_in_a_file_give_the_same_bytes_as_those_in_memory(tmp_path):
    training = make()
    mapped = np.memmap(tmp_path / "vectors", np.float32, "w+", shape=training.vectors.shape)
    mapped[:] = training.vectors
    one, other = fit_head(training), fit_head(replace(training, vectors=mapped))
    assert one.head.weight.tobytes() == other.head.weight.tobytes()
    assert one.head.bias.tobytes() == other.head.bias.tobytes()
    assert one.out_of_fold_logits.tobytes() == other.out_of_fold_logits.tobytes()
    assert one.candidates == other.candidates


@pytest.mark.usefixtures("low")
def test_the_rotated_rows_lie_in_a_file_in_the_order_of_their_samples():
    training = make(3200)
    training = replace(training, rows=training.rows[::-1].copy())
    levels = streaming.draw(training)
    rotated = streaming.rotate_streamed(training, "centred", levels)
    assert isinstance(rotated.values.base, np.ndarray)
    assert not (cache_folder() / "scratch").exists() or not list((cache_folder() / "scratch").iterdir())
    plain = module.rotate(training, "centred")
    np.testing.assert_array_equal(np.sort(rotated.order), np.arange(3200))
    ours, theirs = (one.values[np.argsort(one.order)][:, :-1] for one in (rotated, plain))
    np.testing.assert_allclose(ours @ ours[:50].T, theirs @ theirs[:50].T, atol=1e-4)  # as any rotation keeps them
    np.testing.assert_array_equal(rotated.values[:, -1], 1)
    np.testing.assert_array_equal(np.concatenate([np.r_[part] for part, _ in rotated.blocks]), np.arange(3200))
    for part, fold in rotated.blocks:
        assert (training.folds[rotated.order[part]] == fold).all()
        assert len(set(levels[rotated.order[part]])) == 1


@pytest.mark.usefixtures("low")
def test_every_sample_holds_all_classes_of_all_folds_in_their_shares():
    training = rare()
    levels = streaming.draw(training)
    rotated = streaming.rotate_streamed(training, "centred", levels)
    problems = module.pose(training, rotated, [0, 1, 2, 3, 4, module.NO_FOLD], False)
    sizes = []
    for blocks in rotated.samples:
        sample = streaming.sampled(problems, blocks)
        sizes.append(len(set(rotated.order[np.concatenate([np.r_[part] for part, _ in blocks])])))
        np.testing.assert_allclose(sample.shares.sum(axis=1), 1)
        for shares, all_shares in zip(sample.shares, problems.shares, strict=True):
            assert not shares[all_shares == 0].any()
            of_classes = [np.bincount(problems.labels, part, 5) for part in (shares, all_shares)]
            np.testing.assert_allclose(*of_classes, rtol=1e-9)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] <= 0.55 * len(training.rows)
    smallest = training.labels[levels == 0]
    assert set(smallest) == {0, 1, 2, 3, 4}
    assert np.bincount(smallest)[:3] == pytest.approx(len(smallest) / 3, abs=6)


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("row", [2, 1111])
def test_a_row_s_own_label_does_not_touch_its_out_of_fold_scores(row):
    training = make()
    labels = training.labels.copy()
    labels[row] = (labels[row] + 1) % 3
    levels = streaming.draw(training)

    def scores(training):
        rotated = streaming.rotate_streamed(training, "centred", levels)
        judge = module._cross_validation(training, rotated, [0, 1, 2, 3, 4], False)
        return judge.scores(streaming.solve(judge.problems, judge.problems.start(), 1e-3, FOLD).solution)

    before, after = scores(training), scores(replace(training, labels=labels))
    same_fold = training.folds == training.folds[row]
    np.testing.assert_allclose(after[same_fold], before[same_fold], atol=2e-3)
    assert np.abs(after[~same_fold] - before[~same_fold]).max() > 5e-3


@pytest.mark.usefixtures("low")
def test_most_passes_are_over_samples(monkeypatch):
    training = make(6400)
    rows = {"all": 0, "sampled": 0}
    plain = streaming.evaluate

    def counted(problems, *rest):
        rows["all" if problems.rotated.samples else "sampled"] += 1
        return plain(problems, *rest)

    monkeypatch.setattr("headstart.learning.minimise.evaluate", counted)
    monkeypatch.setattr(streaming, "evaluate", counted)
    assert fit_head(training).converged
    assert 0 < rows["all"] < 50
    assert rows["sampled"] > rows["all"]


@pytest.mark.usefixtures("low")
def test_a_sample_that_misleads_ends_at_the_same_optimum(monkeypatch):
    training = make()
    problems = module.pose(training, module.rotate(training, "centred"), [module.NO_FOLD], False)
    exact = minimise(problems, problems.start(), 1e-4, FOLD)
    rotated = streaming.rotate_streamed(training, "centred", streaming.draw(training))
    lonely = replace(rotated, samples=((rotated.blocks[0],),))  # of one fold, and one level
    misled = module.pose(training, lonely, [module.NO_FOLD], False)
    monkeypatch.setattr(streaming, "WORTHWHILE", 0.0)  # no turn is ever good enough
    solved = streaming.solve(misled, misled.start(), 1e-4, FOLD)
    assert solved.gap[0] <= FOLD.gap
    assert solved.objective[0] == pytest.approx(exact.objective[0], rel=1e-4)


def test_too_few_rows_for_samples_are_solved_exactly_wherever_they_lie(low):
    training = make(120, 12)
    assert not streaming.pays(training)
    streamed, exact = fit_head(training), low(training)
    assert streamed.head.weight.tobytes() == exact.head.weight.tobytes()
    assert streamed.candidates == exact.candidates
