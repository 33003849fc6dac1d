"""The rows of a CSV file as a sequence: read again whenever they are asked for, so that a million take little."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Row]):
    """Some rows of a CSV file in some order; each is a mapping from columns to text.

    `path` is None where there is no file, and then no row. `names` are its columns, in `absent` those besides that are
    asked for and empty. `starts` int [n + 1] are the places of all its rows in the file, in bytes, and the end;
    `chosen` int [m] are the numbers of those that are meant.
    """

    path: Path | None = None
    names: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    chosen: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: "slice | NDArray[Any]") -> "Rows": ...
    def __getitem__(self, place: "int | slice | NDArray[Any]") -> "Row | Rows":
        if isinstance(place, slice | np.ndarray):
            return replace(self, chosen=self.chosen[place])
        return next(iter(replace(self, chosen=self.chosen[[place]])))

    def __iter__(self) -> Iterator[Row]:
        if self.path is None:
            return
        empty = {**self.absent, **dict.fromkeys(self.names, "")}
        with self.path.open("rb") as file:
            for cells in self._all(file) if self._is_all else self._single(file):
                yield {**empty, **dict(zip(self.names, cells, strict=False))}

    def where(self, wanted: Callable[[Row], bool], *, by: Callable[[Row], float] | None = None) -> "Rows":
        """The rows that are `wanted`, in their order or, with `by`, from its smallest value to its largest."""
        places: list[int] = []
        values: list[float] = []
        for place, row in enumerate(self):
            if wanted(row):
                places.append(place)
                values += [] if by is None else [by(row)]
        kept = self[np.array(places, np.int64)]
        return kept if by is None else kept[np.argsort(values, kind="stable")]

    @property
    def _is_all(self) -> bool:
        return len(self.chosen) == len(self.starts) - 1 and bool((np.diff(self.chosen) == 1).all())

    def _all(self, file: BinaryIO) -> Iterator[list[str]]:
        reader = csv.reader(map(bytes.decode, file))
        next(reader, None)
        return reader

    def _single(self, file: BinaryIO) -> Iterator[list[str]]:
        for number in self.chosen.tolist():
            start, end = int(self.starts[number]), int(self.starts[number + 1])
            file.seek(start)
            yield next(csv.reader(io.StringIO(file.read(end - start).decode(), newline="\n")))


def read_rows(path: Path, columns: str) -> Rows:
    """The rows of the CSV file at `path`, which must stay; `columns` that it does not have are empty.

    Raises:
        FileNotFoundError: it is not there.
        ValueError, csv.Error: it is no such file.
    """
    ends = [0]
    with path.open("rb") as file:
        reader = csv.reader(_counted(file, ends))
        names = tuple(next(reader, ()))
        starts, blank = [ends[0]], []
        for cells in reader:
            blank += [] if cells else [len(starts) - 1]
            starts.append(ends[0])
    chosen = np.setdiff1d(np.arange(len(starts) - 1), np.array(blank, np.int64))
    return Rows(path, names, dict.fromkeys(columns.split(), ""), np.array(starts, np.int64), chosen)


def _counted(file: Iterable[bytes], read: list[int]) -> Iterator[str]:
    """The lines of a file as text; how many bytes were read so far stands in `read`."""
    for line in file:
        read[0] += len(line)
        yield line.decode()
