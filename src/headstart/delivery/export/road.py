"""From a picture's file to an export's input by Pillow and NumPy alone, as the export's record says.

Whoever uses an export goes this way, not headstart's, which decodes large photos at a fraction of their size. So the
proof goes it too. It is written out once more in each of the examples.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

UNREADABLE = (OSError, ValueError, SyntaxError)
"""What Pillow raises for a file that it cannot read."""


def pixels_of(path: Path, preprocessing: dict[str, Any]) -> NDArray[np.uint8]:
    """The picture at `path` as uint8 [height, width, 3].

    Raises:
        OSError, ValueError, SyntaxError: Pillow cannot read it.
    """
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.has_transparency_data:
            coloured = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
        picture = picture.convert("RGB")
    size = (preprocessing["width"], preprocessing["height"])
    method = Image.Resampling[preprocessing["interpolation"].upper()]
    if preprocessing["fit"] == "squish":
        return np.asarray(picture.resize(size, method))
    if preprocessing["fit"] == "pad":
        ratio = min(size[0] / picture.width, size[1] / picture.height)
        inner = picture.resize((max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))), method)
        canvas = Image.new("RGB", size, tuple(preprocessing["pad_colour"]))
        canvas.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
        return np.asarray(canvas)
    short, resize = min(picture.size), preprocessing["resize"]
    full = [resize if side == short else int(resize * side / short) for side in picture.size]
    corner = [round((whole - kept) / 2) for whole, kept in zip(full, size, strict=True)]
    scale = [side / whole for side, whole in zip(picture.size, full, strict=True)]
    (left, top), (right, bottom) = corner, (corner[0] + size[0], corner[1] + size[1])
    box = (left * scale[0], top * scale[1], right * scale[0], bottom * scale[1])
    return np.asarray(picture.resize(size, method, box=box))
