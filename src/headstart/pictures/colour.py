"""Every colour mode that Pillow knows -> uint8 RGB [h, w, 3], by fixed rules and without guessing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


class UnclearValuesError(ValueError):
    """Pixel values of which nothing says what is black and what is white."""


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a loaded Pillow image as uint8 RGB [h, w, 3].

    Transparent parts become white. 16-bit grey values are divided by 257 (so that 65535 becomes 255), 12-bit
    ones by 4095 / 255; grey values in floating point must lie within 0 and 1. CMYK is converted as Pillow
    does, without colour profiles.

    Raises:
        UnclearValuesError: values outside of the range that says what is black and what is white.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_rgb(image)
    if image.mode == "La":  # premultiplied; Pillow knows only this way back
        image = image.convert("LA")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _over_white(image: Image.Image) -> NDArray[np.uint8]:
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return np.asarray(white)


def _grey_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    white = _white(image)
    if not _within(values, white):
        raise UnclearValuesError(
            f"grey values from {values.min():g} to {values.max():g}, outside of 0 to {white:g}:"
            " save the picture with 8 or 16 bits"
        )
    grey = np.rint(values * np.float32(255 / white)).astype(np.uint8)
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey = np.where(values == transparent, np.uint8(255), grey)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _white(image: Image.Image) -> float:
    """The value of white: 1 in floating point, else the greatest of 16 bits or of the 12 that a TIFF declares."""
    if image.mode == "F":
        return 1.0
    tags: Any = getattr(image, "tag_v2", {})
    return 4095.0 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535.0


def _within(values: NDArray[Any], white: float) -> bool:
    """Whether all values lie within 0 and `white`; false where one is not a number."""
    return bool(values.min() >= 0 and values.max() <= white)
