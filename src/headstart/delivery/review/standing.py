"""What holds after a row of decisions: each later one takes the place of earlier ones about the same picture."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headstart.delivery.review.decision import Decision
from headstart.pictures.overlay import Overlay


@dataclass
class _Held:
    """The overlay in the making; `added`: by digest, the path and the label."""

    relabelled: dict[str, str] = field(default_factory=dict)
    excluded: set[str] = field(default_factory=set)
    accepted: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    added: dict[str, tuple[str, str]] = field(default_factory=dict)
    classes: dict[str, None] = field(default_factory=dict)

    def of(self, name: str) -> dict[str, Any]:
        """What holds of one picture (or pair)."""
        label = self.relabelled.get(name)
        return {"label": label, "excluded": name in self.excluded, "accepted": self.accepted.get(name)}

    def only(self, names: Iterable[str]) -> "_Held":
        """A copy of what holds of some pictures."""
        names = list(names)
        return _Held(
            {name: self.relabelled[name] for name in names if name in self.relabelled},
            {name for name in names if name in self.excluded},
            {name: self.accepted[name] for name in names if name in self.accepted},
        )


@dataclass
class Standing:
    """What holds after the rows that were given to `add`, in their order.

    `touched`: by digest, pair or class name, the last revision that was about it. Decisions that were taken back wait
    in `_undone` until something new is decided. `_done`: those that hold, each with the revision since which it does.
    """

    touched: dict[str, int] = field(default_factory=dict)
    _held: _Held = field(default_factory=_Held)
    _done: list[tuple[int, Decision]] = field(default_factory=list)
    _undone: list[Decision] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many decisions hold that have not been carried out on the files."""
        return len(self.held)

    @property
    def held(self) -> frozenset[int]:
        """The revisions of those decisions."""
        actions = [row.action for _, row in self._done]
        begin = len(actions) - actions[::-1].index("applied") if "applied" in actions else 0
        return frozenset(row.id for _, row in self._done[begin:])

    @property
    def last(self) -> "Decision | None":
        """The decision that an undo takes back; None where there is none, or the files were moved since."""
        return self._done[-1][1] if self._done and self._done[-1][1].action != "applied" else None

    @property
    def taken_back(self) -> "Decision | None":
        """The decision that a redo brings back."""
        return self._undone[-1] if self._undone else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that were added."""
        return tuple(self._held.classes)

    def add(self, row: Decision) -> None:
        """Take the next row in."""
        if row.action == "undo":
            self._undone.append(self._done.pop()[1])
            self._replay()
        elif row.action == "redo":
            self._done.append((row.id, self._undone.pop()))
            _carry_out(self._done[-1][1], self._held)
        elif row.action == "applied":  # what was decided up to its target; what came after that still stands
            place = sum(since <= (row.target or 0) for since, _ in self._done)
            self._done.insert(place, (row.target or 0, row))
            self._undone.clear()
            self._replay()
        elif row.action == "returned":  # the script that undoes the moves has run
            self._done = [pair for pair in self._done if (pair[1].action, pair[1].value) != ("applied", row.value)]
            self._undone.clear()
            self._replay()
        else:
            self._done.append((row.id, row))
            self._undone.clear()
            _carry_out(row, self._held)
        self._touch(row)

    def of(self, name: str) -> dict[str, Any]:
        """What holds of one picture (or pair): its "label", whether it is "excluded", the "accepted" label."""
        return self._held.of(name)

    def after(self, row: Decision) -> Mapping[str, dict[str, Any]]:
        """What will hold of the subjects of `row` once it is added."""
        names = [one.id for one in row.subjects]
        held = self._held.only(names)
        _carry_out(row, held)
        return {name: held.of(name) for name in names}

    def overlay(self) -> Overlay:
        """All of it."""
        held = self._held
        return Overlay(
            relabelled=dict(held.relabelled),
            excluded=frozenset(held.excluded),
            accepted=dict(held.accepted),
            renamed=dict(held.renamed),
            added=tuple(sorted(held.added.values())),
        )

    def _replay(self) -> None:
        self._held = _Held()
        for _, row in self._done:
            _carry_out(row, self._held)

    def _touch(self, row: Decision) -> None:
        for one in row.subjects:
            self.touched[one.id] = row.id
        if row.is_of_classes and row.value is not None:
            self.touched[row.value] = row.id  # the other class of a renaming


def _carry_out(row: Decision, held: _Held) -> None:
    names, value = [one.id for one in row.subjects], row.value or ""
    if row.action == "rename":
        for name in names:
            _rename(name, value, held)
    elif row.action == "class":
        held.classes.update(dict.fromkeys(names))
    elif row.action == "applied":  # the files are now as it was decided
        held.relabelled, held.excluded, held.renamed, held.added = {}, set(), {}, {}
    elif row.action == "exclude":
        held.excluded.update(names)
    else:
        held.excluded.difference_update(names)  # who says anything else of a picture wants to keep it
    if row.action == "accept":
        held.accepted.update(_labels(row))
    if row.action in ("relabel", "add"):
        held.relabelled.update(_labels(row))
        _add(row, held)


def _labels(row: Decision) -> dict[str, str]:
    """The label that each subject gets: the decision's value, or without one that which the person saw."""
    return {one.id: one.label if row.value is None else row.value for one in row.subjects}


def _add(row: Decision, held: _Held) -> None:
    """Give pictures from outside the label of `row`, which may be the decision that adds them."""
    labels = _labels(row)
    for one in row.subjects:
        if row.action == "add" or one.id in held.added:
            path = one.path if row.action == "add" else held.added[one.id][0]
            held.added[one.id] = path, labels[one.id]


def _rename(old: str, new: str, held: _Held) -> None:
    """Give everything that is called `old` now the name `new`, the class of the data too unless it has another name."""
    for names in (held.relabelled, held.accepted):
        names.update({digest: new for digest, label in names.items() if label == old})
    held.added.update({digest: (path, new) for digest, (path, label) in held.added.items() if label == old})
    held.renamed.update({first: new for first, label in held.renamed.items() if label == old})
    held.renamed.setdefault(old, new)
    held.renamed = {first: label for first, label in held.renamed.items() if first != label}
    held.classes = {new if name == old else name: None for name in held.classes}
