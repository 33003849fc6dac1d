"""Promises on held-out pictures, counted by hand and checked against the intervals of `metrics`."""

import json
import math

import numpy as np
import pytest

from headstart.judging.metrics import proportion, wilson
from headstart.judging.promises import check_promises
from headstart.learning.calibration import softmax
from headstart.learning.classifier import Classifier
from headstart.learning.conformal import COVERAGES, KINDS, WANTED, Abstention, PredictionSets, fit_abstention, fit_sets
from headstart.learning.novelty import Novelty


def classifier(sets, abstention):
    """One that promises so; only its promises are looked at."""
    return Classifier(
        backbone=None,
        classes=("a", "b", "c"),
        weight=np.zeros((3, 2), np.float32),
        bias=np.zeros(3, np.float32),
        novelty=Novelty(np.ones((1, 2), np.float16), 1.0, 0.01),
        sets=sets,
        abstention=abstention,
        trained_on=np.empty(0, np.uint64),
        precision="f32",
    )


FOUR = classifier(
    PredictionSets(
        (0.7, 0.4, 0.15, 0.0), (0.0, 0.5, 0.8, math.inf), ((0.7,) * 3, (0.4,) * 3, (0.9, 0.1, 0.1), (0,) * 3)
    ),
    Abstention((0.5, 0.6, 0.9, None)),
)
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5], [0.6, 0.3, 0.1]])
LABELS = np.array([0, 1, 0, 1])


def test_every_promise_is_counted():
    promises = check_promises(FOUR, PROBABILITIES, LABELS, np.array([0.2, 0.5, 1.5, 1.0]))
    at = {(one.kind, one.coverage): one for one in promises.sets}
    assert set(at) == {(kind, coverage) for kind in KINDS for coverage in COVERAGES}
    tight, wide, all_in = (at["threshold", coverage] for coverage in (0.8, 0.95, 0.99))
    assert (tight.held.value, tight.mean_size, tight.single) == (0.5, 1.0, 1.0)
    assert (wide.held.value, wide.mean_size, wide.single) == (1.0, (1 + 2 + 3 + 2) / 4, 0.25)
    assert (all_in.held.value, all_in.mean_size, all_in.single) == (1.0, 3.0, 0.0)
    assert at["adaptive", 0.9].mean_size == (1 + 1 + 2 + 1) / 4
    assert at["per_class", 0.95].mean_size == (3 + 2 + 2 + 3) / 4
    assert promises.none_of_these.rejected == wilson(0.25, 4)
    answers = [(one.wanted, one.threshold, one.answered.value, one.accuracy.value) for one in promises.abstain]
    assert answers[:2] == [(0.90, 0.5, 1.0, 0.5), (0.95, 0.6, 0.75, pytest.approx(2 / 3))]
    assert answers[2][2] == answers[3][2] == 0
    assert promises.abstain[1].accuracy == proportion(np.array([True, True, False]), np.arange(3))


def test_groups_widen_the_intervals():
    rows = np.repeat(np.arange(4), 5)
    scores = np.zeros(20)
    alone = check_promises(FOUR, PROBABILITIES[rows], LABELS[rows], scores)
    together = check_promises(FOUR, PROBABILITIES[rows], LABELS[rows], scores, rows)
    for one, other in zip(alone.sets, together.sets, strict=True):
        assert one.held.value == other.held.value
        assert one.held.low > other.held.low
    assert together.abstain[0].accuracy == wilson(0.5, 4)
    assert together.none_of_these.rejected.high > alone.none_of_these.rejected.high


def test_json_has_the_documented_shape_and_null_for_the_unknown():
    record = check_promises(FOUR, PROBABILITIES, LABELS, np.zeros(4)).to_json()
    json.dumps(record, allow_nan=False)
    assert record.keys() == {"sets", "none_of_these", "abstain"}
    assert record["sets"][0].keys() == {"kind", "coverage", "held", "mean_size", "single"}
    assert record["sets"][0]["held"].keys() == {"value", "low", "high"}
    assert record["none_of_these"]["false_reject_rate"] == 0.01
    assert [row["wanted"] for row in record["abstain"]] == list(WANTED)
    assert (record["abstain"][3]["threshold"], record["abstain"][3]["accuracy"]) == (None, None)
    assert record["abstain"][3]["answered"]["value"] == 0


def test_without_pictures_nothing_is_known():
    record = check_promises(FOUR, np.empty((0, 3)), np.empty(0, np.int64), np.empty(0)).to_json()
    json.dumps(record, allow_nan=False)
    assert {row["held"] for row in record["sets"]} == {None}
    assert {row["mean_size"] for row in record["sets"]} == {None}
    assert record["none_of_these"]["rejected"] is None
    assert [row["answered"] for row in record["abstain"]] == [None] * 4


def test_promises_made_on_some_pictures_are_kept_on_others():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (12_000, 3))
    probabilities = softmax(logits)
    labels = (random.random((12_000, 1)) > softmax(0.7 * logits).cumsum(axis=1)[:, :-1]).sum(axis=1)
    one = classifier(fit_sets(probabilities[:6000], labels[:6000]), fit_abstention(probabilities[:6000], labels[:6000]))
    promises = check_promises(one, probabilities[6000:], labels[6000:], random.uniform(0, 1.0101, 6000))
    for said in promises.sets:
        assert said.held.value >= said.coverage - 0.012
        assert said.held.value <= max(said.coverage, (probabilities.argmax(axis=1) == labels).mean()) + 0.02
    assert promises.none_of_these.rejected.value == pytest.approx(0.01, abs=0.006)
    kept = [said for said in promises.abstain if said.threshold is not None and said.answered.value > 0.2]
    assert kept
    for said in kept:
        assert said.accuracy.high >= said.wanted
