"""Worse pictures: each kind does what it says, and the numbers are those of a plain computation."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from headstart.delivery.run_folder import TrainOptions
from headstart.features.preprocess import Preprocess
from headstart.judging import robustness as room
from headstart.judging.robustness import KINDS, corrupted, reduced, robustness, stratified
from headstart.workflow import train
from tests import tiny

RANDOM = np.random.default_rng(2)
PREPROCESS = Preprocess(64, 64, 72, "bicubic", (0.5,) * 3, (0.5,) * 3)
DIGEST = "ab" * 32


@pytest.fixture
def trained(tmp_path):
    """A run whose held-out pictures are enough to be worth corrupting."""
    data = tiny.class_folders(tmp_path / "photos", each=25)
    options = TrainOptions(backbone="tiny", weights=tiny.install(tmp_path), device="cpu", precision="f32", test=0.4)
    return train(data, tmp_path / "run", options)


def judged(run, samples=None, **options):
    samples = run.examples.test_samples if samples is None else samples
    return robustness(run.solved.classifier, run.plan, samples, run.examples.dataset.root, **options)


def smooth(height=90, width=120):
    """A picture of broad waves in three colours."""
    y, x = np.indices((height, width))
    waves = [127 + 90 * np.sin(x / 9 + c) * np.cos(y / 11 - c) for c in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def made(kind, pixels, digest=DIGEST):
    return corrupted(pixels, kind, digest, PREPROCESS).astype(np.float64)


def test_reducing_changes_nothing_of_what_the_network_sees():
    pixels = smooth(200, 310)
    small = reduced(pixels, PREPROCESS)
    assert small.shape == (72, 111, 3)
    difference = np.abs(PREPROCESS.apply(small).astype(float) - PREPROCESS.apply(pixels))
    assert difference.max() <= 4
    assert difference.mean() < 0.6
    assert reduced(pixels[:50, :60], PREPROCESS) is not None
    assert reduced(pixels[:50, :60], PREPROCESS).shape == (50, 60, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(90, 120), (1, 1), (1, 300), (7, 5), (300, 2)])
def test_every_kind_makes_an_input_of_any_picture(kind, size):
    pixels = np.ascontiguousarray(smooth(*size))
    before = pixels.copy()
    result = corrupted(pixels, kind, DIGEST, PREPROCESS)
    assert (result.shape, result.dtype) == ((64, 64, 3), np.uint8)
    assert (pixels == before).all()
    assert (corrupted(pixels, kind, DIGEST, PREPROCESS) == result).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_worse_picture_is_another_and_still_the_same_scene(kind):
    scene = np.clip(smooth() + np.random.default_rng(0).normal(0, 8, (90, 120, 3)), 0, 255).astype(np.uint8)
    clean, worse = PREPROCESS.apply(scene).astype(float), made(kind, scene)
    assert np.abs(worse - clean).mean() > 1
    if kind not in ("rotation", "off_centre"):
        assert np.corrcoef(worse.ravel(), clean.ravel())[0, 1] > 0.7


def test_chance_follows_from_the_picture_alone():
    assert (made("noise", smooth(), "ab" * 32) != made("noise", smooth(), "cd" * 32)).any()
    corners = {made("off_centre", smooth(), f"{number:064x}").tobytes() for number in range(40)}
    assert len(corners) == 4
    turns = {made("rotation", smooth(), f"{number:064x}").tobytes() for number in range(20)}
    assert len(turns) == 2


def test_noise_has_the_strength_that_it_says():
    grey = np.full((72, 72, 3), 128, np.uint8)
    noise = made("noise", grey) - 128
    assert noise.std() == pytest.approx(255 * room.NOISE, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=2)
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] == pytest.approx(0, abs=0.05)


def test_brightness_moves_v_and_keeps_hue_and_saturation():
    pixels = np.array([[[100, 50, 25], [10, 10, 10], [0, 0, 0], [250, 125, 0], [90, 180, 30]]], np.uint8)
    brighter, darker = room._brighter(pixels, RANDOM), room._darker(pixels, RANDOM)
    step = 255 * room.BRIGHTNESS
    assert brighter.max(axis=2)[0] == pytest.approx([100 + step, 10 + step, step, 255, 255], abs=1)
    assert darker.max(axis=2)[0] == pytest.approx([100 - step, 0, 0, 250 - step, 180 - step], abs=1)
    ratio = brighter[0, 0] / brighter[0, 0].max()
    assert ratio == pytest.approx([1, 0.5, 0.25], abs=0.01)


def test_blur_spreads_an_edge_as_far_as_it_says():
    edge = np.zeros((256, 256, 3), np.uint8)
    edge[:, 128:] = 255
    profile = room._blur(edge, RANDOM)[128, :, 0] / 255
    slope = np.diff(profile)
    centre = (slope * np.arange(255)).sum()
    assert np.sqrt((slope * (np.arange(255) - centre) ** 2).sum()) == pytest.approx(3, rel=0.1)


def test_rotation_turns_by_fifteen_degrees_and_mirrors_at_the_corners():
    line = np.zeros((101, 101, 3), np.uint8)
    line[49:52] = 255
    turned = room._turned(line, np.random.default_rng(0))[..., 0]
    y, x = np.nonzero(turned > 128)
    near = np.abs(x - 50) < 30
    slope = np.polyfit(x[near], y[near], 1)[0]
    assert abs(np.degrees(np.arctan(slope))) == pytest.approx(15, abs=1)
    white = np.full((40, 60, 3), 255, np.uint8)
    assert (room._turned(white, RANDOM) == 255).all()


def test_low_resolution_loses_fine_stripes_and_keeps_broad_ones():
    fine = np.zeros((80, 80, 3), np.uint8)
    fine[:, ::2] = 255
    assert np.ptp(made("low_resolution", fine)[..., 0]) < 90 < np.ptp(PREPROCESS.apply(fine)[..., 0])
    broad = np.zeros((80, 80, 3), np.uint8)
    broad[:, 40:] = 255
    assert np.ptp(made("low_resolution", broad)[..., 0]) > 240


def test_an_off_centre_picture_is_a_corner_of_it():
    corner = room._off_centre(smooth(50, 100), np.random.default_rng(0))
    assert corner.shape == (40, 80, 3)
    whole = smooth(50, 100)
    corners = [whole[top : top + 40, left : left + 80] for top in (0, 10) for left in (0, 20)]
    assert sum((corner == other).all() for other in corners) == 1


def test_the_sample_keeps_the_classes_proportions():
    labels = RANDOM.permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    for seed in range(5):
        rows = stratified(labels, 50, seed)
        counts = Counter(labels[rows].tolist())
        assert len(rows) == len(set(rows.tolist())) == 50
        for label, expected in enumerate((30, 15, 5)):
            assert abs(counts[label] - expected) <= 1
    assert stratified(labels, 50, 0).tolist() == stratified(labels, 50, 0).tolist()
    assert stratified(labels, 50, 0).tolist() != stratified(labels, 50, 1).tolist()
    assert stratified(labels, 5000, 0).tolist() == list(range(1000))


def test_every_row_is_drawn_equally_often():
    labels = np.repeat([0, 1], [30, 10])
    drawn = np.bincount(np.concatenate([stratified(labels, 8, seed) for seed in range(2000)]), minlength=40)
    assert drawn.mean() == 400
    assert np.abs(drawn - 400).max() < 5 * np.sqrt(400 * 0.8)


def test_the_numbers_are_those_of_a_plain_computation(trained):
    result = judged(trained)
    classifier, root = trained.solved.classifier, trained.examples.dataset.root
    samples = trained.examples.test_samples
    assert result.n == len(samples) == 20
    engine = trained.plan.load(classifier.backbone)
    preprocess = classifier.backbone.preprocess

    def right(prepare):
        inputs = [prepare(np.asarray(Image.open(root / sample.path)), sample.digest) for sample in samples]
        predicted = classifier.probabilities(engine.embed(np.stack(inputs))).argmax(axis=1)
        return np.array([classifier.classes[c] == sample.label for c, sample in zip(predicted, samples, strict=True)])

    clean = right(lambda pixels, _: preprocess.apply(pixels))
    assert result.clean.value == pytest.approx(clean.mean())
    assert [row.kind for row in result.rows] == list(KINDS)
    for row in result.rows:

        def worse(pixels, digest, kind=row.kind):
            return corrupted(reduced(pixels, preprocess), kind, digest, preprocess)

        hits = right(worse)
        assert row.accuracy.value == pytest.approx(hits.mean())
        lost, won = int((clean & ~hits).sum()), int((~clean & hits).sum())
        expected = binomtest(lost, lost + won).pvalue if lost + won else 1
        assert row.p == pytest.approx(expected)
        for name in classifier.classes:
            own = np.array([sample.label == name for sample in samples])
            assert row.per_class[name].value == pytest.approx(hits[own].mean())
    assert any(row.accuracy.value < result.clean.value for row in result.rows)


def test_a_second_time_nothing_is_embedded(trained, monkeypatch):
    first = judged(trained)
    monkeypatch.setattr(type(trained.plan), "load", lambda *_: pytest.fail("the engine was loaded"))
    monkeypatch.setattr(room, "decode", lambda *_, **__: pytest.fail("a picture was decoded"))
    assert judged(trained).to_json() == first.to_json()


def test_each_picture_is_decoded_once(trained, monkeypatch):
    count = Counter()
    decode = room.decode

    def counting(data, **options):
        count[data] += 1
        return decode(data, **options)

    monkeypatch.setattr(room, "decode", counting)
    monkeypatch.setattr(room, "VERSION", room.VERSION + 1)  # what the training stored is of no use then
    assert judged(trained, budget=7).n == 7
    assert sorted(count.values()) == [1] * 7


def test_grouped_pictures_count_as_groups(trained):
    alone, grouped = judged(trained), judged(trained, groups=np.zeros(20, dtype=np.int64))
    for one, other in zip(alone.rows, grouped.rows, strict=True):
        assert other.accuracy.value == one.accuracy.value
        assert other.accuracy.high - other.accuracy.low >= one.accuracy.high - one.accuracy.low
        assert other.p == 1  # one group decides nothing


def test_what_vanished_is_left_out(trained):
    samples = trained.examples.test_samples
    (trained.examples.dataset.root / samples[3].path).unlink()
    (trained.examples.dataset.root / samples[5].path).write_bytes(b"no picture")
    assert judged(trained).n == 18
    gone = [replace(samples[3], digest="")]
    result = judged(trained, gone)
    assert (result.n, result.rows) == (0, ())
    assert json.loads(json.dumps(result.to_json()))["clean"] is None
    assert judged(trained, []).n == 0


def test_the_json_is_the_documented_one(trained):
    record = json.loads(json.dumps(judged(trained).to_json(), allow_nan=False))
    assert record.keys() == {"n", "clean", "rows"}
    assert record["clean"].keys() == {"value", "low", "high"}
    assert len(record["rows"]) == len(KINDS) == 8
    for row in record["rows"]:
        assert row.keys() == {"kind", "label", "accuracy", "p", "per_class"}
        assert row["per_class"].keys() == {"amber", "blue"}
        assert 0 <= row["p"] <= 1


def test_a_class_without_pictures_has_no_recall(trained):
    of_one = [sample for sample in trained.examples.test_samples if sample.label == "amber"]
    row = judged(trained, of_one).to_json()["rows"][0]
    assert row["per_class"]["blue"] is None
    assert row["per_class"]["amber"] is not None
