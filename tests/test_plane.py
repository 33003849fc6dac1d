"""The map of the features: the same plane as a full decomposition finds, whatever the number of rows."""

import numpy as np
import pytest

from headstart.judging.plane import principal_plane


def reference(vectors):
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    return centred @ right[:2].T


@pytest.mark.parametrize("rows", [40, 9000])
def test_equals_a_full_decomposition(rows):
    random = np.random.default_rng(0)
    scales = np.r_[5.0, 3.0, np.full(30, 1.0)]
    vectors = (random.standard_normal((rows, 32)) * scales + 7).astype(np.float32)
    found, wanted = principal_plane(vectors), reference(vectors)
    for axis in range(2):
        assert abs(np.corrcoef(found[:, axis], wanted[:, axis])[0, 1]) > 0.999
        assert found[:, axis].std() == pytest.approx(wanted[:, axis].std(), rel=1e-3)


def test_the_same_again_and_the_order_of_rows_does_not_matter():
    scales = np.linspace(4, 1, 12, dtype=np.float32)
    vectors = np.random.default_rng(1).standard_normal((50, 12)).astype(np.float32) * scales
    assert np.array_equal(principal_plane(vectors), principal_plane(vectors))
    assert np.allclose(principal_plane(vectors)[::-1], principal_plane(vectors[::-1]), atol=1e-2)


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (2, 5), (6, 1)])
def test_too_few_rows_or_dimensions(shape):
    plane = principal_plane(np.ones(shape, np.float32))
    assert plane.shape == (shape[0], 2)
    assert np.isfinite(plane).all()
