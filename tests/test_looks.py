import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageStat

from headstart.pictures.decode import Facts, decode
from headstart.pictures.looks import from_stored, gather, jpeg_quality, look, sharpness

COLUMNS = ["width", "height", "file_bytes", "format", "mode", "quality", "brightness", "contrast", "darkest"]
COLUMNS += ["brightest", "sharpness", "prints", "colours"]


def scene(seed=0, size=(500, 375)):
    """A picture with shapes of all sizes, like a photo's: noise whose power falls with frequency."""
    random = np.random.default_rng(seed)
    layers = [
        Image.fromarray(random.integers(0, 256, (2**k, 2**k, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for k in range(2, 9)
    ]
    weights = np.array([0.7**k for k in range(7)])
    mixed = sum(
        weight * np.asarray(layer, float) for weight, layer in zip(weights / weights.sum(), layers, strict=True)
    )
    return Image.fromarray(np.clip(128 + 2 * (mixed - 128), 0, 255).astype(np.uint8))


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def looks_of(image, **options):
    data = encoded(image, **{"format": "PNG", **options})
    picture = decode(data)
    return look(picture.pixels, data, picture.facts)


def test_size_bytes_and_format_are_those_of_the_file():
    data = encoded(scene(size=(1600, 1200)).convert("L"), format="JPEG", quality=80)
    picture = decode(data, at_least=64)
    assert picture.pixels.shape[1] < 1600
    seen = look(picture.pixels, data, picture.facts)
    assert (seen.width, seen.height, seen.format, seen.mode) == (1600, 1200, "JPEG", "L")
    assert seen.file_bytes == len(data)
    assert seen.quality == 80


@pytest.mark.parametrize("quality", [*range(1, 101, 7), 49, 50, 51, 95, 100])
def test_jpeg_quality_is_the_one_that_pillow_wrote(quality):
    data = encoded(Image.new("RGB", (9, 9), "red"), format="JPEG", quality=quality)
    found = jpeg_quality(data)
    if quality >= 10:
        assert found == quality
    else:  # the steps end at 255, so that the lowest qualities are hardly different
        assert abs(found - quality) <= 1


def test_jpeg_quality_is_unknown_without_a_whole_table():
    data = encoded(Image.new("RGB", (9, 9)), format="JPEG", quality=60)
    start = data.index(b"\xff\xdb")
    for damaged in (
        b"",
        data[:2],
        data[: start + 30],
        data.replace(b"\xff\xdb", b"\xff\xfe"),
        b"\xff\xd8\xff\xdb\0\0\0",
    ):
        assert math.isnan(jpeg_quality(damaged))
    assert math.isnan(looks_of(scene()).quality)


def test_a_sixteen_bit_table_is_read():
    data = encoded(Image.new("RGB", (9, 9)), format="JPEG", quality=60)
    start = data.index(b"\xff\xdb") + 5
    wide = np.frombuffer(data, "u1", 64, offset=start).astype(">u2").tobytes()
    assert jpeg_quality(b"\xff\xd8\xff\xff\xdb\x00\x83\x10" + wide + b"\xff\xda\0\0") == 60


def test_light_is_that_of_the_luma():
    image = scene(1, (256, 192))
    seen = looks_of(image)
    luma = image.convert("L")
    assert seen.brightness == pytest.approx(ImageStat.Stat(luma).mean[0] / 255)
    assert seen.contrast == pytest.approx(ImageStat.Stat(luma).stddev[0] / 255)
    low, high = np.percentile(np.asarray(luma), [5, 95], method="inverted_cdf") / 255
    assert (seen.darkest, seen.brightest) == pytest.approx((low, high))


def test_a_flat_picture_has_no_contrast_and_no_sharpness():
    seen = looks_of(Image.new("RGB", (300, 200), (255, 255, 255)))
    assert (seen.brightness, seen.darkest, seen.brightest) == (1, 1, 1)
    assert seen.contrast == pytest.approx(0, abs=1e-6)
    assert seen.sharpness == 0
    assert (seen.fingerprint == 255).all()
    assert seen.colours[63] == 65535


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (2, 2), (5, 4), (257, 255)])
def test_any_shape_has_looks(size):
    seen = looks_of(scene(2, size))
    assert seen.fingerprint.shape == (32, 32)
    assert math.isfinite(seen.sharpness)


def test_sharpness_falls_with_blur_and_hardly_with_contrast():
    image = scene(3).convert("L").resize((256, 192))
    values = [sharpness(np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 1, 2, 4)]
    assert all(sharper > 1.5 * duller for sharper, duller in itertools.pairwise(values))
    pale = np.asarray(image.point(lambda level: round(100 + 0.4 * level)))
    assert sharpness(pale) == pytest.approx(values[0], rel=0.1)  # rounding is noise


def test_a_sharp_subject_before_a_blurred_background_is_sharp():
    image = scene(4).convert("L").resize((256, 192))
    blurred = image.filter(ImageFilter.GaussianBlur(5))
    portrait = blurred.copy()
    portrait.paste(image.crop((64, 48, 192, 144)), (64, 48))
    assert sharpness(np.asarray(portrait)) > 0.6 * sharpness(np.asarray(image))
    assert sharpness(np.asarray(portrait)) > 10 * sharpness(np.asarray(blurred))


def test_noise_has_the_sharpness_of_the_formula():
    noise = np.random.default_rng(5).integers(0, 256, (192, 256), dtype=np.uint8)
    assert sharpness(noise) == pytest.approx(20, rel=0.1)  # 4² + 4 · 1² times the variance


def test_looks_hardly_depend_on_the_scale():
    image = scene(6, (1200, 900))
    large, small = looks_of(image), looks_of(image.resize((600, 450), Image.Resampling.LANCZOS))
    assert np.abs(large.fingerprint.astype(int) - small.fingerprint).max() <= 3
    assert np.abs(large.colours.astype(float) - small.colours).sum() < 0.1 * 65535
    assert small.sharpness == pytest.approx(large.sharpness, rel=0.25)
    assert small.brightness == pytest.approx(large.brightness, abs=0.005)


def test_colours_are_counted_by_level():
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = (255, 128, 64)
    seen = looks_of(Image.fromarray(halves))
    assert {int(number): int(seen.colours[number]) for number in np.flatnonzero(seen.colours)} == {
        0: 32768,
        3 * 16 + 2 * 4 + 1: 32768,
    }


def test_what_was_stored_comes_back():
    for seen in (looks_of(scene(7)), looks_of(scene(7), format="JPEG", quality=70)):
        again = from_stored(*seen.to_stored())
        for name, value in vars(seen).items():
            np.testing.assert_array_equal(getattr(again, name), value)


def test_nothing_is_made_of_what_was_not_stored():
    record, content = looks_of(scene(7)).to_stored()
    assert from_stored({}, b"") is None
    assert from_stored(record, content[:-1]) is None
    assert from_stored({}, content) is None


def test_columns_have_their_types_and_rows_can_be_taken():
    images = [scene(8), scene(9, (100, 80)), scene(10, (90, 300))]
    records = [looks_of(images[0], format="JPEG", quality=55), looks_of(images[1]), looks_of(images[2])]
    looks = gather(records)
    assert list(vars(looks)) == COLUMNS
    assert looks.width.tolist() == [500, 100, 90]
    assert looks.width.dtype == looks.height.dtype == np.int32
    assert looks.file_bytes.dtype == np.int64
    assert looks.format == ("JPEG", "PNG", "PNG")
    assert looks.quality[0] == 55
    assert np.isnan(looks.quality[1:]).all()
    assert looks.prints.shape == (3, 32, 32)
    assert looks.prints.dtype == np.uint8
    np.testing.assert_allclose(looks.colours.sum(axis=1), 1, rtol=1e-5)
    taken = looks.take([2, 0, 0])
    assert taken.width.tolist() == [90, 500, 500]
    assert taken.format == ("PNG", "JPEG", "JPEG")
    np.testing.assert_array_equal(taken.prints[1], records[0].fingerprint)


def test_no_pictures_have_empty_columns():
    looks = gather([])
    assert looks.prints.shape == (0, 32, 32)
    assert looks.colours.shape == (0, 64)
    assert looks.take(np.array([], int)).format == ()


def test_facts_are_not_measured_but_taken():
    facts = Facts(4000, 3000, "TIFF", "CMYK")
    seen = look(np.zeros((30, 40, 3), np.uint8), b"12345", facts)
    assert (seen.width, seen.height, seen.format, seen.mode, seen.file_bytes) == (4000, 3000, "TIFF", "CMYK", 5)
