"""Probabilities and labels to be judged, drawn by chance or by hypothesis."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def make(n, k, seed=0, skill=1.0):
    """Calibrated probabilities [n, k] and labels drawn from them."""
    generator = np.random.default_rng(seed)
    logits = skill * generator.standard_normal((n, k))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1).clip(max=k - 1)
    return probabilities, labels


@st.composite
def outcomes(draw, least=1):
    n, k = draw(st.integers(least, 40)), draw(st.integers(1, 8))
    scores = draw(hnp.arrays(np.float64, (n, k), elements=st.sampled_from([0.0, 1e-12, 0.1, 0.5, 1.0])))
    scores[:, 0] += scores.sum(axis=1) == 0
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, k - 1)))
    groups = draw(hnp.arrays(np.int64, n, elements=st.integers(-3, 12)))
    return probabilities, labels, groups
