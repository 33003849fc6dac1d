"""`headstart export`: its options, and what it prints."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from headstart.errors import UsageError
from headstart.options import from_a_file

# As in delivery.export.formats, which is not imported here: `headstart --help` must not wait for NumPy.
NAMES = ("onnx", "openvino", "openvino-int8", "torch", "executorch", "page", "litert")

FilePath = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=FilePath)
@click.option("--to", type=click.Choice(NAMES), help="The format.")
@click.option(
    "--output",
    "-o",
    "path",
    type=FilePath,
    metavar="PATH",
    help="A folder; or a file, where the format is one: *.onnx, *.pt2, *.pte, *.html.",
)
@click.option(
    "--raw",
    is_flag=True,
    help="Normalised float tensors in and logits out, instead of pixels in and probabilities out.",
)
@click.option(
    "--agreement",
    type=click.FloatRange(0, 1, min_open=True),
    help="The share of held-out pictures that must get the same class.  [default: 0.99; openvino-int8: 0.98]",
)
@click.option(
    "--data",
    type=FilePath,
    help="Labelled pictures to prove it on, which the model has not learnt from.  [default: what the run held out]",
)
@click.option(
    "--runtime",
    type=FilePath,
    metavar="PATH",
    help="For --to page: the npm package onnxruntime-web, its .tgz or folder.  [default: fetched once, and kept]",
)
@click.option(
    "--push",
    "repository",
    metavar="OWNER/NAME",
    help="Push the model folder with its card to this Hugging Face repository; with --to and -o, the export too.",
)
@click.option("--private", is_flag=True, help="Make the repository one that only its owner sees.")
@from_a_file
def export(
    model: Path, to: str | None, path: Path | None, repository: str | None, private: bool, **proving: Any
) -> None:
    """Write MODEL as a file for another runtime, once it has proved to answer as the model does.

    MODEL is a run folder or its model/. The file is asked about the pictures that the run held out; below the agreement
    that is asked for nothing is written, and the worst pictures are named. With --push the model goes to a Hugging Face
    repository; your pictures never do.
    """
    from headstart import progress
    from headstart.delivery.export import exporting, pushing, telling

    shown = progress.on_standard_error()
    _check(to, path, repository, private, proving)
    if repository is not None:
        pushing.claim(repository)
    if to is not None and path is not None:
        _say(telling.lines(exporting.export(model, to, path, progress=shown, **proving)))
    if repository is not None:
        _say(pushing.lines(pushing.push(model, repository, private=private, exported=path, progress=shown)))


def _check(to: str | None, path: Path | None, repository: str | None, private: bool, proving: dict[str, Any]) -> None:
    """Refuse options that need others."""
    if (to is None) != (path is None) or (to is None and repository is None):
        raise UsageError("give --to FORMAT and -o PATH, or --push OWNER/NAME, or all three.")
    if to is None and (idle := sorted(name for name, value in proving.items() if value)):
        raise UsageError(f"--{idle[0]} is about a file that is exported: give --to FORMAT and -o PATH too.")
    if private and repository is None:
        raise UsageError("--private is about a repository: give --push OWNER/NAME too.")


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
