from dataclasses import replace

import numpy as np
import pytest

from headstart.judging.quality import find_flaws
from headstart.pictures.looks import Looks


def plain_looks(n: int, seed: int = 0) -> Looks:
    """The looks of n ordinary JPEG photos that differ by chance alone."""
    random = np.random.default_rng(seed)
    brightness = random.normal(0.45, 0.1, n).clip(0.2, 0.7)
    sides = random.choice([(640, 480), (480, 640), (800, 600), (1024, 683)], n)
    return Looks(
        width=sides[:, 0].astype(np.int32),
        height=sides[:, 1].astype(np.int32),
        file_bytes=(random.lognormal(11, 0.4, n)).astype(np.int64),
        format=("JPEG",) * n,
        mode=("RGB",) * n,
        quality=random.choice([75, 80, 90, 95], n).astype(np.float32),
        brightness=brightness.astype(np.float32),
        contrast=random.normal(0.22, 0.03, n).clip(0.1, 0.4).astype(np.float32),
        darkest=(brightness - 0.15).clip(0.02).astype(np.float32),
        brightest=(brightness + random.normal(0.35, 0.05, n)).clip(0.5, 1).astype(np.float32),
        sharpness=random.lognormal(-1, 0.4, n).astype(np.float32),
        prints=np.zeros((n, 32, 32), np.uint8),
        colours=np.full((n, 64), 1 / 64, np.float32),
    )


def changed(looks: Looks, rows, **columns) -> Looks:
    """The same looks with other numbers at `rows`."""
    new = {}
    for name, value in columns.items():
        new[name] = getattr(looks, name).copy()
        new[name][rows] = value
    return replace(looks, **new)


def found(looks: Looks):
    return [(flaw.kind, flaw.row) for flaw in find_flaws(looks)]


def test_ordinary_pictures_have_no_flaws():
    assert find_flaws(plain_looks(500)) == []


@pytest.mark.parametrize(
    ("kind", "columns", "says"),
    [
        ("dark", {"brightness": 0.03, "brightest": 0.1, "darkest": 0.0}, "mean brightness 0.03"),
        ("bright", {"brightness": 0.97, "brightest": 1.0, "darkest": 0.95}, "mean brightness 0.97"),
        ("constant", {"contrast": 0.004}, "0.004 of white"),
        ("blurred", {"sharpness": 0.0005}, "sharpness 0.0005"),
        ("tiny", {"width": 40, "height": 30}, "30 pixels on its shorter side"),
        ("odd_shape", {"width": 1000, "height": 200}, "5.0 times"),
        ("odd_shape", {"width": 200, "height": 1000}, "5.0 times"),
    ],
)
def test_each_flaw_is_found_alone_with_its_numbers(kind, columns, says):
    flaws = find_flaws(changed(plain_looks(500), 7, **columns))
    assert [(flaw.kind, flaw.row) for flaw in flaws] == [(kind, 7)]
    assert says in flaws[0].reason
    assert "99.8 %" in flaws[0].reason
    assert 0.5 < flaws[0].score <= 1
    assert flaws[0].action


def test_the_worst_comes_first():
    looks = changed(plain_looks(100), [3, 4, 5], brightness=[0.08, 0.02, 0.05], brightest=[0.14, 0.05, 0.1])
    flaws = find_flaws(looks)
    assert [flaw.row for flaw in flaws] == [4, 5, 3]
    assert [flaw.score for flaw in flaws] == sorted((flaw.score for flaw in flaws), reverse=True)


def test_an_empty_picture_is_not_also_dark_or_blurred():
    empty = {"contrast": 0.0, "brightness": 0.0, "brightest": 0.0, "darkest": 0.0, "sharpness": 0.0}
    assert found(changed(plain_looks(100), 0, **empty)) == [("constant", 0)]


def test_a_night_camera_is_said_once():
    looks = plain_looks(100)
    looks = replace(looks, brightness=looks.brightness * 0.1, brightest=looks.brightest * 0.1)
    (flaw,) = find_flaws(looks)
    assert (flaw.kind, flaw.row, flaw.score) == ("dark", None, 1.0)
    assert "100 of 100 pictures (100 %) are dark" in flaw.reason


@pytest.mark.parametrize(("count", "rows"), [(10, 10), (11, None)])
def test_what_is_common_is_said_once_and_what_is_rare_by_picture(count, rows):
    flaws = find_flaws(changed(plain_looks(100), np.arange(count), width=32, height=32))
    assert len(flaws) == (rows or 1)
    assert (flaws[0].row is None) == (rows is None)


def test_soft_sets_have_no_blurred_pictures_only_very_soft_ones():
    looks = plain_looks(100)
    soft = replace(looks, sharpness=np.full(100, 0.01, np.float32))
    assert find_flaws(soft) == []
    assert found(changed(soft, 9, sharpness=0.002)) == [("blurred", 9)]


def test_no_pictures_have_no_flaws():
    assert find_flaws(plain_looks(0)) == []
