"""How a camera was held: the Exif orientation of a picture, read from bytes and applied to pixels."""

import struct

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_SHORT = 3


def jpeg_orientation(data: bytes) -> int:
    """The Exif orientation, 1 to 8, that a JPEG file states in its segments; 1 where it states none.

    Follows the chain of segments up to the first scan, so it costs microseconds whatever the file's size.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (0xDA, 0xD9):  # start of scan, end of image
            break
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            return exif_orientation(data[position + 4 : position + 2 + length])
        position += 2 + length
    return UPRIGHT


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in an Exif block (a small TIFF file, with or without its `Exif` prefix).

    A block that is damaged or says nothing of the kind means 1: metadata never make a picture unreadable.
    Source: Exif 2.32, section 4.6.4; TIFF 6.0, section 2.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The picture as it was meant to be seen.

    Args:
        pixels: uint8 [h, w, channels] as stored.
        orientation: 1 to 8; 5 to 8 exchange height and width.

    Returns:
        A view of `pixels`, uint8 [h, w, channels] or [w, h, channels].
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
