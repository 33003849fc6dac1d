"""Looks: what a picture looks like before anyone asks what it shows: size, format, light, sharpness, fingerprint."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart import scratch
from headstart.pictures.decode import Facts

SIDE = 256  # pixels: the long side at which light and sharpness are measured; smaller pictures are not enlarged
PRINT_SIDE = 32
COLOUR_SIDE = 64  # pixels: the long side at which colours are counted, at least
LEVELS = 4  # of each of three channels in a colour histogram
TILES, SHARPEST = 4, 4  # sharpness: 4 x 4 tiles, of which the four sharpest count

_MEASURED = ("quality", "brightness", "contrast", "darkest", "brightest", "sharpness")
_WHOLE = {"width": np.int32, "height": np.int32, "file_bytes": np.int64}
_NAMES = ("format", "mode")
_BLOCK = 8192  # rows of colours that are divided at once


@dataclass(frozen=True, eq=False)
class Look:
    """The looks of one picture; the fields are those of `Looks`.

    `fingerprint` uint8 [32, 32] is its row of `prints`; `colours` uint16 [64] are shares of 65535.
    """

    width: int
    height: int
    file_bytes: int
    format: str
    mode: str
    quality: float
    brightness: float
    contrast: float
    darkest: float
    brightest: float
    sharpness: float
    fingerprint: NDArray[np.uint8]
    colours: NDArray[np.uint16]

    def to_stored(self) -> tuple[dict[str, Any], bytes]:
        """JSON values and bytes from which `from_stored` makes the same record."""
        record = {name: value for name, value in vars(self).items() if name not in ("fingerprint", "colours")}
        record["quality"] = None if math.isnan(self.quality) else self.quality
        return record, self.fingerprint.tobytes() + self.colours.astype("<u2").tobytes()


@dataclass(frozen=True, eq=False)
class Looks:
    """The looks of n pictures: columns, one row a picture.

    `width`, `height` int32: of the original, upright, in pixels. `file_bytes` int64. `format` and `mode` have Pillow's
    names. `quality` float32: the JPEG quality, 1 to 100, as its quantisation tables tell; NaN elsewhere. `brightness`
    and `contrast` float32: mean and standard deviation of the luma, in 0..1; `darkest` and `brightest`: its 5th, 95th
    percentile. `sharpness` float32, 0 to about 20: larger is sharper, see `sharpness`. `prints` uint8 [n, 32, 32]: the
    luma of the whole picture, squeezed. `colours` float32 [n, 64]: shares of the pixels, four levels a channel, red
    the most significant; each row sums to 1.
    """

    width: NDArray[np.int32]
    height: NDArray[np.int32]
    file_bytes: NDArray[np.int64]
    format: tuple[str, ...]
    mode: tuple[str, ...]
    quality: NDArray[np.float32]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    darkest: NDArray[np.float32]
    brightest: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    prints: NDArray[np.uint8]
    colours: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> "Looks":
        """The looks of the pictures at `rows` int [m], in that order."""
        rows = np.asarray(rows, np.int64)
        return replace(self.measures(rows), prints=self.prints[rows], colours=self.colours[rows])

    def measures(self, rows: NDArray[np.int64] | Sequence[int]) -> "Looks":
        """`take` without what is large: `prints` and `colours` are of no picture."""
        rows = np.asarray(rows, np.int64)
        columns: dict[str, Any] = {"prints": self.prints[:0], "colours": self.colours[:0]}
        for name in (*_WHOLE, *_MEASURED):
            columns[name] = getattr(self, name)[rows]
        for name in _NAMES:
            column = getattr(self, name)
            columns[name] = tuple(column[row] for row in rows.tolist())
        return Looks(**columns)


def look(pixels: NDArray[np.uint8], data: bytes, facts: Facts) -> Look:
    """The looks of one picture, in about a millisecond.

    All is measured on small versions of the whole picture, so that it hardly matters at which scale it was decoded.

    Args:
        pixels: uint8 [h, w, 3], RGB, upright; perhaps of a reduced scale.
        data: the bytes of its file.
        facts: what the file says of itself.
    """
    picture = Image.fromarray(pixels)
    luma = _shrunk(picture.convert("L"))
    counts = np.array(luma.histogram(), dtype=np.float64)
    light = _light(counts / counts.sum())
    return Look(
        width=facts.width,
        height=facts.height,
        file_bytes=len(data),
        format=facts.format,
        mode=facts.mode,
        quality=jpeg_quality(data) if facts.format == "JPEG" else math.nan,
        **light,
        sharpness=sharpness(np.asarray(luma)),
        fingerprint=np.asarray(luma.resize((PRINT_SIDE, PRINT_SIDE), Image.Resampling.BILINEAR)),
        colours=_colours(picture),
    )


def from_stored(record: Mapping[str, Any], content: bytes) -> Look | None:
    """The record that `Look.to_stored` wrote; None where nothing of the kind was stored."""
    area, colours = PRINT_SIDE**2, LEVELS**3
    if not record or len(content) != area + 2 * colours:
        return None
    quality = math.nan if record["quality"] is None else record["quality"]
    fingerprint = np.frombuffer(content, np.uint8, area).reshape(PRINT_SIDE, PRINT_SIDE)
    shares = np.frombuffer(content, "<u2", colours, offset=area)
    return Look(**{**record, "quality": quality}, fingerprint=fingerprint, colours=shares)


class Gathering:
    """The looks of n pictures while they come in, in any order; what is large is in `scratch` arrays."""

    def __init__(self, n: int) -> None:
        self._numbers: dict[str, NDArray[Any]] = {name: np.zeros(n, kind) for name, kind in _WHOLE.items()}
        self._numbers |= {name: np.zeros(n, np.float32) for name in _MEASURED}
        self._names = {name: [""] * n for name in _NAMES}
        self._prints = scratch.empty((n, PRINT_SIDE, PRINT_SIDE), np.uint8)
        self._colours = scratch.empty((n, LEVELS**3), np.float32)
        self.known = np.zeros(n, np.bool_)

    def put(self, row: int, record: Look) -> None:
        """Keep the looks of the picture at `row`."""
        for name, column in self._numbers.items():
            column[row] = getattr(record, name)
        for name, names in self._names.items():
            names[row] = intern(getattr(record, name))  # a few different ones, however many pictures
        self._prints[row], self._colours[row] = record.fingerprint, record.colours
        self.known[row] = True

    def looks(self) -> Looks:
        """The columns, once all rows are `known`."""
        for start in range(0, len(self._colours), _BLOCK):
            block = self._colours[start : start + _BLOCK]
            block /= block.sum(axis=1, keepdims=True)
        names = {name: tuple(column) for name, column in self._names.items()}
        return Looks(**self._numbers, **names, prints=self._prints, colours=self._colours)  # type: ignore[arg-type]


def gather(records: Sequence[Look]) -> Looks:
    """The columns of n `records`, in their order."""
    gathering = Gathering(len(records))
    for row, record in enumerate(records):
        gathering.put(row, record)
    return gathering.looks()


def sharpness(luma: NDArray[np.uint8]) -> float:
    """How sharp a picture `luma` uint8 [h, w] is where it is sharpest: 0 (flat) to about 20 (noise).

    The variance of the Laplacian (4 neighbours) in each of 4 x 4 tiles, the mean of the four largest, over the variance
    of the whole picture's luma. Of tiles, so that a sharp subject before a blurred background is sharp; over the
    variance, so that contrast does not matter. Compare pictures at one size only. Source: Pech-Pacheco et al., ICPR
    2000; operator LAP4 of Pertuz, Puig, Garcia, Pattern Recognition 46 (2013), 1415-1432; tiles and division are ours.
    """
    values = luma.astype(np.float32)
    variance = float(values.var())
    if min(luma.shape) < 3 or variance == 0:
        return 0.0
    inner = values[1:-1, 1:-1]
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1]
    laplacian += values[1:-1, :-2]
    laplacian += values[1:-1, 2:]
    laplacian -= 4 * inner
    high, wide = (max(1, side // TILES) for side in laplacian.shape)
    down, across = (min(TILES, side) for side in laplacian.shape)
    tiles = laplacian[: down * high, : across * wide].reshape(down, high, across, wide)
    variances = np.sort(tiles.var(axis=(1, 3)), axis=None)
    return float(variances[-SHARPEST:].mean()) / variance


def jpeg_quality(data: bytes) -> float:
    """The quality, 1 to 100, whose standard luma table is closest to that of the JPEG file `data`; NaN without one.

    Quality q scales the table K.1 of the JPEG standard by 50 / q below 50 and by 2 - q / 50 above, as libjpeg does
    (jcparam.c); of the hundred tables the one with the least sum of absolute differences counts. For files of programs
    with tables of their own it is the nearest equivalent.
    """
    for identity, table in _quantisation_tables(data):
        if identity == 0:
            return float(1 + np.abs(_STANDARD_TABLES - table).sum(axis=1).argmin())
    return math.nan


def _shrunk(picture: Image.Image) -> Image.Image:
    """The picture with its long side at most `SIDE` pixels, each the mean of those that it covers."""
    long = max(picture.size)
    if long <= SIDE:
        return picture
    width, height = (max(1, round(side * SIDE / long)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)


def _light(shares: NDArray[np.float64]) -> dict[str, float]:
    """Mean, deviation and percentiles of the luma whose 256 levels have these `shares` [256] of the pixels."""
    levels = np.arange(256) / 255
    mean = float(shares @ levels)
    below = np.cumsum(shares)
    return {
        "brightness": mean,
        "contrast": math.sqrt(max(0.0, float(shares @ levels**2) - mean * mean)),
        "darkest": float(levels[min(255, int(np.searchsorted(below, 0.05)))]),
        "brightest": float(levels[min(255, int(np.searchsorted(below, 0.95)))]),
    }


def _colours(picture: Image.Image) -> NDArray[np.uint16]:
    """The shares, of 65535, of the 64 colours that have four levels in each channel, uint16 [64]."""
    small = np.asarray(picture.reduce(max(1, max(picture.size) // COLOUR_SIDE))) // (256 // LEVELS)
    numbers = small @ np.array([LEVELS * LEVELS, LEVELS, 1], dtype=np.uint8)
    counts = np.bincount(numbers.ravel(), minlength=LEVELS**3)
    shares: NDArray[np.uint16] = np.rint(counts * (65535 / counts.sum())).astype(np.uint16)
    return shares


def _quantisation_tables(data: bytes) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The number and the 64 steps, in zigzag order, of each quantisation table before a JPEG's first scan."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (0xDA, 0xD9):  # start of scan, end of image
            return
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        start = position + 4
        while marker == 0xDB and start + 65 <= min(end, len(data)):
            kind = np.dtype(">u2" if data[start] >> 4 else "u1")
            size = 64 * kind.itemsize
            if start + 1 + size > len(data):
                return
            yield data[start] & 15, np.frombuffer(data, kind, 64, offset=start + 1).astype(np.int64)
            start += 1 + size
        position = end


def _standard_tables() -> NDArray[np.int64]:
    """Table K.1 of ISO/IEC 10918-1 for the qualities 1 to 100, int [100, 64], each in zigzag order."""
    rows = (
        *((16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56)),
        *((14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92)),
        *((49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99)),
    )
    places = [(row, column) for row in range(8) for column in range(8)]
    zigzag = sorted(places, key=lambda place: (sum(place), place[0] if sum(place) % 2 else place[1]))
    base = np.array([rows[row][column] for row, column in zigzag])
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables: NDArray[np.int64] = np.clip((base * scales[:, None] + 50) // 100, 1, 255)
    return tables


_STANDARD_TABLES = _standard_tables()
