import io
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from headstart.pictures import decode as decode_module
from headstart.pictures.decode import Facts, PictureError, TooLarge, Unreadable, decode, looks_like_picture

RNG = np.random.default_rng(0)
SMOOTH = Image.fromarray(RNG.integers(0, 255, (6, 8, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
"""A photo-like picture, 64 wide and 48 high, without any symmetry."""


def encode(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description that comes first"
    return exif


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and has hardly any data."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0")))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def samples_of_formats() -> dict[str, bytes]:
    palette = SMOOTH.quantize(20)
    grey16 = Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20)
    floats = Image.fromarray(np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64))
    return {
        "jpeg": encode(SMOOTH, "JPEG", exif=oriented(6)),
        "jpeg progressive": encode(SMOOTH, "JPEG", progressive=True),
        "jpeg grey": encode(SMOOTH.convert("L"), "JPEG"),
        "jpeg cmyk": encode(SMOOTH.convert("CMYK"), "JPEG", exif=oriented(3)),
        "mpo": encode(SMOOTH, "MPO", save_all=True, append_images=[SMOOTH.rotate(90)]),
        "png": encode(SMOOTH, "PNG", exif=oriented(6)),
        "png palette": encode(palette, "PNG", transparency=3),
        "png palette alpha": encode(palette, "PNG", transparency=bytes(range(20))),
        "png 1": encode(SMOOTH.convert("1"), "PNG"),
        "png 16": encode(grey16, "PNG"),
        "png rgba": encode(SMOOTH.convert("RGBA"), "PNG"),
        "apng": encode(SMOOTH, "PNG", save_all=True, append_images=[SMOOTH.rotate(90)]),
        "webp": encode(SMOOTH, "WEBP", exif=oriented(6)),
        "webp lossless": encode(SMOOTH, "WEBP", lossless=True),
        "gif": encode(palette, "GIF"),
        "bmp": encode(SMOOTH, "BMP"),
        "tiff": encode(SMOOTH, "TIFF", exif=oriented(6)),
        "tiff lzw": encode(SMOOTH, "TIFF", compression="tiff_lzw"),
        "tiff float": encode(floats, "TIFF"),
        "ppm": encode(SMOOTH, "PPM"),
        "avif": encode(SMOOTH, "AVIF", exif=oriented(6)),
        "jpeg2000": encode(SMOOTH, "JPEG2000"),
        "ico": encode(SMOOTH.convert("RGBA"), "ICO", sizes=[(32, 32)]),
        "ico bmp": encode(SMOOTH.convert("RGBA"), "ICO", sizes=[(32, 32)], bitmap_format="bmp"),
    }


FORMATS = samples_of_formats()


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_decoded_as_pillow_decodes_it(name: str) -> None:
    data = FORMATS[name]
    picture = decode(data)
    assert looks_like_picture(data[:64])
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.shape == (picture.facts.height, picture.facts.width, 3)
    if name not in ("png palette", "png palette alpha", "png 16", "tiff float"):  # see the tests of these below
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        np.testing.assert_array_equal(picture.pixels, np.asarray(expected))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_turned_upright(format_name: str, orientation: int) -> None:
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(format_name, {})
    data = encode(SMOOTH, format_name, exif=oriented(orientation), **options)
    picture = decode(data)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(picture.pixels, np.asarray(expected))
    assert (picture.facts.width, picture.facts.height) == ((64, 48) if orientation < 5 else (48, 64))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_oriented_picture_shows_the_original_scene(orientation: int) -> None:
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    undo |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = SMOOTH if orientation == 1 else SMOOTH.transpose(Image.Transpose[undo[orientation]])
    picture = decode(encode(stored, "PNG", exif=oriented(orientation)))
    np.testing.assert_array_equal(picture.pixels, np.asarray(SMOOTH))


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*", b"Exif\0\0nonsense", b"Exif\0\0"])
def test_damaged_exif_does_not_spoil_a_picture(exif: bytes) -> None:
    np.testing.assert_array_equal(
        decode(encode(SMOOTH, "JPEG", exif=exif)).pixels, decode(encode(SMOOTH, "JPEG")).pixels
    )


def test_orientation_outside_of_1_to_8_is_upright() -> None:
    assert decode(encode(SMOOTH, "JPEG", exif=oriented(9))).facts == Facts(64, 48, "JPEG", "RGB")


def test_large_jpegs_may_come_out_smaller() -> None:
    large = SMOOTH.resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encode(large, "JPEG", quality=95, exif=oriented(6))
    for at_least, short in (
        (1, 150),
        (150, 150),
        (151, 300),
        (256, 300),
        (400, 450),
        (600, 600),
        (601, 1200),
        (9999, 1200),
    ):
        picture = decode(data, at_least=at_least)
        assert picture.pixels.shape == (short * 4 // 3, short, 3)
        assert picture.facts == Facts(1200, 1600, "JPEG", "RGB")
    box = np.asarray(large.transpose(Image.Transpose.ROTATE_270).resize((300, 400), Image.Resampling.BOX), np.int16)
    assert np.abs(decode(data, at_least=256).pixels - box).mean() < 2


def test_transparency_is_laid_over_white() -> None:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, :, 3] = 255
    pixels[1, 1] = (255, 0, 0, 255)
    pixels[1, 2] = (0, 0, 0, 128)
    expected = np.zeros((2, 3, 3), np.uint8)
    expected[1] = [(255, 255, 255), (255, 0, 0), (127, 127, 127)]
    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels), "PNG")).pixels, expected)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels), "WEBP", lossless=True)).pixels, expected)
    grey = Image.fromarray(pixels[:, :, [0, 3]])
    np.testing.assert_array_equal(decode(encode(grey, "PNG")).pixels[1, 0], [255, 255, 255])


def test_transparent_palette_colours_and_keys_are_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    image.putdata([0, 1, 2])
    expected = [[[255, 255, 255], [200, 10, 10], [10, 200, 10]]]
    for format_name in ("PNG", "GIF"):
        assert decode(encode(image, format_name, transparency=0)).pixels.tolist() == expected
    assert decode(encode(image, "PNG", transparency=b"\0\xff\x80")).pixels[0, 2].tolist() == [132, 227, 132]
    colour_key = encode(image.convert("RGB"), "PNG", transparency=(0, 0, 0))
    assert decode(colour_key).pixels.tolist() == expected
    grey_key = encode(Image.fromarray(np.array([[7, 9]], np.uint8)), "PNG", transparency=7)
    assert decode(grey_key).pixels.tolist() == [[[255] * 3, [9] * 3]]
    assert decode(encode(image, "PNG")).pixels[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(format_name: str) -> None:
    grey = np.array([[0, 257, 300], [32768, 65278, 65535]], np.uint16)
    picture = decode(encode(Image.fromarray(grey), format_name))
    expected = np.rint(grey / 257).astype(np.uint8)
    np.testing.assert_array_equal(picture.pixels, np.repeat(expected[:, :, None], 3, axis=2))


def test_big_endian_12_bit_and_white_is_zero_tiffs() -> None:
    grey = Image.fromarray(np.array([[0, 65535]], np.uint16))
    little = encode(grey, "TIFF")
    big = Image.frombytes("I;16B", (2, 1), b"\0\0\xff\xff")
    assert decode(encode(big, "TIFF")).pixels[0, :, 0].tolist() == [0, 255]
    assert decode(encode(grey, "TIFF", tiffinfo={262: 0})).pixels[0, :, 0].tolist() == [255, 0]
    twelve = little.replace(struct.pack("<HHIHH", 258, 3, 1, 16, 0), struct.pack("<HHIHH", 258, 3, 1, 12, 0))
    twelve = twelve[:-4] + bytes([0x00, 0x0F, 0xFF, 0x00])  # 0 and 4095, packed into three bytes
    assert decode(twelve).pixels[0, :, 0].tolist() == [0, 255]


def test_16_bit_grey_with_a_transparent_value() -> None:
    data = encode(Image.fromarray(np.array([[0, 65535, 257]], np.uint16)), "PNG", transparency=0)
    assert decode(data).pixels[0, :, 0].tolist() == [255, 255, 1]


def test_values_without_a_scale_are_refused_not_guessed() -> None:
    fractions = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert decode(encode(Image.fromarray(fractions), "TIFF")).pixels[0, :, 0].tolist() == [0, 128, 255]
    for values in (fractions * 255, fractions - 1, fractions * np.nan):
        with pytest.raises(Unreadable, match="outside of 0 to 1:"):
            decode(encode(Image.fromarray(values), "TIFF"))
    assert decode(encode(Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF")).pixels[0, 1, 0] == 255
    with pytest.raises(Unreadable, match="outside of 0 to 65535"):
        decode(encode(Image.fromarray(np.array([[0, 65536]], np.int32)), "TIFF"))


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr", "RGBX", "LA", "L", "1", "P", "RGBA"])
def test_colour_modes_of_tiff(mode: str) -> None:
    image = SMOOTH.convert(mode)
    pixels = decode(encode(image, "TIFF")).pixels.astype(int)
    assert np.abs(pixels - np.asarray(image.convert("RGB"))).mean() < 4
    assert pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["jpeg", "jpeg cmyk", "png", "webp", "gif", "bmp", "tiff"])
def test_trailing_garbage_is_tolerated(name: str) -> None:
    np.testing.assert_array_equal(decode(FORMATS[name] + b"garbage" * 50).pixels, decode(FORMATS[name]).pixels)


def test_odd_jpegs_fall_back_to_pillow() -> None:
    data = encode(SMOOTH, "JPEG")
    odd = data[:-2] + b"\0\0\0\0\0" + data[-2:]  # extraneous bytes before the end marker, as some cameras write
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(odd)
    np.testing.assert_array_equal(decode(odd).pixels, decode(data).pixels)


def test_subsampling_unknown_to_simplejpeg_is_left_to_pillow() -> None:
    data = bytearray(encode(Image.new("RGB", (64, 32), (200, 10, 10)), "JPEG", subsampling="4:2:0"))
    factors = data.index(b"\xff\xc0") + 11
    assert data[factors] == 0x22  # two by two luma blocks for each of the others: as many as one by four
    data[factors] = 0x14
    with pytest.raises(KeyError):
        simplejpeg.decode_jpeg_header(bytes(data))
    assert decode(bytes(data)).facts == Facts(64, 32, "JPEG", "RGB")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html><body>404", "not a picture (begins with '<html><body>404')"),
        (b"hello world, this is a text\nof lines", "not a picture (begins with 'hello world, this is a t')"),
        (bytes(500), "not a picture (begins with zeros)"),
        (bytes(range(128, 256)), "no known picture format"),
        (FORMATS["jpeg"][: len(FORMATS["jpeg"]) // 2], "truncated: the picture's data end early"),
        (FORMATS["jpeg"][:40], "truncated: the picture's data end early"),
        (FORMATS["png"][:400], "truncated: the picture's data end early"),
        (FORMATS["webp"][:400], "truncated: the picture's data end early"),
        (FORMATS["avif"][:-40], "truncated: the picture's data end early"),
        (FORMATS["bmp"][:400], "truncated: the picture's data end early"),
        (FORMATS["jpeg"][:400] + b"\xff\xd9", "truncated: the picture's data end early"),
    ],
)
def test_reasons_are_plain_words(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(data)
    assert str(caught.value) == reason
    assert caught.value.kind == "unreadable"
    assert isinstance(caught.value, ValueError)


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert looks_like_picture(head)
    with pytest.raises(Unreadable, match=r"pip install headstart\[heic\]"):
        decode(head + bytes(100))


def test_heic_with_its_package() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(SMOOTH)
    buffer = io.BytesIO()
    heif.save(buffer, quality=95)
    picture = decode(buffer.getvalue())
    assert picture.facts == Facts(64, 48, "HEIF", "RGB")
    assert np.abs(picture.pixels.astype(int) - np.asarray(SMOOTH)).mean() < 8


def refuse_to_decode(*_: object, **__: object) -> None:
    raise AssertionError("pixels were decoded")


def test_bombs_are_refused_by_their_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse_to_decode)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse_to_decode)
    jpeg = bytearray(encode(SMOOTH, "JPEG"))
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = struct.pack(">HH", 60000, 60000)
    for data in (png_header(50000, 50000), png_header(10001, 10000), bytes(jpeg)):
        with pytest.raises(TooLarge, match=r"more than the 100,000,000 that are opened") as caught:
            decode(data)
        assert caught.value.kind == "too_large"


def test_the_limit_of_pixels_is_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # a user's own setting, which warns and raises in Image.open
    assert decode(FORMATS["png"]).pixels.shape == (64, 48, 3)
    monkeypatch.setattr(decode_module, "PIXEL_LIMIT", 10)
    with pytest.raises(TooLarge):
        decode(FORMATS["png"])


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_bytes_give_a_picture_or_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "PIXEL_LIMIT", 1_000_000)  # a flipped bit can make a header announce seconds
    data = FORMATS[name]
    generator = np.random.default_rng([1, *name.encode()])
    damaged = [data[:end] for end in range(0, len(data), max(1, len(data) // 60))]
    for _ in range(80):
        flipped = bytearray(data)
        for position in generator.integers(0, min(len(data), int(generator.choice([64, 400, 10**6]))), 3):
            flipped[position] = generator.integers(0, 256)
        damaged.append(bytes(flipped))
    for candidate in damaged:
        try:
            picture = decode(candidate, at_least=16)
        except PictureError as error:
            assert str(error)  # noqa: PT017 - either outcome is right, and each has something to check
        else:
            assert picture.pixels.shape[2] == 3


def test_warnings_are_neither_shown_nor_lost() -> None:
    tiff = bytearray(FORMATS["tiff lzw"])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for end in range(8, len(tiff), 97):
            with pytest.raises(PictureError):
                decode(bytes(tiff[:end]))
        warnings.warn("the user's own", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["the user's own"]


def test_threads_get_the_same_pictures() -> None:
    expected = {name: decode(data).pixels for name, data in FORMATS.items()}
    wrong: list[str] = []

    def work() -> None:
        wrong.extend(name for name, data in FORMATS.items() if not np.array_equal(decode(data).pixels, expected[name]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", False),
        (b"BM and then a text", False),
        (b"P5 is a model of a car", True),  # as good as two bytes can tell: decoding says the rest
        (b"Potatoes", False),
        (b"RIFF....WAVEfmt ", False),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", False),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", True),
    ],
)
def test_looks_like_picture(head: bytes, expected: bool) -> None:
    assert looks_like_picture(head) is expected


@pytest.mark.photos
def test_oddities_are_decoded_or_refused_with_their_reasons(photos: Path) -> None:
    refused: dict[str, str] = {}
    for path in sorted((photos / "oddities").glob("[ab]*/[!.T]*")):
        try:
            picture = decode(path.read_bytes())
        except PictureError as error:
            refused[path.name] = f"{error.kind}: {error}"
        else:
            with Image.open(path) as image:
                size = ImageOps.exif_transpose(image).size
            assert picture.pixels.shape == (size[1], size[0], 3)
    assert set(refused) == {
        "bomb_50000x50000.png",
        "empty.jpg",
        "html_error.jpg",
        "text_named.jpg",
        "truncated_half.jpg",
        "truncated_header.jpg",
    }
    assert refused["bomb_50000x50000.png"].startswith("too_large: 50000 x 50000 pixels")
    assert refused["empty.jpg"] == "unreadable: empty file"
    assert refused["html_error.jpg"].startswith("unreadable: not a picture (begins with '<")
    assert refused["truncated_half.jpg"] == "unreadable: truncated: the picture's data end early"


@pytest.mark.photos
def test_real_photos_match_pillow(photos: Path) -> None:
    for path in sorted((photos / "hymenoptera").rglob("*.jpg"))[::20]:
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        np.testing.assert_array_equal(decode(path.read_bytes()).pixels, expected)
