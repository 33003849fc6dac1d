"""`headstart export`: its options, and what it prints."""

import sys
from pathlib import Path

import click

from headstart.options import from_a_file

# As in delivery.export.formats, which is not imported here: `headstart --help` must not wait for NumPy.
NAMES = ("onnx", "openvino", "openvino-int8", "torch", "executorch", "litert")

FilePath = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=FilePath)
@click.option("--to", type=click.Choice(NAMES), required=True, help="The format.")
@click.option(
    "--output",
    "-o",
    "path",
    type=FilePath,
    required=True,
    metavar="PATH",
    help="A folder; or a file, where the format is one: *.onnx, *.pt2, *.pte.",
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
@from_a_file
def export(model: Path, to: str, path: Path, raw: bool, agreement: float | None, data: Path | None) -> None:
    """Write MODEL as a file for another runtime, once it has proved to answer as the model does.

    MODEL is a run folder or its model/. The file is asked about the pictures that the run held out; below the agreement
    that is asked for nothing is written, and the worst pictures are named.
    """
    from headstart import progress
    from headstart.delivery.export import exporting, telling

    shown = progress.on_standard_error()
    done = exporting.export(model, to, path, raw=raw, agreement=agreement, data=data, progress=shown)
    for line in telling.lines(done):
        sys.stdout.write(f"{line}\n")
