"""The commands as a user types them: what is printed, what is written, and how each mistake is answered."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from tests import tiny


@pytest.fixture
def weights(tmp_path):
    return tiny.install(tmp_path)


@pytest.fixture
def data(tmp_path):
    return tiny.class_folders(tmp_path / "photos")


@pytest.fixture
def train(headstart, weights):
    """Run `headstart train` with the tiny backbone."""
    return lambda *words: headstart("train", *words, "--backbone", "tiny", "--weights", weights, "--device", "cpu")


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_train_writes_the_whole_run(train, data, tmp_path):
    status, out, err = train(data)
    run = tmp_path / "runs" / "photos"
    assert (status, err) == (0, "")
    assert "held out: accuracy" in out
    assert "headstart predict runs/photos" in out
    assert sorted(path.name for path in run.iterdir()) == [
        "map.csv",
        "metrics.json",
        "model",
        "predictions.csv",
        "problems.csv",
        "report.html",
        "run.json",
        "split.csv",
        "suspects.csv",
    ]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n_train"] == 32
    assert metrics["n_test"] == 8
    assert metrics["classes"] == ["amber", "blue"]
    assert metrics["test"]["accuracy"]["value"] > 0.9
    assert metrics["chosen"].keys() == {"strength", "scaling", "temperature"}
    parts = [row["part"] for row in rows(run / "split.csv")]
    assert parts.count("test") == 8
    assert set(parts) == {"test", "0", "1", "2", "3", "4"}
    assert len(rows(run / "predictions.csv")) == 8
    assert not [path for path in run.rglob("*") if path.suffix in {".pkl", ".pt", ".pth"}]


def test_the_same_command_writes_the_same_bytes(train, data, tmp_path):
    train(data, "-o", "one")
    train(data, "-o", "two")
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file() and path.name not in ("metrics.json", "run.json", "report.html"):  # they hold times
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_split_is_extended_not_drawn_again(train, data, tmp_path):
    train(data)
    before = {row["digest"]: row["part"] for row in rows(tmp_path / "runs" / "photos" / "split.csv")}
    tiny.class_folders(data, each=30)
    train(data)
    after = {row["digest"]: row["part"] for row in rows(tmp_path / "runs" / "photos" / "split.csv")}
    assert len(after) == 60
    assert {digest: after[digest] for digest in before} == before
    assert list(after.values()).count("test") == 12


def test_a_split_by_other_rules_is_refused(train, data):
    train(data)
    status, _, err = train(data, "--seed", "1")
    assert status == 2
    assert "seed 0, not 1" in err


def test_predict_answers_in_every_form(train, headstart, data, tmp_path):
    train(data)
    status, out, _ = headstart("predict", "runs/photos", data / "amber", "--top", "1")
    assert status == 0
    assert len(out.splitlines()) == 20
    assert "amber" in out
    status, out, _ = headstart("predict", "runs/photos/model", f"{data}/*/0*.png", "--format", "jsonl")
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == 20
    assert all(answer["label"] in answer["path"] for answer in answers)
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in answers)
    assert answers[0].keys() == {"path", "label", "probability", "probabilities", "set", "none_of_these"}
    status, out, _ = headstart(
        "predict", "runs/photos", data, "--format", "csv", "-o", "answers.csv", "--sheet", "s.png"
    )
    assert (status, out) == (0, "")
    assert len(rows(tmp_path / "answers.csv")) == 40
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.format == "PNG"


def test_predict_promises_what_is_asked(train, headstart, data, tmp_path):
    train(data)
    pictures = ("predict", "runs/photos", data / "amber")
    _, plain, err = headstart(*pictures, "--format", "jsonl")
    assert err == ""
    assert "unsure" not in json.loads(plain.splitlines()[0])
    status, out, err = headstart(*pictures, "--format", "jsonl", "--wanted-accuracy", "0.99", "--coverage", "0.99")
    assert status == 0  # 32 pictures to calibrate with cannot promise 99 %
    assert "note: no answer of this model can be promised to be right 99% of the time" in err
    assert "note: every class is in every set: a coverage of 99% takes at least 99 pictures to calibrate with" in err
    for line in out.splitlines():
        assert json.loads(line)["unsure"] is True
        assert len(json.loads(line)["set"]) == 2
    _, out, err = headstart(*pictures, "--sets", "per-class", "--wanted-accuracy", "0.9")
    assert "at least 19 pictures of a class to calibrate with" in err
    assert all(line.count("{") == 1 for line in out.splitlines())
    assert "(unsure)" not in out
    _, out, err = headstart(*pictures, "--sets", "adaptive", "--coverage", "0.8", "--wanted-accuracy", "0.99")
    assert all("  {amber}  (unsure)" in line for line in out.splitlines())
    headstart(*pictures, "bad.jpg", "--format", "csv", "--wanted-accuracy", "0.9", "-o", "answers.csv")
    said = rows(tmp_path / "answers.csv")
    assert [row["unsure"] for row in said] == ["no"] * 20 + [""]
    assert all(None not in row for row in said)
    assert headstart(*pictures, "--coverage", "0.7")[0] == 2


def test_predict_reads_paths_from_standard_input(train, headstart, data, monkeypatch):
    import io

    train(data)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{data}/amber/00.png\n\n{data}/blue/00.png\n"))
    _, out, _ = headstart("predict", "runs/photos", "-", "--format", "jsonl")
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["amber", "blue"]


def test_an_unreadable_input_is_reported_and_the_rest_answered(train, headstart, data, tmp_path):
    train(data)
    (tmp_path / "bad.jpg").write_text("<html>")
    status, out, err = headstart(
        "predict",
        "runs/photos",
        data / "amber" / "00.png",
        "bad.jpg",
        "gone.jpg",
        data / "blue" / "00.png",
        "--format",
        "jsonl",
    )
    answers = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert [answer.get("label") for answer in answers] == ["amber", None, None, "blue"]
    assert answers[1].keys() == {"path", "error"}
    assert "bad.jpg: " in err
    assert "2 of the inputs could not be read" in err


def test_predict_agrees_with_the_run(train, headstart, data, tmp_path):
    train(data)
    expected = {row["path"]: row for row in rows(tmp_path / "runs/photos/predictions.csv")}
    _, out, _ = headstart("predict", "runs/photos", *(data / path for path in expected), "--format", "jsonl")
    for line, row in zip(out.splitlines(), expected.values(), strict=True):
        answer = json.loads(line)
        assert answer["label"] == row["predicted"]
        assert answer["probability"] == pytest.approx(float(row["probability"]), abs=1e-6)


def test_evaluate_refuses_pictures_that_were_learnt_from(train, headstart, data, tmp_path):
    train(data)
    status, _, err = headstart("evaluate", "runs/photos", data)
    assert status == 1
    assert "learnt from 32 of these 40" in err
    status, out, _ = headstart("evaluate", "runs/photos", data, "--allow-training-pictures", "-o", "again")
    assert status == 0
    assert "WARNING" in out
    metrics = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert (metrics["test"]["n"], metrics["seen"], metrics["data"]) == (40, 32, str(data))
    assert "it learnt from 32 of these 40" in (tmp_path / "again" / "report.html").read_text("utf-8")
    fresh = tiny.class_folders(tmp_path / "fresh", each=3, classes=("blue", "amber"))
    for index, path in enumerate(sorted(fresh.rglob("*.png"))):
        tiny.draw(path, tiny.HUES[path.parent.name], 50_000 + index)
    status, out, _ = headstart("evaluate", "runs/photos/model", fresh)
    assert status == 0
    assert "n = 6" in out


def test_evaluate_names_classes_that_the_model_does_not_know(train, headstart, data, tmp_path):
    train(data)
    other = tiny.class_folders(tmp_path / "other", each=2, classes=("amber", "green"))
    status, _, err = headstart("evaluate", "runs/photos", other)
    assert status == 1
    assert "green" in err


@pytest.mark.usefixtures("warm_cache")
def test_check_says_what_is_there(headstart, data, tmp_path):
    (data / "amber" / "bad.png").write_bytes(b"")
    status, out, _ = headstart("check", data, "-o", "report")
    assert status == 0
    assert "40 pictures can be used" in out
    assert "verdict: ready to train" in out
    assert [row["kind"] for row in rows(tmp_path / "report" / "problems.csv")] == ["unreadable"]


@pytest.mark.usefixtures("warm_cache")
def test_check_says_why_it_cannot_be_trained_on(headstart, data):
    shutil.rmtree(data / "blue")
    status, out, err = headstart("check", data)
    assert status == 1
    assert "cannot be trained" in out
    assert "only one class" in err


def test_options_may_stand_in_a_file(train, data, tmp_path):
    (tmp_path / "settings.toml").write_text('seed = 3\noutput = "elsewhere"\n')
    status, _, _ = train(data, "--config", "settings.toml")
    assert status == 0
    assert json.loads((tmp_path / "elsewhere" / "run.json").read_text())["options"]["seed"] == 3
    (tmp_path / "settings.toml").write_text("sede = 3\n")
    status, _, err = train(data, "--config", "settings.toml")
    assert status == 2
    assert "unknown setting 'sede'" in err
    assert "seed" in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("balanced = [1]", "must be a text"),
        ('balanced = "maybe"', "maybe"),
        ('seed = "abc"', "abc"),
        ("seed = -1", "-1"),
        ("fit = 3", "3"),
        ("test = 2.5", "2.5"),
    ],
)
def test_a_wrong_setting_is_wrong_usage(train, data, tmp_path, line, said):
    (tmp_path / "settings.toml").write_text(line)
    status, _, err = train(data, "--config", "settings.toml")
    assert status == 2
    assert said in err


def test_the_cache_can_be_looked_at_and_emptied(train, headstart, data, cache):
    train(data)
    _, out, _ = headstart("cache", "info")
    assert "41 pictures" in out.replace("  ", " ")
    assert headstart("cache", "prune", "--gigabytes", "0")[0] == 0
    assert headstart("cache", "clear")[0] == 0
    assert not any(cache.rglob("*.sqlite"))


def test_backbones_names_the_packages(headstart):
    status, out, _ = headstart("backbones")
    assert status == 0
    assert "tf_efficientnet_lite0" in out


# Every mistake in the list: one clear message, exit 1 or 2, no traceback.

MISTAKES = {
    "no such folder": (lambda _: ["train", "nowhere"], 1, "nowhere"),
    "no pictures": (lambda here: ["train", here("empty")], 1, "no pictures"),
    "one class": (lambda here: ["train", here("one", classes=("amber",))], 1, "only one class"),
    "two pictures": (lambda here: ["train", here("two", each=1)], 1, "2 classes have fewer than 3"),
    "wrong option": (lambda here: ["train", here("x"), "--colour"], 2, "No such option"),
    "wrong value": (lambda here: ["train", here("x"), "--fit", "stretch"], 2, "stretch"),
    "wrong fraction": (lambda here: ["train", here("x"), "--test", "1.5"], 2, "1.5"),
    "wrong test": (lambda here: ["train", here("x"), "--test", "nowhere"], 2, "nowhere"),
    "bad pattern": (lambda here: ["train", here("x"), "--group-by", "("], 2, "regular expression"),
    "missing weights": (lambda here: ["train", here("x"), "--weights", "gone.pth"], 1, "no weights file"),
    "bad settings": (lambda here: ["train", here("x"), "--config", "gone.toml"], 2, "gone.toml"),
    "not a model": (lambda here: ["predict", here("x"), "a.jpg"], 1, "not a model"),
    "no such model": (lambda _: ["predict", "runs/none", "a.jpg"], 1, "no such model"),
    "no command": (lambda _: ["fly"], 2, "fly"),
    "photos unknown": (lambda _: ["demo", "--photos", "cats"], 2, "eurosat"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_clear_message(headstart, tmp_path, mistake):
    words, expected, said = MISTAKES[mistake]

    def here(name, each=4, classes=("amber", "blue")):
        if name == "empty":
            (tmp_path / name / "amber").mkdir(parents=True)
        else:
            tiny.class_folders(tmp_path / name, each=each, classes=classes)
        return tmp_path / name

    status, _, err = headstart(*words(here))
    assert status == expected
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "headstart.json", "headstart.safetensors"])
def test_a_damaged_model_is_refused(train, headstart, data, tmp_path, name):
    train(data)
    path = tmp_path / "runs" / "photos" / "model" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    status, _, err = headstart("predict", "runs/photos", data / "amber" / "00.png")
    assert status == 1
    assert "damaged" in err


def test_a_model_of_a_later_format_is_refused(train, headstart, data, tmp_path):
    train(data)
    path = tmp_path / "runs" / "photos" / "model" / "headstart.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    status, _, err = headstart("predict", "runs/photos", data / "amber" / "00.png")
    assert status == 1
    assert "Upgrade headstart" in err


def test_damaged_files_of_ours_are_named(train, data, tmp_path, cache):
    train(data)
    (tmp_path / "runs" / "photos" / "run.json").write_text("{")
    status, _, err = train(data)
    assert (status, "run.json is damaged" in err) == (1, True)
    shutil.rmtree(cache / "compiled")
    graph = next(cache.glob("backbones/*/graph.onnx"))
    graph.write_bytes(graph.read_bytes()[:100])
    tiny.draw(data / "amber" / "new.png", (1, 2, 3), 77)
    status, _, err = train(data, "-o", "elsewhere")
    assert (status, "graph.onnx is damaged" in err) == (1, True)
    next(cache.glob("backbones/*/backbone.json")).write_text("{")
    status, _, err = train(data, "-o", "elsewhere")
    assert (status, "is damaged" in err) == (1, True)


def test_something_else_in_the_runs_place_is_not_touched(train, data, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    status, _, err = train(data, "-o", "letters")
    assert status == 1
    assert "not a run" in err
    assert (tmp_path / "letters" / "dear.txt").read_text() == "dear"


def test_an_unwritable_place_is_found_before_any_work(train, data, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = train(data, "-o", "file/run")
    assert status == 1
    assert "cannot write" in err


def test_an_interrupted_command_leaves_with_130(weights, data, tmp_path):
    words = ["train", str(data), "--backbone", "tiny", "--weights", str(weights), "-o", str(tmp_path / "run")]
    slow = "import headstart.features.extract as e, os, time\nold = e.read\n"
    slow += "def read(p): os.write(1, b'reading\\n'); time.sleep(0.2); return old(p)"
    run = "e.read = read\nfrom headstart.cli import main; main()"
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's `&` has it ignored
    code = f"import sys; sys.argv = ['headstart', *{words!r}]\n{heard}\n{slow}\n{run}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.5)  # into the middle of it
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
