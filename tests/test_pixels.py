"""Pictures on their way into training: kept as pixels, augmented by seed, and what happens to files that change."""

from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.features.preprocess import Preprocess
from headstart.learning import pixels as pixels_room
from headstart.learning.augment import policy_steps
from headstart.learning.pixels import Key, Pictures, batches
from headstart.pictures.dataset import Sample
from headstart.pictures.decode import decode
from tests.tiny import draw

SIDE = 32
PREPROCESS = Preprocess(SIDE, SIDE, 36, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FILES = ("a.png", "b.jpg", "deep/c.png")


def sample(folder, name):
    return Sample(name, "any", digest=sha256((folder / name).read_bytes()).hexdigest())


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    for seed, name in enumerate(FILES):
        draw(place / name, (200, 120, 60), seed, (90, 70))
    return place


def pictures(folder, names=FILES, *, sides=(16, SIDE), policy="crop-flip", preprocess=PREPROCESS):
    samples = [sample(folder, name) for name in names]
    return Pictures(samples, folder, preprocess, policy_steps(policy), sides)


def kept(cache):
    """The pixels files in the cache, and anything else that was left there."""
    return sorted(path for path in (cache / "pixels").rglob("*") if path.is_file())


def expected(folder, name, preprocess=PREPROCESS):
    """What the finished classifier will see."""
    data = (folder / name).read_bytes()
    return preprocess.apply(decode(data, at_least=preprocess.at_least).pixels)


def test_without_a_seed_a_picture_is_what_the_classifier_will_see(folder):
    mine = pictures(folder)
    assert len(mine) == 3
    for _ in range(2):  # decoded, then from the cache
        for row, name in enumerate(FILES):
            item = mine[Key(row)]
            assert item.problem is None
            assert item.pixels.dtype == torch.uint8
            assert np.array_equal(item.pixels.numpy(), expected(folder, name))


@pytest.mark.parametrize("side", [16, SIDE])
def test_the_same_seed_gives_the_same_pixels_and_another_others(folder, side):
    mine = pictures(folder)
    first = mine[Key(0, side, 7)].pixels
    assert (first.dtype, tuple(first.shape)) == (torch.uint8, (side, side, 3))
    assert torch.equal(mine[Key(0, side, 7)].pixels, first)
    assert torch.equal(pictures(folder)[Key(0, side, 7)].pixels, first)
    assert not torch.equal(mine[Key(0, side, 8)].pixels, first)
    assert not torch.equal(mine[Key(1, side, 7)].pixels, first)


@pytest.mark.parametrize("key", [Key(0), Key(0, 16, 7)], ids=["plain", "augmented"])
def test_a_second_read_comes_from_the_cache_even_when_the_file_is_gone(folder, cache, key):
    mine = pictures(folder)
    first = mine[key].pixels
    assert len(kept(cache)) == 1
    (folder / FILES[0]).unlink()
    assert torch.equal(mine[key].pixels, first)


def test_what_one_preprocess_kept_is_not_anothers(folder):
    squish = PREPROCESS.with_fit("squish")
    for preprocess in (PREPROCESS, squish):
        got = pictures(folder, preprocess=preprocess)[Key(0)].pixels.numpy()
        assert np.array_equal(got, expected(folder, FILES[0], preprocess))
    assert not np.array_equal(expected(folder, FILES[0]), expected(folder, FILES[0], squish))


@pytest.mark.parametrize("seed", [None, 3])
def test_a_vanished_file_is_a_problem(folder, seed):
    mine = pictures(folder)
    (folder / FILES[0]).unlink()
    item = mine[Key(0, SIDE, seed)]
    assert item.pixels is None
    assert (item.problem.path, item.problem.kind, item.problem.action) == (FILES[0], "vanished", "left out")
    assert mine[Key(1, SIDE, seed)].problem is None


@pytest.mark.parametrize("seed", [None, 3])
def test_a_file_that_changed_is_a_problem_that_says_so(folder, cache, seed):
    mine = pictures(folder)
    draw(folder / FILES[0], (0, 0, 0), 99)
    item = mine[Key(0, SIDE, seed)]
    assert item.pixels is None
    assert (item.problem.path, item.problem.action) == (FILES[0], "left out")
    assert "another picture than when it was first read" in item.problem.detail
    assert not cache.exists()


def test_a_file_that_is_no_picture_is_a_problem(folder):
    (folder / "text.png").write_text("no picture at all")
    item = pictures(folder, ("text.png",))[Key(0)]
    assert item.pixels is None
    assert (item.problem.path, item.problem.kind) == ("text.png", "unreadable")


DAMAGE = {
    "truncated": lambda data: data[:-50],
    "header only": lambda data: data[:60],
    "empty": lambda _: b"",
    "rubbish": lambda _: b"rubbish" * 30,
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("key", [Key(0), Key(0, 16, 7)], ids=["plain", "augmented"])
def test_a_damaged_file_in_the_cache_is_decoded_again(folder, cache, key, damage):
    mine = pictures(folder)
    first = mine[key].pixels
    (path,) = kept(cache)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert torch.equal(mine[key].pixels, first)
    assert kept(cache) == [path]
    assert path.read_bytes() == whole


@pytest.mark.parametrize(("size", "name"), [((1800, 1200), "x.png"), ((1200, 1800), "x.jpg"), ((1200, 1200), "x.bmp")])
def test_a_huge_picture_is_kept_reduced_to_the_short_side(folder, cache, size, name):
    draw(folder / name, (10, 200, 60), 5, size)
    mine = pictures(folder, (name,))
    assert mine.short_side < 200
    item = mine[Key(0, 16, 7)]
    assert item.pixels.shape == (16, 16, 3)
    (path,) = kept(cache)
    height, width, colours = np.load(path).shape
    assert (min(height, width), colours) == (mine.short_side, 3)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)


def test_a_small_picture_is_kept_as_it_is(folder, cache):
    pictures(folder)[Key(0, 16, 7)]
    (path,) = kept(cache)
    assert np.array_equal(np.load(path), np.asarray(Image.open(folder / FILES[0])))


def test_the_short_side_leaves_a_crop_of_the_largest_side_unenlarged(folder):
    mine = pictures(folder, sides=(16, 64), policy=[{"name": "random-resized-crop", "scale": [0.25, 1.0]}])
    assert mine.short_side >= 64 / 0.25**0.5


@pytest.mark.parametrize("policy", ["crop-flip", "rich"])
def test_batches_are_the_same_with_and_without_workers(folder, policy):
    keys = [[Key(0, 16, 1), Key(2, 16, 2)], [Key(1, SIDE, 3), Key(0, SIDE, 4), Key(1, SIDE, 5)], [Key(2)], [Key(1)]]
    mine = pictures(folder, policy=policy)
    alone, together = (list(batches(mine, keys, workers)) for workers in (0, 2))
    assert [tuple(batch.pixels.shape) for batch in alone] == [(2, 16, 16, 3), (3, 32, 32, 3)] + [(1, 32, 32, 3)] * 2
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert one.places.tolist() == other.places.tolist() == list(range(len(one.pixels)))
        assert one.problems == other.problems == ()
    for key, row in zip(keys[1], alone[1].pixels, strict=True):
        assert torch.equal(row, mine[key].pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_tells_which_pictures_it_has_and_what_was_wrong_with_the_others(folder, workers):
    mine = pictures(folder)
    (folder / FILES[1]).unlink()
    keys = [[Key(0, 16, 1), Key(1, 16, 2), Key(2, 16, 3)], [Key(1, 16, 4)]]
    some, none = batches(mine, keys, workers)
    assert some.places.tolist() == [0, 2]
    assert torch.equal(some.pixels[1], mine[keys[0][2]].pixels)
    assert [problem.path for problem in some.problems] == [FILES[1]]
    assert tuple(none.pixels.shape) == (0, 16, 16, 3)
    assert none.places.tolist() == []
    assert [problem.kind for problem in none.problems] == ["vanished"]


def test_keys_are_asked_for_only_as_they_are_needed(folder):
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield [Key(0, 16, len(asked))]

    made = batches(pictures(folder), endless(), 0)
    next(made)
    next(made)
    made.close()
    assert len(asked) == 2


def test_a_cache_that_cannot_be_written_changes_nothing(folder, cache, monkeypatch):
    first = pictures(folder)[Key(0, 16, 7)].pixels
    for path in kept(cache):
        path.unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixels_room.np, "save", full)
    item = pictures(folder)[Key(0, 16, 7)]
    assert torch.equal(item.pixels, first)
    assert kept(cache) == []


def test_a_file_in_the_place_of_the_cache_changes_nothing(folder, cache):
    cache.write_text("no folder")
    item = pictures(folder)[Key(0)]
    assert item.problem is None
    assert np.array_equal(item.pixels.numpy(), expected(folder, FILES[0]))
    assert cache.read_text() == "no folder"


def test_more_than_is_to_be_kept_is_decoded_each_time(folder, cache, monkeypatch):
    monkeypatch.setattr(pixels_room, "KEPT_PIXELS_BYTES", 1000)
    mine = pictures(folder)
    assert np.array_equal(mine[Key(0)].pixels.numpy(), expected(folder, FILES[0]))
    assert not cache.exists()
