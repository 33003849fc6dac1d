"""The model card names what was promised, and what became of it."""

import math
from types import SimpleNamespace

import pytest

from headstart.delivery.card import model_card
from headstart.features.backbones import load_backbone
from headstart.judging.intervals import Interval
from headstart.judging.promises import AnswerPromise, Promises, Rejection, SetPromise

from . import tiny

UNKNOWN = Interval(math.nan, math.nan, math.nan)
HALF = Interval(0.5, 0.4, 0.6)


@pytest.fixture
def classifier(tmp_path):
    """What a card tells of a classifier, and no more."""
    return SimpleNamespace(backbone=load_backbone("tiny", tiny.install(tmp_path)), classes=("a`b", "c\nd"))


def promises(known=HALF):
    sets = tuple(
        SetPromise(kind, coverage, known, 1.5, 0.5)
        for kind in ("threshold", "adaptive")
        for coverage in (0.8, 0.9, 0.95)
    )
    answers = (AnswerPromise(0.9, 0.52568, HALF, known), AnswerPromise(0.98, None, Interval(0, 0, 0.1), UNKNOWN))
    return Promises(sets, Rejection(1 / 62, Interval(0.02, 0.01, 0.05)), answers)


def card(classifier, kept, **more):
    return model_card(classifier, "accuracy 0.9", kept, 1234, **more)


def test_every_promise_is_named_with_what_came_of_it(classifier):
    text = card(classifier, promises())
    for coverage in (80, 90, 95):
        row = f"| sets that hold the true class {coverage} % of the time | they held it 50.0 % (40.0 to 60.0 %), with "
        assert text.count(row + "1.50 classes on average |") == 1
    assert "| “none of these” for 1.6 % of the pictures of known classes | 2.0 % (1.0 to 5.0 %) |" in text
    answers = (
        "| answers that are right 90 % of the time | from a probability of 52.6 % on: 50.0 % (40.0 to 60.0 %) answered,"
    )
    assert f"{answers} right on 50.0 % (40.0 to 60.0 %) of them |" in text
    assert "| answers that are right 98 % of the time | out of reach |" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {3}
    assert "`a'b`, `c d`" in text


def test_nothing_is_said_of_promises_that_nobody_could_check(classifier):
    for text in (card(classifier, promises(UNKNOWN)), card(classifier, promises(), calibrated=False)):
        assert "Promises" not in text
        assert "\n\n## Use\n" in text
    assert "not calibrated" in card(classifier, promises(), calibrated=False)
