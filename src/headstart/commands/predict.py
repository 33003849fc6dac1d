"""`headstart predict`: what is in pictures, to be read, to be piped on, or in files by the ten thousand."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from headstart.commands.printing import warn
from headstart.errors import HeadstartError, UsageError
from headstart.options import given_options, on_a_cluster, what_is_promised, where_it_runs

if TYPE_CHECKING:
    from headstart.delivery.answers import Shown
    from headstart.delivery.parts import Answer
    from headstart.delivery.predictor import Predictor
    from headstart.learning.classifier import Asked

FilePath = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=FilePath)
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl", "parquet"]),
    help="How to write the answers.  [default: table; with --parts csv]",
)
@click.option("--output", "-o", type=FilePath, help="Write the answers to this file.")
@click.option(
    "--parts",
    type=FilePath,
    metavar="DIR",
    help="Write the answers into files of this folder, 10,000 pictures each; run again, it goes on where it stopped.",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=3, show_default=True, help="How many classes the table shows."
)
@click.option("--sheet", type=FilePath, help="Draw the pictures with their predictions into this PNG.")
@click.option(
    "--explain",
    type=FilePath,
    metavar="DIR",
    help="Draw into this folder, a PNG for each picture, what in it speaks for its class.",
)
@what_is_promised
@where_it_runs
@on_a_cluster
def predict(
    model: Path,
    pictures: tuple[str, ...],
    form: Any,
    parts: Path | None,
    coverage: str | None,
    sets: str | None,
    wanted_accuracy: str | None,
    cluster: Any,
    **chosen: Any,
) -> None:
    """Say what is in PICTURES, with calibrated probabilities.

    MODEL is a run folder or its model/. PICTURES are files, folders, globs, URLs, shards (tar or Parquet files), or
    - for paths on standard input.
    """
    from headstart.delivery import answers, artefact

    form = form or ("table" if parts is None else "csv")
    _check(form, parts)
    predictor = artefact.load(model, device=chosen.pop("device"), precision=chosen.pop("precision"))
    asked = answers.asked_for(coverage, sets, wanted_accuracy)
    for remark in answers.remarks(predictor.classifier, asked):
        warn(f"note: {remark}")
    listed = answers.expand(pictures, sys.stdin)
    answer = _answers(predictor, cluster)
    if parts is None:
        shown = answers.Shown(chosen.pop("top"), sets=bool(coverage or sets), unsure=asked.wanted is not None)
        unreadable = _show(predictor, answer(listed, asked), form, shown, **chosen)
    else:
        unreadable = _keep(predictor, listed, answer, (parts, form, asked))
    if unreadable:
        raise HeadstartError(f"{unreadable:,} of the inputs could not be read; the rest are answered.")


def _check(form: str, parts: Path | None) -> None:
    """Refuse what does not go together."""
    given = given_options()
    if parts is None and form == "parquet":
        raise UsageError("--format parquet is for files of many answers; give their folder with --parts.")
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError("--format parquet needs pyarrow: pip install 'headstart[parquet]'.")
    if parts is not None and form == "table":
        raise UsageError("--parts writes csv, jsonl or parquet, not a table.")
    if parts is not None and (unfit := sorted(given & {"output", "top", "sheet", "explain"})):
        raise UsageError(f"--parts does not go with --{unfit[0]}.")
    if "explain" in given and "on" in given:
        raise UsageError("--explain draws in this process; leave out --on.")


def _answers(predictor: "Predictor", cluster: Any) -> "Answer":
    """Who answers: the predictor here, or the workers of a cluster."""
    if cluster is None:
        return predictor.stream
    from headstart.scale.answer import answers_on

    return partial(answers_on, cluster, predictor)


def _keep(predictor: "Predictor", listed: Iterator[str], answer: "Answer", to: tuple[Path, Any, "Asked"]) -> int:
    """Write the answers into files of a folder; returns how many pictures could not be read."""
    from headstart import progress
    from headstart.delivery.parts import Parts, write_parts

    folder, form, asked = to
    unreadable = 0
    with progress.on_standard_error().stage("pictures", 0) as advance:
        for said in write_parts(Parts(folder, form, predictor.classifier, asked), listed, answer):
            unreadable += said.error is not None
            advance()
    return unreadable


def _show(
    predictor: "Predictor",
    predictions: Iterator[Any],
    form: Any,
    shown: "Shown",
    *,
    output: Path | None,
    sheet: Path | None,
    explain: Path | None,
) -> int:
    """Write the answers as they come; returns how many pictures could not be read."""
    from headstart.delivery import answers
    from headstart.delivery import sheet as sheets

    unreadable = 0
    tiles: list[sheets.Tile] = []
    with _opened(output) as stream:
        write = answers.writer(form, stream, predictor.classes, shown)
        if explain is not None:
            from headstart.delivery import explain as explaining

            predictions = explaining.drawn(predictor, predictions, explain)
        for said in predictions:
            write(said)
            stream.flush()  # answers stream, also through a pipe
            if said.error is not None:
                unreadable += 1
                warn(f"{said.path}: {said.error}")
            if sheet is not None and len(tiles) < sheets.LIMIT:
                tiles.append(answers.tile(said, predictor.classes))
    if sheet is not None:
        sheets.draw(tiles, sheet)
    return unreadable


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """The file at `path`, which appears when it is complete; standard output without one."""
    if path is None:
        yield sys.stdout
        return
    from headstart.storage import written_atomically

    with written_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream
