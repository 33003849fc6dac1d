"""The page of a comparison: what it says, what it shows, and that it can be used by everybody in a real browser."""

import base64
import hashlib
import html
import itertools
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import terminal
from headstart.delivery import comparing
from headstart.judging.comparison import Answer
from headstart.judging.finished import FinishedRun
from headstart.judging.report import changes, contest, contrast, versus
from headstart.judging.report.charts import differences
from headstart.judging.report.words import gap, signed

from . import sample_run, tiny
from .browser import browser, opened, overflow, violations
from .test_report import Outline

CLASSES = ("amber", "blue", "green")
HOSTILE = (*sample_run.HOSTILE, "ordinary")
SECTIONS = ["verdict", "pairs", "cost", "settings", "changes", "classes", "again"]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A data folder with sixty small pictures: their paths by digest."""
    root = tmp_path_factory.mktemp("data")
    paths = {}
    for number in range(60):
        path = root / f"{number:02}.png"
        tiny.draw(path, (number * 4 % 255, 90, 160), number, (60, 44))
        paths[digest(path)] = path.name
    assert len(paths) == 60
    return root, paths


def a_run(name, pictures, wrong, *, classes=CLASSES, **changed):
    """A finished run that is wrong on the pictures of these numbers."""
    root, paths = pictures
    answers = {}
    for number, (key, path) in enumerate(paths.items()):
        label = classes[number % len(classes)]
        said = classes[(number + 1) % len(classes)] if number in wrong else label
        answers[key] = Answer(path, label, said, 0.5 + number / 200)
    run = FinishedRun(
        name=name,
        folder=Path("runs") / name[:20],
        answers=answers,
        groups={},
        options={"seed": 0, "fit": None, "tune": None, "backbone": None},
        classes=classes,
        backbone="tiny",
        tune="none",
        n_train=240,
        seconds={"features": 2.0, "total": 12.5},
        pictures_per_second=310.0,
        megabytes=13.7,
        data=str(root),
        computed={"device": "cpu", "engine": "openvino"},
    )
    return replace(run, **changed)


def compared_of(runs, failures=None):
    return comparing.compare_runs(runs, failures)


def page_of(compared, tmp_path):
    return versus.write_versus(tmp_path / "compare.html", compared, comparing.locator(compared)).read_text("utf-8")


def plain(text):
    return " ".join(html.unescape(" ".join("".join(Outline(text).text).split())).split())


@pytest.fixture(scope="module")
def two(pictures):
    """One run that is wrong on two pictures, and one, in other settings, that is wrong on fourteen others."""
    good = a_run("steady", pictures, {0, 1})
    bad = a_run("hasty", pictures, set(range(1, 15)), options={"seed": 0, "fit": "squish"}, seconds={"total": 3.0})
    return compared_of([bad, good])


@pytest.fixture(scope="module")
def many(pictures):
    """Twelve runs, one like another."""
    runs = [a_run(f"run {number}", pictures, {number, number + 1, 30 + 2 * number}) for number in range(12)]
    return compared_of([replace(run, seconds={"total": 2.0**number}) for number, run in enumerate(runs)])


@pytest.fixture(scope="module")
def hostile(pictures):
    """Runs and classes with names that try to get out, and a candidate that failed with such a message."""
    names = sample_run.HOSTILE
    runs = [a_run(name, pictures, {number, number + 4}, classes=HOSTILE) for number, name in enumerate(names)]
    options = {"weights": names[0], names[0]: names[1]}
    runs[0] = replace(runs[0], options=options, data=str(pictures[0]), backbone=names[2], tune=names[3])
    return compared_of(runs, {names[0]: names[1]})


def test_every_section_is_there_and_well_formed(two, many, tmp_path):
    for compared in (two, many):
        text = page_of(compared, tmp_path)
        outline = Outline(text)
        assert [attrs["id"] for attrs in outline.all("section")] == SECTIONS
        assert not outline.crooked
        assert not outline.open
        ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        named = {attrs.get("aria-labelledby", "") for _, attrs in outline.tags}
        assert {one for several in named for one in several.split()} <= set(ids)
        levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert [tag for tag, _ in outline.tags].count("table") == [tag for tag, _ in outline.tags].count("caption")
        assert all("scope" in head for head in outline.all("th"))
        assert all("alt" in image for image in outline.all("img"))


def test_nothing_is_asked_of_a_network_and_one_script_may_run(two, tmp_path):
    text = page_of(two, tmp_path)
    for tag, attrs in Outline(text).tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = Outline(text).all("meta")[2]["content"]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{hashed}'" in policy
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style


def test_the_verdict_says_which_is_better_and_how_sure_that_is(two, tmp_path):
    (pair,) = two.comparison.pairs
    assert (pair.better, pair.only_better, pair.only_worse) == ("steady", 13, 1)
    text = plain(page_of(two, tmp_path))
    assert "steady is better than hasty" in text
    assert "On the same 60 held-out pictures steady is right 20.0 points more often than hasty: the 95 %" in text
    assert f"interval is {gap(pair.difference)} points, p = 0.002." in text
    assert "steady was right alone on 13 pictures, hasty on 1; on the other 46 both were right or both wrong." in text
    assert "steady took 10.5 s, hasty 3.0 s, embedding aside." in text
    assert "Only 60 pictures." in text
    assert "may be chance" not in text


def test_what_cannot_be_told_apart_is_said_plainly(pictures, many, tmp_path):
    close = compared_of([a_run("one", pictures, {1, 2}), a_run("other", pictures, {2, 3, 4})])
    text = plain(page_of(close, tmp_path))
    assert "one and other cannot be told apart" in text
    assert "more often than other, which may be chance" in text
    equal = compared_of([a_run("one", pictures, {1}), a_run("other", pictures, {2})])
    assert "both are right equally often" in plain(page_of(equal, tmp_path))
    same = compared_of([a_run("one", pictures, {1}), a_run("other", pictures, {1})])
    text = plain(page_of(same, tmp_path))
    assert "both are right on the very same ones" in text
    assert "None: on all 60 pictures the runs were right together or wrong together." in text
    text = plain(page_of(many, tmp_path))
    assert "The 12 runs cannot be told apart" in text
    assert "each p is corrected for the 66 pairs of runs" in text.replace("Each", "each")
    assert "Of those, run 0 took the least time" not in text  # it is the best itself


def headline(*wrong, pictures):
    runs = [a_run(name, pictures, set(range(count))) for name, count in zip("abcd", wrong, strict=False)]
    return re.sub("<[^>]*>", "", str(contest.judge(compared_of(runs)).headline))


def test_headlines_of_several_runs(pictures):
    assert headline(1, 20, 25, pictures=pictures) == "a is better than the other 2"
    assert headline(1, 3, 25, pictures=pictures) == "a leads, but cannot be told apart from b"
    assert headline(1, 3, 4, 30, pictures=pictures) == "a leads, but cannot be told apart from 2 others"
    assert headline(1, 2, 3, pictures=pictures) == "The 3 runs cannot be told apart"
    assert headline(1, pictures=pictures) == "Only a is there to be judged"


def test_the_cheapest_of_equals_is_named(pictures):
    runs = [a_run(name, pictures, {number}) for number, name in enumerate("abc")]
    cheap = replace(runs[2], seconds={"total": 2.0})
    sentences = contest.judge(compared_of([*runs[:2], replace(cheap, answers=a_run("", pictures, {1, 2}).answers)]))
    text = re.sub("<[^>]*>", "", " ".join(sentences.sentences))
    assert "Of those, c took the least time: 2.0 s, against 10.5 s." in text


def test_settings_that_differ_are_told_and_the_others_kept_apart(pictures, two, tmp_path):
    found = contrast.settings(two)
    differing = dict(found.differing)
    assert found.names == ("steady", "hasty")
    assert differing == {"fit": ("not set", "squish")}
    assert ("device", "cpu") in found.equal
    recipes = [{"recipe": {"name": "mine", "epochs": epochs}} for epochs in (4, 9)]
    runs = [a_run(name, pictures, {1}, computed=one) for name, one in zip("ab", recipes, strict=True)]
    assert dict(contrast.settings(compared_of(runs)).differing) == {"recipe.epochs": ("4", "9")}
    assert "No recorded setting differs." in page_of(compared_of([a_run(n, pictures, {1}) for n in "ab"]), tmp_path)


def test_changed_pictures_are_shown_with_what_each_run_said(two, tmp_path):
    text = page_of(two, tmp_path)
    outline = Outline(text)
    assert len(outline.all("img")) == 14
    assert "14 of 60 pictures were named rightly by one run and wrongly by the other." in plain(text)
    assert "Only steady is right 13 pictures" in plain(text)
    assert "Only hasty is right 1 picture" in plain(text)
    first = changes.changes(two).kinds[0].shown[0]
    assert [one.is_right for one in first.said] == [True, False]
    assert first.said[0].who[0][0] == "steady"
    assert first.label == first.said[0].predicted != first.said[1].predicted


def test_pictures_that_are_gone_or_changed_are_left_blank_and_it_is_said(pictures, two, tmp_path):
    root, paths = pictures
    copy = tmp_path / "moved"
    copy.mkdir()
    for name in paths.values():
        (copy / name).write_bytes((root / name).read_bytes())
    runs = [replace(run, data=str(copy)) for run in two.runs.values()]
    changed = changes.changes(two).digests
    (copy / paths[changed[0]]).write_bytes((root / paths[changed[1]]).read_bytes())
    (copy / paths[changed[2]]).unlink()
    text = page_of(compared_of(runs), tmp_path)
    assert "2 pictures could not be found where the runs say" in plain(text)
    assert text.count("cannot be shown") == 2
    assert len(Outline(text).all("img")) == 12
    text = page_of(compared_of([replace(run, data=str(tmp_path / "nowhere")) for run in runs]), tmp_path)
    assert text.count("cannot be shown") == 14


def test_data_given_as_manifest_or_elsewhere_are_found(pictures, two):
    root, paths = pictures
    key, name = next(iter(paths.items()))
    manifest = root / "all.csv"
    manifest.write_text("path,label\n")
    runs = list(two.runs.values())
    for data in (str(root), str(manifest)):
        found = comparing.locator(compared_of([replace(run, data=data) for run in runs]))
        assert found(key) == root / name
    half = compared_of([replace(runs[0], data=""), runs[1]])
    assert comparing.locator(half)(key) == root / name
    assert comparing.locator(compared_of([replace(run, data="") for run in runs]))(key) is None


def test_classes_that_gain_and_lose(two, many, tmp_path):
    found = changes.classes(two)
    assert (found.of, found.gained, found.lost) == (3, 3, 0)
    assert sum(score.gain for score in found.shown) == 12
    assert [score.gain for score in found.shown] == sorted((score.gain for score in found.shown), reverse=True)
    assert all(0 < score.p <= 1 for score in found.shown)
    assert "Against hasty, steady finds more pictures of 3 classes and fewer of 0." in plain(page_of(two, tmp_path))
    several = changes.classes(many)
    assert all(score.p is None and len(score.recalls) == 12 for score in several.shown)


def test_only_the_classes_that_change_most_are_shown(pictures):
    names = tuple(f"class {number:02}" for number in range(60))
    runs = [a_run("a", pictures, {5}, classes=names), a_run("b", pictures, set(range(40, 60)), classes=names)]
    found = changes.classes(compared_of(runs))
    assert (found.of, found.gained, found.lost) == (60, 20, 1)
    assert found.shown[0].gain == 1
    assert found.shown[-1].name == "class 05"


def test_dots_that_lie_upon_each_other_share_their_numbers(pictures):
    runs = [a_run(name, pictures, {number // 2}) for number, name in enumerate("abcd")]
    drawing = str(contrast.costs(compared_of(runs)).drawing)
    assert re.findall(r'class="dot-name"[^>]*>([^<]*)<', drawing) == ["", "", "", "1, 2, 3, 4"]


def test_commands_can_be_copied_whatever_the_names(pictures, two, hostile):
    text = [(html.unescape(re.sub("</?bdi>", "", text)), purpose) for text, purpose in again_of(two)]
    root = pictures[0]
    assert text[0] == ("headstart compare runs/steady runs/hasty -o place", "this comparison")
    assert text[2] == (f"headstart train {root} -o runs/hasty --fit squish", "the run hasty")
    runs = [replace(run, options={"x; touch owned": True, "fit": "$(touch owned)"}) for run in two.runs.values()]
    command = html.unescape(re.sub("</?bdi>", "", again_of(compared_of(runs))[1][0]))
    words = shlex.split(command)
    assert words[-3:] == ["--x; touch owned", "--fit", "$(touch owned)"]
    assert all(str(text).count("<bdi>") == str(text).count("</bdi>") > 3 for text, _ in again_of(hostile))


def again_of(compared):
    return contrast.again(compared, Path("place")).commands


def test_one_run_alone_has_a_page(pictures, tmp_path):
    text = page_of(compared_of([a_run("left", pictures, {1})], {"all": "no memory"}), tmp_path)
    assert "Only left is there to be judged" in plain(text)
    assert "all failed. no memory" in plain(text)
    assert [attrs["id"] for attrs in Outline(text).all("section")] == ["verdict", "cost", "again"]


def test_the_page_stays_small(tmp_path, monkeypatch):
    """Noise hardly compresses: with far more pictures than are shown, long names, and twelve runs."""
    random = np.random.default_rng(0)
    paths = {}
    for number in range(80):
        path = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (160, 160, 3), dtype=np.uint8)).save(path)
        paths[digest(path)] = path.name
    classes = tuple(f"{'class' * 60}{number}" for number in range(80))
    runs = [
        a_run(f"{number} {'run' * 100}", (tmp_path, paths), set(range(number, 80, 2)), classes=classes)
        for number in range(12)
    ]
    compared = compared_of(runs)
    text = page_of(compared, tmp_path)
    assert len(text.encode()) < 10_000_000
    assert all(len(kind.shown) == changes.MOST_PICTURES < kind.of for kind in changes.changes(compared).kinds)
    assert plain(text).count(f"{changes.MOST_PICTURES} of") == 2
    assert plain(text).count("shown, the most confident mistakes first; all stand in changed.csv") == 2
    assert "60 of 80 classes shown." in plain(text)
    monkeypatch.setattr(contest, "MOST_PAIRS", 20)
    assert "20 of 66 pairs shown." in plain(page_of(compared, tmp_path))


def test_names_of_strangers_stay_text(hostile, tmp_path):
    text = page_of(hostile, tmp_path)
    outline = Outline(text)
    assert not outline.crooked
    assert not outline.open
    assert [tag for tag, _ in outline.tags].count("script") == 2
    assert not [attrs for attrs in outline.all("img") if attrs.get("src") == "x"]
    assert "{{ 7*7 }}" in html.unescape(text)
    assert all(f"on{event}" not in attrs for _, attrs in outline.tags for event in ("error", "click", "load"))


def test_the_printed_lines_name_the_page(two, tmp_path):
    assert list(terminal.compare_lines(two))[-1].startswith("-o DIR writes a page")
    page = tmp_path / comparing.PAGE
    assert list(terminal.compare_lines(two, page))[-1] == f"saved in {tmp_path}; read {page}"


def test_a_comparison_is_written_whole_and_again_the_same(two, tmp_path):
    comparing.write(tmp_path / "out", two)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["changed.csv", "compare.html", "compare.json"]
    first = (tmp_path / "out" / comparing.PAGE).read_bytes()
    comparing.claim(tmp_path / "out", own=True)
    comparing.write(tmp_path / "out", two)
    assert (tmp_path / "out" / comparing.PAGE).read_bytes() == first


def test_differences_have_an_axis_from_tick_to_tick():
    span = contest.Interval
    axis = differences([span(0.02, -0.01, 0.05)])
    assert [text for _, text in axis.ticks] == ["−2", "0", "+2", "+4", "+6"]
    assert (axis.at(-0.02), axis.at(0.02), axis.at(0.06)) == ("0.00", "50.00", "100.00")
    assert axis.length(span(0.0, 0.0, 0.02)) == "25.00"
    assert next(text for _, text in differences([span(0.0, 0.0, 0.0)]).ticks) == "0"
    assert signed(0.0) == signed(-0.0004) == "0.0"


@pytest.fixture(scope="module")
def chromium():
    with browser() as process:
        yield process


@pytest.mark.browser
@pytest.mark.parametrize(
    ("which", "width", "dark"),
    [
        *(("two", width, dark) for width in (1280, 390) for dark in (False, True)),
        ("many", 1280, False),
        ("many", 390, True),
    ],
)
def test_everybody_can_use_it(chromium, request, tmp_path, which, width, dark):
    page_of(request.getfixturevalue(which), tmp_path)
    with opened(chromium, tmp_path / "compare.html", width=width, dark=dark) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert violations(page) == []
        assert overflow(page) == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_names_of_strangers_do_nothing(chromium, hostile, tmp_path, width):
    page_of(hostile, tmp_path)
    with opened(chromium, tmp_path / "compare.html", width=width) as page:
        assert page.evaluate("window.canary") is None
        assert page.locator("img[src=x]").count() == 0
        assert overflow(page) == 0


@pytest.mark.browser
def test_classes_are_sorted_by_key_and_the_skip_link_leads_on(chromium, two, tmp_path):
    page_of(two, tmp_path)
    with opened(chromium, tmp_path / "compare.html") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        button = page.get_by_role("button", name="Class")
        button.focus()
        page.keyboard.press("Enter")
        names = "rows => rows.map(row => row.cells[0].textContent)"
        assert page.locator(".sortable tbody tr").evaluate_all(names) == list(CLASSES)


@pytest.mark.browser
def test_it_prints_and_reads_without_scripts(chromium, two, tmp_path):
    page_of(two, tmp_path)
    with opened(chromium, tmp_path / "compare.html", dark=True) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator(".masthead").is_hidden()
        assert len(page.pdf()) > 10_000
    with opened(chromium, tmp_path / "compare.html", scripts=False) as page:
        assert page.locator("section[id]").count() == len(SECTIONS)
        assert page.locator(".shot img").first.is_visible()
