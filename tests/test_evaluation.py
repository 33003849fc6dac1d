import json
import math

import numpy as np
import pytest

from headstart.judging.evaluation import MEASURED, evaluate
from headstart.judging.metrics import Interval

CLASSES = ("ants", "bees", "wasps")


def certain(predicted, confidence=1.0, k=3):
    """Probabilities that give `confidence` to each predicted class and share the rest out."""
    confidence = np.broadcast_to(confidence, len(predicted))
    probabilities = np.repeat(((1 - confidence) / (k - 1))[:, None], k, axis=1)
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


@pytest.fixture
def evaluation():
    predicted = np.array([0, 0, 1, 1, 1, 0])
    confidence = np.array([0.9, 0.6, 0.7, 0.95, 0.8, 0.99])
    labels = np.array([0, 1, 1, 0, 0, 0])
    return evaluate(certain(predicted, confidence), labels, None, CLASSES)


def test_reads_as_one_line():
    labels = np.array([0] * 83 + [1] * 70)
    predicted = labels.copy()
    predicted[:8] = 1
    found = evaluate(certain(predicted, 0.9), labels, np.arange(153), CLASSES)
    assert str(found) == "accuracy 0.948 [0.900, 0.973], n = 153 held-out pictures"


def test_reads_well_for_none_one_and_thousands():
    none = evaluate(np.zeros((0, 3)), np.zeros(0, int), None, CLASSES)
    assert str(none) == "accuracy unknown, no held-out pictures"
    assert str(evaluate(certain([1]), np.array([1]), None, CLASSES)).endswith(", n = 1 held-out picture")
    many = np.zeros(1200, int)
    assert str(evaluate(certain(many), many, None, CLASSES)).endswith(", n = 1,200 held-out pictures")


def test_mistakes(evaluation):
    assert evaluation.most_confused(5) == [("ants", "bees", 2), ("bees", "ants", 1)]
    assert evaluation.most_confused(1) == [("ants", "bees", 2)]
    assert evaluation.worst_mistakes(2) == [3, 4]
    assert evaluation.worst_mistakes(9) == [3, 4, 1]


def test_json_has_the_shape_of_the_contract(evaluation):
    found = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert set(found) == {"n", *MEASURED, "top5", "per_class", "confusion", "reliability"}
    for name in MEASURED:
        assert set(found[name]) == {"value", "low", "high"}
    assert found["n"] == 6
    assert found["accuracy"]["value"] == 0.5
    assert found["top5"] is None
    assert found["confusion"] == [[2, 2, 0], [1, 1, 0], [0, 0, 0]]
    ants = found["per_class"]["ants"]
    assert (ants["n"], ants["precision"]["value"], ants["f1"]["value"]) == (4, 0.666667, 0.571429)
    assert ants["recall"]["value"] == 0.5
    assert (ants["average_precision"], ants["roc_auc"]) == (0.816667, 0.5)  # of 0.99, 0.9, then two others, 0.1, 0.025
    nothing = dict.fromkeys(("precision", "recall", "f1", "average_precision", "roc_auc"))
    assert found["per_class"]["wasps"] == {"n": 0, **nothing}
    assert [set(row) for row in found["reliability"]] == [{"n", "confidence", "accuracy"}]
    assert list(found["per_class"]) == list(CLASSES)


def test_json_of_six_classes_has_top5():
    labels = np.arange(12) % 6
    found = evaluate(certain(labels, 0.9, k=6), labels, None, tuple("abcdef")).to_json()
    assert set(found["top5"]) == {"value", "low", "high"}


def test_json_without_pictures_has_nulls():
    found = evaluate(np.zeros((0, 6)), np.zeros(0, int), None, tuple("abcdef")).to_json()
    assert [found[name] for name in (*MEASURED, "top5")] == [None] * 10
    assert found["reliability"] == []
    assert found["confusion"] == [[0] * 6] * 6
    json.dumps(found, allow_nan=False)


def test_same_input_gives_the_same_bytes():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 80)
    labels = generator.integers(0, 3, 80)
    first, second = (json.dumps(evaluate(probabilities, labels, None, CLASSES, seed=4).to_json()) for _ in range(2))
    assert first == second


def test_float32_probabilities_and_lists_are_taken():
    found = evaluate(certain([0, 1], 0.7).astype(np.float32), [0, 1], [5, 5], CLASSES)
    assert found.accuracy == Interval(1.0, pytest.approx(0.2065, abs=1e-4), 1.0)
    assert found.n == 2
    assert evaluate(np.zeros((0, 3)), [], None, CLASSES).n == 0


def test_groups_widen_the_intervals():
    labels = np.arange(60) % 2
    predicted = np.where(np.arange(60) < 12, 1 - labels, labels)
    bare, grouped = (
        evaluate(certain(predicted, 0.8), labels, groups, CLASSES) for groups in (None, np.arange(60) // 4)
    )
    for name in MEASURED:
        one, other = getattr(bare, name), getattr(grouped, name)
        assert other.value == pytest.approx(one.value, abs=0.05)
        assert other.high - other.low > one.high - one.low


def test_it_cannot_be_changed(evaluation):
    with pytest.raises(ValueError, match="read-only"):
        evaluation.confusion[0, 0] = 9
    with pytest.raises(AttributeError):
        evaluation.n = 9


@pytest.mark.parametrize(
    ("probabilities", "labels", "groups", "classes", "message"),
    [
        (certain([0]), [0], None, ("a", "a", "b"), "different names"),
        (np.zeros((0, 0)), [], None, (), "at least one"),
        (certain([0]), [0, 1], None, CLASSES, r"\(2, 3\); received shape \(1, 3\)"),
        (certain([0]), [3], None, CLASSES, "integers from 0 to 2; received int64 from 3"),
        (certain([0]), [-1], None, CLASSES, "received int64 from -1"),
        (certain([0]), [0.5], None, CLASSES, "received float64"),
        (certain([0, 1]), [0, 1], [1], CLASSES, "groups must be one number per label"),
        (np.array([[3.0, -1.0, 1.0]]), [0], None, CLASSES, "row 0 .* Pass a softmax, not logits"),
        (np.array([[math.nan, 0.5, 0.5]]), [0], None, CLASSES, "has sum nan"),
    ],
)
def test_what_cannot_be_measured_is_refused(probabilities, labels, groups, classes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(probabilities, labels, groups, classes)
