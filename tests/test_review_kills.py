"""The desk killed again and again in the middle of its work: what it said was kept is there when it is back."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing

import httpx
import pytest

from headstart.delivery.review.journal import journal_path, open_journal
from tests import tiny
from tests.desks import digest_of, noisy_data, snapshot, trained

WISHES, CLASSES = 200, ("amber", "blue", "sea/green")
PATIENCE = 60


class Started:
    """`headstart review RUN` as a process of its own, with what its page would need."""

    def __init__(self, run):
        command = [sys.executable, "-m", "headstart", "review", str(run), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self.process.stdout.readline()
        assert " is on http" in line, line + self.process.stdout.read()
        self.client = httpx.Client(base_url=line.split(" is on ")[1].split()[0], timeout=PATIENCE, trust_env=False)
        page = self.client.get("/").text
        self.client.headers["x-headstart-token"] = re.search('name="token" content="(.+?)"', page).group(1)

    def __enter__(self):
        return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)

    def __exit__(self, *_):
        self.kill()
        self.process.wait()
        self.process.stdout.close()
        self.client.close()

    def labels(self):
        items = self.client.get("/api/queue/all?limit=500").json()["items"]
        return {item["id"]: (item["label"], item["excluded"]) for item in items}


class Model:
    """What the desk should say of each picture: the decisions that hold, carried out anew."""

    def __init__(self, given):
        self.given, self.done, self.undone = given, [], []

    def do(self, wish):
        path, body = wish
        if path == "undo":
            if self.done:
                self.undone.append(self.done.pop())
        elif path == "redo":
            if self.undone:
                self.done.append(self.undone.pop())
        else:
            self.done.append(body)
            self.undone.clear()

    def labels(self):
        held = {name: (label, False) for name, label in self.given.items()}
        for body in self.done:
            for name in body["ids"]:
                label = body["value"] if body["action"] == "relabel" else held[name][0]
                held[name] = label, body["action"] == "exclude"
        return held


def draw(chance, pictures):
    """Wishes: the last part of the address, and the body."""
    for _ in range(WISHES):
        action = chance.choice(["relabel"] * 4 + ["accept", "exclude", "include", "undo", "undo", "redo"])
        if action in ("undo", "redo"):
            yield action, {}
        else:
            value = {"value": chance.choice(CLASSES)} if action == "relabel" else {}
            yield "decide", {"action": action, "ids": chance.sample(pictures, chance.randint(1, 4)), **value}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_two_hundred_decisions_between_kills(tmp_path):
    """The desk's process dies in the middle of a row of calls; the next one has every answered call, and no other."""
    data = tmp_path / "photos"
    noisy_data(data, each=8, wrong=1)
    run = trained(data, tmp_path / "runs" / "photos", tiny.install(tmp_path)).folder
    given = {digest_of(path): path.parent.name for path in data.rglob("*.png")}
    chance, before = random.Random(5), snapshot(data)
    wishes = [("classes", {"action": "add", "name": "sea/green"}), *draw(chance, sorted(given))]
    kills = begin = 0
    while begin < len(wishes):
        with Started(run) as desk:
            answered = _carry_out(desk, wishes[begin:], chance)
        kills += begin + answered < len(wishes)
        begin = _reached(run, given, wishes, begin + answered)
    assert kills >= 5
    with Started(run) as another_day:
        assert another_day.labels() == _model(given, wishes).labels()
    assert snapshot(data) == before


def _carry_out(desk, wishes, chance):
    """How many of the calls the desk answered before it died, some time after a few of them."""
    last, killer = chance.randint(1, 40), threading.Timer(chance.uniform(0.0, 0.01), desk.kill)
    for number, (path, body) in enumerate(wishes):
        if number == last:
            killer.start()
        try:
            answer = desk.client.post(f"/api/{path}", json=body)
        except httpx.TransportError:
            killer.join()
            return number
        assert answer.status_code == 200, answer.text
    return len(wishes)


def _reached(run, given, wishes, answered):
    """How many wishes the journal holds: those that were answered, or one more."""
    with closing(open_journal(journal_path(run))) as journal:
        overlay, count = journal.overlay(), journal.count
    now = {name: (overlay.relabelled.get(name, label), name in overlay.excluded) for name, label in given.items()}
    for number in (answered, min(answered + 1, len(wishes))):
        model = _model(given, wishes[:number])
        if (now, count) == (model.labels(), len(model.done) + 1):  # the class is a decision too
            return number
    raise AssertionError(f"the journal is not what was decided by call {answered}")


def _model(given, wishes):
    model = Model(given)
    for wish in wishes[1:]:
        model.do(wish)
    return model
