"""What `predict` gives: paths gathered from the command line, answers as a table, CSV or JSON Lines, and a sheet."""

import csv
import glob
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TextIO

from headstart.delivery.sheet import Tile
from headstart.delivery.sheet import tile as make_tile
from headstart.errors import DataError
from headstart.learning.classifier import DEFAULT, Asked, Classifier, Prediction
from headstart.learning.conformal import KINDS, Kind, fewest
from headstart.pictures.addresses import as_path, is_url
from headstart.pictures.shard_sets import is_shard, members
from headstart.pictures.tree import read_tree

Format = Literal["table", "csv", "jsonl"]
FIXED_COLUMNS = ("path", "label", "probability", "set", "none_of_these", "none_of_these_score", "error")

NAMES_SHOWN = 10


def expand(asked: Iterable[str], standard_input: TextIO) -> Iterator[str]:
    """The pictures that arguments stand for: files, folders (searched), globs, shards, URLs, `-` for lines of input.

    Raises:
        DataError: an argument matches nothing.
    """
    for one in asked:
        if one == "-":
            yield from (line.rstrip("\r\n") for line in standard_input if line.strip())
        elif Path(one).is_dir():
            yield from _pictures_in(Path(one))
        elif is_shard(Path(one)) or _is_remote_folder(one):
            yield from members(Path(one))
        elif is_url(one):
            yield as_path(one) or one
        elif glob.has_magic(one) and not Path(one).exists():
            found = sorted(glob.glob(one, recursive=True))
            if not found:
                raise DataError(f"nothing matches {one}.")
            yield from expand(found, standard_input)
        else:
            yield one


@dataclass(frozen=True)
class Shown:
    """What of each prediction is written.

    In the table the `top` classes and, with `sets`, the set; the other forms have all of them. With `unsure`, a column
    of the CSV says whether the answer fails the accuracy that was wanted.
    """

    top: int = 3
    sets: bool = False
    unsure: bool = False


def writer(form: Format, stream: TextIO, classes: tuple[str, ...], shown: Shown) -> Callable[[Prediction], None]:
    """The function that writes one prediction to `stream`, in the given form; a CSV's header is written at once."""
    if form == "jsonl":
        return lambda said: _write_line(stream, json.dumps(said.to_json(), ensure_ascii=False))
    if form == "csv":
        _write_line(stream, _csv_line(columns(classes, shown)))
        return lambda said: _write_line(stream, _csv_line(_cells(said, classes, shown)))
    return lambda said: _write_line(stream, _table_line(said, shown))


def columns(classes: tuple[str, ...], shown: Shown) -> list[str]:
    """The columns of the CSV: the fixed ones, and each class's probability."""
    return [*FIXED_COLUMNS, *(["unsure"] if shown.unsure else []), *(f"p({name})" for name in classes)]


def asked_for(coverage: str | None, sets: str | None, wanted: str | None) -> Asked:
    """What the options of `predict`, as they stand on the command line, ask for."""
    kinds: dict[str | None, Kind] = {kind.replace("_", "-"): kind for kind in KINDS}
    return Asked(
        kind=kinds.get(sets, DEFAULT.kind),
        coverage=DEFAULT.coverage if coverage is None else float(coverage),
        wanted=None if wanted is None else float(wanted),
    )


def remarks(classifier: Classifier, asked: Asked) -> Iterator[str]:
    """What a reader of the predictions should know: which of the promises `asked` for the classifier cannot give."""
    always = classifier.sets.always_in(asked.kind, asked.coverage)
    if always:
        which = "every class is" if len(always) == len(classifier.classes) else _named(classifier, always)
        whom = "of a class " if asked.kind == "per_class" else ""
        yield (
            f"{which} in every set: a coverage of {asked.coverage:.0%} takes at least {fewest(asked.coverage)} "
            f"pictures {whom}to calibrate with, and there are fewer."
        )
    if asked.wanted is not None and classifier.abstention.threshold(asked.wanted) is None:
        yield f"no answer of this model can be promised to be right {asked.wanted:.0%} of the time: all are unsure."


def tile(said: Prediction, classes: tuple[str, ...]) -> Tile:
    """The prediction as a tile of the sheet; a picture in a folder with a class's name has that as its truth."""
    folder = Path(said.path).parent.name
    return make_tile(said, folder if folder in classes else None)


def _named(classifier: Classifier, numbers: Sequence[int]) -> str:
    """'ant, bee are', or the first classes and how many more."""
    names = ", ".join(classifier.classes[number] for number in numbers[:NAMES_SHOWN])
    more = f" and {len(numbers) - NAMES_SHOWN} more" if len(numbers) > NAMES_SHOWN else ""
    return f"{names}{more} {'is' if len(numbers) == 1 else 'are'}"


def _is_remote_folder(text: str) -> bool:
    """Whether a URL is of a folder: it ends with a slash, or with nothing that a picture's name ends with."""
    return is_url(text) and (text.endswith("/") or not PurePosixPath(text.partition("?")[0]).suffix)


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


def _cells(said: Prediction, classes: tuple[str, ...], shown: Shown) -> list[object]:
    if said.error is not None:
        return [said.path, *[""] * (len(FIXED_COLUMNS) - 2), said.error, *[""] * (len(classes) + shown.unsure)]
    probabilities = dict(said.ranking)
    flag = "yes" if said.is_none_of_these else "no"
    fixed = [said.path, said.label, f"{said.probability:.6f}", "|".join(said.set), flag, f"{said.novelty:.4f}", ""]
    unsure = ["yes" if said.is_unsure else "no"] if shown.unsure else []
    return [*fixed, *unsure, *(f"{probabilities[name]:.6f}" for name in classes)]


def _table_line(said: Prediction, shown: Shown) -> str:
    if said.error is not None:
        return f"{said.path}  unreadable: {said.error}"
    ranking = "  ".join(f"{name} {probability:.1%}" for name, probability in said.ranking[: shown.top])
    doubt = "  (none of these?)" if said.is_none_of_these else ""
    members = f"  {{{', '.join(said.set)}}}" if shown.sets else ""
    unsure = "  (unsure)" if said.is_unsure else ""
    return f"{said.path}  {ranking}{members}{unsure}{doubt}"
