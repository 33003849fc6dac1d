"""Small copies of pictures as data URIs, within a budget of bytes and of work."""

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from headstart.parallel import core_count, in_order
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.inspect import read

SIDE, SMALL_SIDE = 160, 96
"""The longest side in pixels: of pictures that stand in the page, and of those that are shown on pointing at a dot."""

MOST_BYTES = 6_000_000
"""Of data URIs, each counted as often as it stands in the page."""

MOST_READ = 400_000_000
"""Bytes of files that are read for pictures that only pointing at something shows."""

_QUALITY, _LOW_QUALITY, _LARGE = 74, 45, 9_000  # JPEG; noise that comes out larger is pressed harder
_AHEAD = 4

Locate = Callable[[str], Path]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture: its data URI and its size in pixels."""

    uri: str
    width: int
    height: int


def draw(shown: Sequence[str], on_pointing: Sequence[str], locate: Locate) -> dict[str, Thumbnail]:
    """Thumbnails by path, of as many pictures as the budgets allow, first come first served.

    Args:
        shown: paths of the pictures that stand in the page, as often as they stand there.
        on_pointing: paths of further ones, which are kept once, smaller, and only while `MOST_READ` lasts.
        locate: from a path to its file.

    A picture that cannot be read (any more) has none.
    """
    uses = Counter(shown)
    room = MOST_BYTES
    thumbnails: dict[str, Thumbnail] = {}
    small = _within(_fresh(on_pointing, uses), locate)
    with ThreadPoolExecutor(core_count()) as pool:
        work = [(path, SIDE) for path in uses] + [(path, SMALL_SIDE) for path in small]
        made = in_order(pool, lambda item: _make(locate(item[0]), item[1]), work, _AHEAD * core_count())
        for (path, _), thumbnail in zip(work, made, strict=True):
            cost = len(thumbnail.uri) * uses.get(path, 1) if thumbnail else 0
            if thumbnail is not None and cost <= room:
                room -= cost
                thumbnails[path] = thumbnail
    return thumbnails


def overlays(pictures: Mapping[str, bytes], paths: Iterable[str]) -> dict[str, str]:
    """Data URIs, by path, of the overlays (PNG or WebP bytes) of `paths`, no larger than the thumbnails they cover."""
    return {path: _overlay(pictures[path]) for path in paths if path in pictures}


def _fresh(paths: Iterable[str], known: Mapping[str, int]) -> list[str]:
    return [path for path in dict.fromkeys(paths) if path not in known]


def _within(paths: Sequence[str], locate: Locate) -> list[str]:
    """The first of `paths` whose files have `MOST_READ` bytes together."""
    kept, total = [], 0
    for path in paths:
        try:
            total += locate(path).stat().st_size
        except OSError:
            continue
        if total > MOST_READ:
            break
        kept.append(path)
    return kept


def _make(file: Path, side: int) -> Thumbnail | None:
    try:
        pixels = decode(read(file)[0], at_least=side).pixels
    except (PictureError, OSError):
        return None
    image = Image.fromarray(pixels)
    width, height = _fitted(image.size, side)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    small = np.ascontiguousarray(image)
    data = simplejpeg.encode_jpeg(small, _QUALITY, "RGB", "420")
    if len(data) > _LARGE:
        data = simplejpeg.encode_jpeg(small, _LOW_QUALITY, "RGB", "420")
    return Thumbnail(f"data:image/jpeg;base64,{b64encode(data).decode()}", width, height)


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size of a picture of `size` whose longer side is at most `side`; a smaller one keeps its own."""
    shrink = min(1.0, side / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def _overlay(data: bytes) -> str:
    with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as image:
        overlay = image.convert("RGBA" if image.has_transparency_data else "RGB")
    overlay = overlay.resize(_fitted(overlay.size, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    overlay.save(buffer, "WEBP", quality=70, method=2)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"
