import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headstart.features.preprocess import Preprocess

IMAGENET = Preprocess(224, 224, 256, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def resized_then_cropped(pixels, preprocess):
    """torchvision's Resize and CenterCrop, written out."""
    image = Image.fromarray(pixels)
    width, height = image.size
    if width <= height:
        size = (preprocess.resize, int(preprocess.resize * height / width))
    else:
        size = (int(preprocess.resize * width / height), preprocess.resize)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - preprocess.width) / 2), round((size[1] - preprocess.height) / 2)
    return np.asarray(image.crop((left, top, left + preprocess.width, top + preprocess.height)))


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (256, 256), (1200, 900), (90, 120), (300, 2000), (2, 2)])
def test_crop_equals_resizing_the_whole_and_cropping(shape):
    pixels = picture(*shape)
    difference = np.abs(IMAGENET.apply(pixels).astype(int) - resized_then_cropped(pixels, IMAGENET))
    assert difference.max() <= 2
    assert difference.mean() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "mode", "fraction"), [("crop", "center", 0.875), ("squish", "squash", 1), ("pad", "border", 1)]
)
def test_it_equals_what_timm_does(fit, mode, fraction):
    data = pytest.importorskip("timm.data")
    theirs = data.create_transform(
        (3, 224, 224), interpolation="bicubic", crop_pct=fraction, crop_mode=mode, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    for shape in [(333, 500), (501, 333), (60, 111), (300, 300)]:
        pixels = picture(*shape)
        normalised = theirs(Image.fromarray(pixels)).numpy().transpose(1, 2, 0)
        expected = np.round(normalised * 127.5 + 127.5).astype(int)
        assert np.abs(IMAGENET.with_fit(fit).apply(pixels).astype(int) - expected).max() <= 2


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["crop", "squish", "pad"]))
def test_every_shape_fits(height, width, fit):
    out = IMAGENET.with_fit(fit).apply(np.full((height, width, 3), 200, np.uint8))
    assert out.shape == (224, 224, 3)
    assert out.dtype == np.uint8
    assert (out == 200).any()


def test_squish_keeps_the_corners_and_pad_fills_with_the_mean_colour():
    pixels = np.full((100, 300, 3), 10, np.uint8)
    pixels[:, :30] = 250
    squished, padded = IMAGENET.with_fit("squish").apply(pixels), IMAGENET.with_fit("pad").apply(pixels)
    assert (squished[:, 0] == 250).all()
    assert (padded[0] == 128).all()
    assert (padded[112, 0] == 250).all()
    assert (IMAGENET.apply(pixels)[:, 0] != 250).all()


def test_the_record_survives_json():
    assert Preprocess.from_json(IMAGENET.with_fit("pad").to_json()) == IMAGENET.with_fit("pad")


def test_large_photos_may_be_decoded_at_twice_what_is_needed():
    assert IMAGENET.at_least == 512
    assert math.isclose(IMAGENET.at_least / IMAGENET.resize, 2)
