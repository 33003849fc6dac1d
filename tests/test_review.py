"""The desk: queues, decisions, training again, and what train, check and evaluate make of it."""

import csv
import json

import numpy as np
import pytest

from headstart import workflow
from headstart.delivery import artefact
from headstart.delivery.review import again, queues
from headstart.delivery.review.desk import UnknownError
from headstart.delivery.review.journal import ConflictError, journal_path, open_journal, read_reviewed
from headstart.errors import DataError, UsageError
from headstart.features.store import Store
from tests import tiny
from tests.desks import desk_of, digest_of, noisy_data, snapshot, trained


@pytest.fixture
def weights(tmp_path):
    return tiny.install(tmp_path)


@pytest.fixture
def data(tmp_path):
    return tmp_path / "photos"


@pytest.fixture
def misplaced(data):
    return noisy_data(data)


@pytest.fixture
def run(data, tmp_path, weights, misplaced):  # noqa: ARG001 - the wrong labels are there first
    return trained(data, tmp_path / "runs" / "photos", weights).folder


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics(run):
    return json.loads((run / "metrics.json").read_text("utf-8"))


def ids(desk, name, **wanted):
    return [item["id"] for item in desk.queue(name, 0, 500, **wanted)["items"]]


def correct(desk, misplaced):
    for digest, label in misplaced.items():
        desk.decide("relabel", [digest], label)


def test_wrong_labels_come_first(run, misplaced):
    with desk_of(run) as desk:
        found = desk.queue("labels", 0, 50)["items"]
        assert {item["id"] for item in found[: len(misplaced)]} == set(misplaced)
        first = found[0]
        assert first["suggested"] == misplaced[first["id"]]
        assert first["suggested"] in first["reason"]
        assert first["decision"] is None
        assert set(misplaced) <= set(ids(desk, "mistakes"))


def test_a_decision_shows_at_once_and_the_order_stays(run, misplaced):
    with desk_of(run) as desk:
        before = ids(desk, "labels")
        desk.decide("relabel", before[:1], misplaced[before[0]])
        desk.decide("accept", before[1:2])
        desk.decide("exclude", before[2:3])
        items = desk.queue("labels", 0, 50)["items"]
        assert [item["id"] for item in items] == before
        assert [item["decision"] for item in items[:4]] == ["relabel", "accept", "exclude", None]
        assert items[0]["label"] != items[0]["trained_label"]
        assert items[2]["excluded"]
        desk.undo()
        assert desk.queue("labels", 0, 50)["items"][2]["decision"] is None
        assert desk.state()["queues"]["labels"]["waiting"] == len(before) - 2


def test_training_again_says_what_changed(run, misplaced):
    with desk_of(run) as desk:
        before = desk.state()["last"]
        correct(desk, misplaced)
        change = desk.train()
        assert change["suspects"]["before"] >= len(misplaced) > change["suspects"]["after"]
        assert change["after"]["value"] >= change["before"]["value"]
        assert change["n"] == before["n"] == 8
        assert change["held_out_relabelled"] == sum(one in desk.trained.held_out for one in misplaced)
        assert change["revision"] == {"before": 0, "after": len(misplaced)}
        assert change["seconds"] > 0
        assert set(ids(desk, "labels")).isdisjoint(misplaced)
        assert metrics(run)["test"]["accuracy"]["value"] == pytest.approx(before["accuracy"]["value"], abs=1e-6)


def test_training_again_is_what_train_does(run, misplaced):
    with desk_of(run) as desk:
        some = list(misplaced)
        correct(desk, {digest: misplaced[digest] for digest in some[:3]})
        desk.decide("exclude", some[3:])
        desk.change_classes("rename", "amber", "ochre")
        desk.train()
        mine = desk.trained
        run_again = workflow.train(run)
        theirs = run_again.evaluation.accuracy
        assert (mine.accuracy.value, mine.accuracy.low, mine.accuracy.high) == pytest.approx(
            (theirs.value, theirs.low, theirs.high), abs=1e-9
        )
        assert mine.classes == run_again.examples.dataset.classes == ("blue", "ochre")
        assert mine.examples.dataset.samples == run_again.examples.dataset.samples
        assert (mine.examples.split.parts == run_again.examples.split.parts).all()
        np.testing.assert_allclose(mine.solved.out_of_fold, run_again.solved.out_of_fold, atol=1e-9)


def test_train_on_a_run_applies_the_decisions_and_says_so(run, misplaced, data):
    kept = {row["digest"]: row["part"] for row in rows(run / "split.csv")}
    before = snapshot(data)
    gone = next(iter(misplaced))
    with desk_of(run) as desk:
        correct(desk, misplaced)
        desk.decide("exclude", [gone])
    made = workflow.train(run)
    written = json.loads((run / "run.json").read_text("utf-8"))
    assert written["review"] == read_reviewed(run).to_json()
    assert written["review"]["decisions"] == len(misplaced) + 1
    assert written["options"]["backbone"] == "tiny"
    split = {row["digest"]: row for row in rows(run / "split.csv")}
    assert gone not in split
    assert all(split[digest]["class"] == label for digest, label in misplaced.items() if digest != gone)
    assert all(split[digest]["part"] == kept[digest] for digest in split)
    assert any(row["detail"] == "excluded in review" for row in rows(run / "problems.csv"))
    assert made.reviewed.count == len(misplaced) + 1
    assert snapshot(data) == before


def test_train_on_the_data_applies_them_too(run, data, misplaced, weights):
    with desk_of(run) as desk:
        correct(desk, misplaced)
    assert trained(data, run, weights).reviewed.count == len(misplaced)
    assert trained(data, run.with_name("other"), weights).reviewed is None


def test_confirmed_labels_are_suspects_no_more(run, misplaced):
    paths = {row["digest"]: row["path"] for row in rows(run / "split.csv")}
    suspected = {row["path"] for row in rows(run / "suspects.csv") if row["kind"] == "label"}
    assert suspected >= {paths[digest] for digest in misplaced}
    with desk_of(run) as desk:
        desk.decide("accept", list(misplaced))
        desk.train()
        assert set(ids(desk, "labels")).isdisjoint(misplaced)
    workflow.train(run)
    after = {row["path"] for row in rows(run / "suspects.csv") if row["kind"] == "label"}
    assert after.isdisjoint(paths[digest] for digest in misplaced)


def test_evaluate_applies_them(run, misplaced, data):
    with desk_of(run) as desk:
        correct(desk, misplaced)
    predictor = artefact.load(run, device="cpu")
    plain = workflow.measure(predictor, data, allow_seen=True)
    applied = workflow.measure(predictor, data, allow_seen=True, reviewed=read_reviewed(run))
    assert applied.trial.evaluation.accuracy.value > plain.trial.evaluation.accuracy.value


def test_evaluate_says_where_a_class_is_too_new(run, data):
    with desk_of(run) as desk:
        desk.change_classes("rename", "amber", "ochre")
    with pytest.raises(DataError, match="Train again"):
        workflow.measure(artefact.load(run, device="cpu"), data, reviewed=read_reviewed(run))


def test_check_applies_them(warm_cache, run, misplaced):  # noqa: ARG001 - check embeds with the default backbone
    gone = next(iter(misplaced))
    with_all = workflow.check(run)
    with open_of(run) as journal:
        journal.decide("exclude", [gone])
    without = workflow.check(run)
    assert without.reviewed.count == 1
    assert len(without.dataset.samples) == len(with_all.dataset.samples) - 1


def open_of(run):
    from contextlib import closing

    return closing(open_journal(journal_path(run)))


def test_a_held_out_picture_can_be_relabelled(run):
    with desk_of(run) as desk:
        digest = sorted(desk.trained.held_out)[0]
        other = {"amber": "blue", "blue": "amber"}[desk.trained.labels[digest]]
        desk.decide("relabel", [digest], other)
        change = desk.train()
        assert change["held_out_relabelled"] == 1
        assert digest in desk.trained.held_out
        assert desk.trained.labels[digest] == other


def test_adding_renaming_and_merging_classes_embeds_nothing(run, monkeypatch):
    with desk_of(run) as desk:
        monkeypatch.setattr(Store, "put", lambda *_: pytest.fail("a picture was embedded"))
        desk.change_classes("add", "green")
        assert {"name": "green", "pictures": 0} in desk.state()["classes"]
        some = [item["id"] for item in desk.queue("all", 0, 500)["items"] if item["label"] == "blue"][:6]
        desk.decide("relabel", some, "green")
        desk.train()
        assert desk.trained.classes == ("amber", "blue", "green")
        desk.change_classes("rename", "green", "lime")
        desk.train()
        assert desk.trained.classes == ("amber", "blue", "lime")
        desk.change_classes("merge", "lime", "blue")
        change = desk.train()
        assert desk.trained.classes == ("amber", "blue")
        assert change["classes"] == ["amber", "blue"]
        for _ in range(4):
            desk.undo()
        assert {one["name"] for one in desk.state()["classes"]} == {"amber", "blue"}


def test_renaming_alone_flips_nothing(run):
    with desk_of(run) as desk:
        desk.change_classes("rename", "amber", "ochre")
        change = desk.train()
        assert change["flipped"] == {"count": 0, "held_out": 0, "pictures": []}
        assert change["held_out_relabelled"] == 0
        assert change["only_before"] == change["only_after"] == 0


def test_a_class_with_too_few_pictures_is_told(run):
    with desk_of(run) as desk:
        desk.change_classes("add", "green")
        desk.decide("relabel", ids(desk, "all")[:1], "green")
        with pytest.raises(DataError, match="green"):
            desk.train()
        desk.undo()
        desk.train()


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (("relabel", ["f" * 64], "blue"), UnknownError),
        (("relabel", ["../../etc/passwd"], "blue"), UnknownError),
        (("relabel", [], "blue"), UsageError),
        (("relabel", ["KNOWN"], "puce"), UnknownError),
        (("relabel", ["KNOWN"], None), UsageError),
        (("rename", ["KNOWN"], "blue"), UsageError),
        (("exclude", ["KNOWN+KNOWN"], None), UnknownError),
    ],
)
def test_what_cannot_be_decided(run, wish, error):
    with desk_of(run) as desk:
        action, names, value = wish
        names = [name.replace("KNOWN", ids(desk, "all")[0]) for name in names]
        with pytest.raises(error):
            desk.decide(action, names, value)
        assert desk.journal.revision == 0


def test_classes_that_cannot_be_changed_so(run):
    with desk_of(run) as desk:
        for wish in (
            ("add", "blue"),
            ("rename", "amber", "blue"),
            ("merge", "amber", "puce"),
            ("rename", "amber", "amber"),
        ):
            with pytest.raises(UsageError):
                desk.change_classes(*wish)
        with pytest.raises(UnknownError):
            desk.change_classes("rename", "puce", "red")


def test_two_desks_on_one_run_do_not_fight(run):
    with desk_of(run) as one, desk_of(run) as other:
        digest = ids(one, "all")[0]
        one.decide("exclude", [digest])
        with pytest.raises(ConflictError):
            other.decide("accept", [digest], expect=0)
        assert other.queue("all", 0, 1)["items"][0]["excluded"]


def test_all_is_as_it_was_after_a_restart(run, misplaced):
    with desk_of(run) as desk:
        correct(desk, dict(list(misplaced.items())[:2]))
        desk.train()
        desk.decide("exclude", list(misplaced)[2:3])
        before = desk.state(), desk.queue("all", 0, 500), desk.queue("mistakes", 0, 500)
    with desk_of(run) as desk:
        after = desk.state(), desk.queue("all", 0, 500), desk.queue("mistakes", 0, 500)
    for key in ("classes", "revision", "decisions", "trained_revision", "first", "last", "held_out"):
        assert after[0][key] == before[0][key]
    assert after[1:] == before[1:]


def test_saving_trains_the_run_folder(run, misplaced):
    with desk_of(run) as desk:
        correct(desk, misplaced)
        desk.train()
        desk.save()
        assert json.loads((run / "run.json").read_text("utf-8"))["review"]["decisions"] == len(misplaced)
        assert metrics(run)["test"]["accuracy"]["value"] == pytest.approx(desk.trained.accuracy.value, abs=1e-6)
        before = desk.trained
        desk.train()
        assert (desk.trained.examples.split.parts == before.examples.split.parts).all()


def test_nearly_the_same_pictures_stand_side_by_side(tmp_path, weights):
    from PIL import Image

    data = tiny.class_folders(tmp_path / "photos", each=12)
    smooth = np.linspace(0, 255, 96 * 96).reshape(96, 96)
    waves = 127 + 60 * np.sin(smooth / 9) + 60 * np.cos(smooth.T / 5)
    picture = Image.fromarray(np.stack([waves, waves, 255 - waves], 2).clip(0, 255).astype(np.uint8))
    picture.save(data / "amber" / "waves.png")
    picture.resize((64, 64)).save(data / "blue" / "waves too.png")
    run = trained(data, tmp_path / "run", weights).folder
    with desk_of(run) as desk:
        (item,) = desk.queue("twins", 0, 10)["items"]
        assert {item["label"], item["twin"]["label"]} == {"amber", "blue"}
        assert item["reason"].startswith("nearly the same")
        desk.decide("accept", [item["twin"]["pair"]])
        assert desk.queue("twins", 0, 10)["items"][0]["decision"] == "accept"
        desk.train()
        assert desk.queue("twins", 0, 10)["items"] == []
        desk.undo()
        desk.decide("exclude", [item["twin"]["id"]])
        desk.train()
        assert desk.queue("twins", 0, 10)["items"] == []


def test_one_picture_under_two_labels_is_settled_by_one_decision(tmp_path, weights):
    data = tiny.class_folders(tmp_path / "photos", each=12)
    (data / "blue" / "copy.png").write_bytes((data / "amber" / "05.png").read_bytes())
    run = trained(data, tmp_path / "run", weights).folder
    digest = digest_of(data / "blue" / "copy.png")
    with desk_of(run) as desk:
        item = desk.queue("twins", 0, 10)["items"][0]
        assert (item["id"], item["part"], item["twin"]) == (digest, "out", None)
        assert "amber/05.png" in item["reason"]
        assert "blue/copy.png" in item["reason"]
        desk.decide("relabel", [digest], "amber")
        desk.train()
        assert desk.trained.labels[digest] == "amber"
        assert digest not in ids(desk, "twins")


def test_uncertain_pictures_are_unlike_each_other():
    chance = np.random.default_rng(3)
    crowd = np.tile([1.0, 0, 0], (50, 1)) + chance.normal(0, 0.01, (50, 3))
    others = np.eye(3)[[1, 2]]
    units = np.concatenate([crowd, others]).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    margins = np.concatenate([np.full(50, 0.01), [0.3, 0.3]])
    chosen = queues.diverse(margins, units, 11).tolist()
    assert chosen[0] == 0
    assert set(chosen[1:3]) == {50, 51}
    assert len(set(chosen)) == 11
    assert len(queues.diverse(margins, units, 100)) == 52
    assert queues.diverse(margins[:0], units[:0], 3).tolist() == []


def test_to_confirm_a_picture_with_two_labels_is_to_choose_one(data, tmp_path, weights):
    tiny.class_folders(data)
    (data / "blue" / "copy.png").write_bytes((data / "amber" / "05.png").read_bytes())
    digest = digest_of(data / "blue" / "copy.png")
    with desk_of(trained(data, tmp_path / "runs" / "photos", weights).folder) as desk:
        (made,) = desk.decide("accept", [digest])
        assert (made.action, made.value) == ("relabel", "amber")
        desk.train()
        assert desk.trained.labels[digest] == "amber"
        assert digest not in ids(desk, "twins")


def test_a_class_that_lost_its_pictures_can_be_chosen_still(run):
    with desk_of(run) as desk:
        of_amber = [item["id"] for item in desk.queue("all", 0, 500)["items"] if item["label"] == "amber"]
        desk.decide("relabel", of_amber, "blue")
        assert {"name": "amber", "pictures": 0} in desk.state()["classes"]
        desk.decide("relabel", of_amber[:1], "amber")
        assert {"name": "amber", "pictures": 1} in desk.state()["classes"]


def test_undecided_between_which_classes(run):
    with desk_of(run) as desk:
        item = desk.queue("uncertain", 0, 1)["items"][0]
        other = {"amber": "blue", "blue": "amber"}[item["suggested"]]
        assert item["reason"].startswith(f"undecided between {item['suggested']!r} and {other!r}: probability 0.")


@pytest.fixture
def unlabelled(tmp_path):
    folder = tmp_path / "new pictures"
    for number in range(4):
        tiny.draw(folder / f"amber {number}.png", tiny.HUES["amber"], 9000 + number)
        tiny.draw(folder / "deeper" / f"blue {number}.png", tiny.HUES["blue"], 9500 + number)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_new_pictures_come_sorted_and_join_the_training(run, unlabelled):
    before = snapshot(unlabelled)
    with desk_of(run, unlabelled) as desk:
        items = desk.queue("new", 0, 50)["items"]
        assert len(items) == 8
        assert [item["suggested"] for item in items] == ["amber"] * 4 + ["blue"] * 4
        assert all(item["label"] == "" and item["part"] == "new" for item in items)
        assert ids(desk, "uncertain")[0] in {item["id"] for item in items}
        desk.decide("relabel", [items[0]["id"]], "blue")
        desk.decide("accept", [items[1]["id"], items[7]["id"]])
        desk.decide("exclude", [items[2]["id"]])
        states = desk.queue("new", 0, 50)["items"]
        assert [item["decision"] for item in states[:4]] == ["add", "add", "exclude", None]
        assert [states[place]["label"] for place in (0, 1, 7)] == ["blue", "amber", "blue"]
        desk.train()
        assert len(desk.trained.examples.dataset.samples) == 43
        assert len(ids(desk, "new")) == 4
        mine = desk.trained.accuracy.value
    made = workflow.train(run)
    assert len(made.examples.dataset.samples) == 43
    assert made.evaluation.accuracy.value == pytest.approx(mine, abs=1e-9)
    assert snapshot(unlabelled) == before
    with desk_of(run) as desk:  # without the folder, what was added is still there
        assert len(desk.trained.examples.dataset.samples) == 43


def test_strangers(tmp_path, weights):
    data = tiny.class_folders(tmp_path / "photos", each=30)
    tiny.draw(data / "amber" / "stranger.png", (255, 0, 255), 5)
    run = trained(data, tmp_path / "run", weights).folder
    stranger = digest_of(data / "amber" / "stranger.png")
    with desk_of(run) as desk:
        assert stranger in ids(desk, "strangers")
        desk.decide("accept", [stranger])
        desk.train()
        assert stranger not in ids(desk, "strangers")


def test_the_manifest_is_what_the_decisions_make_of_the_data(run, misplaced, tmp_path, weights):
    with desk_of(run) as desk:
        correct(desk, misplaced)
        desk.decide("exclude", ids(desk, "all")[-1:])
        desk.train()
        (tmp_path / "reviewed.csv").write_text(desk.manifest(), "utf-8")
        mine = desk.trained
    made = trained(tmp_path / "reviewed.csv", tmp_path / "again", weights)
    theirs = {sample.digest: sample.label for sample in made.examples.dataset.samples}
    assert theirs == mine.labels
    assert {sample.digest for sample in made.examples.test_samples} == mine.held_out


def test_the_log_tells_all(run, misplaced):
    with desk_of(run) as desk:
        desk.decide("relabel", list(misplaced)[:1], "blue")
        desk.undo()
        newest, first = desk.log()
    assert (newest["action"], newest["target"]) == ("undo", 1)
    assert first["pictures"][0]["path"].endswith(".png")
    assert first["who"] == newest["who"]


def test_a_run_whose_data_are_gone(run, data):
    data.rename(data.with_name("elsewhere"))
    with pytest.raises(DataError, match="which is not there"), desk_of(run):
        pass


def test_no_run(tmp_path):
    with pytest.raises(UsageError, match="is not a run"), desk_of(tmp_path):
        pass


def test_the_difference_is_that_of_now_less_before(run, misplaced):
    with desk_of(run) as desk:
        before = desk.trained
        correct(desk, misplaced)
        desk.train()
        forward, backward = again.compare(before, desk.trained), again.compare(desk.trained, before)
        assert forward.difference.low <= forward.difference.value <= forward.difference.high
        assert forward.only_after >= forward.only_before
        assert backward.n == forward.n
