import numpy as np
import pytest

from headstart.judging.suspects import (
    KINDS,
    Evidence,
    audit,
    confident_joint,
    doubtful_labels,
    find_outliers,
    imbalance_suspects,
    label_doubts,
)
from headstart.learning.novelty import held_out_distances
from tests.test_quality import changed, plain_looks


def simulated(seed: int, n: int = 1000, k: int = 5, wrong: float = 0.05, margin: float = 1.5):
    """Probabilities of an imperfect classifier, given labels and true labels."""
    random = np.random.default_rng(seed)
    true = random.integers(0, k, n)
    logits = random.normal(size=(n, k)) + margin * 2 * np.eye(k)[true]
    exponentials = np.exp(logits)
    given = np.where(random.random(n) < wrong, (true + random.integers(1, k, n)) % k, true)
    return exponentials / exponentials.sum(axis=1, keepdims=True), given, true


def test_doubts_are_what_cleanlabs_self_confidence_lacks():
    rank = pytest.importorskip("cleanlab.rank")
    probabilities, given, _ = simulated(0)
    expected = 1 - rank.get_label_quality_scores(given, probabilities, method="self_confidence")
    assert label_doubts(probabilities, given) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("seed", "k"), [(0, 2), (1, 5), (2, 20)])
def test_the_joint_is_cleanlabs(seed, k):
    count = pytest.importorskip("cleanlab.count")
    probabilities, given, _ = simulated(seed, k=k)
    joint = confident_joint(probabilities, given)
    expected = count.compute_confident_joint(given, probabilities)
    assert np.abs(joint - expected).max() < 1  # theirs is rounded to whole pictures
    assert joint.sum(axis=1) == pytest.approx(np.bincount(given, minlength=k))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [2, 5, 20])
def test_wrong_labels_are_found_as_well_as_by_cleanlab(seed, k):
    filters = pytest.importorskip("cleanlab.filter")
    probabilities, given, true = simulated(seed, k=k)
    bad = given != true
    ours = doubtful_labels(probabilities, given).rows
    theirs = filters.find_label_issues(given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    shared = min(len(ours), len(theirs))
    assert bad[ours[:shared]].sum() >= bad[theirs[:shared]].sum()
    assert bad[ours].sum() / bad.sum() > 0.6


def test_wrong_labels_come_first_with_the_true_class_suggested():
    probabilities, given, true = simulated(3, margin=4)
    found = doubtful_labels(probabilities, given)
    assert set(found.rows) == set(np.flatnonzero(given != true))
    assert (found.suggested == true[found.rows]).all()
    assert (np.diff(found.doubts) <= 0).all()
    assert (found.doubts > 0.5).all()


def test_right_labels_of_a_good_classifier_are_left_alone():
    probabilities, _, true = simulated(4, margin=4)
    assert len(doubtful_labels(probabilities, true).rows) <= 2


def test_no_pictures_have_no_doubtful_labels():
    assert len(doubtful_labels(np.empty((0, 3)), np.empty(0, np.int64)).rows) == 0


def test_a_class_that_was_never_held_out_is_never_suggested():
    probabilities, given, _ = simulated(5, k=3)
    given = np.where(given == 2, 0, given)
    joint = confident_joint(probabilities, given)
    assert (joint[:, 2] == 0).all()
    assert np.isfinite(joint).all()


@pytest.fixture
def clusters():
    """Three kinds of directions, their labels, folds and groups, and one stranger as row 0."""
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    vectors = (np.eye(3, 16)[labels] * 20 + random.normal(size=(300, 16))).astype(np.float32)
    vectors[0] = np.eye(16)[9] * 20
    return vectors, labels, np.arange(300) // 3 % 5, np.arange(300)


def test_distances_leave_out_the_own_fold(clusters):
    vectors, labels, folds, groups = clusters
    distances = held_out_distances(vectors, labels, folds, groups)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row in (0, 7, 299):
        cosines = np.sort((unit @ unit[row])[folds != folds[row]])[-5:]
        assert distances[row] == pytest.approx(1 - cosines.mean(), abs=1e-5)


def test_what_no_fold_holds_out_is_compared_with_other_groups(clusters):
    vectors, labels, _, groups = clusters
    vectors = np.concatenate([vectors, vectors[:1]])
    labels, groups = np.append(labels, labels[0]), np.append(groups, groups[0])
    distances = held_out_distances(vectors, labels, np.full(301, -1), groups)
    assert distances[0] == pytest.approx(distances[300])
    assert distances[0] > 0.5


def test_a_single_fold_leaves_nothing_to_compare_with(clusters):
    vectors, labels, folds, groups = clusters
    assert np.isinf(held_out_distances(vectors, labels, folds * 0, groups)).all()


def test_the_stranger_is_the_first_of_hardly_any_outliers(clusters):
    rows, limit = find_outliers(held_out_distances(*clusters))
    assert rows[0] == 0
    assert len(rows) <= 4
    assert 0 < limit < 1


@pytest.mark.parametrize("n", [50, 1000])
def test_normal_distances_flag_as_many_as_promised(n):
    random = np.random.default_rng(1)
    flagged = [len(find_outliers(random.normal(0.3, 0.05, n))[0]) for _ in range(400)]
    assert 0.2 < np.mean(flagged) < 1.2  # 0.5 but for the error of scale and median, which small sets feel


def test_few_or_unknown_distances_flag_nothing():
    assert len(find_outliers(np.array([0.1] * 18 + [1.9]))[0]) == 0
    assert len(find_outliers(np.full(100, np.nan))[0]) == 0
    rows, _ = find_outliers(np.array([np.nan] * 50 + list(np.linspace(0.1, 0.2, 60)) + [1.5]))
    assert list(rows) == [110]


def test_imbalance_names_the_classes_and_what_to_do():
    labels = np.repeat([0, 1, 2], [1200, 40, 300])
    (suspect,) = imbalance_suspects(labels, ("cat", "owl", "dog"))
    assert (suspect.kind, suspect.path, suspect.label) == ("imbalance", "", "owl")
    assert "'cat' has 1,200 pictures and 'owl' 40: 30 times" in suspect.reason
    assert "--balanced" in suspect.action
    assert imbalance_suspects(np.repeat([0, 1], [100, 10]), ("cat", "owl")) == []
    assert imbalance_suspects(np.empty(0, np.int64), ("cat", "owl")) == []


def evidence(n: int = 200) -> Evidence:
    probabilities, given, _ = simulated(0, n=n, k=2, margin=4)
    distances = np.random.default_rng(0).uniform(0.2, 0.4, n)
    distances[5] = 1.9
    held_out = np.arange(n)[::-1]
    looks = changed(plain_looks(n), [7], brightness=0.02, brightest=0.05)
    paths = tuple(f"{number:03}.jpg" for number in range(n))
    return Evidence(paths, given, ("cat", "owl"), held_out, probabilities[held_out], distances, looks)


def test_an_audit_gathers_all_kinds_by_kind_and_score():
    known = evidence()
    suspects = audit(known)
    kinds = [one.kind for one in suspects]
    assert set(kinds) == {"label", "outlier", "dark"}
    assert kinds == sorted(kinds, key=KINDS.index)
    for kind in set(kinds):
        scores = [one.score for one in suspects if one.kind == kind]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
    by_kind = {one.kind: one for one in reversed(suspects)}
    assert by_kind["outlier"].path == "005.jpg"
    assert by_kind["dark"].path == "007.jpg"


def test_a_doubtful_label_says_what_the_classifier_saw():
    known = evidence()
    for one in audit(known):
        if one.kind == "label":
            row = known.paths.index(one.path)
            assert one.label == known.classes[known.labels[row]]
            assert one.suggested != one.label
            assert repr(one.suggested) in one.reason


def test_names_of_classes_cannot_break_lines():
    labels = np.repeat([0, 1], [100, 2])
    (suspect,) = imbalance_suspects(labels, ("cat\n\x1b[31m", "owl"))
    assert "\n" not in suspect.reason
    assert "\x1b" not in suspect.reason
