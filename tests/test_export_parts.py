"""The parts of an export: the written-out road, what is proved, and what is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from headstart.delivery.export import formats, pictures, proof
from headstart.delivery.export.asking import Answers, Export
from headstart.delivery.export.road import pixels_of
from headstart.delivery.export.source import Source, as_input
from headstart.errors import ExportError
from headstart.features.preprocess import FITS, Preprocess
from headstart.pictures.dataset import Sample
from headstart.pictures.decode import decode

from . import tiny

SIZES = [(48, 40), (31, 77), (32, 32), (5, 90), (300, 200)]


class Stub:
    """A classifier of two classes, as far as a `Source` looks at it."""

    def __init__(self, preprocess):
        self.backbone = type("Backbone", (), {"preprocess": preprocess})
        self.classes = ("é日", "b")


def facts_for(preprocess, raw=False):
    return Source(Stub(preprocess), raw).facts()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_written_road_gives_what_headstart_sees(fit, size, interpolation, tmp_path):
    preprocess = replace(tiny.PREPROCESS, fit=fit, interpolation=interpolation, mean=(0.2, 0.5, 0.9))
    tiny.draw(tmp_path / "a.png", (200, 90, 30), 3, size)
    expected = preprocess.apply(decode((tmp_path / "a.png").read_bytes()).pixels)
    assert pixels_of(tmp_path / "a.png", facts_for(preprocess)["preprocessing"]).tolist() == expected.tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_written_road_turns_pictures_upright(orientation, tmp_path):
    tiny.draw(tmp_path / "a.png", (200, 90, 30), 3, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(tmp_path / "a.png").save(tmp_path / "a.jpg", exif=exif, quality=95)
    expected = tiny.PREPROCESS.apply(decode((tmp_path / "a.jpg").read_bytes()).pixels)
    got = pixels_of(tmp_path / "a.jpg", facts_for(tiny.PREPROCESS)["preprocessing"])
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1"])
def test_the_written_road_knows_the_usual_modes(mode, tmp_path):
    tiny.draw(tmp_path / "a.png", (200, 90, 30), 3)
    picture = Image.open(tmp_path / "a.png").convert("RGBA" if mode in ("RGBA", "LA") else "RGB")
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.convert(mode).save(tmp_path / "b.png")
    expected = tiny.PREPROCESS.apply(decode((tmp_path / "b.png").read_bytes()).pixels)
    got = pixels_of(tmp_path / "b.png", facts_for(tiny.PREPROCESS)["preprocessing"])
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_raw_input_is_normalised_as_the_facts_say():
    preprocess = Preprocess(4, 6, 8, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    assert as_input(pixels, facts_for(preprocess)) is pixels
    got = as_input(pixels, facts_for(preprocess, raw=True))
    assert (got.shape, got.dtype) == ((2, 3, 4, 6), np.float32)
    assert got[1, 2, 3, 5] == pytest.approx((pixels[1, 3, 5, 2] / 255 - 0.3) / 0.6, abs=1e-6)


def answers(original, export, same=None, groups=None, labels="aaaa"):
    def rows(first):
        return np.array([[value, 1 - value] for value in first])

    samples = tuple(
        Sample(f"{number}.png", label, None, None if groups is None else groups[number], f"{number:064}")
        for number, label in enumerate(labels)
    )
    return Answers(samples, rows(original), rows(export), rows(export if same is None else same))


def test_the_proof_counts_what_changes():
    found = proof.judge(answers([0.9, 0.6, 0.4, 0.2], [0.8, 0.45, 0.4, 0.6]), "ab")
    assert (found.n, found.agreeing, found.agreement.value) == (4, 2, 0.5)
    assert (found.largest, found.mean) == (pytest.approx(0.4), pytest.approx((0.1 + 0.15 + 0 + 0.4) / 4))
    assert (found.accuracy.value, found.export_accuracy.value) == (0.5, 0.5)
    assert (found.only_original, found.only_export, found.p) == (1, 1, 1)
    assert [one.path for one in found.differing] == ["3.png", "1.png"]
    assert str(found.differing[1]) == "1.png (a): model a 60.0%, export b 55.0%"


def test_the_difference_is_that_of_the_export():
    better = proof.judge(answers([0.4, 0.4, 0.4, 0.9], [0.6, 0.6, 0.4, 0.9]), "ab")
    assert (better.difference.value, better.only_export, better.only_original) == (0.5, 2, 0)
    worse = proof.judge(answers([0.6, 0.6, 0.4, 0.9], [0.4, 0.4, 0.4, 0.9]), "ab")
    assert (worse.difference.value, worse.only_export, worse.only_original) == (-0.5, 0, 2)
    assert worse.difference.low <= worse.difference.value <= worse.difference.high
    assert (worse.difference.low, worse.difference.high) == (-better.difference.high, -better.difference.low)


def test_pictures_of_one_group_count_once_in_the_interval():
    alone = proof.judge(answers([0.9] * 4, [0.9] * 4), "ab")
    together = proof.judge(answers([0.9] * 4, [0.9] * 4, groups="gggg"), "ab")
    assert together.agreement.low < alone.agreement.low


EXACT, ROUNDED = formats.FORMATS["onnx"], formats.FORMATS["openvino-int8"]


def test_what_is_refused():
    near = proof.judge(answers([0.9, 0.6, 0.4, 0.2], [0.8999, 0.6001, 0.4, 0.2]), "ab")
    assert proof.refusals(near, EXACT, 1.0) == []
    same_class = proof.judge(answers([0.9, 0.6, 0.4, 0.2], [0.88, 0.61, 0.4, 0.2]), "ab")
    assert len(proof.refusals(same_class, EXACT, 1.0)) == 1
    assert proof.refusals(same_class, ROUNDED, 1.0) == []
    other_road = proof.judge(answers([0.9, 0.6, 0.4, 0.2], [0.88, 0.61, 0.4, 0.2], same=[0.9, 0.6, 0.4, 0.2]), "ab")
    assert proof.refusals(other_road, EXACT, 1.0) == []
    flat = proof.judge(answers([0.9, 0.8, 0.3, 0.2], [0.75, 0.7, 0.4, 0.3]), "ab")
    assert "on average" in proof.refusals(flat, ROUNDED, 1.0)[0]
    flipped = proof.judge(answers([0.51] * 4, [0.51, 0.51, 0.51, 0.49]), "ab")
    assert proof.refusals(flipped, ROUNDED, 0.75) == []
    assert "3 of 4" in proof.refusals(flipped, ROUNDED, 0.76)[0]
    lost = proof.judge(answers([0.51] * 40, [0.49] * 8 + [0.51] * 32, labels="a" * 40), "ab")
    assert "accuracy falls by 20.0 points" in proof.refusals(lost, ROUNDED, 0.5)[0]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ([[0.2, 0.3]], "no probabilities"),
        ([[1.2, -0.2]], "no probabilities"),
        ([[np.nan, 1.0]], "not finite"),
        ([[0.5, 0.25, 0.25]], "shape"),
    ],
)
def test_what_is_no_probability_is_refused(output, reason):
    export = Export(lambda _: np.array(output), facts_for(tiny.PREPROCESS))
    with pytest.raises(ExportError, match=reason):
        export.probabilities(np.zeros((1, 32, 32, 3), np.uint8))


def test_drawing_keeps_the_shares_of_the_classes_and_is_repeatable():
    samples = [Sample(f"{number}.png", "rare" if number % 10 == 0 else "common") for number in range(1000)]
    chosen = pictures.drawn(samples, 300)
    assert chosen == pictures.drawn(samples, 300)
    assert (len(chosen), sum(sample.label == "rare" for sample in chosen)) == (300, 30)
    assert chosen == sorted(chosen, key=samples.index)
    assert pictures.drawn(samples[:10], 300) == samples[:10]


def test_calibration_and_proof_share_no_picture_and_no_group():
    samples = tuple(Sample(f"{n}.png", "ab"[n % 2], None, f"g{n // 3}", f"{n:064}") for n in range(30))
    rest, chosen = pictures._parted(pictures.Shelf(None, samples))
    assert len(chosen.samples) == 12
    assert len(rest.samples) == 18
    assert not {one.digest for one in rest.samples} & {one.digest for one in chosen.samples}
    assert not {one.group for one in rest.samples} & {one.group for one in chosen.samples}
