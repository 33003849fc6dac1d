"""What a run folder says, read once: the one source of every number in the report."""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from headstart.errors import StorageError
from headstart.judging.metrics import Interval
from headstart.judging.report.rows import Row, Rows, read_rows

Json = Mapping[str, Any]

__all__ = ["Json", "Record", "Row", "Rows", "interval", "is_right", "more_of_a_kind", "read_record"]

_MORE = re.compile(r"and ([\d,]+) more of this kind")


@dataclass(frozen=True)
class Record:
    """The files of a run folder: JSON as it stands, CSV as rows of text by column; what is absent is empty.

    The CSV files are read again whenever rows are asked for, and must stay. `metrics` is empty after `check`, and holds
    nothing but "test" after `evaluate`.
    """

    metrics: Json = field(default_factory=dict)
    run: Json = field(default_factory=dict)
    predictions: Rows = field(default_factory=Rows)
    suspects: Rows = field(default_factory=Rows)
    problems: Rows = field(default_factory=Rows)
    split: Rows = field(default_factory=Rows)
    points: Rows = field(default_factory=Rows)
    history: Rows = field(default_factory=Rows)

    @property
    def test(self) -> Json:
        """The evaluation on the held-out pictures; empty where nothing was judged."""
        test: Json = self.metrics.get("test") or {}
        return test if test.get("n") else {}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the confusion matrix; those of split.csv where nothing was judged."""
        if self.test:
            return tuple(self.test["per_class"])
        return tuple(sorted({row["class"] for row in self.split}))

    @cached_property
    def mistakes(self) -> Rows:
        """The wrongly predicted held-out pictures, the most confident mistake first."""
        return self.predictions.where(lambda row: not is_right(row), by=lambda row: -float(row["probability"]))

    def problems_of(self, kind: str) -> Rows:
        """The rows of problems.csv of one kind."""
        return self.problems.where(lambda row: row["kind"] == kind)

    @cached_property
    def unnamed(self) -> Counter[str]:
        """How many more problems and suspects of a kind there are than the files name."""
        return _unnamed(self.problems, "detail") + _unnamed(self.suspects, "reason")

    @cached_property
    def numbers(self) -> Counter[str]:
        """How many problems and suspects there are of each kind, named or not."""
        named = Counter(row["kind"] for rows in (self.problems, self.suspects) for row in rows)
        return named + self.unnamed - Counter(self.unnamed.keys())  # less the rows that only count

    def suspects_of(self, kind: str) -> Rows:
        """The rows of suspects.csv of one kind, the most suspect first."""
        return self.suspects.where(lambda row: row["kind"] == kind, by=lambda row: -float(row["score"] or 0))


def read_record(folder: Path) -> Record:
    """Read the run folder `folder`; files that are not there are empty.

    Raises:
        StorageError: a file is there and cannot be understood; it is named.
    """
    return Record(
        metrics=_read_json(folder / "metrics.json"),
        run=_read_json(folder / "run.json"),
        predictions=_read_csv(folder / "predictions.csv", "path label predicted probability correct"),
        suspects=_read_csv(folder / "suspects.csv", "path kind score reason action label suggested"),
        problems=_read_csv(folder / "problems.csv", "path kind detail action"),
        split=_read_csv(folder / "split.csv", "path digest class"),
        points=_read_csv(folder / "map.csv", "path part label x y"),
        history=_read_csv(folder / "history.csv", "epoch"),
    )


def _unnamed(rows: Rows, column: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        if not row["path"] and (more := _MORE.fullmatch(row[column])):
            counts[row["kind"]] = int(more[1].replace(",", ""))
    return counts


def more_of_a_kind(count: int) -> str:
    """What the last row of a kind says in problems.csv or suspects.csv where not all of them are written."""
    return f"and {count:,} more of this kind"


def is_right(row: Row) -> bool:
    """Whether a row of predictions.csv names the true class."""
    return row["correct"] == "yes"


def interval(value: Json | float | None) -> Interval | None:
    """An interval of metrics.json; a bare number has ends that are NaN, and null gives None."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        if value.get("value") is None:
            return None
        low, high = value.get("low"), value.get("high")
        return Interval(value["value"], math.nan if low is None else low, math.nan if high is None else high)
    return Interval(float(value), math.nan, math.nan)


def _read_json(path: Path) -> Json:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise StorageError(f"{path} is damaged ({error}). Make it again, or remove it.") from error


def _read_csv(path: Path, columns: str) -> Rows:
    """The rows of a CSV file; `columns` that it does not have are empty."""
    try:
        return read_rows(path, columns)
    except FileNotFoundError:
        return Rows()
    except (ValueError, csv.Error) as error:
        raise StorageError(f"{path} is damaged ({error}). Make it again, or remove it.") from error
