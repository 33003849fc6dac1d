"""The report of real photographs in a real browser: it opens from a disk, it fits, and its numbers are right."""

import json
import shutil
from contextlib import contextmanager

import pytest

import headstart
from headstart.judging.report import words
from headstart.judging.report.writing import REPORT

from .browser import browser, overflow, violations

pytestmark = [pytest.mark.photos, pytest.mark.slow, pytest.mark.browser]

SETS = ("sloth_pain", "hymenoptera", "car_brands4", "sign_digits", "oddities")
EVERY = {"sign_digits": 5}  # of 2,062 pictures one in five of each class, which is enough of a report


@pytest.fixture(scope="module")
def chromium():
    with browser() as process:
        yield process


@pytest.fixture(scope="module")
def runs():
    """The run folders by the name of their photo set: each is trained once."""
    return {}


@pytest.fixture(params=SETS)
def run(request, runs, photos, converted, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(converted))
    name = request.param
    if name not in runs:
        data, place = photos / name, tmp_path_factory.mktemp(name, numbered=False)
        if name in EVERY:
            data = thinned(data, place / "pictures", EVERY[name])
        runs[name] = headstart.train(data, place / "run").folder
    return runs[name]


def thinned(data, place, every):
    """A copy of every so-manieth picture of each class."""
    for folder in sorted(data.iterdir()):
        (place / folder.name).mkdir(parents=True)
        for picture in sorted(folder.iterdir())[::every]:
            shutil.copy(picture, place / folder.name)
    return place


@contextmanager
def opened(chromium, path, *, width, dark):
    """The page of `path`, what it said on the console, and what it asked for besides itself."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith("data:") else asked.append(request.url))
    page.goto(path.resolve().as_uri())
    try:
        yield page, said, asked
    finally:
        context.close()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide and light", "narrow and dark"])
def test_everybody_can_read_it(chromium, run, width, dark):
    with opened(chromium, run / REPORT, width=width, dark=dark) as (page, said, asked):
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        page.evaluate("Promise.all([...document.images].map((one) => one.decode()))")
        assert page.evaluate("[...document.images].every((one) => one.naturalWidth > 0)")
        assert page.locator("img").count() > 10
        assert overflow(page) == 0
        assert violations(page) == []
        assert said == []
        assert asked == [(run / REPORT).resolve().as_uri()]
    assert (run / REPORT).stat().st_size < 10_000_000


def test_the_numbers_at_the_top_are_those_of_the_files(chromium, run):
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    test = metrics["test"]
    with opened(chromium, run / REPORT, width=1280, dark=False) as (page, _, _):
        assert page.locator(".big").inner_text() == words.percent(test["accuracy"]["value"])
        ends = f"{test['accuracy']['low'] * 100:.1f} to {test['accuracy']['high'] * 100:.1f}"
        assert ends in page.locator(".under").inner_text()
        right = sum(row[place] for place, row in enumerate(test["confusion"]))
        of = f"all {test['n']}" if right == test["n"] else f"{right} of {test['n']}"
        assert page.locator("h1").inner_text() == f"Right on {of} pictures it had never seen"
        for baseline in metrics["baselines"]:
            row = page.locator("#verdict table.bars tbody tr", has_text=baseline["label"])
            assert words.percent(baseline["accuracy"]["value"]) in row.inner_text()


@pytest.mark.parametrize("run", ["car_brands4", "oddities"], indirect=True)
def test_a_class_that_is_lost_is_named_before_any_number(chromium, run):
    lost = {"car_brands4": "lamborghini", "oddities": "empty_class"}[run.parent.name]
    with opened(chromium, run / REPORT, width=1280, dark=False) as (page, _, _):
        alert = page.locator("#verdict .alert")
        assert f"It cannot know {lost}" in alert.inner_text()
        assert alert.bounding_box()["y"] < page.locator(".big").bounding_box()["y"]
        if lost == "lamborghini":
            assert "19 pictures to learn from also stand in the test" in alert.inner_text()
            assert "30 test pictures of it were left out" in alert.inner_text()
