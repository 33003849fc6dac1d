"""bytes -> uint8 RGB [h, w, 3]: the one way in which headstart reads a picture, in training and in use."""

import importlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from headstart.pictures.colour import UnclearValuesError, to_rgb
from headstart.pictures.formats import ends_early, looks_like_picture, recognise
from headstart.pictures.orientation import UPRIGHT, exif_orientation, jpeg_orientation, turn_upright

__all__ = [
    "PIXEL_LIMIT",
    "Facts",
    "Picture",
    "PictureError",
    "TooLarge",
    "Unreadable",
    "decode",
    "looks_like_picture",
]

PIXEL_LIMIT = 100_000_000
"""The most pixels that a picture's header may announce: 300 MB once decoded."""

_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "ICO": "IcoImagePlugin",
}
_MODES = {"Gray": "L", "YCbCr": "RGB", "RGB": "RGB", "CMYK": "CMYK", "YCCK": "CMYK"}
_ORIENTATION_TAG = 0x0112

# What damaged bytes have been seen to raise inside Pillow: its plugins parse them with ordinary Python.
_DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, NotImplementedError, RuntimeError),
    *(LookupError, TypeError, AttributeError, ArithmeticError, AssertionError),
)
_warnings_lock = threading.Lock()


class PictureError(ValueError):
    """A picture that cannot be used; the message says why, in plain words."""

    kind: Literal["unreadable", "too_large"]


class Unreadable(PictureError):  # noqa: N818 - the reason is what a reader wants to see
    """The bytes are not a whole picture of a known format."""

    kind = "unreadable"


class TooLarge(PictureError):  # noqa: N818
    """The picture has more pixels or bytes than headstart opens."""

    kind = "too_large"


@dataclass(frozen=True)
class Facts:
    """What the file says of itself.

    `width` and `height` are those of the original, upright, in pixels; `format` and `mode` have Pillow's names.
    """

    width: int
    height: int
    format: str
    mode: str


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture: `pixels` uint8 [h, w, 3], RGB, contiguous, upright; and its facts."""

    pixels: NDArray[np.uint8]
    facts: Facts


def decode(data: bytes, *, at_least: int | None = None, most: int | None = None) -> Picture:
    """The first (or only) picture in a file's bytes: upright, in RGB, over white where it is transparent.

    Args:
        data: the whole file. Its first bytes tell its format; bytes after the picture's end are ignored.
        at_least: where given, a large JPEG may come out smaller, by 1/8 to 4/8 in both directions, with its
            short side still at least this many pixels. Such a scaled decode takes less time and memory.
        most: the most pixels that are opened; `PIXEL_LIMIT` unless given.

    Raises:
        Unreadable: not a picture, not of a known format, damaged, or ending early.
        TooLarge: the header announces more than `most` pixels; none of them is decoded.

    No other exception and no warning escapes, whatever the bytes. Safe to call from many threads.
    """
    most = PIXEL_LIMIT if most is None else most
    format_name = recognise(data)
    if format_name is None:
        raise Unreadable(_unknown(data))
    if format_name == "JPEG":
        picture = _decode_jpeg(data, at_least or 0, most)
        if picture is not None:
            return picture
    return _decode_with_pillow(data, format_name, most)


def _decode_jpeg(data: bytes, at_least: int, most: int) -> Picture | None:
    """Decode an ordinary JPEG; None for what Pillow should try: CMYK, or odd enough for libjpeg to warn."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # KeyError: a colour subsampling that it has no name for, such as 4:4:1
        return None
    mode = _MODES.get(colours)
    if mode not in ("RGB", "L"):
        return None
    _refuse_too_many_pixels(width, height, most)
    # Factors between 1 and 2 take longer than none: 92 to 112 ms against 74 for a photo of 6 megapixels.
    scaling = {"min_height": at_least, "min_width": at_least, "min_factor": 2} if at_least > 0 else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", **scaling)
    except ValueError as error:
        if "remature end" in str(error):  # of the file, or of a segment that zeros or an end marker were put after
            raise Unreadable(_TRUNCATED) from error
        return None
    return _upright(pixels, jpeg_orientation(data), (width, height), "JPEG", mode)


def _decode_with_pillow(data: bytes, format_name: str, most: int) -> Picture:
    try:
        with _quiet(_may_warn(data, format_name)) as heard:
            image = _open(data, format_name, most)
            _refuse_too_many_pixels(*image.size, most)
        with _quiet(bool(heard)):
            image.load()
        size, mode = image.size, image.mode
        return _upright(to_rgb(image), _orientation(image), size, format_name, mode)
    except PictureError:
        raise
    except UnclearValuesError as error:
        raise Unreadable(str(error)) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"more than {most:,} pixels") from error
    except MemoryError as error:
        raise TooLarge("it does not fit into memory") from error
    except _DAMAGE as error:
        raise Unreadable(_damaged(error, data, format_name)) from error


def _open(data: bytes, format_name: str, most: int) -> Image.Image:
    """The picture with its header read and its pixels not.

    Calls the plugin of the format itself: `Image.open` warns above a limit that belongs to the user's process.
    """
    if format_name == "HEIF":
        return _open_heif(data, most)
    plugin = importlib.import_module(f"PIL.{_PLUGINS[format_name]}")
    if format_name == "JPEG":
        jpeg: Image.Image = plugin.JpegImageFile(io.BytesIO(data))
        return jpeg
    factory, _ = Image.OPEN[format_name]
    image = factory(io.BytesIO(data), "")
    if format_name == "ICO":
        icon: Any = image
        return _largest_icon(icon)
    return image


def _largest_icon(icon: Any) -> Image.Image:
    """The largest picture of an ICO file; it may have another size than the file's directory announces."""
    image: Image.Image = icon.ico.getimage(icon.size)
    return image


def _open_heif(data: bytes, most: int) -> Image.Image:
    try:
        import pillow_heif  # an optional package
    except ImportError as error:
        raise Unreadable("HEIC pictures need one more package: pip install headstart[heic]") from error
    heif = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    width, height = heif.size
    _refuse_too_many_pixels(width, height, most)
    image: Image.Image = heif.to_pillow()
    return image


def _refuse_too_many_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise TooLarge(f"{width} x {height} pixels, more than the {most:,} that are opened")
    if width * height == 0:
        raise Unreadable(f"{width} x {height} pixels: there is nothing in it")


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif_orientation(exif)
    tags: Any = getattr(image, "tag_v2", {})  # a TIFF
    orientation = tags.get(_ORIENTATION_TAG, UPRIGHT)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT


def _upright(
    pixels: NDArray[np.uint8], orientation: int, size: tuple[int, int], format_name: str, mode: str
) -> Picture:
    width, height = size if orientation < 5 else size[::-1]
    upright = np.ascontiguousarray(turn_upright(pixels, orientation))
    return Picture(upright, Facts(width, height, format_name, mode))


def _may_warn(data: bytes, format_name: str) -> bool:
    """Whether Pillow has words for an oddity of such a file: those with tags, and PNG with an animation."""
    return format_name in ("TIFF", "JPEG", "AVIF", "ICO", "HEIF") or (format_name == "PNG" and b"acTL" in data)


@contextmanager
def _quiet(wanted: bool) -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings instead of showing or raising them, if `wanted`.

    Python can silence warnings only for the whole process, so this is held briefly and by one thread at a time:
    while a header that Pillow may have words for is read, and longer only where it had some.
    """
    if not wanted:
        yield []
        return
    with _warnings_lock, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard


_TRUNCATED = "truncated: the picture's data end early"
_TRUNCATION_WORDS = ("truncated", "premature", "end of file", "not large enough", "only got", "buffer of at least")


def _unknown(data: bytes) -> str:
    """Why bytes of no known format are not a picture."""
    if not data:
        return "empty file"
    start = data[:40].decode("utf-8", "replace").split("\n")[0].strip()
    if len(start) >= 4 and start.isprintable() and "\ufffd" not in start[:-1]:
        return f"not a picture (begins with {start[:24]!r})"
    if not any(data[:64]):
        return "not a picture (begins with zeros)"
    return "no known picture format"


def _damaged(error: Exception, data: bytes, format_name: str) -> str:
    """What is wrong with a file that Pillow refused."""
    text = str(error)
    if isinstance(error, EOFError) or ends_early(data, format_name):
        return _TRUNCATED
    if any(words in text.lower() for words in _TRUNCATION_WORDS):
        return _TRUNCATED
    return f"damaged: {text}" if text else "damaged"
