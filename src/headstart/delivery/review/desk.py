"""The desk at work: one run, its journal, the training that the queues come from, and what a person does with them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from headstart.delivery import run_folder
from headstart.delivery.review import again, export, queues, sight
from headstart.delivery.review.again import Material, Trained
from headstart.delivery.review.decision import Decision
from headstart.delivery.review.journal import (
    Action,
    Journal,
    Present,
    Seen,
    Training,
    journal_path,
    open_journal,
    refuse_unfinished,
)
from headstart.delivery.review.queues import Item
from headstart.errors import HeadstartError, UsageError
from headstart.pictures.overlay import Overlay, checked_name, pair_key
from headstart.pictures.tree import readable_name
from headstart.progress import SILENT, Progress

OF_PICTURES = ("relabel", "accept", "exclude", "include")
LONGEST_LOG = 1000


class UnknownError(HeadstartError):
    """There is no such picture, queue or class."""


class BusyError(HeadstartError):
    """The desk is training already."""


class Desk:
    """Everything that the page asks for; callable from several threads.

    `save` trains the run folder again; it is given because that is the workflow's business.
    """

    def __init__(self, material: Material, journal: Journal, save: Callable[[], object]) -> None:
        self.material, self.journal, self._save = material, journal, save
        self._training = threading.Lock()
        self._pool = ThreadPoolExecutor(1)
        self._sight = sight.Sight(material.plan)
        self.trained = self._resume()
        self._held_then = journal.held(self.trained.revision)
        self._queues = self._prepared_queues()

    def close(self) -> None:
        """End the threads, and close the journal."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.journal.close()

    def state(self) -> dict[str, Any]:
        """What `GET /api/state` answers, see `app`."""
        trainings, now = self.journal.trainings(), self.journal.present()
        counts = self._class_counts(now)
        return {
            "run": readable_name(self.material.run.resolve().name),
            "data": readable_name(str(self.material.data)),
            "tuned": self.is_tuned,
            "classes": [{"name": name, "pictures": counts[name]} for name in sorted(counts)],
            "queues": {name: self._count(name, now) for name in queues.NAMES},
            "revision": now.revision,
            "decisions": len(now.held),
            "pending": len(now.held ^ self._held_then),
            "trained_revision": self.trained.revision,
            "pictures": len(self.trained.examples.dataset.samples),
            "held_out": len(self.trained.held_out),
            "first": _told(trainings[0]),
            "last": _told(trainings[-1]),
            "change": trainings[-1].facts.get("change"),
            "training": self._training.locked(),
        }

    def queue(self, name: str, offset: int, limit: int, label: str | None = None) -> dict[str, Any]:
        """What `GET /api/queue/{name}` answers: items as they stand now, in the order of the last training."""
        if name not in self._queues:
            raise UnknownError(f"there is no queue {name!r}. There are {', '.join(queues.NAMES)}.")
        items, now = self._queues[name].result(), self.journal.present()
        if label is not None:
            items = [item for item in items if self._label(item.id, now.overlay) == label]
        shown = [self._item(item, now) for item in items[offset : offset + limit]]
        return {"name": name, "revision": now.revision, "total": len(items), "offset": offset, "items": shown}

    def decide(
        self, action: str, ids: Sequence[str], value: str | None = None, expect: int | None = None
    ) -> list[Decision]:
        """Write a decision about pictures of the desk; those from outside the data are added by their first label.

        Raises:
            UnknownError: a picture or the class is not known.
            ConflictError: somebody else has decided about one of them since `expect`.
        """
        if action not in OF_PICTURES:
            raise UsageError(f"no such action: {action!r}. There are {', '.join(OF_PICTURES)}.")
        self._refuse_strangers(action, ids)
        now = self.journal.present()
        if action == "relabel" and value is None:
            raise UsageError("to relabel takes a class as its value.")
        if action == "relabel" and value not in self._class_counts(now):
            raise UnknownError(f"there is no class {value!r}. Add it first.")
        made = []
        for (named, given), chosen in self._divided(action, ids, value, now.overlay).items():
            seen = {name: self._seen(name, named, now.overlay) for name in chosen}
            if named == "add" and given is None and not all(one.label for one in seen.values()):
                raise UsageError("there is no suggestion for one of these; say its class.")
            made.append(self.journal.decide(cast(Action, named), chosen, given, expect=expect, seen=seen))
        return made

    def change_classes(self, action: str, name: str, to: str | None = None, expect: int | None = None) -> Decision:
        """Add the class `name`, "rename" it to one that is new, or "merge" it into one that there is."""
        known = self._class_counts(self.journal.present())
        if action == "add":
            if checked_name(name) in known:
                raise UsageError(f"there is a class {name!r} already.")
            return self.journal.decide("class", [name], expect=expect)
        if action not in ("rename", "merge") or to is None:
            raise UsageError("classes can be added, renamed (to another name), or merged (into another class).")
        to = checked_name(to)
        if name not in known:
            raise UnknownError(f"there is no class {name!r}.")
        if to == name or (action == "rename") == (to in known):
            hint = "Merge them, if both are the same." if to in known else "Rename it, if only the name is wrong."
            raise UsageError(f"{name!r} cannot be {action}d {'to' if action == 'rename' else 'into'} {to!r}. {hint}")
        return self.journal.decide("rename", [name], to, expect=expect)

    def train(self) -> dict[str, Any]:
        """Train the head again with what was decided, and say what changed; see `app`.

        Raises:
            BusyError: it is being trained already.
            DataError: a class has too few pictures.
        """
        with self._alone():
            started = time.perf_counter()
            revision, before = self.journal.revision, self.trained
            after = again.train(self.material, self.journal.overlay(revision), revision, before)
            remaining = queues.labels(self.material, after)
            change = {
                **again.to_json(again.compare(before, after), before, after),
                "suspects": {"before": len(self._queues["labels"].result()), "after": len(remaining)},
                "revision": {"before": before.revision, "after": revision},
                "classes": list(after.classes),
            }
            change["seconds"] = round(time.perf_counter() - started, 3)
            facts = _facts(after, len(remaining), change["seconds"])
            self.journal.add_training(revision, {**facts, "change": change})
            self.trained, self._held_then = after, self.journal.held(revision)
            self._queues = self._prepared_queues()
        return change

    def save(self) -> dict[str, Any]:
        """Train the run folder again, as `headstart train RUN` does, and go on from it."""
        if self.is_tuned:
            raise UsageError(
                f"{self.material.run} was fine-tuned, which takes a while: run `headstart train {self.material.run}` "
                "in a terminal. The desk trains the head alone."
            )
        with self._alone():
            started = time.perf_counter()
            self._save()
            earlier = run_folder.earlier_split(self.material.run, self.material.options)
            self.material = replace(self.material, earlier=earlier or {})
        return {"run": readable_name(str(self.material.run)), "seconds": round(time.perf_counter() - started, 3)}

    def undo(self, expect: int | None = None) -> Decision | None:
        """Take the last decision back."""
        return self.journal.undo(expect=expect)

    def redo(self, expect: int | None = None) -> Decision | None:
        """Let the decision that was taken back last hold again."""
        return self.journal.redo(expect=expect)

    def standing(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What holds of pictures, or of pairs, by now."""
        now = self.journal.present()
        parts = {name: "train" if name in self.material.given_labels else "new" for name in names}
        return {
            name: {
                "label": self._label(name, now.overlay),
                "excluded": name in now.overlay.excluded,
                "decision": self._decided(name, parts[name], now),
                "revision": now.touched.get(name, 0),
            }
            for name in names
        }

    def picture(self, digest: str, size: str) -> bytes:
        """The picture as a JPEG, "thumb" or "full"."""
        return self._sight.picture(self._path(digest), digest, size)

    def saliency(self, digest: str) -> bytes:
        """The picture under a map of what speaks for the class that is predicted, as a WebP."""
        return self._sight.saliency(self._path(digest), digest, self.trained.solved.classifier)

    def manifest(self) -> str:
        """What the decisions make of the data, as a CSV manifest."""
        return export.manifest(again.divided(self.material, self.journal.overlay()))

    def log(self) -> list[dict[str, Any]]:
        """The last decisions, the newest first."""
        return [export.log_entry(row) for row in reversed(self.journal.decisions()[-LONGEST_LOG:])]

    @property
    def is_tuned(self) -> bool:
        """Whether the run was trained by epochs."""
        return self.material.options.recipe is not None or self.material.options.tune not in (None, "none")

    def _resume(self) -> Trained:
        """The training after which the desk was left, or the run's own."""
        trainings = self.journal.trainings()
        settled = [row.id for row in self.journal.decisions() if row.action in ("applied", "returned")]
        last = trainings[-1].revision if trainings else run_folder.reviewed_revision(self.material.run)
        revision = max([last, *settled])
        trained = again.train(self.material, self.journal.overlay(revision), revision)
        if not trainings:
            remaining = len(queues.labels(self.material, trained))
            self.journal.add_training(revision, _facts(trained, remaining, round(trained.seconds, 3)))
        return trained

    def _prepared_queues(self) -> dict[str, Future[list[Item]]]:
        material, trained = self.material, self.trained
        return {name: self._pool.submit(queues.make, name, material, trained) for name in queues.NAMES}

    def _count(self, name: str, now: Present) -> dict[str, int] | None:
        """How many pictures a queue has, and how many of them still wait; None while it is being made."""
        made = self._queues[name]
        if not made.done():
            return None
        waiting = sum(self._decision(item, now) is None for item in made.result())
        return {"total": len(made.result()), "waiting": waiting}

    def _item(self, item: Item, now: Present) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": item.id,
            "path": item.path,
            "label": self._label(item.id, now.overlay),
            "trained_label": item.label,
            "part": item.part,
            "suggested": item.suggested,
            "probability": None if item.probability is None else round(item.probability, 6),
            "score": round(item.score, 6),
            "reason": item.reason,
            "excluded": item.id in now.overlay.excluded,
            "decision": self._decision(item, now),
            "revision": now.touched.get(item.id, 0),
            "twin": None,
        }
        if item.twin:
            pair = pair_key(item.id, item.twin)
            path = self.material.shown_paths[item.twin]
            shown["twin"] = {**self._item(queues.item_of(self.trained, item.twin, path), now), "pair": pair}
            shown["revision"] = max(now.touched.get(name, 0) for name in (item.id, pair))
        return shown

    def _decision(self, item: Item, now: Present) -> str | None:
        """What was decided of the item since the training, if anything that still holds."""
        names = [item.id] if not item.twin else [item.id, item.twin, pair_key(item.id, item.twin)]
        return next((said for name in names if (said := self._decided(name, item.part, now)) is not None), None)

    def _decided(self, name: str, part: str, now: Present) -> str | None:
        if now.touched.get(name, 0) <= self.trained.revision:
            return None
        new, old = now.overlay, self.trained.overlay
        if (name in new.excluded) != (name in old.excluded):
            return "exclude" if name in new.excluded else "include"
        if new.relabelled.get(name) != old.relabelled.get(name):
            return "add" if part == "new" else "relabel"
        return "accept" if name in new.accepted and new.accepted[name] != old.accepted.get(name) else None

    def _label(self, digest: str, overlay: Overlay) -> str:
        """The label of a picture now; "" for one from outside that was not added."""
        given = self.material.given_labels.get(digest)
        return overlay.relabelled.get(digest, "" if given is None else overlay.class_name(given))

    def _class_counts(self, now: Present) -> Mapping[str, int]:
        """The pictures of each class now; also of one that was added, or that has lost all that it had."""
        overlay = now.overlay
        of_data = map(overlay.class_name, self.material.dataset.classes)
        counts: Counter[str] = Counter(dict.fromkeys((*of_data, *now.classes), 0))
        for sample in self.material.dataset.samples:
            if sample.digest not in overlay.excluded:
                counts[overlay.relabelled.get(sample.digest, overlay.class_name(sample.label))] += 1
        counts.update(label for _, label in overlay.added)
        return counts

    def _seen(self, name: str, action: str, overlay: Overlay) -> Seen:
        """What a person sees of a picture: where it is, and its label, or of a new one that which is suggested."""
        if name not in self.material.paths:
            return Seen("", "")
        if action == "add":
            suggested = (item.suggested for item in self._queues["new"].result() if item.id == name)
            return Seen(self.material.paths[name].resolve().as_posix(), next(suggested, ""))
        return Seen(self.material.shown_paths[name], self._label(name, overlay))

    def _divided(
        self, action: str, ids: Sequence[str], value: str | None, overlay: Overlay
    ) -> Mapping[tuple[str, str | None], list[str]]:
        """The decisions that one wish comes to, each an action and a value, with its pictures.

        A new picture that gets a label, or is confirmed, is added. To confirm the label of a picture whose copies have
        several is to give it to all of them.
        """
        belonging = self.material.given_labels.keys() | overlay.relabelled.keys()
        given = value if action == "relabel" else None
        divided: dict[tuple[str, str | None], list[str]] = {}
        for name in ids:
            wish = action, given
            if action in ("relabel", "accept") and name in self.material.paths and name not in belonging:
                wish = "add", given
            elif action == "accept" and self._is_torn(name, overlay):
                wish = "relabel", self._label(name, overlay)
            divided.setdefault(wish, []).append(name)
        return divided

    def _is_torn(self, name: str, overlay: Overlay) -> bool:
        """Whether the copies of a picture have different labels, of which nobody has chosen one."""
        labels = {overlay.class_name(label) for label in self.material.labels_of_copies.get(name, ())}
        return len(labels) > 1 and name not in overlay.relabelled

    def _refuse_strangers(self, action: str, ids: Sequence[str]) -> None:
        for name in ids:
            parts = name.split("+") if action == "accept" else [name]
            if len(parts) > 2 or not all(part in self.material.paths for part in parts):
                raise UnknownError("there is no such picture.")
        if not ids:
            raise UsageError("a decision is about one picture at least.")

    def _path(self, digest: str) -> Path:
        if digest not in self.material.paths:
            raise UnknownError("there is no such picture.")
        return self.material.paths[digest]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of trainings, for which nobody waits."""
        if not self._training.acquire(blocking=False):
            raise BusyError("the desk is training already; wait a moment.")
        try:
            yield
        finally:
            self._training.release()


def open_desk(run: Path, unlabelled: Path | None, save: Callable[[], object], progress: Progress = SILENT) -> Desk:
    """The desk for `run`, with its data read, its features in memory, and the head trained once."""
    if not run_folder.is_run(run):
        raise UsageError(f"{run} is not a run. Give a folder that `headstart train` made.")
    if unlabelled is not None and not unlabelled.is_dir():
        raise UsageError(f"--unlabelled {unlabelled} is not a folder.")
    run_folder.recorded(run)  # before a journal is begun for what cannot be used
    journal = open_journal(journal_path(run))
    try:
        refuse_unfinished(journal)
        return Desk(again.load(run, journal.overlay(), unlabelled, progress), journal, save)
    except BaseException:
        journal.close()
        raise


def _told(training: Training) -> dict[str, Any]:
    """A training in a few numbers."""
    return {"revision": training.revision, **{name: fact for name, fact in training.facts.items() if name != "change"}}


def _facts(trained: Trained, suspects: int, seconds: float) -> dict[str, Any]:
    """What the journal keeps of a training."""
    return {
        "accuracy": trained.accuracy.to_json(),
        "n": len(trained.examples.split.test),
        "pictures": len(trained.examples.dataset.samples),
        "classes": len(trained.classes),
        "suspects": suspects,
        "seconds": seconds,
    }
