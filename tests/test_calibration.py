"""Temperature scaling against an independent optimiser, and at its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from headstart.learning.calibration import COLDEST, HOTTEST, fit_temperature, softmax


def doubted(logits, labels, doubt):
    """The mean loss where each label is doubted a little."""
    logs = log_softmax(logits, axis=1)
    return -((1 - doubt) * logs[np.arange(len(labels)), labels] + doubt * logs.mean(axis=1)).mean()


def drawn(seed: int, count: int = 400, classes: int = 4, temperature: float = 1.0):
    """Logits whose labels are drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 3
    chances = scipy_softmax(logits / temperature, axis=1).cumsum(axis=1)
    labels = (rng.random((count, 1)) > chances[:, :-1]).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 7])
def test_agrees_with_a_bounded_scalar_optimiser(temperature, classes):
    logits, labels = drawn(3, classes=classes, temperature=temperature)

    def loss(log_t, doubt=0.0):
        logs = log_softmax(logits / np.exp(log_t), axis=1)
        targets = np.full_like(logits, doubt / classes)
        targets[np.arange(len(labels)), labels] += 1 - doubt
        return -(targets * logs).sum(axis=1).mean()

    bounds, doubt = (np.log(COLDEST), np.log(HOTTEST)), 1 / (len(labels) + 2)
    oracle = minimize_scalar(lambda log_t: loss(log_t, doubt), bounds=bounds, options={"xatol": 1e-10})
    found = fit_temperature(logits, labels)
    assert found.temperature == pytest.approx(np.exp(oracle.x), rel=1e-5)
    assert found.log_loss_after == pytest.approx(loss(np.log(found.temperature)), rel=1e-10)
    assert found.log_loss_before == pytest.approx(loss(0.0), rel=1e-12)
    assert not found.at_bound


def test_recovers_the_temperature_that_the_labels_were_drawn_with():
    logits, labels = drawn(1, count=20_000, temperature=2.0)
    assert fit_temperature(logits, labels).temperature == pytest.approx(2.0, rel=0.05)


def test_a_perfect_record_leaves_a_doubt_that_shrinks_with_its_length():
    chances = []
    for count in (30, 300, 3000):
        labels = np.arange(count) % 3
        logits = np.eye(3)[labels] * 5
        found = fit_temperature(logits, labels)
        chances.append(softmax(logits / found.temperature)[np.arange(count), labels].mean())
        assert not found.at_bound
        assert chances[-1] == pytest.approx(1 - 2 / 3 / (count + 2), abs=1e-6)
    assert chances == sorted(chances)


def test_logits_that_contradict_the_labels_stop_at_the_hottest():
    labels = np.arange(30) % 3
    found = fit_temperature(np.eye(3)[(labels + 1) % 3] * 5, labels)
    assert found.at_bound
    assert found.temperature == pytest.approx(HOTTEST)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 1000), count=st.integers(1, 50))
def test_never_worse_than_no_calibration_and_blind_to_order(seed, scale, count):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(count, 3)) * scale).astype(np.float32)
    labels = rng.integers(0, 3, count)
    found = fit_temperature(logits, labels)
    order = rng.permutation(count)
    doubt = 1 / (count + 2)
    assert doubted(logits / found.temperature, labels, doubt) <= doubted(logits, labels, doubt) + 1e-9
    assert COLDEST <= found.temperature <= HOTTEST * (1 + 1e-12)
    again = fit_temperature(logits[order], labels[order])
    assert again.log_loss_after == pytest.approx(found.log_loss_after, rel=1e-7, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6))
def test_softmax_sums_to_one_and_agrees_with_scipy(seed, scale):
    logits = np.random.default_rng(seed).normal(size=(20, 5)) * scale
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(probabilities, scipy_softmax(logits, axis=1), rtol=1e-9, atol=1e-300)
