"""The journal: what holds follows from the rows, whoever wrote them, and whatever killed the writer."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.delivery.review.journal import ConflictError, Seen, journal_path, open_journal, read_reviewed
from headstart.delivery.review.journal_file import FORMAT
from headstart.errors import StorageError, UsageError
from headstart.pictures.overlay import Overlay

PICTURES, CLASSES = [f"{number:064x}" for number in range(12)], ["ant", "bee", "cat"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.review.sqlite"


@pytest.fixture
def journal(path):
    opened = open_journal(path)
    yield opened
    opened.close()


class Model:
    """What a journal should say, by the plainest means: the list of decisions that hold, replayed each time."""

    def __init__(self):
        self.done, self.undone = [], []

    def do(self, action, names=(), value=None):
        if action == "undo":
            if self.done:
                self.undone.append(self.done.pop())
        elif action == "redo":
            if self.undone:
                self.done.append(self.undone.pop())
        else:
            self.done.append((action, tuple(names), value))
            self.undone.clear()

    def overlay(self):
        relabelled, excluded, accepted, renamed = {}, set(), {}, {}
        for action, names, value in self.done:
            for name in names:
                if action == "rename":
                    for held in (relabelled, accepted, renamed):
                        held.update({key: value for key, label in held.items() if label == name})
                    renamed.setdefault(name, value)
                    renamed.pop(value, None) if renamed.get(value) == value else None
                    continue
                if action == "exclude":
                    excluded.add(name)
                    continue
                excluded.discard(name)
                if action == "relabel":
                    relabelled[name] = value
                if action == "accept":
                    accepted[name] = value
        renamed = {name: label for name, label in renamed.items() if name != label}
        return Overlay(relabelled, frozenset(excluded), accepted, renamed, ())


def draw(random, count):
    """`count` wishes: (action, pictures or classes, value)."""
    for _ in range(count):
        action = random.choice(["relabel"] * 5 + ["accept", "exclude", "include", "undo", "undo", "redo", "rename"])
        if action in ("undo", "redo"):
            yield action, [], None
        elif action == "rename":
            old, new = random.sample(CLASSES, 2)
            yield action, [old], new
        else:
            value = random.choice(CLASSES) if action in ("relabel", "accept") else None
            yield action, random.sample(PICTURES, random.randint(1, 3)), value


def carry_out(journal, wish):
    action, names, value = wish
    if action in ("undo", "redo"):
        return getattr(journal, action)()
    return journal.decide(action, names, value)


def test_a_new_journal_is_empty(journal, path):
    assert journal.overlay() == Overlay()
    assert (journal.revision, journal.count, journal.decisions(), journal.classes) == (0, 0, [], ())
    assert journal.undo() is None
    assert journal.redo() is None
    assert path.exists()


def test_a_decision_says_who_when_before_and_after(journal):
    first = journal.decide("relabel", ["a"], "bee", who="eve@here", seen={"a": Seen("ant/1.png", "ant")})
    second = journal.decide("exclude", ["a"])
    (one,) = first.subjects
    assert (first.id, first.who, first.action, first.value) == (1, "eve@here", "relabel", "bee")
    assert first.at.endswith("+00:00")
    assert (one.id, one.path, one.label) == ("a", "ant/1.png", "ant")
    assert one.before == {"label": None, "excluded": False, "accepted": None}
    assert one.after == {"label": "bee", "excluded": False, "accepted": None}
    assert second.subjects[0].before == one.after
    assert second.subjects[0].after["excluded"]
    assert "@" in second.who


def test_it_holds_after_closing(path):
    one = open_journal(path)
    one.decide("relabel", ["a", "b"], "bee")
    one.add_training(1, {"suspects": 3})
    one.close()
    other = open_journal(path)
    assert other.overlay().relabelled == {"a": "bee", "b": "bee"}
    assert [(training.revision, training.facts) for training in other.trainings()] == [(1, {"suspects": 3})]
    other.close()


def test_undo_has_no_end_and_nothing_is_deleted(journal):
    for number in range(30):
        journal.decide("relabel", [f"{number}"], "bee")
    while journal.undo() is not None:
        pass
    assert journal.overlay().is_empty
    assert len(journal.decisions()) == 60
    assert journal.redo() is not None
    assert journal.overlay().relabelled == {"0": "bee"}
    journal.decide("exclude", ["x"])
    assert journal.redo() is None


def test_an_undo_gives_back_what_was_before(journal):
    journal.decide("relabel", ["a"], "bee")
    journal.decide("relabel", ["a"], "cat")
    undone = journal.undo()
    assert journal.overlay().relabelled == {"a": "bee"}
    assert undone.target == 2
    assert undone.subjects[0].after["label"] == "bee"


def test_rows_can_be_neither_changed_nor_deleted(journal, path):
    journal.decide("exclude", ["a"])
    with sqlite3.connect(path) as raw:
        for statement in ("delete from decisions", "update decisions set value = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                raw.execute(statement)
    raw.close()


def test_an_overlay_of_the_past(journal):
    journal.decide("relabel", ["a"], "bee")
    journal.decide("exclude", ["b"])
    journal.undo()
    assert journal.overlay(1).excluded == frozenset()
    assert journal.overlay(2).excluded == {"b"}
    assert journal.overlay(3) == journal.overlay()


def test_renaming_then_relabelling(journal):
    journal.decide("relabel", ["a"], "bee")
    journal.decide("rename", ["bee"], "wasp")
    journal.decide("relabel", ["b"], "bee")  # a new class with the old name
    journal.decide("accept", ["c"], "wasp")
    journal.decide("rename", ["wasp"], "hornet")
    overlay = journal.overlay()
    assert overlay.relabelled == {"a": "hornet", "b": "bee"}
    assert overlay.renamed == {"bee": "hornet", "wasp": "hornet"}
    assert overlay.accepted == {"c": "hornet"}
    journal.undo()
    assert journal.overlay().renamed == {"bee": "wasp"}


def test_renaming_back_leaves_nothing(journal):
    journal.decide("rename", ["ant"], "x")
    journal.decide("rename", ["x"], "ant")
    assert journal.overlay().class_name("ant") == "ant"


def test_pictures_from_outside(journal):
    seen = {"a": Seen("/new/1.png", "ant"), "b": Seen("/new/2.png", "bee")}
    journal.decide("add", ["a", "b"], seen=seen)
    assert journal.overlay().added == (("/new/1.png", "ant"), ("/new/2.png", "bee"))
    journal.decide("relabel", ["a"], "cat")
    journal.decide("rename", ["bee"], "wasp")
    assert journal.overlay().added == (("/new/1.png", "cat"), ("/new/2.png", "wasp"))
    for _ in range(3):
        journal.undo()
    assert journal.overlay().added == ()


def test_classes_without_pictures(journal):
    journal.decide("class", ["dog"])
    assert journal.classes == ("dog",)
    assert journal.overlay().is_empty
    journal.decide("rename", ["dog"], "hound")
    assert journal.classes == ("hound",)


@pytest.mark.parametrize("wish", [("relabel", ["a"], ".."), ("rename", ["ant"], ""), ("class", ["a/"], None)])
def test_names_that_no_folder_can_have(journal, wish):
    with pytest.raises(UsageError):
        journal.decide(*wish)
    assert journal.revision == 0


def test_two_tabs_do_not_fight(journal, path):
    tab = open_journal(path)
    journal.decide("relabel", ["a"], "bee", who="first")
    with pytest.raises(ConflictError, match="first") as refused:
        tab.decide("relabel", ["a", "b"], "cat", expect=0)
    assert refused.value.present == {"a": {"label": "bee", "excluded": False, "accepted": None, "revision": 1}}
    assert tab.revision == 1
    tab.decide("relabel", ["b"], "cat", expect=0)  # nobody was there before
    tab.decide("relabel", ["a"], "cat", expect=2)
    assert journal.overlay().relabelled == {"a": "cat", "b": "cat"}
    with pytest.raises(ConflictError):
        journal.undo(expect=2)
    assert journal.undo(expect=3).target == 3
    with pytest.raises(ConflictError):  # an undo is about the picture too
        tab.decide("exclude", ["a"], expect=3)
    tab.close()


def test_a_class_that_was_renamed_meanwhile(journal):
    journal.decide("rename", ["ant"], "emmet")
    with pytest.raises(ConflictError):
        journal.decide("rename", ["ant"], "x", expect=0)
    with pytest.raises(ConflictError):
        journal.decide("rename", ["bee"], "emmet", expect=0)


def test_many_threads_and_handles(path):
    handles = [open_journal(path) for _ in range(3)]

    def work(number):
        for step in range(10):
            handles[number % 3].decide("relabel", [f"{number}-{step}"], "bee")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(handle.overlay().relabelled) for handle in handles} == {60}
    assert [row.id for row in handles[0].decisions()] == list(range(1, 61))
    for handle in handles:
        handle.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), count=st.integers(1, 25))
def test_what_holds_is_what_the_rows_say(tmp_path_factory, seed, count):
    model, chance = Model(), random.Random(seed)
    journal = open_journal(tmp_path_factory.mktemp("journal") / "run.review.sqlite")
    for wish in draw(chance, count):
        model.do(*wish)
        carry_out(journal, wish)
        assert journal.overlay() == model.overlay()
    assert journal.overlay(journal.revision) == model.overlay()
    assert journal.count == len(model.done)
    journal.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_decisions_about_different_pictures_can_come_in_any_order(tmp_path_factory, seed):
    chance = random.Random(seed)
    wishes = [
        (chance.choice(["relabel", "accept"]), [name], chance.choice(CLASSES))
        if chance.random() < 0.7
        else ("exclude", [name], None)
        for name in PICTURES
    ]
    overlays = []
    for order in (wishes, chance.sample(wishes, len(wishes))):
        journal = open_journal(tmp_path_factory.mktemp("journal") / "run.review.sqlite")
        for wish in order:
            carry_out(journal, wish)
        overlays.append(journal.overlay())
        journal.close()
    assert overlays[0] == overlays[1]
    assert overlays[0].digest == overlays[1].digest


WRITER = """
import json, sys
from pathlib import Path
from headstart.delivery.review.journal import open_journal
journal = open_journal(Path(sys.argv[1]))
for number, (action, names, value) in json.load(sys.stdin):
    if action in ("undo", "redo"):
        getattr(journal, action)()
    else:
        journal.decide(action, names, value)
    journal.add_training(journal.revision, {"wish": number})
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_nothing_is_lost_to_kills(path):
    """200 decisions and undos; the writer is killed at random moments, and goes on where the journal says."""
    wishes, chance = list(draw(random.Random(7), 200)), random.Random(11)
    effective = [_had_effect(wishes[:number]) for number in range(len(wishes) + 1)]
    kills = begin = 0
    while begin < len(wishes):
        said = _killed_writer(path, list(enumerate(wishes))[begin:], chance)
        kills += said < len(wishes) - 1
        journal = open_journal(path)
        rows = journal.revision
        begun = said + 1  # what was acknowledged is there, and at most one wish more
        assert effective[begun] <= rows <= effective[min(begun + 1, len(wishes))]
        model = Model()
        begin = begun if rows == effective[begun] else begun + 1
        for wish in wishes[:begin]:
            model.do(*wish)
        assert journal.overlay() == model.overlay()
        assert journal.count == len(model.done)
        journal.close()
    assert kills >= 8


def _killed_writer(path, wishes, chance):
    """The number of the last wish that the writer said was written; it is killed some time after a few of them."""
    command = [sys.executable, "-c", WRITER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process.stdout, process.stdin:
        json.dump(wishes, process.stdin)
        process.stdin.close()
        lines = [process.stdout.readline() for _ in range(chance.randint(1, 15))]
        time.sleep(chance.uniform(0.0, 0.003))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    process.wait()
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1])


def _had_effect(wishes):
    """How many rows these wishes come to: an undo or redo of nothing writes none."""
    model, rows = Model(), 0
    for wish in wishes:
        before = len(model.done), len(model.undone)
        model.do(*wish)
        rows += wish[0] not in ("undo", "redo") or (len(model.done), len(model.undone)) != before
    return rows


def test_a_damaged_journal_is_left_as_it_is(path):
    journal = open_journal(path)
    for number in range(200):
        journal.decide("relabel", [f"{number}"], "bee", seen={f"{number}": Seen("x" * 200, "y")})
    journal.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 2 + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        open_journal(path)
    assert path.read_bytes()[4096 * 2 : 4096 * 2 + 2000] == b"\xff" * 2000


def test_something_else_in_its_place(path):
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StorageError, match="damaged"):
        open_journal(path)
    path.unlink()
    raw = sqlite3.connect(path)
    raw.execute("create table cats (name text)")
    raw.commit()
    raw.close()
    with pytest.raises(StorageError, match="no journal"):
        open_journal(path)


def test_a_journal_of_a_later_headstart(journal, path):
    journal.decide("exclude", ["a"])
    journal.close()
    raw = sqlite3.connect(path)
    raw.execute(f"pragma user_version = {FORMAT + 1}")
    raw.close()
    with pytest.raises(StorageError, match="Upgrade headstart"):
        open_journal(path)
    with sqlite3.connect(path) as again:
        assert again.execute("select count(*) from decisions").fetchone() == (1,)
    again.close()


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        open_journal(tmp_path / "file" / "run.review.sqlite")


def test_a_full_disk_keeps_what_was_decided(journal, path):
    journal.decide("exclude", ["a"])
    ((pages,),) = journal._connection.execute("pragma page_count").fetchall()
    journal._connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(StorageError, match="no space left"):
        journal.decide("relabel", ["b"], "bee", seen={"b": Seen("x" * 20_000, "y")})
    assert journal.overlay() == Overlay(excluded=frozenset("a"))
    journal._connection.execute(f"pragma max_page_count = {pages + 100}")  # somebody has made room
    journal.decide("relabel", ["b"], "bee")
    other = open_journal(path)
    assert other.overlay() == Overlay(relabelled={"b": "bee"}, excluded=frozenset("a"))
    other.close()


def test_a_journal_can_be_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    run = tmp_path / "photos"
    journal = open_journal(journal_path(run))
    journal.decide("exclude", ["a"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(StorageError, match="-wal"):  # it may hold what the file does not
            read_reviewed(run)
        journal.close()
        assert read_reviewed(run).overlay.excluded == {"a"}
        only_read = open_journal(journal_path(run), to_read=True)
        with pytest.raises(StorageError, match="can be written to"):
            only_read.undo()
        only_read.close()
    assert [file.name for file in tmp_path.iterdir()] == ["photos.review.sqlite"]


def test_what_a_training_reads(tmp_path):
    run = tmp_path / "runs" / "photos"
    assert read_reviewed(run) is None
    journal = open_journal(journal_path(run))
    assert read_reviewed(run) is None
    journal.decide("relabel", ["a"], "bee")
    journal.decide("exclude", ["b"])
    journal.undo()
    reviewed = read_reviewed(run)
    assert (reviewed.count, reviewed.revision) == (1, 3)
    assert reviewed.to_json()["digest"] == journal.overlay().digest
    journal.close()


def test_moved_files_settle_what_was_decided_before(journal):
    journal.decide("relabel", ["a"], "bee")
    journal.decide("accept", ["b"], "ant")
    revision = journal.revision
    journal.decide("exclude", ["c"])  # while the files are being moved
    journal.settle("undo-1.py", revision, {"/old": "/new"})
    assert journal.overlay() == Overlay(excluded=frozenset("c"), accepted={"b": "ant"})
    assert journal.count == 1
    assert journal.undo().target == 3
    assert journal.undo() is None  # the files would have to go back first
    assert journal.applied == 1
