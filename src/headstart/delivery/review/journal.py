"""The journal of a review: every decision, in one SQLite file beside the run, that is only ever added to.

A decision is one row, written in one transaction that has reached the disk when `decide` returns. Undoing one is a row
too. What holds now follows from the rows in their order; nothing else is kept. Several threads and processes may use
one journal: each decision sees all that came before it.
"""

import getpass
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from headstart.delivery.review.decision import Decision, Subject
from headstart.delivery.review.journal_file import clear_errors, connect, connect_to_read
from headstart.delivery.review.standing import Standing
from headstart.errors import HeadstartError, StorageError
from headstart.pictures.overlay import Overlay, checked_name

ENDING = ".review.sqlite"
Action = Literal["relabel", "accept", "exclude", "include", "add", "rename", "class"]
ACTIONS: tuple[str, ...] = get_args(Action)
NAMING = {"relabel", "add", "rename"}  # actions whose value is the name of a class
NEEDING = {"relabel", "rename"}  # actions that have no meaning without one
OF_CLASSES = {"rename", "class"}  # actions whose subjects are classes


class ConflictError(HeadstartError):
    """Somebody else has decided about the same pictures since; `present` is what is decided of each, by its name."""

    def __init__(self, message: str, present: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(message)
        self.present = present


@dataclass(frozen=True, slots=True)
class Seen:
    """What the person saw of a picture who decided: where it was, and its label."""

    path: str
    label: str


@dataclass(frozen=True)
class Reviewed:
    """The decisions of the journal at `path`, as a training uses them: `count` of them hold, at `revision`."""

    path: Path
    overlay: Overlay
    count: int
    revision: int

    def to_json(self) -> dict[str, Any]:
        """The "review" object of run.json."""
        return {
            "journal": self.path.name,
            "decisions": self.count,
            "revision": self.revision,
            "digest": self.overlay.digest,
        }


@dataclass(frozen=True)
class Present:
    """What holds at a `revision`: the decisions `held`; `touched`: by digest the last that was about a picture."""

    overlay: Overlay
    touched: Mapping[str, int]
    revision: int
    held: frozenset[int]
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Training:
    """One training in the desk: after which revision, by whom, when, and the `facts` that it gave."""

    at: str
    who: str
    revision: int
    facts: Mapping[str, Any]


def journal_path(run: Path) -> Path:
    """Where the journal of the run folder `run` is: beside it, for the folder itself is replaced by each training."""
    run = run if run.name not in ("", "..") else run.resolve()
    return run.with_name(f"{run.name}{ENDING}")


def read_reviewed(run: Path) -> Reviewed | None:
    """What was decided about the pictures of `run`; None where nothing holds, or it has no journal.

    Raises:
        StorageError: the journal is damaged, or of a later headstart, or files are half moved.
    """
    path = journal_path(run)
    if not path.exists():
        return None
    journal = open_journal(path, to_read=True)
    try:
        refuse_unfinished(journal)
        reviewed = Reviewed(path, journal.overlay(), journal.count, journal.revision)
    finally:
        journal.close()
    return None if reviewed.overlay.is_empty else reviewed


def undo_script(path: Path, number: int) -> Path:
    """The script beside the journal at `path` that undoes the moves of `headstart review --apply`, from number 1."""
    return path.with_name(f"{path.name.removesuffix('.sqlite')}-undo-{number}.py")


def refuse_unfinished(journal: "Journal") -> None:
    """Refuse to read data whose files are half moved.

    Raises:
        StorageError: they are.
    """
    script = undo_script(journal.path, journal.applied + 1)
    if script.exists():
        raise StorageError(
            f"`headstart review --apply` was interrupted. Run it again to finish, or `python {script}` to take it back."
        )


def open_journal(path: Path, *, to_read: bool = False) -> "Journal":
    """The journal at `path`, which begins empty where there is none; `to_read`: also where nothing can be written.

    Raises:
        StorageError: it is damaged, no journal, or of a later headstart; the file is left as it is.
    """
    return Journal(path, connect_to_read(path) if to_read else connect(path))


def this_person() -> str:
    """Who decides: the user's name at the machine's."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # no entry of the user's number
        name = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{name}@{socket.gethostname()}"


class Journal:
    """An open journal; see the module. Callable from several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._rows: list[Decision] = []
        self._standing = Standing()
        self._refresh()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def decide(
        self,
        action: Action,
        digests: Iterable[str],
        value: str | None = None,
        *,
        who: str | None = None,
        expect: int | None = None,
        seen: Mapping[str, Seen] | None = None,
    ) -> Decision:
        """Write one decision about some pictures; it is on the disk when this returns.

        Args:
            action: "relabel" (to the class `value`), "accept" (the label `value`), "exclude", "include", "add" (a
                picture from outside, with the label `value`, at the path that `seen` gives), "rename" (the class that
                `digests` names to `value`), "class" (a class without pictures as yet).
            digests: the pictures, or for "accept" pairs of them, or classes.
            value: see above; without one "accept" and "add" take the label of each picture that `seen` gives.
            who: who decides; this user unless given.
            expect: the revision that the person knew.
            seen: what they saw of the pictures, with its path: for display, but for "add" the absolute path counts.

        Raises:
            ConflictError: one of the pictures was decided about after `expect`; nothing is written.
            UsageError: no class can be called `value`.
        """
        names = tuple(dict.fromkeys(digests))
        if action not in ACTIONS or not names or (action in NEEDING and value is None):
            raise ValueError(f"no such decision: {action!r} of {len(names)} pictures, with the value {value!r}")
        if action in NAMING and value is not None:
            value = checked_name(value)
        if action == "class":
            names = tuple(map(checked_name, names))
        with self._writing():
            self._refuse_conflict(action, names, value, expect)
            return self._write(action, value, None, self._subjects(action, names, seen or {}), who)

    def undo(self, who: str | None = None, *, expect: int | None = None) -> Decision | None:
        """Take back the last decision that holds, as a new row; None where there is none to take back.

        What was before moved files (see `moving`) cannot be taken back. With `expect`, a ConflictError is
        raised if anything was decided after that revision.
        """
        with self._writing():
            last = self._standing.last
            return None if last is None else self._turn("undo", last, who, expect)

    def redo(self, who: str | None = None, *, expect: int | None = None) -> Decision | None:
        """Let the decision hold again that was taken back last; None where something new was decided since."""
        with self._writing():
            last = self._standing.taken_back
            return None if last is None else self._turn("redo", last, who, expect)

    def settle(self, script: str, revision: int, moves: Mapping[str, str]) -> Decision:
        """Write down that the files are now as it was decided up to `revision`, and which `script` undoes the `moves`.

        Those decisions then no longer change the data, which are already so, and can no longer be taken back one by
        one. `moves`: for the path of each file the one that it has now.
        """
        with self._writing():
            subjects = [{"id": old, "path": old, "label": new} for old, new in moves.items()]
            return self._write("applied", script, revision, subjects, None)

    @property
    def applied(self) -> int:
        """How many times the files were moved as it was decided, taken back or not."""
        with self._reading():
            return sum(row.action == "applied" for row in self._rows)

    @property
    def revision(self) -> int:
        """The number of the last row; 0 where there is none."""
        with self._reading():
            return self._rows[-1].id if self._rows else 0

    @property
    def count(self) -> int:
        """How many decisions hold."""
        with self._reading():
            return self._standing.count

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that were added."""
        with self._reading():
            return self._standing.classes

    def decisions(self, after: int = 0) -> list[Decision]:
        """All rows whose revision is above `after`, in their order."""
        with self._reading():
            return [row for row in self._rows if row.id > after]

    def overlay(self, until: int | None = None) -> Overlay:
        """What the decisions make of the data: all of them, or those up to the revision `until`."""
        with self._reading():
            if until is None:
                return self._standing.overlay()
            return _replay(row for row in self._rows if row.id <= until).overlay()

    def present(self) -> Present:
        """What holds now, all of one moment."""
        with self._reading():
            standing, last = self._standing, self._rows[-1].id if self._rows else 0
            return Present(standing.overlay(), dict(standing.touched), last, standing.held, standing.classes)

    def held(self, until: int) -> frozenset[int]:
        """The revisions of the decisions that held at the revision `until`."""
        with self._reading():
            return _replay(row for row in self._rows if row.id <= until).held

    def add_training(self, revision: int, facts: Mapping[str, Any], who: str | None = None) -> None:
        """Write down that the desk has trained with the decisions up to `revision`."""
        with self._writing():
            row = _now(), who or this_person(), revision, json.dumps(facts, ensure_ascii=False)
            self._connection.execute("insert into trainings (at, who, revision, facts) values (?, ?, ?, ?)", row)

    def trainings(self) -> list[Training]:
        """All trainings in the desk, in their order."""
        with self._reading():
            rows = self._connection.execute("select at, who, revision, facts from trainings order by id").fetchall()
            return [Training(at, who, revision, json.loads(facts)) for at, who, revision, facts in rows]

    def _turn(self, action: str, row: Decision, who: str | None, expect: int | None) -> Decision:
        if expect is not None and self._rows[-1].id > expect:
            raise ConflictError("something was decided since; look at it first.", {})
        return self._write(action, row.value, row.id, self._turned(action, row), who)

    def _turned(self, action: str, row: Decision) -> list[dict[str, Any]]:
        """The subjects of an undo or redo of `row`."""
        pairs = ((asdict(one), one) for one in row.subjects)
        if action == "undo":
            return [{**record, "before": one.after, "after": one.before} for record, one in pairs]
        return [record for record, _ in pairs]

    def _subjects(self, action: str, names: Sequence[str], seen: Mapping[str, Seen]) -> list[dict[str, Any]]:
        shown = {name: seen.get(name, Seen("", "")) for name in names}
        before = {} if action in OF_CLASSES else {name: self._standing.of(name) for name in names}
        return [
            {"id": name, "path": shown[name].path, "label": shown[name].label, "before": before.get(name, {})}
            for name in names
        ]

    def _refuse_conflict(self, action: str, names: Sequence[str], value: str | None, expect: int | None) -> None:
        if expect is None:
            return
        touched = self._standing.touched
        about = (*names, value) if action == "rename" and value is not None else names
        since = [name for name in about if touched.get(name, 0) > expect]
        if since:
            present = {name: {**self._standing.of(name), "revision": touched[name]} for name in since}
            who = next(row.who for row in reversed(self._rows) if row.id == touched[since[0]])
            raise ConflictError(f"{who} has decided about {len(since)} of these since. Look again.", present)

    def _write(
        self, action: str, value: str | None, target: int | None, subjects: list[dict[str, Any]], who: str | None
    ) -> Decision:
        """Insert a row; must be called in a transaction."""
        at, who = _now(), who or this_person()
        following = (self._rows[-1].id if self._rows else 0) + 1
        bare = _decision((following, at, who, action, value, target, json.dumps(subjects)))
        if target is None and action not in OF_CLASSES:
            after = self._standing.after(bare)
            subjects = [{**one, "after": after[one["id"]]} for one in subjects]
        text = json.dumps(subjects, ensure_ascii=False)
        self._connection.execute(
            "insert into decisions (id, at, who, action, value, target, subjects) values (?, ?, ?, ?, ?, ?, ?)",
            (following, at, who, action, value, target, text),
        )
        return _decision((following, at, who, action, value, target, text))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that no other can come between, with all earlier rows known; undone where the block fails."""
        with self._lock, clear_errors(self.path):
            self._connection.execute("begin immediate")
            try:
                self._take_in()
                yield
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise
            self._take_in()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            self._refresh()
            with clear_errors(self.path):
                yield

    def _refresh(self) -> None:
        with self._lock, clear_errors(self.path):
            self._take_in()

    def _take_in(self) -> None:
        """Read the rows that were added since, by us or by others."""
        known = self._rows[-1].id if self._rows else 0
        columns = "id, at, who, action, value, target, subjects"
        rows = self._connection.execute(f"select {columns} from decisions where id > ? order by id", (known,))
        for row in rows.fetchall():
            decision = _decision(row)
            self._standing.add(decision)
            self._rows.append(decision)


def _replay(rows: Iterable[Decision]) -> Standing:
    standing = Standing()
    for row in rows:
        standing.add(row)
    return standing


def _decision(row: tuple[Any, ...]) -> Decision:
    number, at, who, action, value, target, subjects = row
    return Decision(number, at, who, action, value, target, tuple(_subject(one) for one in json.loads(subjects)))


def _subject(record: Mapping[str, Any]) -> Subject:
    return Subject(record["id"], record["path"], record["label"], record.get("before", {}), record.get("after", {}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
