"""What goes wrong: the worst mistakes, which class is taken for which, and a sample of right and wrong answers."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headstart.judging.metrics import FloatArray, IntArray, Interval
from headstart.judging.report import words
from headstart.judging.report.record import Json, Record, Row, Rows, interval, is_right

WORST, SAMPLE, MOST_CLASSES = 12, 12, 30
WRONG_IN_CELL, RIGHT_IN_CELL, IN_ALL_CELLS = 12, 4, 280


@dataclass(frozen=True)
class Cell:
    """One field of the confusion matrix: how many, how dark it is drawn (0 to 1), and rows of some of its pictures."""

    truth: str
    predicted: str
    n: int
    shade: float
    shown: tuple[Row, ...]

    @property
    def is_right(self) -> bool:
        """Whether it lies on the diagonal."""
        return self.truth == self.predicted


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix of `classes`, all of them or the most confused of `of`; rows are the truth."""

    classes: tuple[str, ...]
    of: int
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def is_upright(self) -> bool:
        """Whether the names are short enough to stand above their columns as they are."""
        return len(self.classes) <= 4 or max(map(len, self.classes)) <= 4

    @property
    def is_narrow(self) -> bool:
        """Whether there is room beside it for the pictures of a field."""
        return len(self.classes) <= 4 or (self.is_upright and len(self.classes) <= 10)

    @property
    def pictures(self) -> tuple[str, ...]:
        """The paths that pressing a field shows, of mistakes first."""
        cells = [cell for line in self.cells for cell in line]
        ordered = sorted(cells, key=lambda cell: cell.is_right)
        return tuple(row["path"] for cell in ordered for row in cell.shown)


@dataclass(frozen=True)
class ClassRow:
    """How one class fared, and what it is taken for most often (with how often), if for anything."""

    name: str
    n: int
    recall: Interval | None
    precision: Interval | None
    f1: Interval | None
    taken_for: str | None
    times: int


@dataclass(frozen=True)
class Mistakes:
    """What went wrong: `n` mistakes, the `worst` of them, the matrix, the classes, and samples of both kinds."""

    n: int
    of: int
    lead: str
    worst: tuple[Row, ...]
    matrix: Matrix
    classes: tuple[ClassRow, ...]
    right_sample: tuple[Row, ...]
    wrong_sample: tuple[Row, ...]
    right: int

    @property
    def pictures(self) -> tuple[str, ...]:
        """The paths that stand in the page."""
        return tuple(row["path"] for row in (*self.worst, *self.wrong_sample, *self.right_sample))


def find(record: Record) -> Mistakes | None:
    """What went wrong on the held-out pictures; None where nothing was judged."""
    if not record.test:
        return None
    table = np.array(record.test["confusion"], dtype=np.int64)
    wrong = record.mistakes
    count = int(table.sum() - table.trace())
    right = record.predictions.where(is_right)
    return Mistakes(
        n=count,
        of=record.test["n"],
        lead=_lead(record, count),
        worst=tuple(wrong[:WORST]),
        matrix=_matrix(record, table),
        classes=tuple(_class_rows(record, table)),
        right_sample=_sample(right, SAMPLE),
        wrong_sample=_sample(wrong[WORST:], SAMPLE),
        right=len(right),
    )


def _lead(record: Record, count: int) -> str:
    if count == 0:
        return "It named every held-out picture rightly, so that there is no mistake to learn from."
    return f"{words.count(count)} of {words.many(record.test['n'], 'held-out picture')} were named wrongly."


def commonest(record: Record, limit: int = 3) -> list[tuple[str, str, int]]:
    """The commonest mistakes, (truth, prediction, how often), the commonest first."""
    table = np.array(record.test["confusion"], dtype=np.int64)
    np.fill_diagonal(table, 0)
    flat, k = table.ravel(), len(record.classes)
    order = np.argsort(-flat, kind="stable")[:limit]
    return [(record.classes[i // k], record.classes[i % k], int(flat[i])) for i in order if flat[i]]


def _sample(rows: Rows, most: int) -> tuple[Row, ...]:
    """At most `most` of `rows`, drawn at random, always the same ones."""
    if len(rows) <= most:
        return tuple(rows)
    chosen = np.random.default_rng([0, *b"report sample"]).choice(len(rows), most, replace=False)
    return tuple(rows[np.sort(chosen)])


def _class_rows(record: Record, table: IntArray) -> Iterator[ClassRow]:
    """The classes, the one with the lowest recall first; those without test pictures last."""
    off = table.copy()
    np.fill_diagonal(off, 0)
    rows = []
    for place, (name, score) in enumerate(record.test["per_class"].items()):
        target = int(off[place].argmax())
        times = int(off[place, target])
        rows.append(_class_row(name, score, record.classes[target] if times else None, times))
    yield from sorted(rows, key=lambda row: 2.0 if row.recall is None else row.recall.value)


def _class_row(name: str, score: Json, taken_for: str | None, times: int) -> ClassRow:
    recall, precision, f1 = (interval(score.get(key)) for key in ("recall", "precision", "f1"))
    return ClassRow(name, score["n"], recall, precision, f1, taken_for, times)


def _matrix(record: Record, table: IntArray) -> Matrix:
    names, k = record.classes, len(record.classes)
    chosen = _most_confused(table)
    members = _members(record, {names[place] for place in chosen})
    shades = _shades(table)
    cells = tuple(
        tuple(
            Cell(
                names[i],
                names[j],
                int(table[i, j]),
                float(shades[i, j]),
                tuple(members.get((names[i], names[j]), ())),
            )
            for j in chosen
        )
        for i in chosen
    )
    return Matrix(tuple(names[place] for place in chosen), k, cells)


def _most_confused(table: IntArray) -> list[int]:
    """The places of at most `MOST_CLASSES` classes, in order: those of the commonest mistakes, both sides of each."""
    k = len(table)
    off = np.where(np.eye(k) > 0, -1, table).ravel()
    both = np.stack(np.unravel_index(np.argsort(-off, kind="stable"), (k, k)), axis=1).ravel()
    ranked = list(dict.fromkeys(both.tolist())) if k > 1 else [0]
    return sorted(ranked[:MOST_CLASSES])


def _shades(table: IntArray) -> FloatArray:
    """How dark each field is, [k, k] in [0, 1]: its share of the row; of mistakes, over the largest such share."""
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    off = shares * (1 - np.eye(len(table)))
    shades: FloatArray = np.where(np.eye(len(table)) > 0, shares, off / max(float(off.max()), 1e-9))
    return shades


def _members(record: Record, classes: set[str]) -> dict[tuple[str, str], list[Row]]:
    """Rows to show for each field: the most confident mistakes, and of the right ones the least confident."""
    members: dict[tuple[str, str], list[Row]] = defaultdict(list)
    room = IN_ALL_CELLS
    right = record.predictions.where(is_right, by=lambda row: float(row["probability"]))
    for rows, most in ((record.mistakes, WRONG_IN_CELL), (right, RIGHT_IN_CELL)):
        chosen: list[int] = []
        taken: Counter[tuple[str, str]] = Counter()
        for place, row in enumerate(rows if room else ()):
            cell = row["label"], row["predicted"]
            if room and taken[cell] < most and classes.issuperset(cell):
                taken[cell] += 1
                chosen.append(place)
                room -= 1
        for row in rows[np.array(chosen, np.int64)]:
            members[row["label"], row["predicted"]].append(row)
    return members
