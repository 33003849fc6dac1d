from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from scipy.fft import dctn

from headstart.pictures import near
from headstart.pictures.alignment import align
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.duplicates import groups
from headstart.pictures.looks import gather
from headstart.pictures.near import (
    MIRROR,
    near_duplicates,
    perceptual_hashes,
    threshold,
    with_twins,
)
from headstart.pictures.neighbours import HASH_BITS, candidates
from tests.test_looks import looks_of, scene

CHANGES = {
    "resized": lambda image: image.resize((100, 75), Image.Resampling.LANCZOS),
    "cropped": lambda image: image.crop((10, 7, 190, 142)),
    "cropped at a corner": lambda image: image.crop((0, 15, 180, 150)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and cropped": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).crop((9, 0, 192, 140)),
}
SCENES = [scene(100 + number, (200, 150)) for number in range(30)]


def looks_for(images):
    return gather([looks_of(image) for image in images])


def vectors_for(originals, seed=0, width=16):
    """Features that are nearly those of the original, given by number."""
    random = np.random.default_rng(seed)
    base = random.normal(size=(max(originals) + 1, width))
    return (base[originals] + random.normal(0, 0.1, (len(originals), width))).astype(np.float32)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change):
    originals = [*range(30), 4, 11]
    images = [*SCENES, *(CHANGES[change](SCENES[number]) for number in (4, 11))]
    pairs = near_duplicates(looks_for(images), vectors_for(originals))
    assert sorted(pairs.rows.tolist()) == [[4, 30], [11, 31]]
    assert pairs.mirrored.tolist() == ["mirrored" in change] * 2
    assert (pairs.similarity > 0.9).all()
    assert (pairs.similarity <= 1 + 1e-5).all()


def test_a_picture_saved_again_is_found_by_its_hash_alone():
    images = [looks_of(image) for image in SCENES] + [looks_of(SCENES[3], format="JPEG", quality=30)]
    random = np.random.default_rng(0).normal(size=(31, 4)).astype(np.float32)
    assert near_duplicates(gather(images), random).rows.tolist() == [[3, 30]]


def test_the_order_of_pictures_does_not_matter():
    images = [*SCENES, CHANGES["resized"](SCENES[2]), CHANGES["mirrored"](SCENES[2]), CHANGES["cropped"](SCENES[9])]
    vectors, looks = vectors_for([*range(30), 2, 2, 9]), looks_for(images)
    order = np.random.default_rng(1).permutation(len(images))
    straight = near_duplicates(looks, vectors)
    shuffled = near_duplicates(looks.take(order), vectors[order])
    assert np.isin([[2, 30], [2, 31], [9, 32]], straight.rows).all()
    first = {tuple(row) for row in straight.rows.tolist()}
    assert {tuple(sorted(order[row].tolist())) for row in shuffled.rows} == first
    assert (np.diff(straight.similarity) <= 0).all()
    assert (straight.rows[:, 0] < straight.rows[:, 1]).all()


def test_flat_pictures_are_like_nothing():
    random = np.random.default_rng(2)
    flat = [Image.fromarray(random.integers(120, 124, (90, 120, 3), dtype=np.uint8)) for _ in range(6)]
    flat += [Image.new("RGB", (50, 50), "grey")] * 2
    assert len(near_duplicates(looks_for(flat), np.ones((8, 4), np.float32)).rows) == 0


def test_smooth_pictures_with_little_in_common_are_not_the_same():
    blurred = [image.filter(ImageFilter.GaussianBlur(12)) for image in SCENES]
    assert len(near_duplicates(looks_for(blurred), vectors_for([0] * 30)).rows) == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_pictures_are_enough(count):
    looks = looks_for([SCENES[0], CHANGES["darker"](SCENES[0])][:count])
    pairs = near_duplicates(looks, np.ones((count, 8), np.float32))
    assert pairs.rows.shape == (count // 2, 2)
    assert len(pairs.similarity) == len(pairs.mirrored) == count // 2


def test_hashes_are_the_signs_of_the_cosine_transform():
    prints = looks_for(SCENES).prints
    spectra = dctn(prints.astype(float), axes=(1, 2))[:, :8, :8]
    spectra[:, 0, 0] = 0
    for spectrum, found in zip(spectra, perceptual_hashes(prints), strict=True):
        bits = [int(found) >> place & 1 for place in range(64)]
        assert bits == (spectrum > 0).ravel().astype(int).tolist()
    turned = perceptual_hashes(prints[:, :, ::-1])
    assert np.bitwise_count(turned ^ perceptual_hashes(prints) ^ MIRROR).max() == 0


def test_candidates_are_the_nearest_by_hash_or_features(monkeypatch):
    looks = looks_for([*SCENES, *(change(SCENES[5]) for change in CHANGES.values())])
    prints, n = looks.prints, len(looks.prints)
    units = np.random.default_rng(3).normal(size=(n, 6)).astype(np.float32)
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    expected = set()
    cosines = units @ units.T - 3 * np.eye(n)
    hashes = [int(number) for number in perceptual_hashes(prints)]
    for one in range(n):
        for other in np.flatnonzero(np.argsort(np.argsort(-cosines[one])) < 4).tolist():
            if cosines[one, other] < 0.3:
                continue
            expected.add((min(one, other), max(one, other)))
        for other in range(one):
            apart = hashes[one] ^ hashes[other]
            if min(apart.bit_count(), (apart ^ int(MIRROR)).bit_count()) <= HASH_BITS:
                expected.add((other, one))
    monkeypatch.setattr("headstart.pictures.neighbours.NEAREST", 4)
    monkeypatch.setattr("headstart.pictures.neighbours.CELLS_AT_ONCE", 3000)
    hashes = perceptual_hashes(prints)
    found = {tuple(pair) for pair in candidates(units, hashes, hashes ^ MIRROR).tolist()}
    assert found == expected


def test_where_different_pictures_are_hardly_different_more_is_asked():
    random = np.random.default_rng(4)
    trousers = []
    for _ in range(300):
        image = Image.new("L", (64, 64))
        top, width, leg = random.uniform(4, 12), random.uniform(14, 26), random.uniform(4, 9)
        draw = ImageDraw.Draw(image)
        draw.rectangle((32 - width // 2, top, 32 + width // 2, 22), fill=200)
        draw.rectangle((32 - width // 2, 22, 32 - width // 2 + leg, 60), fill=180)
        draw.rectangle((32 + width // 2 - leg, 22, 32 + width // 2, 60), fill=180)
        noise = random.normal(0, 20, (64, 64))
        trousers.append(Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).convert("RGB"))
    copies = [image.convert("L").convert("RGB") for image in trousers[:3]]
    vectors = random.normal(size=(303, 32)).astype(np.float32)
    pairs = near_duplicates(looks_for([*trousers, *copies]), vectors)
    assert {(0, 300), (1, 301), (2, 302)} <= {tuple(row) for row in pairs.rows.tolist()}
    assert len(pairs.rows) <= 6
    assert (align(looks_for(trousers[:100]).prints, np.argwhere(np.tri(100, k=-1)), 0.93).detail > 0.95).sum() > 10


def test_the_threshold_rises_with_the_doubtful():
    def rising(count):
        detail = np.array([0.3, 0.8999, 0.95, 0.99, -1] + [0.92] * count, np.float32)
        return threshold(detail, np.arange(2 * len(detail)).reshape(-1, 2))

    assert rising(0) == rising(3) == pytest.approx(0.95)
    assert rising(24) == pytest.approx(np.tanh(np.arctanh(0.95) + np.log(8) / 5))
    assert 0.95 < rising(24) < rising(2000) < 1


def test_the_threshold_rises_in_a_crowd():
    six, seven = (np.stack(np.triu_indices(count, 1), axis=1) for count in (6, 7))
    assert threshold(np.full(len(six), 0.99, np.float32), six) == pytest.approx(0.95)
    assert threshold(np.full(len(seven), 0.99, np.float32), seven) > 0.97


def test_no_group_grows_too_large():
    scenes = [scene(6, (200, 150))] * 40
    noise = np.random.default_rng(6)
    images = [
        Image.fromarray(np.clip(np.asarray(image) + noise.normal(0, 3, (150, 200, 3)), 0, 255).astype(np.uint8))
        for image in scenes
    ]
    rows = near_duplicates(looks_for(images), np.ones((40, 4), np.float32)).rows
    dataset = Dataset(Path(), tuple(Sample(str(row), "x", digest=f"{row:02}") for row in range(40)))
    twins = tuple((f"{one:02}", f"{other:02}") for one, other in rows.tolist())
    sizes = np.bincount(groups(replace(dataset, twins=twins)))
    assert 1 < sizes.max() <= 8


def test_frames_of_a_film_count_although_they_are_many(monkeypatch):
    monkeypatch.setattr(near, "LEAST_TOGETHER", 150)
    wide = scene(5, (900, 150))
    frames = [wide.crop((4 * number, 0, 4 * number + 200, 150)) for number in range(150)]
    angles = np.linspace(0, 3, 150)[:, None] * np.arange(1, 9)
    vectors = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pairs = near_duplicates(looks_for(frames), vectors)
    assert {(number, number + 1) for number in range(149)} <= {tuple(row) for row in pairs.rows.tolist()}


def test_a_window_is_found_again():
    rows = [scene(7, (640, 640)), scene(7, (640, 640)).crop((20, 60, 600, 620)), scene(8, (640, 640))]
    prints = looks_for(rows).prints
    aligned = align(prints, np.array([[0, 1], [1, 0], [0, 2], [0, 0]]), 0.0)
    plain = np.corrcoef(prints[0].ravel(), prints[1].ravel())[0, 1]
    assert plain < 0.95
    assert (aligned.coarse[:2] > 0.97).all()
    assert (aligned.detail[:2] > 0.97).all()
    assert aligned.detail[2] < 0.8
    assert aligned.detail[3] == pytest.approx(1, abs=1e-5)
    assert not aligned.mirrored.any()


def test_pairs_that_are_far_apart_are_not_aligned_finely():
    prints = looks_for(SCENES[:2]).prints
    aligned = align(prints, np.array([[0, 1], [0, 0]]), 0.99)
    assert aligned.detail.tolist() == pytest.approx([-1, 1], abs=1e-5)
    assert len(align(prints, np.empty((0, 2), np.int64), 0.5).detail) == 0


def test_twins_are_pairs_of_digests(tmp_path):
    images = [*SCENES[:5], CHANGES["resized"](SCENES[1]), CHANGES["mirrored"](SCENES[2])]
    digests = [f"{number:064x}" for number in range(7)]
    dataset = Dataset(tmp_path, tuple(Sample(str(row), "x", digest=digests[row]) for row in range(7)))
    found = with_twins(dataset, digests, near_duplicates(looks_for(images), vectors_for([0, 1, 2, 3, 4, 1, 2])))
    assert set(found.twins) == {(digests[1], digests[5]), (digests[2], digests[6])}
    assert found.mirrored == {(digests[2], digests[6])}
