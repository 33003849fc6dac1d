"""What `predict` gives: paths gathered from the command line, answers as a table, CSV or JSON Lines, and a sheet."""

import csv
import glob
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TextIO

from headstart.delivery.sheet import Tile
from headstart.delivery.sheet import tile as make_tile
from headstart.errors import DataError
from headstart.learning.classifier import Prediction
from headstart.pictures.tree import read_tree

Format = Literal["table", "csv", "jsonl"]
FIXED_COLUMNS = ("path", "label", "probability", "set", "none_of_these", "none_of_these_score", "error")


def expand(asked: Iterable[str], standard_input: TextIO) -> Iterator[str]:
    """The picture files that arguments stand for: files, folders (searched), globs, and `-` for lines of input.

    Raises:
        DataError: an argument matches nothing.
    """
    for one in asked:
        if one == "-":
            yield from (line.rstrip("\r\n") for line in standard_input if line.strip())
        elif Path(one).is_dir():
            yield from _pictures_in(Path(one))
        elif glob.has_magic(one) and not Path(one).exists():
            found = sorted(glob.glob(one, recursive=True))
            if not found:
                raise DataError(f"nothing matches {one}.")
            yield from expand(found, standard_input)
        else:
            yield one


def writer(form: Format, stream: TextIO, classes: tuple[str, ...], top: int) -> Callable[[Prediction], None]:
    """The function that writes one prediction to `stream`, in the given form; a CSV's header is written at once."""
    if form == "jsonl":
        return lambda said: _write_line(stream, json.dumps(said.to_json(), ensure_ascii=False))
    if form == "csv":
        _write_line(stream, _csv_line([*FIXED_COLUMNS, *(f"p({name})" for name in classes)]))
        return lambda said: _write_line(stream, _csv_line(_cells(said, classes)))
    return lambda said: _write_line(stream, _table_line(said, top))


def tile(said: Prediction, classes: tuple[str, ...]) -> Tile:
    """The prediction as a tile of the sheet; a picture in a folder with a class's name has that as its truth."""
    folder = Path(said.path).parent.name
    return make_tile(said, folder if folder in classes else None)


def _pictures_in(folder: Path) -> Iterator[str]:
    tree, _ = read_tree(folder)
    for inner in tree.walk():
        yield from (str(folder / path) for path in inner.pictures)


def _write_line(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")


def _csv_line(cells: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def _cells(said: Prediction, classes: tuple[str, ...]) -> list[object]:
    if said.error is not None:
        return [said.path, *[""] * (len(FIXED_COLUMNS) - 2), said.error, *[""] * len(classes)]
    probabilities = dict(said.ranking)
    flag = "yes" if said.is_none_of_these else "no"
    fixed = [said.path, said.label, f"{said.probability:.6f}", "|".join(said.set), flag, f"{said.novelty:.4f}", ""]
    return [*fixed, *(f"{probabilities[name]:.6f}" for name in classes)]


def _table_line(said: Prediction, top: int) -> str:
    if said.error is not None:
        return f"{said.path}  unreadable: {said.error}"
    ranking = "  ".join(f"{name} {probability:.1%}" for name, probability in said.ranking[:top])
    doubt = "  (none of these?)" if said.is_none_of_these else ""
    return f"{said.path}  {ranking}{doubt}"
