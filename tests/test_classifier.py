import numpy as np
import pytest

from headstart.learning.classifier import Asked, Classifier, Prediction, short_digest
from headstart.learning.conformal import Abstention, PredictionSets
from headstart.learning.novelty import Novelty

SETS = PredictionSets(
    threshold=(0.6, 0.4, 0.28, 0.0),
    adaptive=(0.0, 0.3, 0.65, 1.0),
    per_class=((0.6, 0.6, 0.6), (0.4, 0.4, 0.4), (0.4, 0.28, 0.04), (0.0, 0.09, 0.09)),
)


@pytest.fixture
def classifier():
    """One whose features are the logarithms of its probabilities."""
    return Classifier(
        backbone=None,
        classes=("ant", "bee", "cat"),
        weight=np.eye(3, dtype=np.float32),
        bias=np.zeros(3, np.float32),
        novelty=Novelty(np.eye(3, dtype=np.float16), 0.5, 0.01),
        sets=SETS,
        abstention=Abstention((0.5, 0.65, 0.9, None)),
        trained_on=np.empty(0, np.uint64),
        precision="f32",
    )


FEATURES = np.log(np.array([[0.6, 0.3, 0.1], [0.05, 0.25, 0.7]], np.float32))


def said(classifier, *asked):
    return classifier.predictions(["1.jpg", "2.jpg"], FEATURES, *asked)


def test_a_prediction_ranks_the_classes_and_names_the_set_the_likeliest_first(classifier):
    one, other = said(classifier)
    assert (one.path, one.label, other.label) == ("1.jpg", "ant", "cat")
    assert [name for name, _ in other.ranking] == ["cat", "bee", "ant"]
    assert dict(one.ranking) == pytest.approx({"ant": 0.6, "bee": 0.3, "cat": 0.1}, abs=1e-6)
    assert one.probability == one.ranking[0][1]
    assert (one.set, other.set) == (("ant", "bee"), ("cat",))
    assert one.novelty == pytest.approx(classifier.novelty.scores(FEATURES)[0])
    assert [answer.is_none_of_these for answer in (one, other)] == [answer.novelty > 1 for answer in (one, other)]
    assert one.is_unsure is None


@pytest.mark.parametrize(
    ("asked", "first", "second"),
    [
        (Asked(coverage=0.8), ("ant",), ("cat",)),
        (Asked(coverage=0.99), ("ant", "bee", "cat"), ("cat", "bee", "ant")),
        (Asked("adaptive", 0.9), ("ant",), ("cat",)),
        (Asked("adaptive", 0.95), ("ant", "bee"), ("cat",)),
        (Asked("per_class", 0.95), ("ant", "bee", "cat"), ("cat",)),
        (Asked("per_class", 0.99), ("ant", "bee", "cat"), ("cat", "bee", "ant")),
    ],
)
def test_the_set_is_the_one_that_was_asked_for(classifier, asked, first, second):
    assert tuple(answer.set for answer in said(classifier, asked)) == (first, second)


@pytest.mark.parametrize(
    ("wanted", "unsure"), [(0.9, (False, False)), (0.95, (True, False)), (0.98, (True, True)), (0.99, (True, True))]
)
def test_an_answer_that_cannot_keep_the_wanted_accuracy_is_unsure(classifier, wanted, unsure):
    assert tuple(answer.is_unsure for answer in said(classifier, Asked(wanted=wanted))) == unsure


def test_no_pictures_no_predictions(classifier):
    assert classifier.predictions([], np.empty((0, 3), np.float32), Asked("adaptive", 0.8, 0.9)) == []


def test_an_answer_and_an_error_have_their_own_json():
    answer = Prediction("a.jpg", "cat", 0.9, (("cat", 0.9), ("dog", 0.1)), ("cat",), 0.5, False)
    expected = {
        "path": "a.jpg",
        "label": "cat",
        "probability": 0.9,
        "probabilities": {"cat": 0.9, "dog": 0.1},
        "set": ["cat"],
        "none_of_these": {"flag": False, "score": 0.5},
    }
    assert answer.to_json() == expected
    asked = Prediction("a.jpg", "cat", 0.9, answer.ranking, ("cat",), 0.5, False, is_unsure=False)
    assert asked.to_json() == {**expected, "unsure": False}
    assert Prediction("a.jpg", error="empty file").to_json() == {"path": "a.jpg", "error": "empty file"}


def test_short_digests_are_the_first_eight_bytes():
    assert short_digest("00000000000000ff" + "a" * 48) == 255
