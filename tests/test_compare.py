"""`headstart compare`: finished runs read back, candidates trained, results written, mistakes answered."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import headstart as package
from headstart import terminal, workflow
from headstart.delivery import candidates, comparing
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import BackboneError, DataError, ModelError, StorageError, UsageError
from headstart.learning.recipes import load_recipe
from tests import tiny

REAL_TRAIN = workflow.train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs on the same pictures, some of them mislabelled in look, and one with another split."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        options = TrainOptions(backbone="tiny", weights=tiny.install(folder), device="cpu")
        data = tiny.class_folders(folder / "photos", each=20)
        for index in range(0, 20, 3):  # blue ones among the amber: some will be got wrong
            tiny.draw(data / "amber" / f"{index:02}.png", tiny.HUES["blue"], 500 + index, size=(48 + index, 40))
        for name, chosen in {
            "crop": options,
            "balanced": replace(options, balanced=True, fit="squish"),
            "other": replace(options, seed=7),
        }.items():
            workflow.train(data, folder / "runs" / name, chosen)
    return folder


@pytest.fixture
def runs(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def candidate(made, monkeypatch):
    """Stands in for the training of a candidate: copies a finished run, and fails for tune `all` while told to."""
    told = {"failing": ("all",), "trained": []}

    def train(data, run, options, _):
        told["trained"].append(run.name)
        if options.tune in told["failing"]:
            raise BackboneError("the network cannot be tuned.")
        shutil.copytree(made / "runs" / ("balanced" if options.tune == "last" else "crop"), run)
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "options": options.to_json(), "data": str(data)}))
        return SimpleNamespace(evaluation="accuracy told", seconds={"total": 1.0})

    monkeypatch.setattr(workflow, "train", train)
    return told


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rewrite(path, change):
    """Write the CSV file anew, with each of its rows changed."""
    changed = [change(dict(row)) for row in rows(path)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, changed[0])
        writer.writeheader()
        writer.writerows(changed)


def test_finished_runs_are_compared_and_written(headstart, runs, tmp_path):
    status, out, err = headstart("compare", "runs/crop", "runs/balanced", "-o", "both")
    assert (status, err) == (0, "")
    assert "8 held-out pictures, judged by 2 runs" in out
    assert "verdict:" in out
    assert f"read {Path('both') / 'compare.html'}" in out
    page = (tmp_path / "both" / "compare.html").read_text("utf-8")
    assert "crop" in page
    assert "cannot be shown" not in page  # the pictures are found in the data that the runs recorded
    record = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert record["n"] == 8
    assert {run["name"] for run in record["runs"]} == {"crop", "balanced"}
    best = record["runs"][0]
    assert best["name"] == record["best"]
    metrics = json.loads((runs / best["name"] / "metrics.json").read_text())
    assert best["accuracy"] == metrics["test"]["accuracy"]
    assert best["seconds"] == metrics["seconds"]
    assert best["megabytes"] == pytest.approx((runs / "crop/model/model.safetensors").stat().st_size / 1e6, abs=1e-3)
    assert record["pairs"][0].keys() >= {"difference", "only_better", "only_worse", "p", "p_corrected"}
    assert (record["groups"], record["failures"]) == (None, {})


def test_changed_pictures_are_written_and_shown(headstart, runs, tmp_path):
    path = runs / "crop" / "predictions.csv"
    turned = next(row for row in rows(path) if row["correct"] == "yes")
    turned["predicted"] = "blue" if turned["label"] == "amber" else "amber"
    rewrite(path, lambda row: turned if row["path"] == turned["path"] else row)
    shutil.copytree(tmp_path / "runs" / "crop", tmp_path / "runs" / "twin")
    _, out, _ = headstart("compare", "runs/crop", "runs/twin", "-o", "same")
    assert "crop and twin are right on the same pictures" in out
    assert rows(tmp_path / "same" / "changed.csv") == []
    _, out, _ = headstart("compare", "runs/crop", "runs/balanced", "runs/twin", "-o", "three")
    changed = {row["path"]: row for row in rows(tmp_path / "three" / "changed.csv")}
    assert changed[turned["path"]].keys() == {"path", "label", "crop", "balanced", "twin"}
    assert changed[turned["path"]]["crop"] == turned["predicted"]
    assert f"{turned['path']} ({turned['label']}): " in out
    assert "Holm" in out


@pytest.mark.usefixtures("runs")
def test_nothing_is_written_unless_asked_for(headstart, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    status, out, _ = headstart("compare", "runs/crop", "runs/balanced")
    assert (status, "-o DIR writes a page" in out) == (0, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_other_held_out_pictures_are_left_out_and_it_is_said(headstart, runs):
    splits = [{r["digest"] for r in rows(runs / n / "split.csv") if r["part"] == "test"} for n in ("crop", "other")]
    shared = len(splits[0] & splits[1])
    assert 0 < shared < 8
    status, out, _ = headstart("compare", "runs/crop", "runs/other")
    assert (status, f"only {shared} held-out pictures are shared" in out) == (0, True)


def test_runs_that_share_nothing_or_label_differently_are_refused(headstart, runs):
    rewrite(runs / "other" / "split.csv", lambda row: {**row, "digest": f"f{row['digest']}"})
    status, _, err = headstart("compare", "runs/crop", "runs/other")
    assert (status, "share no held-out pictures (crop 8, other 8)" in err) == (1, True)
    rewrite(runs / "balanced" / "predictions.csv", lambda row: {**row, "label": f"pale {row['label']}"})
    status, _, err = headstart("compare", "runs/crop", "runs/balanced")
    assert (status, "label one picture differently" in err) == (1, True)


def test_runs_of_one_name_are_told_apart_by_their_folders(headstart, runs, tmp_path):
    shutil.copytree(runs / "balanced", tmp_path / "elsewhere" / "crop")
    _, out, _ = headstart("compare", "runs/crop", "elsewhere/crop")
    assert "runs/crop " in out
    assert "elsewhere/crop " in out


def test_groups_and_other_classes_are_noted(runs):
    rewrite(runs / "crop" / "split.csv", lambda row: {**row, "group": "herd"})
    metrics = json.loads((runs / "balanced" / "metrics.json").read_text())
    (runs / "balanced" / "metrics.json").write_text(json.dumps({**metrics, "classes": ["amber", "blue", "green"]}))
    compared = comparing.compare_runs(comparing.read_runs([runs / "crop", runs / "balanced"]))
    assert compared.comparison.group_count == 1
    assert any("come in 1 group and" in note for note in compared.notes)
    assert any("different classes" in note for note in compared.notes)
    assert comparing.to_json(compared)["groups"] == 1


DAMAGE = {
    "predictions.csv": "rows, not 8",
    "metrics.json": "metrics.json",
    "run.json": "run.json",
    "split.csv": "split.csv",
    "model/model.safetensors": None,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_named(headstart, runs, name):
    path = runs / "crop" / name
    content = path.read_bytes()
    if DAMAGE[name]:
        path.write_bytes(content[: len(content) // 2].rpartition(b"\n")[0] + b"\n")
        status, _, err = headstart("compare", "runs/crop", "runs/balanced")
        assert (status, "the run in runs/crop is damaged" in err, DAMAGE[name] in err) == (1, True, True)
    path.unlink()
    status, _, err = headstart("compare", "runs/crop", "runs/balanced")
    assert (status, f"damaged: {path.name} is missing. Train" in err) == (1, True)
    assert "Traceback" not in err


def test_half_a_row_and_a_later_format_are_refused(runs):
    path = runs / "crop" / "predictions.csv"
    path.write_text(path.read_text().rstrip().rpartition(",")[0])
    with pytest.raises(ModelError, match="ends in the middle of a row"):
        comparing.read_run(runs / "crop", "crop")
    record = json.loads((runs / "other" / "run.json").read_text())
    (runs / "other" / "run.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(ModelError, match="Upgrade headstart"):
        comparing.read_run(runs / "other", "other")


MISTAKES = {
    "one run": (["runs/crop"], 2, "give two or more runs, or data"),
    "no path": ([], 2, "PATHS"),
    "one run twice": (["runs/crop", "runs/../runs/crop"], 2, "given twice"),
    "not a run": (["runs/crop", "photos"], 1, "photos is not a run"),
    "no such run": (["runs/crop", "runs/gone"], 1, "runs/gone does not exist"),
    "options of data": (["runs/crop", "runs/balanced", "--seed", "0"], 2, "--seed is for training"),
    "tunes of runs": (["runs/crop", "runs/balanced", "--tune", "all"], 2, "--tune is for training"),
    "output is a run": (["runs/crop", "runs/balanced", "-o", "runs/other"], 1, "runs/other is a run"),
    "unknown tune": (["photos", "--tune", "none,lats"], 2, "unknown tune 'lats'; did you mean 'last'?"),
    "unknown recipe": (["photos", "--recipe", "classic-frosen,all"], 2, "did you mean 'classic-frozen'?"),
    "one candidate": (["photos", "--tune", "none"], 2, "'none' is the only candidate"),
    "one twice": (["photos", "--tune", "none,none"], 2, "two candidates would be called 'none'"),
    "empty word": (["photos", "--tune", "none,,all"], 2, "received 'none,,all'"),
    "no such data": (["nowhere"], 1, "nowhere"),
    "wrong fraction": (["photos", "--test", "2"], 2, "2"),
    "not a comparison": (["photos", "-o", "photos"], 1, "holds something other than runs (amber)"),
}


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_clear_message(headstart, tmp_path, mistake):
    tiny.class_folders(tmp_path / "photos", each=4)
    words, expected, said = MISTAKES[mistake]
    status, _, err = headstart("compare", *words)
    assert (status, said in err) == (expected, True), err
    assert "Traceback" not in err
    assert not list((tmp_path / "runs").glob("*-compare"))


def test_candidates_are_named_by_recipe_and_tune(tmp_path):
    options = TrainOptions(seed=3)
    assert list(candidates.plan(options)) == ["none", "last", "all"]
    assert list(candidates.plan(options, recipes=["classic-frozen", "sgd-decay"])) == ["classic-frozen", "sgd-decay"]
    both = candidates.plan(options, ["none", "all"], ["sgd-decay", "classic-frozen"])
    assert list(both) == ["sgd-decay-none", "sgd-decay-all", "classic-frozen-none", "classic-frozen-all"]
    assert both["sgd-decay-all"] == replace(options, tune="all", recipe="sgd-decay")
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "classic-frozen"\nepochs = 2\n')
    assert list(candidates.plan(options, recipes=[str(mine), "all"])) == ["mine", "all"]


def test_candidates_are_trained_compared_and_used_again(headstart, made, candidate, tmp_path):
    candidate["failing"] = ()
    data = made / "photos"
    status, out, err = headstart("compare", data, "--tune", "none,last")
    place = tmp_path / "runs" / "photos-compare"
    assert (status, candidate["trained"]) == (0, ["none", "last"])
    assert "none: training ..." in err
    assert f"read {Path('runs') / 'photos-compare' / 'compare.html'}" in out
    assert sorted(path.name for path in place.iterdir()) == [
        "changed.csv",
        "compare.html",
        "compare.json",
        "last",
        "none",
    ]
    assert "2 runs" in out
    shutil.rmtree(place / "last")
    (place / "compare.json").unlink()
    status, again, err = headstart("compare", data, "--tune", "none,last")
    assert (status, again) == (0, out)
    assert candidate["trained"] == ["none", "last", "last"]
    assert "none: trained before" in err
    (place / "none" / "predictions.csv").unlink()
    shutil.rmtree(place / "last" / "model")
    assert not candidates.is_complete(place / "none", data, candidates.plan(TrainOptions())["none"])
    assert not candidates.is_complete(place / "last", data, candidates.plan(TrainOptions())["last"])


def test_other_options_or_data_are_trained_anew(made, candidate, tmp_path):
    candidate["failing"] = ()
    options = candidates.plan(TrainOptions())["none"]
    workflow.train(made / "photos", tmp_path / "none", options, None)
    assert candidates.is_complete(tmp_path / "none", made / "photos", options)
    assert candidates.is_complete(tmp_path / "none", made / "photos", replace(options, resume=True))
    assert not candidates.is_complete(tmp_path / "none", made / "photos", replace(options, fit="pad"))
    assert not candidates.is_complete(tmp_path / "none", made / "runs", options)
    assert not candidates.is_complete(tmp_path / "gone", made / "photos", options)
    assert not candidates.is_complete(tmp_path / "none", made / "photos", options, load_recipe("last"))


def test_a_candidate_that_fails_is_reported_and_the_others_compared(headstart, made, candidate, tmp_path):
    status, out, err = headstart("compare", made / "photos", "-o", "both")
    assert status == 1
    assert candidate["trained"] == ["none", "last", "all"]
    assert "all failed: the network cannot be tuned." in out
    assert "1 of 3 candidates failed: all." in err
    record = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert record["failures"] == {"all": "the network cannot be tuned."}
    assert len(record["runs"]) == 2
    candidate["failing"] = ("none", "last", "all")
    status, out, err = headstart("compare", made / "photos", "-o", "none")
    assert (status, out) == (1, "")
    assert "no candidate could be trained. none: the network" in err
    candidate["failing"] = ("none", "all")
    status, out, err = headstart("compare", made / "photos", "-o", "one", "--tune", "last,all")
    assert (status, "judged by one run" in out, "verdict" in out) == (1, True, False)


def test_candidates_have_one_split_whatever_else_differs(made, monkeypatch, tmp_path):
    """The real training, whose candidates differ here by their fit instead of their tune."""
    fits = {"none": None, "last": "pad", "all": "squish"}

    def train(data, run, options, progress):
        return REAL_TRAIN(data, run, replace(options, tune=None, fit=fits[options.tune]), progress)

    monkeypatch.setattr(workflow, "train", train)
    monkeypatch.setenv("HEADSTART_CACHE", str(made / "cache"))
    options = TrainOptions(backbone="tiny", weights=made / "tiny.safetensors", device="cpu", seed=5)
    told = []
    compared = package.compare(
        made / "photos", tmp_path / "three", options, tunes=("none", "last", "all"), tell=told.append
    )
    assert compared.comparison.n == 8
    assert all(len(run.answers) == 8 for run in compared.runs.values())
    assert sum("accuracy" in line for line in told) == 3
    lines = list(terminal.compare_lines(compared))
    assert len([line for line in lines if line.startswith("  ") and "[" in line]) >= 3


def test_the_verdict_says_what_was_found(runs):
    first, second = comparing.read_runs([runs / "crop", runs / "balanced"])
    said = first.answers.items()
    right = {f"{key}{copy}": replace(answer, predicted=answer.label) for key, answer in said for copy in range(6)}
    wrong = {
        key: replace(answer, predicted="green") if number < 12 else answer
        for number, (key, answer) in enumerate(right.items())
    }
    good = replace(first, answers=right, seconds={"total": 90.0, "features": 10.0})
    bad = replace(second, answers=wrong, seconds={"total": 30.0, "features": 3.0})
    text = "\n".join(terminal.compare_lines(comparing.compare_runs([good, bad])))
    assert "crop is better than balanced: +25.0 [" in text
    assert "p = 0.00049 on 48 pictures (12 only crop got right, 0 only balanced)" in text
    assert "balanced took a third of the time, embedding aside" in text
    other = replace(bad, backbone="another", answers=right)
    text = "\n".join(terminal.compare_lines(comparing.compare_runs([good, other])))
    assert "balanced and crop are right on the same pictures" in text
    assert text.count("embedding aside") == 0


def test_public_names_compare_runs(runs):
    compared = package.compare_runs(package.read_runs([runs / "crop", runs / "balanced"]))
    assert compared.comparison.n == 8
    with pytest.raises((DataError, ModelError, UsageError, StorageError)):
        package.read_runs([runs / "crop", Path("nowhere")])
