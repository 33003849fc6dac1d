import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.learning.calibration import softmax
from headstart.learning.classifier import COVERAGE, Prediction, fit_set_floor, short_digest


def drawn(seed, count):
    """Probabilities [n, 5] and labels drawn from them: perfectly calibrated."""
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(0, 2, (count, 5)))
    labels = (random.random((count, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return probabilities, labels


def test_prediction_sets_cover_what_they_promise():
    floor = fit_set_floor(*drawn(0, 2000))
    probabilities, labels = drawn(1, 20_000)
    covered = probabilities[np.arange(20_000), labels] >= floor
    assert covered.mean() == pytest.approx(COVERAGE, abs=0.015)


def test_with_few_pictures_nothing_can_be_left_out():
    assert fit_set_floor(*drawn(0, 18)) == 0
    assert fit_set_floor(*drawn(0, 19)) > 0


@given(st.integers(19, 60), st.integers(0, 1000))
def test_the_floor_covers_the_pictures_that_it_was_fitted_to(count, seed):
    probabilities, labels = drawn(seed, count)
    covered = probabilities[np.arange(count), labels] >= fit_set_floor(probabilities, labels)
    assert covered.mean() >= COVERAGE


def test_an_answer_and_an_error_have_their_own_json():
    said = Prediction("a.jpg", "cat", 0.9, (("cat", 0.9), ("dog", 0.1)), ("cat",), 0.5, False)
    assert said.to_json() == {
        "path": "a.jpg",
        "label": "cat",
        "probability": 0.9,
        "probabilities": {"cat": 0.9, "dog": 0.1},
        "set": ["cat"],
        "none_of_these": {"flag": False, "score": 0.5},
    }
    assert Prediction("a.jpg", error="empty file").to_json() == {"path": "a.jpg", "error": "empty file"}


def test_short_digests_are_the_first_eight_bytes():
    assert short_digest("00000000000000ff" + "a" * 48) == 255
