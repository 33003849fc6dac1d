"""How alike two small prints are once they are aligned: cropped, stretched a little, or mirrored."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.parallel import core_count
from headstart.progress import SILENT, Progress

FloatArray = NDArray[np.float32]

PRINT_SIDE, COARSE_SIDE = 32, 8
SMALLEST = 0.84  # of a side: the smallest window that one picture is looked for in the other
STEPS = 4  # of the fine alignment
PAIRS_AT_ONCE = 256  # some 20 MB, for each thread: twice as fast as with 1024, which no cache holds
FLAT = 1e-3  # the length below which a print less its mean is nothing


@dataclass(frozen=True, eq=False)
class Aligned:
    """How alike m pairs of prints are at best, all arrays [m].

    `coarse` float32, in -1..1: the correlation of one print with the best window of the other, at 8 x 8. `detail`
    float32, in -1..1: the correlation of the differences between neighbouring pixels, at 32 x 32, once aligned finely;
    -1 where that was not tried. `mirrored`: whether one was turned left to right.
    """

    coarse: FloatArray
    detail: FloatArray
    mirrored: NDArray[np.bool_]


def align(
    prints: NDArray[np.uint8],
    pairs: NDArray[np.int64],
    least: float,
    rows: NDArray[np.int64] | None = None,
    progress: Progress = SILENT,
) -> Aligned:
    """The best alignment of each pair of prints.

    One print, or its mirror image, is looked for in windows of the other, both ways round: whole, or cropped to
    0.84 of a side or more, each side by itself. The best of 49 windows, compared at 8 x 8, is made exact by a few
    steps of Gauss and Newton at 32 x 32, with free edges of the window, contrast and brightness (Lucas, Kanade,
    IJCAI 1981, 674-679). Prints are blurred a little before they are compared, for a cropped one was enlarged.

    Args:
        prints: uint8 [n, 32, 32].
        pairs: int [m, 2], rows of `prints`, or places in `rows`.
        least: pairs with a smaller coarse correlation are not aligned finely.
        rows: int, of `prints`: so that those need not be copied, where only some of them count.
        progress: shows how many pairs are done.
    """
    coarse, detail = np.empty(len(pairs), np.float32), np.full(len(pairs), -1, np.float32)
    mirrored = np.empty(len(pairs), np.bool_)

    def of_block(start: int) -> int:
        block = slice(start, start + PAIRS_AT_ONCE)
        here = pairs[block] if rows is None else rows[pairs[block]]
        coarse[block], window, swapped, mirrored[block] = _best_window(prints, here)
        close = np.flatnonzero(coarse[block] >= least)
        if len(close):
            sources, targets = _ends(prints, here[close], swapped[close], mirrored[block][close])
            detail[start + close] = _detail(sources, targets, window[close])
        return len(here)

    with progress.stage("near duplicates: pairs", len(pairs)) as advance, ThreadPoolExecutor(core_count()) as pool:
        for done in pool.map(of_block, range(0, len(pairs), PAIRS_AT_ONCE)):
            advance(done)
    return Aligned(coarse, detail, mirrored)


def _ends(
    prints: NDArray[np.uint8], pairs: NDArray[np.int64], swapped: NDArray[np.bool_], mirrored: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """The prints to cut windows from, and those to compare the windows with, both float32 [m, 32, 32]."""
    ends = prints[pairs].astype(np.float32)
    numbers, turned = np.arange(len(pairs)), swapped.astype(np.int64)
    targets = ends[numbers, 1 - turned]
    return ends[numbers, turned], np.where(mirrored[:, None, None], targets[:, :, ::-1], targets)


def _detail(sources: FloatArray, targets: FloatArray, window: FloatArray) -> FloatArray:
    """The correlation [m] of neighbours' differences in the best windows of `sources`, near `window` [m, 4]."""
    window = _fit(_blurred(sources), _blurred(targets), window)
    return _correlation(_differences(_blurred(_warp(sources, window))), _differences(_blurred(targets)))


def _best_window(
    prints: NDArray[np.uint8], pairs: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_], NDArray[np.bool_]]:
    """The best of all windows of either print for the other: correlation [m], window [m, 4], swapped, mirrored."""
    rows, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    cut = _CUTS @ prints[rows].astype(np.float32) @ _CUTS.T  # all windows of all prints at once
    sides = len(_CUTS) // COARSE_SIDE
    cut = cut.reshape(len(rows), sides, COARSE_SIDE, sides, COARSE_SIDE).transpose(0, 1, 3, 2, 4)
    candidates = _unit(cut.reshape(len(rows), sides * sides, -1))
    uncut = cut[:, 0, 0]
    both = _unit(np.stack([uncut, uncut[:, :, ::-1]], axis=1).reshape(len(rows), 2, -1)).transpose(0, 2, 1)
    first, second = places.T
    scores = np.stack([candidates[first] @ both[second], candidates[second] @ both[first]], axis=1)
    scores = scores.reshape(len(pairs), -1)
    best = scores.argmax(axis=1)
    swapped, number, mirrored = np.unravel_index(best, (2, len(_WINDOWS), 2))
    return scores[np.arange(len(pairs)), best], _WINDOWS[number], swapped.astype(np.bool_), mirrored.astype(np.bool_)


def _blurred(pictures: FloatArray) -> FloatArray:
    """`pictures` [m, h, w], each pixel averaged with its neighbours, weighted 1, 2, 1 down and across."""
    wide = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), "edge")
    down = wide[:, 2:] + 2 * wide[:, 1:-1] + wide[:, :-2]
    both: FloatArray = (down[:, :, 2:] + 2 * down[:, :, 1:-1] + down[:, :, :-2]) / 16
    return both


def _fit(source: FloatArray, target: FloatArray, bounds: FloatArray) -> FloatArray:
    """The window [m, 4] in which `source` [m, side, side] is most like `target`, a few steps from `bounds` [m, 4]."""
    current = _warp(source, bounds)
    best, best_score = bounds, _correlation(current, target)
    for _ in range(STEPS):
        bounds = _step(current, target, bounds)
        current = _warp(source, bounds)
        score = _correlation(current, target)
        best = np.where((score > best_score)[:, None], bounds, best)
        best_score = np.maximum(score, best_score)
    return best


def _step(current: FloatArray, target: FloatArray, bounds: FloatArray) -> FloatArray:
    """The `bounds` [m, 4] (top, bottom, left, right) that bring `current` closer to `target`."""
    side = current.shape[1]
    position = (np.arange(side, dtype=np.float32) + 0.5) / side
    down, across = np.gradient(current, axis=(1, 2))
    down *= side / (bounds[:, 1] - bounds[:, 0])[:, None, None]
    across *= side / (bounds[:, 3] - bounds[:, 2])[:, None, None]
    near, far = 1 - position, position
    columns = [down * near[:, None], down * far[:, None], across * near, across * far, current, np.ones_like(current)]
    design = np.stack(columns, axis=1).reshape(len(current), 6, -1)
    # target * gain + offset = current + J d, with the gain on the side of `current`: linear in all six
    normal = design @ design.transpose(0, 2, 1)
    trace = np.einsum("mii->mi", normal)
    normal += np.eye(6, dtype=np.float32) * (1e-4 * trace[:, None, :] + 1e-3)
    answer = np.linalg.solve(normal, design @ target.reshape(len(target), -1, 1))[:, :, 0]
    gain = np.where(np.abs(answer[:, 4]) > 0.1, answer[:, 4], 1)[:, None]
    moved: FloatArray = np.clip(bounds + np.clip(answer[:, :4] / gain, -0.05, 0.05), -0.03, 1.03)
    return moved


def _warp(source: FloatArray, bounds: FloatArray) -> FloatArray:
    """`source` [m, 32, 32] inside `bounds` [m, 4], resampled by linear interpolation."""
    side = source.shape[1]
    rows = _interpolation(bounds[:, 0], bounds[:, 1], side)
    columns = _interpolation(bounds[:, 2], bounds[:, 3], side)
    return np.asarray(rows @ source @ columns.transpose(0, 2, 1), dtype=np.float32)


def _interpolation(start: FloatArray, stop: FloatArray, side: int) -> FloatArray:
    """Matrices [m, side, side] that resample the part from `start` to `stop`, in shares of the side, to `side`."""
    position = (np.arange(side, dtype=np.float32) + 0.5) / side
    places = (start[:, None] + (stop - start)[:, None] * position) * side - 0.5
    places = np.clip(places, 0, side - 1)
    hats: FloatArray = np.maximum(0, 1 - np.abs(places[:, :, None] - np.arange(side, dtype=np.float32)))
    return hats


def _differences(pictures: FloatArray) -> FloatArray:
    """The differences between neighbours, down and across, [m, 2, 31, 31]."""
    down = pictures[:, 1:, :-1] - pictures[:, :-1, :-1]
    across = pictures[:, :-1, 1:] - pictures[:, :-1, :-1]
    return np.stack([down, across], axis=1)


def _correlation(one: FloatArray, other: FloatArray) -> FloatArray:
    """Pearson's correlation of each of m pairs of arrays, [m]; 0 where one is flat."""
    first, second = _unit(one.reshape(len(one), -1)), _unit(other.reshape(len(other), -1))
    product: FloatArray = np.einsum("mi,mi->m", first, second)
    return product


def _unit(rows: FloatArray) -> FloatArray:
    """`rows` [..., d], each less its mean and divided by its length; a flat one becomes zero."""
    centred = rows - rows.mean(axis=-1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    scaled: FloatArray = centred / np.maximum(lengths, FLAT)
    return scaled


def _windows() -> tuple[FloatArray, FloatArray]:
    """All windows [49, 4] (top, bottom, left, right); the means over the cells of those of one side, [7 * 8, 32]."""
    middle = (1 + SMALLEST) / 2
    starts = [(0.0, 1.0)]
    for size in (middle, SMALLEST):
        starts += [(share * (1 - size), share * (1 - size) + size) for share in (0, 0.5, 1)]
    pairs = [(*rows, *columns) for rows in starts for columns in starts]
    edges = np.array([np.linspace(start, stop, COARSE_SIDE + 1) for start, stop in starts]) * PRINT_SIDE
    pixels = np.arange(PRINT_SIDE)
    inside = np.minimum(edges[:, 1:, None], pixels + 1) - np.maximum(edges[:, :-1, None], pixels)
    cuts = np.maximum(inside, 0) / np.diff(edges)[:, :, None]
    return np.array(pairs, dtype=np.float32), cuts.reshape(-1, PRINT_SIDE).astype(np.float32)


_WINDOWS, _CUTS = _windows()
