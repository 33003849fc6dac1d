"""`headstart review` on the command line: files moved as decided, taken back, interrupted; manifest and log."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from headstart import workflow
from headstart.delivery.review import moving
from headstart.delivery.review.journal import Seen, journal_path, open_journal
from headstart.errors import StorageError, UsageError
from headstart.pictures.scan import scan
from tests import tiny
from tests.desks import digest_of, noisy_data, snapshot, trained


@pytest.fixture
def weights(tmp_path):
    return tiny.install(tmp_path)


@pytest.fixture
def data(tmp_path):
    noisy_data(tmp_path / "photos", each=8, wrong=1)
    return tmp_path / "photos"


@pytest.fixture
def run(data, tmp_path, weights):
    return trained(data, tmp_path / "runs" / "photos", weights).folder


@pytest.fixture
def decided(run, data, tmp_path):
    """Some of each kind of decision; gives the journal's path."""
    journal = open_journal(journal_path(run))
    journal.decide("relabel", [digest_of(data / "amber" / "from blue 00.png")], "blue")
    journal.decide("exclude", [digest_of(data / "blue" / "from amber 00.png")])
    journal.decide("relabel", [digest_of(data / "amber" / f"0{number}.png") for number in (5, 6, 7)], "sea/green")
    journal.decide("rename", ["amber"], "ochre")
    new = tmp_path / "new" / "05.png"
    tiny.draw(new, tiny.HUES["blue"], 77)
    journal.decide("add", [digest_of(new)], "blue", seen={digest_of(new): Seen(str(new), "")})
    journal.close()
    return journal_path(run)


def undo(run, number=1):
    script = journal_path(run).with_name(f"photos.review-undo-{number}.py")
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)


def labels(data):
    return {sample.path: sample.label for sample in scan(data).samples}


@pytest.mark.usefixtures("decided")
def test_nothing_is_moved_without_a_yes(headstart, run, tmp_path, monkeypatch):
    kept = ("photos", "new", "runs")
    before = [snapshot(tmp_path / name) for name in kept]
    monkeypatch.setattr("click.confirm", lambda *_: False)
    status, out, _ = headstart("review", run, "--apply")
    assert status == 0
    assert "move " in out
    assert "nothing was moved" in out
    assert [snapshot(tmp_path / name) for name in kept] == before
    assert not list(tmp_path.glob("* excluded"))


@pytest.mark.usefixtures("decided")
def test_files_go_where_they_belong(headstart, run, data, tmp_path):
    new_before = snapshot(tmp_path / "new")
    status, out, _ = headstart("review", run, "--apply", "--yes")
    assert status == 0
    assert "undo" in out
    now = labels(data)
    assert now["blue/from blue 00.png"] == "blue"
    assert now["sea/green/05.png"] == "sea/green"
    assert now["blue/05 2.png"] == "blue"  # the added one, whose name was taken
    assert set(now.values()) == {"blue", "ochre", "sea/green"}
    assert not (data / "amber").exists()
    assert (tmp_path / "photos excluded" / "blue" / "from amber 00.png").is_file()
    assert snapshot(tmp_path / "new") == new_before
    assert headstart("review", run, "--apply", "--yes")[1].startswith("nothing to move")


def test_the_script_puts_everything_back(headstart, run, data, decided, tmp_path):
    (data / "empty").mkdir()
    before = snapshot(tmp_path)
    headstart("review", run, "--apply", "--yes")
    assert not (data / "amber").exists()
    answer = undo(run)
    assert answer.returncode == 0, answer.stderr
    after = snapshot(tmp_path)
    for name in (*before, *after):
        if not name.startswith(("runs/", "headstart-cache")):
            assert after.get(name, "absent") == before.get(name, "absent"), name
    journal = open_journal(decided)
    assert journal.count == 5  # the decisions hold again
    assert journal.decisions()[-1].action == "returned"
    assert journal.undo() is not None
    journal.close()


@pytest.mark.usefixtures("decided")
def test_training_before_and_after_is_the_same(headstart, run):
    before = workflow.train(run)
    headstart("review", run, "--apply", "--yes")
    after = workflow.train(run)
    assert after.reviewed is None
    by_digest = [{one.digest: one.label for one in made.examples.dataset.samples} for made in (before, after)]
    assert by_digest[0] == by_digest[1]
    assert after.evaluation.accuracy.value == pytest.approx(before.evaluation.accuracy.value, abs=1e-9)


def test_what_was_decided_meanwhile_still_holds(run, data, decided):
    plan = moving.plan(run)
    journal = open_journal(decided)
    late = digest_of(data / "blue" / "06.png")
    journal.decide("exclude", [late])
    moving.carry_out(plan)
    assert journal.overlay().excluded == {late}
    journal.close()


@pytest.mark.usefixtures("decided")
def test_nothing_is_overwritten(run, data):
    plan = moving.plan(run)
    target = data / "blue" / "from blue 00.png"
    target.write_bytes(b"somebody else's")
    with pytest.raises(StorageError, match="has come to be since"):
        moving.carry_out(plan)
    assert target.read_bytes() == b"somebody else's"
    assert (data / "amber" / "from blue 00.png").exists()


class StopError(Exception):
    pass


@pytest.mark.parametrize("steps", range(1, 12, 2))
@pytest.mark.parametrize("way", ["on", "back"])
@pytest.mark.usefixtures("decided")
def test_an_interrupted_plan_goes_on_or_back(run, data, tmp_path, monkeypatch, steps, way):
    before = snapshot(data)
    whole = moving.plan(run)
    calls = 0

    def interrupting(function):
        def call(*words, **named):
            nonlocal calls
            calls += 1
            if calls > steps:
                raise StopError
            return function(*words, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("os.link", interrupting(os.link))
        patch.setattr("pathlib.Path.unlink", interrupting(type(data).unlink))
        with pytest.raises(StopError):
            moving.carry_out(whole)
    with pytest.raises(StorageError, match="interrupted"):
        workflow.train(run)
    if way == "back":
        assert undo(run).returncode == 0
        assert snapshot(data) == before
        assert not list(tmp_path.glob("photos excluded/**/*.png"))
        workflow.train(run)
    else:
        rest = moving.plan(run)
        assert rest.begun
        assert rest.moves == whole.moves
        assert "interrupted" in next(moving.plan_lines(rest))
        moving.carry_out(rest)
        assert not (data / "amber").exists()
        assert workflow.train(run).reviewed is None


@pytest.mark.skipif(os.name != "posix", reason="links")
@pytest.mark.usefixtures("decided")
def test_links_are_not_moved(run, data, tmp_path):
    tiny.draw(tmp_path / "elsewhere.png", tiny.HUES["amber"], 4242)
    (data / "amber" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(UsageError, match="link"):
        moving.plan(run)


def test_a_manifest_is_not_moved(run, data, tmp_path, headstart, weights):
    status, out, _ = headstart("review", run, "--export", "reviewed.csv")
    assert status == 0
    assert "16 pictures of 2 classes" in out
    other = trained(tmp_path / "reviewed.csv", tmp_path / "runs" / "other", weights).folder
    journal = open_journal(journal_path(other))
    journal.decide("exclude", [digest_of(data / "amber" / "05.png")])
    journal.close()
    status, _, err = headstart("review", other, "--apply", "--yes")
    assert status == 2
    assert "--export" in err


def test_the_parts_stay(tmp_path, weights):
    data = tmp_path / "parted"
    tiny.class_folders(data / "train", each=8)
    tiny.draw(data / "test" / "amber" / "t1.png", tiny.HUES["amber"], 501)
    tiny.draw(data / "test" / "blue" / "t2.png", tiny.HUES["blue"], 502)
    run = trained(data, tmp_path / "runs" / "photos", weights).folder
    journal = open_journal(journal_path(run))
    journal.decide("relabel", [digest_of(data / "test" / "amber" / "t1.png")], "blue")
    journal.decide("relabel", [digest_of(data / "train" / "amber" / "00.png")], "blue")
    journal.close()
    moving.carry_out(moving.plan(run))
    assert (data / "test" / "blue" / "t1.png").is_file()
    assert (data / "train" / "blue" / "00 2.png").is_file()


@pytest.mark.usefixtures("decided")
def test_the_log(headstart, run):
    status, out, _ = headstart("review", run, "--log")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 5
    assert "relabel" in lines[0]
    assert lines[3].endswith("rename amber -> ochre")


def test_a_run_of_a_later_headstart_is_refused(headstart, run):
    record = json.loads((run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps({**record, "format": 2}), "utf-8")
    status, _, err = headstart("review", run, "--port", "0")
    assert status == 1
    assert "format 2" in err
    assert not journal_path(run).exists()


def test_the_command_says_what_is_wrong(headstart, run, tmp_path):
    assert headstart("review", tmp_path)[0] == 2
    assert headstart("review", run, "--yes")[0] == 2
    assert headstart("review", run, "--log", "--apply")[0] == 2
    assert "is not a folder" in headstart("review", run, "--port", "0", "--unlabelled", "nowhere")[2]
    assert headstart("review", run, "--log")[1].startswith("nothing was decided")


@pytest.mark.usefixtures("decided")
def test_train_on_a_run_takes_no_other_options(headstart, run):
    status, _, err = headstart("train", run, "--seed", "3")
    assert status == 2
    assert "--seed" in err
    status, out, _ = headstart("train", run, "--device", "cpu")
    assert status == 0
    assert "review: 5 decisions applied (4 relabelled, 1 excluded, 1 added, 1 class renamed)" in out


@pytest.mark.usefixtures("decided")
def test_evaluate_says_that_it_applied_them(headstart, run, data):
    headstart("train", run)
    status, out, _ = headstart("evaluate", run, data, "--allow-training-pictures")
    assert status == 0
    assert "review: 5 decisions applied" in out


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_desk_starts_and_stops(run):
    import httpx

    command = [sys.executable, "-m", "headstart", "review", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        line = process.stdout.readline()
        address = line.split(" is on ")[1].split()[0]
        for _ in range(50):
            try:
                assert httpx.get(f"{address}api/state").json()["run"] == "photos"
                break
            except httpx.TransportError:
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
        process.wait()
