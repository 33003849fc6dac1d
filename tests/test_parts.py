"""Predictions in files by the ten thousand: whole or absent, never twice, and gone on with."""

import csv
import json

import pyarrow.parquet
import pytest

from headstart.delivery import artefact, parts
from headstart.delivery.parts import Parts, write_parts
from headstart.errors import UsageError
from headstart.learning.classifier import DEFAULT, Asked

from . import tiny


@pytest.fixture
def predictor(tiny_run):
    return artefact.load(tiny_run, device="cpu")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Twenty-five picture files, one of them damaged, where ten make a file of predictions."""
    monkeypatch.setattr(parts, "PICTURES", 10)
    folder = tiny.class_folders(tmp_path / "new", each=12)
    paths = [str(path) for path in sorted(folder.rglob("*.png"))][:24]
    damaged = tmp_path / "new" / "damaged.png"
    damaged.write_bytes(b"no picture")
    return [*paths, str(damaged)]


def read(folder):
    """All rows of all CSV files, in order, less their header lines."""
    rows = []
    for path in sorted(folder.glob("part-*.csv")):
        with path.open(newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


def test_every_picture_is_answered_once_and_in_order(predictor, pictures, tmp_path):
    folder = tmp_path / "answers"
    said = list(write_parts(Parts(folder, "csv", predictor.classifier, DEFAULT), pictures, predictor.stream))
    rows = read(folder)
    assert [row["path"] for row in rows] == pictures == [one.path for one in said]
    assert [row["label"] for row in rows[:-1]] == [one.label for one in predictor.predict(pictures[:-1])]
    assert rows[-1]["error"]
    assert len(list(folder.glob("part-*"))) == 3
    assert (folder / "_SUCCESS").is_file()


def test_what_is_there_is_not_made_again(predictor, pictures, tmp_path):
    folder, asked = tmp_path / "answers", []

    def breaking(paths, promises):
        for number, one in enumerate(predictor.stream(paths, promises)):
            asked.append(one.path)
            yield one
            if number == 14:
                raise KeyboardInterrupt

    plan = Parts(folder, "csv", predictor.classifier, DEFAULT)
    with pytest.raises(KeyboardInterrupt):
        list(write_parts(plan, pictures, breaking))
    assert len(list(folder.glob("part-*"))) == 1
    assert not (folder / "_SUCCESS").exists()
    said = list(write_parts(plan, pictures, predictor.stream))
    assert [one.path for one in said] == pictures[10:]
    assert [row["path"] for row in read(folder)] == pictures
    assert list(write_parts(plan, pictures, predictor.stream)) == []


def test_a_changed_list_leaves_no_old_answers(predictor, pictures, tmp_path):
    folder = tmp_path / "answers"
    plan = Parts(folder, "csv", predictor.classifier, DEFAULT)
    list(write_parts(plan, pictures, predictor.stream))
    said = list(write_parts(plan, pictures[:12], predictor.stream))
    assert [one.path for one in said] == pictures[10:12]
    assert [row["path"] for row in read(folder)] == pictures[:12]


def test_another_model_or_another_promise_is_refused(predictor, pictures, tmp_path):
    folder = tmp_path / "answers"
    list(write_parts(Parts(folder, "csv", predictor.classifier, DEFAULT), pictures[:3], predictor.stream))
    other = Parts(folder, "csv", predictor.classifier, Asked(coverage=0.9))
    with pytest.raises(UsageError, match="another asked"):
        list(write_parts(other, pictures[:3], predictor.stream))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        list(write_parts(Parts(tmp_path / "full", "csv", predictor.classifier, DEFAULT), [], predictor.stream))


@pytest.mark.parametrize("content", ["{half", "[1, 2]"])
def test_a_damaged_plan_is_said(predictor, tmp_path, content):
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "_plan.json").write_text(content)
    with pytest.raises(UsageError, match="is damaged"):
        list(write_parts(Parts(folder, "csv", predictor.classifier, DEFAULT), [], predictor.stream))


def test_parquet_and_json_lines_say_what_the_csv_says(predictor, pictures, tmp_path):
    for form in ("csv", "parquet", "jsonl"):
        plan = Parts(tmp_path / form, form, predictor.classifier, Asked(wanted=0.95))
        list(write_parts(plan, pictures, predictor.stream))
    rows = read(tmp_path / "csv")
    table = [
        row
        for path in sorted((tmp_path / "parquet").glob("part-*"))
        for row in pyarrow.parquet.read_table(path).to_pylist()
    ]
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "jsonl").glob("part-*"))
        for line in path.read_text().splitlines()
    ]
    for row, typed, line in zip(rows, table, lines, strict=True):
        assert row["path"] == typed["path"] == line["path"]
        assert (row["error"] or None) == typed["error"] == line.get("error")
        if not row["error"]:
            assert list(row) == list(typed)
            assert float(row["probability"]) == pytest.approx(typed["probability"], abs=1e-6)
            assert typed["set"] == line["set"] == row["set"].split("|")
            assert typed["unsure"] == line["unsure"] == (row["unsure"] == "yes")
            assert typed["none_of_these"] == line["none_of_these"]["flag"] == (row["none_of_these"] == "yes")
            for name, probability in line["probabilities"].items():
                assert typed[f"p({name})"] == pytest.approx(probability, abs=1e-6)


@pytest.mark.usefixtures("pictures")
def test_the_command_writes_parts(headstart, tiny_run, tmp_path):
    status, out, err = headstart("predict", tiny_run, tmp_path / "new", "--parts", tmp_path / "answers")
    assert status == 1
    assert "1 of the inputs could not be read" in err
    assert out == ""
    assert sorted(row["path"] for row in read(tmp_path / "answers")) == sorted(
        str(path) for path in (tmp_path / "new").rglob("*.png")
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "parquet"], "--parts"),
        (["--parts", "answers", "--format", "table"], "not a table"),
        (["--parts", "answers", "--sheet", "sheet.png"], "--sheet"),
        (["--on", "spark"], "--on is ray"),
    ],
)
def test_what_does_not_go_together_is_said(headstart, tiny_run, pictures, words, told):
    status, _, err = headstart("predict", tiny_run, pictures[0], *words)
    assert status == 2
    assert told in err
