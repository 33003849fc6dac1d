"""Arrays of a network as pictures: filters, maps, and how far a unit sees."""

import io
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from headstart.judging.saliency import overlay, viridis

if TYPE_CHECKING:
    from headstart.features.layers import Layer  # brings torch

GAP = 2  # pixels between the cells of a sheet
MAP_SIDE, FILTER_SIDE = 112, 44  # pixels of one cell
LINE = 2

Pixels = NDArray[np.uint8]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Drawing:
    """A picture in a page: its data URI, its size in pixels, and what it shows, in words."""

    uri: str
    width: int
    height: int
    words: str


def as_drawing(pixels: Pixels, words: str) -> Drawing:
    """`pixels` uint8 [h, w, 3] or [h, w, 4] as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return Drawing(_uri(buffer.getvalue()), pixels.shape[1], pixels.shape[0], words)


def draw_filters(filters: Float32, most: int) -> Drawing:
    """At most `most` filters float32 [c, 3, h, w] of a first layer, in colours; grey is nothing."""
    cells = []
    for one in filters[:most]:
        span = max(float(np.abs(one).max()), 1e-12)
        colours = np.clip(127.5 + 127.5 * one.transpose(1, 2, 0) / span, 0, 255).astype(np.uint8)
        cells.append(np.asarray(Image.fromarray(colours).resize((FILTER_SIDE, FILTER_SIDE), Image.Resampling.NEAREST)))
    return as_drawing(_sheet(cells, 8), f"the first {len(cells)} of {len(filters)} filters")


def draw_maps(maps: Float32, most: int, words: str) -> Drawing:
    """The `most` liveliest of maps float32 [c, h, w], each from its least (dark) to its largest (yellow)."""
    lively = np.argsort(-maps.reshape(len(maps), -1).std(axis=1), kind="stable")[:most]
    return as_drawing(_sheet([draw_map(maps[place]) for place in lively], 6), words)


def draw_map(one: Float32) -> Pixels:
    """A map float32 [h, w] in colours, uint8 [side, side, 3]; its units stay visible as squares."""
    low, high = float(one.min()), float(one.max())
    even = (one - low) / max(high - low, 1e-12)
    coloured = np.rint(viridis(even.astype(np.float32))).astype(np.uint8)
    return np.asarray(Image.fromarray(coloured).resize((MAP_SIDE, MAP_SIDE), Image.Resampling.NEAREST))


def draw_field(picture: Pixels, layer: "Layer", effective: Float32) -> Drawing:
    """What the middle unit of `layer` sees of the network's input: weights as colours, and the outline of its field."""
    strength = effective / max(float(effective.max()), 1e-12)
    drawn = Image.fromarray(overlay(picture, np.sqrt(strength).astype(np.float32)))
    height, width = picture.shape[:2]
    if layer.field and not layer.sees_all:
        rows, columns = np.nonzero(effective > 0)
        box = int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())
        ImageDraw.Draw(drawn).rectangle(box, outline=(255, 255, 255), width=LINE)
    words = f"what the middle unit of {layer.name} sees of {height} x {width} pixels"
    return as_drawing(np.asarray(drawn), words)


def pooled(one: Float32, size: int, how: str) -> Float32:
    """A map float32 [h, w] after "max" or "mean" pooling of `size` x `size` windows side by side."""
    height, width = (side // size * size for side in one.shape)
    windows = one[:height, :width].reshape(height // size, size, width // size, size)
    return np.asarray(windows.max(axis=(1, 3)) if how == "max" else windows.mean(axis=(1, 3)))


def _sheet(cells: list[Pixels], columns: int) -> Pixels:
    """Cells uint8 [h, w, 3] of one size in rows of `columns`, with see-through gaps, uint8 [h, w, 4]."""
    height, width = cells[0].shape[:2]
    rows = -(-len(cells) // columns)
    across = min(columns, len(cells))
    sheet = np.zeros((rows * (height + GAP) - GAP, across * (width + GAP) - GAP, 4), dtype=np.uint8)
    for place, cell in enumerate(cells):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        sheet[top : top + height, left : left + width, :3] = cell
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
