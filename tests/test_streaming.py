"""Large sets: the same numbers whether arrays are in memory or in files, rows read when asked for, parts of many."""

import csv
import json

import numpy as np
import pytest

from headstart import scratch, workflow
from headstart.delivery import artefact, run_folder
from headstart.delivery.evidence import of_data
from headstart.delivery.run_folder import TrainOptions
from headstart.judging import baselines, growth, intervals, metrics
from headstart.judging.assessment import Audit
from headstart.judging.evaluation import evaluate
from headstart.judging.report import findings
from headstart.judging.report.record import read_record
from headstart.judging.report.rows import Rows, read_rows
from headstart.judging.suspects import Suspect
from headstart.learning.calibration import calibrated, softmax
from headstart.learning.head import fit_head
from headstart.pictures.dataset import Dataset, Problem, Sample
from headstart.pictures.split import split
from tests import tiny
from tests.test_baselines import examples
from tests.test_growth import blobs

pytestmark = pytest.mark.usefixtures("few_worse_pictures")


def written(folder):
    """What stands in a run folder, but for times and the page, whose pictures the numbers decide."""
    found = {path.name: path.read_text("utf-8") for path in folder.glob("*.csv")}
    numbers = json.loads((folder / "metrics.json").read_text("utf-8"))
    found["metrics.json"] = {key: value for key, value in numbers.items() if "second" not in key}
    return found


@pytest.fixture
def asked(tmp_path):
    return TrainOptions(backbone="tiny", weights=tiny.install(tmp_path), device="cpu")


@pytest.fixture
def in_files(monkeypatch):
    """Every array but the smallest is in a file; gives their number so far."""
    made = []

    def empty(shape, dtype, really=scratch.empty):
        made.append(shape)
        return really(shape, dtype)

    def begin():
        monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
        monkeypatch.setattr(scratch, "empty", empty)
        return made

    return begin


def test_train_and_evaluate_say_the_same_with_their_arrays_in_files(tmp_path, asked, in_files):
    data = tiny.class_folders(tmp_path / "photos")
    runs = []
    for name in ("memory", "files"):
        made = in_files() if name == "files" else []
        run = workflow.train(data, tmp_path / name / "run", asked)
        predictor = artefact.load(run.folder, device="cpu")
        found = workflow.measure(predictor, data, allow_seen=True)
        place = tmp_path / name / "evaluated"
        run_folder.write_measured(place, found.trial, found.promises, found.dataset, of_data(found.dataset, place))
        runs.append((written(run.folder), written(place)))
    assert len(made) > 5
    assert runs[0] == runs[1]
    assert list((tmp_path / "headstart-cache" / "scratch").iterdir()) == []


def test_check_says_the_same_with_its_arrays_in_files(tmp_path, asked, in_files, monkeypatch):
    data = tiny.class_folders(tmp_path / "photos")
    backbone = workflow.load_backbone("tiny", asked.weights)
    monkeypatch.setattr(workflow, "load_backbone", lambda *_, **__: backbone)
    runs = []
    for name in ("memory", "files"):
        made = in_files() if name == "files" else []
        found = workflow.check(data)
        assert found.examples is not None
        place = tmp_path / name
        run_folder.write_checked(place, found.dataset, found.audit, found.examples, of_data(found.dataset, place))
        runs.append(written(place))
    assert len(made) > 3
    assert runs[0] == runs[1]


def test_predictions_are_made_when_asked_for(tiny_run):
    classifier = artefact.load(tiny_run, device="cpu").classifier
    vectors = np.random.default_rng(0).random((5000, tiny.WIDTH), np.float32)
    paths = [f"{row}.jpg" for row in range(len(vectors))]
    said = classifier.answers(paths, vectors)
    assert list(said) == classifier.predictions(paths, vectors)
    assert said[4321] == said[-679] == list(said)[4321]
    assert said[10:12] == list(said)[10:12]
    with pytest.raises(IndexError):
        said[5000]


def test_calibration_block_by_block_is_that_of_all(monkeypatch):
    logits = np.random.default_rng(0).normal(0, 3, (1000, 7)).astype(np.float32)
    whole = softmax(logits / 1.7)
    monkeypatch.setattr("headstart.learning.calibration.BLOCK_NUMBERS", 100)
    assert np.array_equal(calibrated(logits, 1.7), whole)


class TestRows:
    @pytest.fixture
    def path(self, tmp_path):
        names = ["plain", 'a "quoted", one', "two\nlines", "line\u2028separator", "tab\x0b", "ümläut", "", "last"]
        with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [("path", "n"), *((name, i) for i, name in enumerate(names))]
            )
        return tmp_path / "rows.csv"

    @pytest.fixture
    def expected(self, path):
        with path.open(encoding="utf-8", newline="") as file:
            return [{"path": row["path"], "n": row["n"], "other": ""} for row in csv.DictReader(file)]

    def test_are_those_of_the_file(self, path, expected):
        rows = read_rows(path, "path other")
        assert list(rows) == expected
        assert [rows[place] for place in range(len(rows))] == expected
        assert list(rows[2:5]) == expected[2:5]
        assert list(rows[::-1]) == expected[::-1]
        assert rows[-1] == expected[-1]
        assert list(rows[np.array([3, 1, 3])]) == [expected[3], expected[1], expected[3]]

    def test_are_chosen_and_ordered(self, path, expected):
        rows = read_rows(path, "other")
        odd = rows.where(lambda row: int(row["n"]) % 2 == 1, by=lambda row: -int(row["n"]))
        assert list(odd) == expected[::-2]
        assert list(odd.where(lambda row: row["n"] != "5")) == [expected[7], expected[3], expected[1]]
        assert not rows.where(lambda _: False)

    def test_blank_lines_are_no_rows(self, tmp_path):
        (tmp_path / "rows.csv").write_text("a,b\n\n1,2\n\n3\n", "utf-8")
        assert list(read_rows(tmp_path / "rows.csv", "")) == [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]

    def test_there_may_be_none(self, tmp_path):
        assert list(Rows()) == []
        (tmp_path / "empty.csv").write_text("")
        assert list(read_rows(tmp_path / "empty.csv", "a")) == []


def test_files_name_the_first_of_a_kind_and_count_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "MOST_OF_A_KIND", 30)
    problems = tuple(
        Problem(f"{n:04}.jpg", "ignored" if n < 1234 else "unreadable", "x", "left out") for n in range(1244)
    )
    suspects = [Suspect(f"{n:04}.jpg", "label", 1 - n / 99, "odd", "look", "a", "b") for n in range(99)]
    dataset = Dataset(tmp_path, (), problems)
    run_folder.write_checked(tmp_path / "found", dataset, Audit(tuple(suspects), ()), None, of_data(dataset, tmp_path))
    with (tmp_path / "found" / "problems.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [*(f"{n:04}.jpg" for n in [*range(30), *range(1234, 1244)]), ""]
    assert (rows[-1]["kind"], rows[-1]["detail"]) == ("ignored", "and 1,204 more of this kind")
    record = read_record(tmp_path / "found")
    assert record.numbers == {"ignored": 1234, "unreadable": 10, "label": 99}
    found = findings.find(record, (), tmp_path.joinpath)
    assert found.table_of == 1244
    assert found.labels.n == 99
    assert {kind.key: kind.n for kind in found.kinds} == record.numbers


class TestManyPictures:
    """What is drawn of very many pictures says the same as all of them, as far as the draw allows."""

    def test_intervals_from_bags_are_as_wide_as_those_from_groups(self, monkeypatch):
        random = np.random.default_rng(0)
        probabilities = random.dirichlet(np.ones(4) * 0.5, 12_000)
        labels = np.array([random.choice(4, p=row) for row in probabilities])
        groups = np.arange(len(labels)) // 2
        exact = evaluate(probabilities, labels, groups, tuple("abcd"))
        monkeypatch.setattr(intervals, "MOST_DRAWN", 1500)
        drawn = evaluate(probabilities, labels, groups, tuple("abcd"))
        assert drawn.accuracy == exact.accuracy
        for name in ("macro_f1", "log_loss", "brier", "ece"):
            one, other = getattr(exact, name), getattr(drawn, name)
            assert other.value == pytest.approx(one.value, rel=1e-9)
            assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.15)
            assert (other.low, other.high) != (one.low, one.high)

    def test_bags_are_equally_full(self, monkeypatch):
        monkeypatch.setattr(intervals, "MOST_DRAWN", 100)
        bags, count = intervals.bagged(np.arange(1000), 1000)
        assert count == 100
        assert np.bincount(bags).tolist() == [10] * 100
        same = np.arange(100)
        assert intervals.bagged(same, 100) == (same, 100)

    def test_ranks_do_not_depend_on_blocks(self, monkeypatch):
        random = np.random.default_rng(1)
        probabilities, labels = random.integers(0, 4, (500, 6)).astype(float), random.integers(0, 6, 500)
        whole = metrics.judge(probabilities, labels).rank
        monkeypatch.setattr(metrics, "BLOCK_NUMBERS", 50)
        assert np.array_equal(metrics.judge(probabilities, labels).rank, whole)

    def test_growth_from_a_part_tells_what_growth_from_all_does(self, monkeypatch):
        training = blobs(2400)
        groups, fitted = np.arange(2400) // 2, fit_head(training)
        exact = growth.measure(training, groups, fitted)
        monkeypatch.setattr(growth, "MOST_LEARNT", 1200)
        drawn = growth.measure(training, groups, fitted)
        assert exact.learnt == pytest.approx([240, 480, 960, 1920], rel=0.01)
        assert drawn.learnt == pytest.approx([120, 240, 480, 1920], rel=0.02)
        assert drawn.groups < 0.6 * exact.groups
        # What both have measured: 240 and 480 pictures, and all.
        assert drawn.errors[1] == pytest.approx(exact.errors[0], abs=0.05)
        assert drawn.errors[3] == pytest.approx(exact.errors[3], abs=0.05)
        assert drawn.errors[0] > drawn.errors[2] > drawn.errors[3]

    def test_baselines_say_of_how_many_they_are(self, monkeypatch):
        made = examples(n=600, test=200)
        correct = np.ones(200, np.bool_)
        exact = {one.name: one for one in baselines.baselines(made, correct)}
        assert exact["nearest"].label == "the most similar training picture"
        monkeypatch.setattr(baselines, "MOST_SEARCHED", 150)
        monkeypatch.setattr(baselines, "MOST_ASKED", 100)
        drawn = {one.name: one for one in baselines.baselines(made, correct)}
        assert drawn["nearest"].label == "the most similar of 150 pictures, on 100 held-out ones"
        assert drawn["nearest"].accuracy.value == pytest.approx(exact["nearest"].accuracy.value, abs=0.1)
        assert drawn["nearest"].p > exact["nearest"].p
        assert drawn["colour"] == exact["colour"]

    def test_single_pictures_of_a_class_share_their_count(self):
        samples = tuple(Sample(f"{row}", "ab"[row % 2], digest=f"{row:03}") for row in range(300))
        parts = split(Dataset(None, samples)).parts
        assert np.bincount(parts + 2, minlength=8).tolist() == [60, 0, 48, 48, 48, 48, 48, 0]
