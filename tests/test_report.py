"""The report as text: what stands in it, what is left out, what it costs."""

import base64
import csv
import hashlib
import html
import itertools
import json
import re
import shutil
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from headstart.errors import StorageError
from headstart.judging.report import (
    atlas,
    charts,
    findings,
    losses,
    mistakes,
    page,
    robustness,
    thumbnails,
    trust,
    words,
)
from headstart.judging.report.record import interval, read_record
from headstart.judging.report.writing import Extras, write_report

from . import sample_run

SECTIONS = ["verdict", "mistakes", "data", "growth", "trust", "robustness", "map", "training", "making"]
VOID = {"meta", "link", "img", "input", "br", "path", "circle", "line", "rect", "polyline", "polygon"}


class Outline(HTMLParser):
    """What a page is built of: tags with attributes, ids, text; and whether every tag is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.crooked = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.crooked.append((tag, self.getpos()))

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder with everything in it, what goes with it, and its report."""
    folder = tmp_path_factory.mktemp("report") / "run"
    extras = sample_run.make(folder)
    return folder, extras, write_report(folder, extras).read_text("utf-8")


def sections(text):
    return [attrs["id"] for attrs in Outline(text).all("section") if "id" in attrs]


def test_every_section_is_there_in_its_order(made):
    assert sections(made[2]) == SECTIONS
    links = [attrs["href"] for attrs in Outline(made[2]).all("a")]
    assert [f"#{name}" for name in SECTIONS if f"#{name}" in links] == [f"#{name}" for name in SECTIONS]


def test_every_tag_is_closed_and_every_id_is_there_once(made):
    outline = Outline(made[2])
    assert not outline.crooked
    assert not outline.open
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {attrs.get("aria-labelledby", "") for _, attrs in outline.tags} | {
        attrs.get("for", "") for _, attrs in outline.tags
    }
    assert {one for several in named for one in several.split()} <= set(ids)


def test_headings_stand_in_order_and_there_is_one_of_the_first(made):
    levels = [int(tag[1]) for tag, _ in Outline(made[2]).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_picture_has_a_text_and_every_table_a_caption_and_scopes(made):
    outline = Outline(made[2])
    assert len(outline.all("img")) > 60
    assert all("alt" in image for image in outline.all("img"))
    assert [tag for tag, _ in outline.tags].count("table") == [tag for tag, _ in outline.tags].count("caption")
    assert all("scope" in head for head in outline.all("th"))


def test_nothing_is_asked_of_a_network(made):
    for tag, attrs in Outline(made[2]).tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    style = re.search(r"<style>(.*?)</style>", made[2], re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_one_script_may_run(made):
    policy = Outline(made[2]).all("meta")[2]["content"]
    (script,) = re.findall(r"<script>(.*?)</script>", made[2], re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_the_numbers_are_those_of_the_files(made):
    folder, _, text = made
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    test = metrics["test"]
    right = sum(test["confusion"][place][place] for place in range(3))
    plain = " ".join("".join(Outline(text).text).split())
    assert f"Right on {right} of 60 pictures it had never seen" in plain
    assert words.percent(test["accuracy"]["value"]) in text
    assert words.ends(interval(test["accuracy"])) in text
    for name, score in test["per_class"].items():
        assert words.ends(interval(score["recall"])) in text, name
    for row in metrics["robustness"]["rows"]:
        assert row["label"].partition(" (")[0] in text
        assert words.share(interval(row["accuracy"])).partition(" (")[0] in text
    assert "Twice the pictures would bring about one point." in text


def test_cautions_are_said(made):
    text = html.unescape(" ".join("".join(Outline(made[2]).text).split()))
    for caution in (
        "only 60 test pictures",
        "1 leak removed",
        "1 strong shortcut",
        "labels may be wrong",
        "head kept, tuning did not help",
        "60.0 % in cross-validation",
        "not surely better than judging by colours alone",
    ):
        assert caution in text, caution


def test_a_caution_is_not_said_without_its_cause(tmp_path):
    folder = tmp_path / "run"
    extras = sample_run.make(folder, n_test=300, pictures=False)
    for name in ("suspects.csv", "problems.csv", "run.json"):
        (folder / name).unlink()
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    del metrics["baselines"], metrics["out_of_fold"], metrics["test"]["ece"]
    metrics["audit"]["shortcuts"] = [{"severity": "weak", "reason": "the size of the file, a little"}]
    (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    text = write_report(folder, extras).read_text("utf-8")
    assert 'class="chip ' not in text


@pytest.mark.parametrize(
    ("file", "section"),
    [("history.csv", "training"), ("map.csv", "map")],
)
def test_a_section_without_its_file_is_absent(made, tmp_path, file, section):
    folder = shutil.copytree(made[0], tmp_path / "run")
    (folder / file).unlink()
    text = write_report(folder, made[1]).read_text("utf-8")
    assert sections(text) == [name for name in SECTIONS if name != section]
    assert f'href="#{section}"' not in text


@pytest.mark.parametrize(("keys", "section"), [(["growth"], "growth"), (["robustness", "slices"], "robustness")])
def test_a_section_without_its_key_is_absent(made, tmp_path, keys, section):
    folder = shutil.copytree(made[0], tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    (folder / "metrics.json").write_text(json.dumps({k: v for k, v in metrics.items() if k not in keys}), "utf-8")
    assert sections(write_report(folder, made[1]).read_text("utf-8")) == [name for name in SECTIONS if name != section]


def test_what_evaluate_writes_is_enough(made, tmp_path):
    folder = tmp_path / "judged"
    folder.mkdir()
    for name in ("predictions.csv", "problems.csv"):
        shutil.copy(made[0] / name, folder)
    test = json.loads((made[0] / "metrics.json").read_text("utf-8"))["test"]
    for key in ("reliability", "balanced_accuracy", "brier", "roc_auc"):
        del test[key]
    (folder / "metrics.json").write_text(json.dumps({"format": 1, "test": test}), "utf-8")
    assert sections(write_report(folder, made[1]).read_text("utf-8")) == ["verdict", "mistakes", "data"]
    assert "expect" in said(write_report(folder, made[1]).read_text("utf-8"))
    (folder / "metrics.json").write_text(json.dumps({"format": 1, "seen": 3, "test": test}), "utf-8")
    text = said(write_report(folder, made[1]).read_text("utf-8"))
    assert "says nothing about new ones" in text
    assert "expect" not in text


def test_what_check_writes_is_enough(made, tmp_path):
    folder = tmp_path / "checked"
    folder.mkdir()
    for name in ("problems.csv", "suspects.csv"):
        shutil.copy(made[0] / name, folder)
    text = write_report(folder, made[1], tmp_path / "elsewhere.html").read_text("utf-8")
    assert sections(text) == ["data"]
    assert Outline(text).all("h1")
    assert not (folder / "report.html").exists()


def test_a_folder_with_nothing_wrong_in_it_says_so(tmp_path):
    (tmp_path / "problems.csv").write_text("path,kind,detail,action\n", "utf-8")
    (tmp_path / "split.csv").write_text("path,digest,class,part,group\na.png,0,cat,,\n", "utf-8")
    assert "Nothing was found that is wrong" in write_report(tmp_path, Extras(tmp_path.joinpath)).read_text("utf-8")


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "metrics.json").write_text("{", "utf-8")
    with pytest.raises(StorageError, match=r"metrics\.json is damaged"):
        write_report(tmp_path, Extras(tmp_path.joinpath))


def test_the_same_run_gives_the_same_page(made):
    folder, extras, text = made
    assert write_report(folder, extras).read_text("utf-8") == text


def test_hostile_names_stay_text(tmp_path):
    folder = tmp_path / "run"
    extras = sample_run.make(folder, classes=sample_run.HOSTILE)
    text = write_report(folder, extras).read_text("utf-8")
    outline = Outline(text)
    assert not outline.crooked
    assert all(image["src"].startswith("data:") for image in outline.all("img"))
    assert len(outline.all("script")) == 2
    assert not any(name.startswith("on") for _, attrs in outline.tags for name in attrs)
    assert "49" not in re.findall(r"&amp;(\d+)", text)
    store = json.loads(re.search(r'id="store">(.*?)</script>', text, re.DOTALL)[1])
    assert any(point[3] == words.plain(sample_run.HOSTILE[1]) for point in store["points"])


def test_pictures_that_are_gone_leave_a_blank(tmp_path):
    folder = tmp_path / "run"
    sample_run.make(folder)
    text = write_report(folder, Extras((tmp_path / "nowhere").joinpath)).read_text("utf-8")
    assert "not shown" in text
    assert not Outline(text).all("img")


@pytest.mark.parametrize("k", [2, 200])
def test_few_and_many_classes(tmp_path, k):
    folder = tmp_path / "run"
    extras = sample_run.make(
        folder, classes=tuple(f"class {n:03}" for n in range(k)), n_test=4 * k + 40, pictures=False
    )
    text = write_report(folder, extras).read_text("utf-8")
    fields = re.search(r'<table class="matrix.*?</table>', text, re.DOTALL)[0]
    assert fields.count("<tr>") == min(k, 30) + 1
    assert ("30 most confused of 200 classes" in text) == (k == 200)
    assert text.count('data-cell="') == len(json.loads(re.search(r'id="store">(.*?)<', text, re.DOTALL)[1])["cells"])


def test_a_matrix_that_cannot_show_all_shows_the_commonest_mistakes(tmp_path):
    folder = tmp_path / "run"
    sample_run.make(folder, classes=tuple(f"class {n:03}" for n in range(60)), n_test=600, pictures=False)
    record = read_record(folder)
    found = mistakes.find(record)
    shown = {(cell.truth, cell.predicted) for line in found.matrix.cells for cell in line if cell.n}
    assert len(found.matrix.classes) == 30
    assert {(truth, said) for truth, said, _ in mistakes.commonest(record, 10)} <= shown


def test_fields_of_the_matrix_name_their_own_pictures(made):
    folder, _, text = made
    cells = json.loads(re.search(r'id="store">(.*?)</script>', text, re.DOTALL)[1])["cells"]
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        said = {row["path"]: (row["label"], row["predicted"]) for row in csv.DictReader(file)}
    assert sum(cell["n"] for cell in cells) == len(said)
    for cell in cells:
        assert {said[path] for _, path, _ in cell["shown"]} <= {(cell["truth"], cell["said"])}
        if cell["truth"] != cell["said"]:
            assert len(cell["shown"]) == min(cell["n"], 12)


def test_the_most_confident_mistakes_come_first(made):
    wrong = read_record(made[0]).mistakes
    sure = [float(row["probability"]) for row in wrong]
    assert sure == sorted(sure, reverse=True)
    paths = [words.plain(row["path"]) for row in wrong[:3]]
    places = [made[2].index(html.escape(path)) for path in paths]
    assert places == sorted(places)


def test_pairs_with_two_labels_come_first(made):
    text = made[2][made[2].index(">Near copies</h3>") :]
    first = re.search(r'<li class="card pair(.*?)">', text)[1]
    assert "clash" in first


def test_leaks_are_shown_beside_their_twins(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "run")
    one, two, three = (row["path"] for row in read_record(folder).split[:3])
    details = [
        f"nearly the same picture, mirrored, is in test: {two}",
        f"the same picture is in val: {three}",
        "of old",
    ]
    sample_run.write_csv(
        folder / "problems.csv", "path,kind,detail,action", [[one, "leak", detail, "removed"] for detail in details]
    )
    found = findings.find(read_record(folder), (), made[1].locate)
    assert [(pair.first, pair.second) for pair in found.pairs[0].shown] == [(one, two), (one, three)]


def test_the_usual_promise_is_told_and_all_are_listed(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    held = {"value": 0.9, "low": 0.85, "high": 0.94}
    metrics["promises"]["sets"] = [
        {"kind": "threshold", "coverage": coverage, "held": held, "mean_size": 1.5, "single": 0.5}
        for coverage in (0.8, 0.95, 0.99)
    ]
    (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    text = write_report(folder, made[1]).read_text("utf-8")
    assert "a set that holds the true one as often as asked: here 95\u202f% of the time" in text
    assert ">not kept<" in text
    assert all(f'<td class="figure">{words.exact(coverage)}</td>' in text for coverage in (0.8, 0.95, 0.99))


def altered(made, tmp_path, change):
    """A copy of the run folder whose metrics.json `change` has gone through."""
    folder = shutil.copytree(made[0], tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    change(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    return folder


def said(text):
    return html.unescape(" ".join("".join(Outline(text).text).split()))


def test_a_lost_class_is_named_before_the_accuracy_with_what_became_of_its_pictures(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "run")
    rows = [[f"train/owl/{n}.png", "leak", f"the same picture is in test: test/owl/{n}.png", "removed"] for n in "ab"]
    rows += [[f"test/owl/{n}.png", "ignored", "the training part has no class 'owl'", "left out"] for n in "abc"]
    rows += [["owl/", "empty_class", "none of its training pictures can be used", "left out"]]
    rows += [["amber/", "empty_class", "no picture files in it", "left out"]]  # of a part; the class was learnt
    sample_run.write_csv(folder / "problems.csv", "path,kind,detail,action", rows)
    (loss,) = losses.find(read_record(folder))
    assert loss.names == ("owl",)
    text = said(write_report(folder, made[1]).read_text("utf-8"))
    warning = "It cannot know owl None of its training pictures can be used. 2 pictures to learn from also stand in the"
    assert text.index(warning) < text.index("accuracy, 95")
    assert "3 test pictures of it were left out: no number here speaks of it." in text


def test_what_a_finished_classifier_cannot_know_is_not_guessed_from_other_pictures(made, tmp_path):
    folder = altered(made, tmp_path, lambda metrics: metrics.pop("n_train"))
    assert losses.find(read_record(folder)) == ()
    text = said(write_report(folder, made[1]).read_text("utf-8"))
    assert "cannot know" not in text
    assert "had never seen" not in text  # `evaluate` may have been given any pictures


def test_weak_shortcuts_are_not_grave(made, tmp_path):
    weak = {"severity": "weak", "reason": "the size of the file alone tells the classes apart"}
    folder = altered(made, tmp_path, lambda metrics: metrics["audit"].update(shortcuts=[weak]))
    for record, is_grave in ((read_record(folder), False), (read_record(made[0]), True)):
        found = findings.find(record, (), made[1].locate)
        assert [kind.is_grave for kind in found.kinds if kind.key == "shortcut"] == [is_grave]
    assert findings.find(read_record(folder), (), made[1].locate).notes[1].reasons == ((weak["reason"], "weak"),)


def test_findings_that_ask_for_the_same_stand_together(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "run")
    rows = [["", "shortcut", 0.5, f"reason {n}", "find out", "", ""] for n in (1, 2)]
    rows.append(["a.png", "label", 0.9, "labelled 'x', but y: probability 0.91 against 0.09", "look", "x", "y"])
    sample_run.write_csv(folder / "suspects.csv", "path,kind,score,reason,action,label,suggested", rows)
    found = findings.find(read_record(folder), (), made[1].locate)
    (note,) = found.notes
    assert (note.name, [reason for reason, _ in note.reasons]) == ("Shortcuts", ["reason 1", "reason 2"])
    (doubt,) = found.labels.shown
    assert (doubt.likelier, doubt.given, doubt.reason) == ("91\u202f%", "9\u202f%", "")


def test_a_baseline_that_is_surely_better_is_said_to_be(made, tmp_path):
    better = {"name": "nearest", "label": "the nearest", "accuracy": sample_run.span(1.0, 60), "p": 0.001}
    folder = altered(made, tmp_path, lambda metrics: metrics.update(baselines=[better]))
    assert "no, surely better" in write_report(folder, made[1]).read_text("utf-8")


def test_only_classes_below_the_undamaged_are_said_to_be_hit(made, tmp_path):
    def change(metrics):
        row = metrics["robustness"]["rows"][0]
        row["per_class"] = {"amber": sample_run.span(0.3, 20), "blue": sample_run.span(1.0, 20)}

    strain = robustness.find(read_record(altered(made, tmp_path, change))).strains[0]
    assert (strain.name, strain.detail) == ("out of focus", "radius 2\u202f% of the side")
    assert [name for name, _ in strain.worst] == ["amber"]


def test_wishes_that_one_threshold_fulfils_are_told_once(made):
    row = {"answered": sample_run.span(1.0, 40), "accuracy": sample_run.span(1.0, 40)}
    wishes = [(0.9, 0.7), (0.95, 0.7), (0.98, 0.9), (0.99, None), (0.999, None)]
    rows = [{"wanted": wanted, "threshold": threshold, **row} for wanted, threshold in wishes]
    metrics = {**read_record(made[0]).metrics, "promises": {"abstain": rows}}
    found = trust.find(replace(read_record(made[0]), metrics=metrics))
    assert [(one.wanted, one.threshold) for one in found.abstentions] == [(0.95, 0.7), (0.98, 0.9), (0.99, None)]


def noise(path, seed, side=400):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_thumbnails_stay_within_their_budget(tmp_path, monkeypatch):
    for number in range(6):
        noise(tmp_path / f"{number}.png", number)
    names = [f"{number}.png" for number in range(6)]
    free = thumbnails.draw(names[:3], names, tmp_path.joinpath)
    assert set(free) == set(names)
    assert max(free["0.png"].width, free["0.png"].height) == thumbnails.SIDE
    assert max(free["5.png"].width, free["5.png"].height) == thumbnails.SMALL_SIDE
    one = len(free["0.png"].uri)
    monkeypatch.setattr(thumbnails, "MOST_BYTES", int(one * 2.5))
    few = thumbnails.draw([*names[:3], names[0]], [], tmp_path.joinpath)
    assert list(few) == names[:1]  # it stands there twice and counts twice
    monkeypatch.setattr(thumbnails, "MOST_READ", (tmp_path / "0.png").stat().st_size + 10)
    assert len(thumbnails.draw([], names, tmp_path.joinpath)) == 1


@pytest.mark.parametrize("size", [(3, 2000), (1, 1), (161, 10), (40, 30)])
def test_thumbnails_of_odd_shapes(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    small = thumbnails.draw(["a.png"], [], tmp_path.joinpath)["a.png"]
    assert max(small.width, small.height) == min(160, max(size))
    assert min(small.width, small.height) >= 1


def test_the_page_stays_below_ten_megabytes_and_is_made_in_time(tmp_path):
    folder = tmp_path / "run"
    classes = tuple(f"class {number}" for number in range(12))
    extras = sample_run.make(folder, classes=classes, n_test=400, n_train=3600, pictures=False)
    for number in range(40):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (390, 490, 3), dtype=np.uint8)).save(
            tmp_path / f"{number}.jpg", quality=85
        )
    started = time.process_time()
    extras = Extras(lambda path: tmp_path / f"{len(path) * 7 % 40 if path else 0}.jpg", extras.saliency, extras.twins)
    written = write_report(folder, extras)
    assert time.process_time() - started < 8  # of all threads together; alone on two cores it takes two by the clock
    assert written.stat().st_size < 10_000_000


def test_the_map_keeps_the_mistakes_when_it_cannot_keep_all(tmp_path):
    folder = tmp_path / "run"
    sample_run.make(folder, n_test=200, n_train=4000, pictures=False)
    record = read_record(folder)
    found = atlas.find(record)
    assert (found.shown, found.of) == (2000, 4200)
    kept = {point[2] for point in found.points}
    assert {row["path"] for row in record.mistakes} <= kept
    assert len(found.pictures) == 300
    assert all(0 <= x <= 1000 and 0 <= y <= 640 for x, y, *_ in found.points)


def test_the_map_is_not_of_mistakes_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(atlas, "MOST_POINTS", 100)
    monkeypatch.setattr(atlas, "MOST_WRONG", 5)
    sample_run.make(tmp_path / "run", n_test=200, n_train=4000, pictures=False)
    record = read_record(tmp_path / "run")
    wrong = {row["path"] for row in record.mistakes}
    found = atlas.find(record)
    kept = {point[2] for point in found.points}
    assert found.favours_mistakes
    assert len(kept) == 100
    assert 5 <= len(kept & wrong) < len(wrong)


def test_axes_place_values_where_they_belong():
    axis = charts.Axis(10, 1000, (), "", is_log=True)
    assert [axis.at(value) for value in (10, 100, 1000, 5, 9999)] == pytest.approx([0, 0.5, 1, 0, 1])
    assert charts.ticks(0.62, 0.98) == pytest.approx([0.7, 0.8, 0.9])
    assert charts.around([0.5, 0.7, float("nan")], 0, 1) == pytest.approx((0.484, 0.716))


def test_drawings_escape_what_they_say():
    axis = charts.Axis(0, 1, ((0.0, "<b>"),), "<i>")
    drawn = charts.plot(axis, axis, [], "T<script>", "D&")
    assert not re.search(r"<(b|i|script)>", drawn)
    assert "D&amp;" in drawn


def test_titles_come_from_the_data(made):
    record = read_record(made[0])
    assert page._title(record, made[0]) == "of my things"
