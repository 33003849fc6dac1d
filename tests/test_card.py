"""The model card names what was promised, and what became of it."""

import math
from dataclasses import replace
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


EVALUATION = SimpleNamespace(n=44, accuracy=Interval(0.9318, 0.8, 0.98), macro_f1=UNKNOWN)


def card(classifier, kept, evaluation=EVALUATION, **more):
    return model_card(classifier, evaluation, kept, 1234, **more)


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


def test_the_hub_reads_licence_library_and_figures(classifier):
    from huggingface_hub import ModelCard

    facts = ModelCard(card(classifier, promises())).data
    assert (facts.license, facts.library_name, facts.pipeline_tag) == ("apache-2.0", "timm", "image-classification")
    assert facts.metrics == ["accuracy", "f1"]
    (only,) = facts.eval_results  # a macro F1 that is not known is not there
    assert (only.task_type, only.metric_type, only.metric_value) == ("image-classification", "accuracy", 0.9318)


def test_a_licence_that_the_hub_does_not_know_is_other(classifier):
    from huggingface_hub import ModelCard

    classifier.backbone = replace(classifier.backbone, licence="apache-2.0 and: mine", library="torchvision")
    text = card(classifier, promises(), SimpleNamespace(n=0))
    facts = ModelCard(text).data.to_dict()
    assert (facts["license"], facts["license_name"]) == ("other", "apache-2.0 and: mine")
    assert facts["library_name"] == "headstart"
    assert "model-index" not in facts
