"""Pictures that are nearly the same: resized, cropped, saved again, brighter, darker or mirrored."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart import scratch
from headstart.pictures.alignment import align
from headstart.pictures.dataset import Dataset
from headstart.pictures.looks import PRINT_SIDE, Looks
from headstart.pictures.neighbours import blocks, candidates
from headstart.progress import SILENT, Progress

LEAST_COARSE = 0.93  # correlation before the fine alignment
DOUBTFUL, LEAST_DETAIL = 0.9, 0.95  # correlation after it: below the first certainly different
LEAST_COSINE = 0.95  # of features: where both are this alike, no more is asked
FEW = 5  # partners: a picture with more is one of a crowd
LEAST_TOGETHER, MOST_SHARE = 8, 1 / 50  # pictures, and share of all, that pairs may join into one group
LEAST_CONTRAST = 0.02  # standard deviation of a print's luma, in 0..1: flatter pictures are like everything
DIMENSIONS = 128  # that features are reduced to before they are compared
MOST_MEASURED = 10_000  # pictures that the directions of the reduction are found from
ROWS_AT_ONCE = 4096  # of prints and features in memory, some 50 MB
PAIRS_AT_ONCE = 65_536  # whose features are compared, or that are joined into groups, at a time


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of nearly the same pictures, the likest first.

    `rows` int64 [m, 2], the lower row first, each pair once; `similarity` float32 [m], in 0..1; `mirrored` bool [m],
    whether one is like the other's mirror image.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    mirrored: NDArray[np.bool_]


def near_duplicates(looks: Looks, vectors: NDArray[np.float32], progress: Progress = SILENT) -> NearPairs:
    """Which of n pictures are nearly the same: resized, cropped by a tenth, saved again, lighter, darker, mirrored.

    Candidates are the nearest by features and by the hashes of their prints; each is verified by aligning the two
    prints (see `alignment`), and counts if their detail correlates by 0.95. In a set whose different pictures are
    hardly different, such as digits or trousers on black, more is asked, see `threshold`.

    Measured on six sets of photos (4,348 pictures) to which changed copies of 70 pictures each were added, one kind at
    a time (`bench/trust.py`): of copies at half the size, saved as JPEG of quality 30 to 60, a fifth darker or lighter,
    or mirrored all were found, of those cropped to 90 % of each side 99 %. All other pairs that were reported (50 among
    the originals, and copies of those) were looked at, none was wrong: 0 of about 3,000 reported, 0 of 2.9 million.

    Args:
        looks: of n pictures.
        vectors: their features float32 [n, d].
        progress: shows how far it is.

    Limits: rotated pictures, and those cropped by more than about a seventh of a side, are not found. Of a picture with
    more than a few twins not all pairs are reported, but chains of pairs join them. Pairs that would join more than 8
    pictures, or more than a fiftieth of all, are left out, the least alike first. Flat pictures are like nothing.
    Of more than 100,000 pictures an index proposes the candidates (see `neighbours`): of 6,629 pairs among 50,000 it
    lost three (`bench/neighbours.py`). Neither prints nor features are copied whole, so that they may be in files.
    """
    rows = _with_detail(looks.prints)
    units, hashes = _reduced(vectors, rows), perceptual_hashes(looks.prints)[rows]
    pairs = candidates(units, hashes, hashes ^ MIRROR, progress)
    aligned = align(looks.prints, pairs, LEAST_COARSE, rows, progress)
    close = np.flatnonzero(aligned.detail >= LEAST_DETAIL)
    least = threshold(aligned.detail, pairs)
    found = close[(aligned.detail[close] >= least) | (_cosines(units, pairs[close]) >= LEAST_COSINE)]
    found = found[np.argsort(-aligned.detail[found], kind="stable")]
    found = found[_in_small_groups(pairs[found], max(LEAST_TOGETHER, int(len(looks.prints) * MOST_SHARE)))]
    return NearPairs(rows[pairs[found]], np.clip(aligned.detail[found], 0, 1), aligned.mirrored[found])


def _with_detail(prints: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The rows of `prints` [n, 32, 32] that are not flat."""
    deviations = np.empty(len(prints), np.float32)
    for block in blocks(len(prints), ROWS_AT_ONCE):
        deviations[block] = prints[block].std(axis=(1, 2), dtype=np.float32)
    return np.flatnonzero(deviations >= 255 * LEAST_CONTRAST)


def _cosines(units: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """The cosine of each of `pairs` [m, 2] of rows of `units` [n, c], [m]."""
    cosines = np.empty(len(pairs), np.float32)
    for block in blocks(len(pairs), PAIRS_AT_ONCE):
        first, second = pairs[block].T
        cosines[block] = np.einsum("md,md->m", units[first], units[second])
    return cosines


def threshold(detail: NDArray[np.float32], pairs: NDArray[np.int64]) -> float:
    """The least correlation of detail that stands out among those of all candidates; 0.95 or more.

    tanh(atanh(0.95) + max(0, ln(d / 3)) / 5), d the number of doubtful candidates: those from 0.9 to 0.95, and those
    above whose pictures both have more than five partners above 0.9. In most sets of photos there are next to none.
    Where different pictures are hardly different there are many, and fewer the higher: on 10,000 pictures of
    Fashion-MNIST 12,941 were between 0.9 and 0.95, a third as many above, and exp(-5 z) or less of these above
    any atanh(0.95) + z. So about one false pair in the whole set is to be expected.

    Args:
        detail: [m], of all candidates.
        pairs: int [m, 2], their pictures.
    """
    partners = np.bincount(pairs[detail >= DOUBTFUL].ravel(), minlength=int(pairs.max(initial=0)) + 1)
    crowded = partners > FEW
    in_crowd = crowded[pairs[:, 0]] & crowded[pairs[:, 1]]
    doubtful = int(((detail >= DOUBTFUL) & ((detail < LEAST_DETAIL) | in_crowd)).sum())
    return float(np.tanh(np.arctanh(LEAST_DETAIL) + max(0.0, np.log(max(doubtful, 1) / 3)) / 5))


def _in_small_groups(pairs: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which of `pairs` [m, 2], taken in their order, join no more than `most` pictures into one group; bool [m].

    What a camera sees from one place all day is one chain: its weakest links are cut, so that it can be divided.
    """
    n = int(pairs.max(initial=-1)) + 1
    leader, size = array("q", range(n)), array("q", [1]) * n  # a tenth of the memory of dicts

    def find(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    def join(first: int, second: int) -> bool:
        one, other = find(first), find(second)
        together = size[one] + (size[other] if one != other else 0)
        if together <= most:
            leader[one] = other
            size[other] = together
        return together <= most

    kept = np.zeros(len(pairs), np.bool_)
    for block in blocks(len(pairs), PAIRS_AT_ONCE):
        kept[block] = [join(first, second) for first, second in pairs[block].tolist()]
    return kept


def with_twins(dataset: Dataset, digests: Sequence[str], pairs: NearPairs) -> Dataset:
    """The data set with its `twins`: `digests` are those of the rows of `pairs`."""
    twins = [(digests[first], digests[second]) for first, second in pairs.rows.tolist()]
    mirrored = (twin for twin, is_mirrored in zip(twins, pairs.mirrored, strict=True) if is_mirrored)
    return replace(dataset, twins=tuple(twins), mirrored=frozenset(mirrored))


def perceptual_hashes(prints: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A 64-bit hash of each print, uint64 [n]: the signs of its 8 x 8 lowest cosine frequencies, one bit each.

    Alike pictures have hashes that differ in few bits. The mirror image's hash is `hash ^ MIRROR`, for mirroring turns
    the sign of odd frequencies across. The mean is left out. Source: the DCT hash of Zauner, Implementation and
    benchmarking of perceptual image hash functions (2010), with signs in place of the median.
    """
    frequencies = np.arange(8)[:, None] * (2 * np.arange(PRINT_SIDE) + 1)
    waves = np.cos(np.pi / (2 * PRINT_SIDE) * frequencies).astype(np.float32)
    packed = [np.empty((0, 8), np.uint8)]
    for block in blocks(len(prints), ROWS_AT_ONCE):
        spectrum = waves @ prints[block].astype(np.float32) @ waves.T
        spectrum[:, 0, 0] = 0
        packed.append(np.packbits(spectrum.reshape(-1, 64) > 0, axis=1, bitorder="little"))
    return np.concatenate(packed).view("<u8")[:, 0].astype(np.uint64)


MIRROR = np.uint64(0xAAAAAAAAAAAAAAAA)
"""The bits of a hash that mirroring turns: those of odd frequencies across."""


def _reduced(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The first principal components [n, at most `DIMENSIONS`] of the n `rows` of `vectors`, each row of length one.

    The axes are found by subspace iteration on at most `MOST_MEASURED` of the rows (Halko, Martinsson, Tropp, SIAM
    Review 53 (2011), 217-288): near enough, and sixty times faster than an eigendecomposition.
    """
    size = (vectors.shape[1], min(DIMENSIONS, vectors.shape[1]))
    units = scratch.empty((len(rows), size[1]), np.float32)
    if len(rows) == 0:
        return units
    centre = _mean(vectors, rows)
    measured = vectors[rows[:: -(-len(rows) // MOST_MEASURED)]] - centre
    axes = np.random.default_rng([*b"near duplicates"]).normal(size=size).astype(np.float32)
    for _ in range(3):
        axes = np.linalg.qr(measured.T @ (measured @ axes))[0]
    for block in blocks(len(rows), ROWS_AT_ONCE):
        components = (vectors[rows[block]] - centre) @ axes
        lengths = np.linalg.norm(components, axis=1, keepdims=True)
        units[block] = components / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units


def _mean(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean [d] of the `rows` of `vectors`, which are not copied at once."""
    total = np.zeros(vectors.shape[1])
    for block in blocks(len(rows), ROWS_AT_ONCE):
        total += vectors[rows[block]].sum(axis=0, dtype=np.float64)
    return (total / len(rows)).astype(np.float32)
