"""The commands: parse, call, print. The only module that prints, configures logging, and exits."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer

from headstart import __version__
from headstart.errors import HeadstartError, UsageError

# Rooms are imported inside the commands: `headstart --help` must not wait for NumPy, let alone torch.

app = typer.Typer(
    name="headstart",
    help="From a folder of labelled pictures to an image classifier that you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130


class Fit(StrEnum):
    """How pictures of other shapes are fitted to the backbone's input."""

    crop = "crop"
    squish = "squish"
    pad = "pad"


class Device(StrEnum):
    """Where the backbone runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    """The arithmetic of the backbone."""

    auto = "auto"
    f32 = "f32"
    bf16 = "bf16"


class Format(StrEnum):
    """How predictions are written."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def _settings(context: typer.Context, path: Path | None) -> Path | None:
    """Take defaults for the command's options from a TOML file; the command line wins."""
    if path is None:
        return None
    import tomllib

    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the settings file {path}: {error}") from error
    known = {option.name: option for option in context.command.params if option.name not in (None, "config", "data")}
    for key in values:
        if key.replace("-", "_") not in known:
            raise UsageError(f"unknown setting '{key}' in {path}. Known: {', '.join(sorted(map(str, known)))}.")
    context.default_map = {key.replace("-", "_"): value for key, value in values.items()}
    return path


Data = Annotated[
    Path, typer.Argument(help="Class folders, split folders, a CSV/Parquet/JSON Lines manifest, or a zip/tar.")
]
Model = Annotated[Path, typer.Argument(help="A run folder, or its model/.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the backbone runs.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Its arithmetic; auto: bf16 where the hardware has it.")]
GroupBy = Annotated[
    str | None,
    typer.Option(help="A manifest's column, or a regular expression on paths: pictures of a group stay in one part."),
]
Config = Annotated[
    Path | None,
    typer.Option(help="A TOML file with any of these options.", is_eager=True, callback=_settings),
]


@app.command()
def train(
    data: Data,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run folder.  [default: runs/NAME]")] = None,
    backbone: Annotated[str, typer.Option(help="Any timm classifier, or torchvision/NAME.")] = "tf_efficientnet_lite0",
    weights: Annotated[Path | None, typer.Option(help="The backbone's weights: safetensors or a state dict.")] = None,
    fit: Annotated[Fit | None, typer.Option(help="For pictures of other shapes.  [default: the backbone's]")] = None,
    test: Annotated[
        str, typer.Option(help="Fraction of the pictures to hold out, or a folder that holds them.")
    ] = "0.2",
    group_by: GroupBy = None,
    seed: Annotated[int, typer.Option(help="Draws the split.", min=0)] = 0,
    balanced: Annotated[bool, typer.Option("--balanced", help="Weigh classes equally, however many pictures.")] = False,
    keep_leaks: Annotated[
        bool, typer.Option("--keep-leaks", help="Keep training pictures that also stand in the given test.")
    ] = False,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.auto,
    config: Config = None,
) -> None:
    """Train a classifier on a folder of labelled pictures."""
    from headstart import progress, terminal, workflow
    from headstart.delivery import run_folder

    options = run_folder.TrainOptions(
        backbone=backbone,
        weights=weights,
        fit=fit.value if fit else None,
        test=_test(test),
        group_by=group_by,
        seed=seed,
        balanced=balanced,
        keep_leaks=keep_leaks,
        device=device.value,
        precision=precision.value,
    )
    run = workflow.train(data, output, options, progress.for_stream())
    _print(terminal.run_lines(run))


@app.command()
def predict(
    model: Model,
    pictures: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for paths on standard input.")],
    format: Annotated[Format, typer.Option(help="How to write the answers.")] = Format.table,  # noqa: A002
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the answers to this file.")] = None,
    top: Annotated[int, typer.Option(help="How many classes to show in the table.", min=1)] = 3,
    sheet: Annotated[Path | None, typer.Option(help="Draw the pictures with their predictions into this PNG.")] = None,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Say what is in pictures, with calibrated probabilities."""
    from headstart.delivery import answers, artefact
    from headstart.delivery import sheet as sheets

    predictor = artefact.load(model, device.value, precision.value)
    unreadable = 0
    tiles: list[sheets.Tile] = []
    with _opened(output) as stream:
        write = answers.writer(format.value, stream, predictor.classes, top)
        for said in predictor.stream(answers.expand(pictures, sys.stdin)):
            write(said)
            if said.error is not None:
                unreadable += 1
                _warn(f"{said.path}: {said.error}")
            if sheet is not None and len(tiles) < sheets.LIMIT:
                tiles.append(answers.tile(said, predictor.classes))
    if sheet is not None:
        sheets.draw(tiles, sheet)
    if unreadable:
        raise HeadstartError(f"{unreadable} of the inputs could not be read; the rest are answered.")


@app.command()
def evaluate(
    model: Model,
    data: Data,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write metrics.json and predictions.csv into this folder.")
    ] = None,
    allow_training_pictures: Annotated[
        bool, typer.Option("--allow-training-pictures", help="Only warn about pictures that the model learnt from.")
    ] = False,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Measure a classifier on labelled pictures that it has not seen."""
    from headstart import progress, terminal, workflow
    from headstart.delivery import artefact, run_folder

    predictor = artefact.load(model, device.value, precision.value)
    measured = workflow.measure(predictor, data, allow_seen=allow_training_pictures, progress=progress.for_stream())
    if output is not None:
        run_folder.write_measured(output, measured.trial, measured.dataset.problems)
    _print(terminal.measured_lines(measured, measured.dataset.root))


@app.command()
def check(
    data: Data,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write problems.csv into this folder.")] = None,
    group_by: GroupBy = None,
    keep_leaks: Annotated[bool, typer.Option("--keep-leaks", help="As for train.")] = False,
) -> None:
    """Say what is in a folder of pictures and what is wrong with it; nothing is trained."""
    from headstart import progress, terminal, workflow
    from headstart.delivery import run_folder

    checked = workflow.check(data, group_by=group_by, keep_leaks=keep_leaks, progress=progress.for_stream())
    if output is not None:
        run_folder.write_checked(output, checked.dataset.problems)
    _print(terminal.check_lines(checked, data))
    if checked.obstacle is not None:
        raise HeadstartError(checked.obstacle)


@app.command()
def backbones() -> None:
    """List the backbones that can be used and where their weights are."""
    from headstart import terminal

    _print(terminal.backbone_lines())


@app.command()
def demo(
    photos: Annotated[
        str | None, typer.Option(help="Download real photos instead: eurosat, imagenette or textures.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The run folder.")] = Path("runs/demo"),
) -> None:
    """Run the main job from start to finish on a small real set: pictures, training, report, prediction."""
    from headstart import demonstration, progress, terminal, workflow

    data = demonstration.digits() if photos is None else demonstration.photos(photos)
    sys.stdout.write(f"The pictures: {data}\n\n$ headstart train {data} -o {output}\n")
    run = workflow.train(data, output, progress=progress.for_stream())
    _print(terminal.run_lines(run))
    sys.stdout.write("\n")
    _print(demonstration.show(run))


cache = typer.Typer(help="Show or shrink the cache.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache, name="cache")


@cache.command("info")
def cache_info() -> None:
    """Say where the cache is, and what it holds."""
    from headstart import terminal

    _print(terminal.cache_lines())


@cache.command("prune")
def cache_prune(
    gigabytes: Annotated[float, typer.Option(help="What may stay.", min=0.0)] = 20.0,
) -> None:
    """Delete the features that were not used for longest."""
    from headstart.features import store

    freed = store.prune(int(gigabytes * 1024**3))
    sys.stdout.write(f"freed {freed / 1024**2:,.1f} MB\n")


@cache.command("clear")
def cache_clear() -> None:
    """Delete the whole cache; everything in it can be made again."""
    from headstart import storage

    freed = storage.clear_cache()
    sys.stdout.write(f"freed {freed / 1024**2:,.1f} MB in {storage.cache_folder()}\n")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"headstart {__version__}\n")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Say what all commands share."""


def main() -> None:
    """Run the command line; a HeadstartError becomes one message, never a traceback."""
    with _clear_exit():
        app(standalone_mode=True)


@contextmanager
def _clear_exit() -> Iterator[None]:
    try:
        yield
    except HeadstartError as error:
        _warn(f"error: {error}")
        sys.exit(error.exit_status)
    except SystemExit as left:
        if left.code == INTERRUPTED:
            _warn("interrupted: what was embedded is kept; run the same command again to go on.")
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _test(text: str) -> float | Path:
    try:
        fraction = float(text)
    except ValueError:
        if Path(text).is_dir():
            return Path(text)
        raise UsageError(f"--test is neither a fraction nor a folder: '{text}'.") from None
    if not 0 < fraction < 1:
        raise UsageError(f"--test must be above 0 and below 1, or a folder; received {text}.")
    return fraction


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """The file at `path`, which appears when it is complete; standard output without one."""
    if path is None:
        yield sys.stdout
        return
    from headstart.storage import written_atomically

    with written_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def _warn(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def _print(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
