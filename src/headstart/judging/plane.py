"""The features in two dimensions, for a map: what lies together looks alike to the backbone."""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8  # of subspace iteration
EXTRA = 6  # dimensions that are carried along, so that the first two settle quickly
BLOCK = 8192


def principal_plane(vectors: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """The first two principal components of each row, float32 [n, 2], of `vectors` float32 [n, d].

    The directions of largest variance of the centred rows, by subspace iteration from a random start (Halko,
    Martinsson, Tropp, SIAM Rev. 53 (2011), algorithm 4.4), which `seed` draws; the sign of each is such that its
    largest coordinate is positive. Zero where there are too few rows or dimensions.
    """
    n, d = vectors.shape
    width = min(2 + EXTRA, n, d)
    plane = np.zeros((n, 2), dtype=np.float32)
    if width == 0:
        return plane
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    basis = np.random.default_rng([seed, *b"plane"]).standard_normal((d, width)).astype(np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(_covariance_times(vectors, mean, basis))[0]
    inner = basis.T @ _covariance_times(vectors, mean, basis)
    values, rotation = np.linalg.eigh((inner + inner.T) / 2)
    directions = basis @ rotation[:, np.argsort(-values)[:2]]
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
    for start in range(0, n, BLOCK):
        block = vectors[start : start + BLOCK] - mean
        plane[start : start + BLOCK, : directions.shape[1]] = block @ directions
    return plane


def _covariance_times(
    vectors: NDArray[np.float32], mean: NDArray[np.float32], basis: NDArray[np.float32]
) -> NDArray[np.float32]:
    """X'X `basis` of the centred rows X, block by block, so that no second copy of them is made."""
    product = np.zeros_like(basis)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK] - mean
        product += block.T @ (block @ basis)
    return product
