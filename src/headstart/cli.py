"""The commands: parse, call, print. The only module that prints, configures logging, and exits."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from headstart import __version__
from headstart.errors import HeadstartError, UsageError

# Rooms are imported inside the commands: `headstart --help` must not wait for NumPy, let alone torch.

INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., object])
FilePath = click.Path(path_type=Path)

data_argument = click.argument("data", type=FilePath)
model_argument = click.argument("model", type=FilePath)
group_by_option = click.option(
    "--group-by",
    metavar="COLUMN|PATTERN",
    help="Keep pictures together that share a manifest's column, or what a regular expression finds in their paths.",
)
keep_leaks_option = click.option(
    "--keep-leaks", is_flag=True, help="Keep training pictures that also stand in the given test."
)


def where_it_runs(command: Command) -> Command:
    """The options that say where the backbone runs, and in which arithmetic."""
    device = click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where the backbone runs; auto: a CUDA GPU if there is one, else the CPU.",
    )
    precision = click.option(
        "--precision",
        type=click.Choice(["auto", "f32", "bf16"]),
        default="auto",
        show_default=True,
        help="Its arithmetic; auto: bf16 where the hardware has it.",
    )
    return device(precision(command))


def _read_settings(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take defaults for the command's options from a TOML file; the command line wins."""
    if path is None:
        return
    import tomllib

    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the settings file {path}: {error}") from error
    known = {option.name for option in context.command.params if isinstance(option, click.Option)} - {"config"}
    for key, value in values.items():
        if key.replace("-", "_") not in known:
            raise UsageError(f"unknown setting '{key}' in {path}. Known: {', '.join(sorted(map(str, known)))}.")
        if not isinstance(value, str | int | float):
            raise UsageError(
                f"the setting '{key}' in {path} must be a text, a number, true or false; received {value!r}."
            )
    # As on a command line, what is not a switch is text, which the option itself then checks.
    context.default_map = {
        key.replace("-", "_"): value if isinstance(value, bool) else str(value) for key, value in values.items()
    }


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="headstart")
def app() -> None:
    """From a folder of labelled pictures to an image classifier that you can trust."""


@app.command()
@data_argument
@click.option("--output", "-o", type=FilePath, help="The run folder.  [default: runs/NAME]")
@click.option(
    "--backbone", default="tf_efficientnet_lite0", show_default=True, help="Any timm classifier, or torchvision/NAME."
)
@click.option("--weights", type=FilePath, help="The backbone's weights: safetensors or a PyTorch state dict.")
@click.option(
    "--fit",
    type=click.Choice(["crop", "squish", "pad"]),
    help="For pictures of other shapes.  [default: the backbone's]",
)
@click.option(
    "--test",
    default="0.2",
    show_default=True,
    metavar="FRACTION|DIR",
    help="How many pictures to hold out, or a folder that holds them.",
)
@group_by_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the split.")
@click.option("--balanced", is_flag=True, help="Weigh classes equally, however many pictures each has.")
@keep_leaks_option
@where_it_runs
@click.option(
    "--config",
    type=FilePath,
    is_eager=True,
    expose_value=False,
    callback=_read_settings,
    help="A TOML file of options.",
)
def train(data: Path, output: Path | None, test: str, **chosen: Any) -> None:
    """Train a classifier on the labelled pictures in DATA.

    DATA is a folder of class folders, a folder of split folders (train, val, test), a CSV, Parquet or JSON Lines
    manifest (path,label[,split][,group]), or a zip or tar archive of one of these.
    """
    from headstart import progress, terminal, workflow
    from headstart.delivery.run_folder import TrainOptions

    options = TrainOptions(test=_test(test), **chosen)
    run = workflow.train(data, output, options, progress.on_standard_error())
    _print(terminal.run_lines(run))


@app.command()
@model_argument
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    show_default=True,
    help="How to write the answers.",
)
@click.option("--output", "-o", type=FilePath, help="Write the answers to this file.")
@click.option(
    "--top", type=click.IntRange(min=1), default=3, show_default=True, help="How many classes the table shows."
)
@click.option("--sheet", type=FilePath, help="Draw the pictures with their predictions into this PNG.")
@where_it_runs
def predict(
    model: Path,
    pictures: tuple[str, ...],
    form: Any,
    output: Path | None,
    top: int,
    sheet: Path | None,
    **engine: Any,
) -> None:
    """Say what is in PICTURES, with calibrated probabilities.

    MODEL is a run folder or its model/. PICTURES are files, folders, globs, or - for paths on standard input.
    """
    from headstart.delivery import answers, artefact
    from headstart.delivery import sheet as sheets

    predictor = artefact.load(model, **engine)
    unreadable = 0
    tiles: list[sheets.Tile] = []
    with _opened(output) as stream:
        write = answers.writer(form, stream, predictor.classes, top)
        for said in predictor.stream(answers.expand(pictures, sys.stdin)):
            write(said)
            stream.flush()  # answers stream, also through a pipe
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
@model_argument
@data_argument
@click.option(
    "--output", "-o", type=FilePath, help="Write metrics.json, predictions.csv, problems.csv into this folder."
)
@click.option("--allow-training-pictures", is_flag=True, help="Only warn about pictures that the model learnt from.")
@where_it_runs
def evaluate(model: Path, data: Path, output: Path | None, allow_training_pictures: bool, **engine: Any) -> None:
    """Measure the classifier MODEL on the labelled pictures in DATA, which it must not have seen."""
    from headstart import progress, terminal, workflow
    from headstart.delivery import artefact, run_folder

    predictor = artefact.load(model, **engine)
    measured = workflow.measure(
        predictor, data, allow_seen=allow_training_pictures, progress=progress.on_standard_error()
    )
    if output is not None:
        run_folder.write_measured(output, measured.trial, measured.dataset.problems)
    _print(terminal.measured_lines(measured))


@app.command()
@data_argument
@click.option("--output", "-o", type=FilePath, help="Write problems.csv into this folder.")
@group_by_option
@keep_leaks_option
def check(data: Path, output: Path | None, group_by: str | None, keep_leaks: bool) -> None:
    """Say what is in DATA and what is wrong with it; nothing is trained."""
    from headstart import progress, terminal, workflow
    from headstart.delivery import run_folder

    checked = workflow.check(data, group_by=group_by, keep_leaks=keep_leaks, progress=progress.on_standard_error())
    if output is not None:
        run_folder.write_checked(output, checked.dataset.problems)
    _print(terminal.check_lines(checked, data))
    if checked.obstacle is not None:
        raise HeadstartError(checked.obstacle)


@app.command()
def backbones() -> None:
    """List the backbones that can be used, and where their weights are."""
    from headstart import terminal

    _print(terminal.backbone_lines())


@app.command()
@click.option("--photos", metavar="SET", help="Download real photos instead: eurosat, imagenette or textures.")
@click.option("--output", "-o", type=FilePath, default=Path("runs/demo"), show_default=True, help="The run folder.")
def demo(photos: str | None, output: Path) -> None:
    """Run the main job from start to finish on a small real set: pictures, training, report, prediction."""
    from headstart import demonstration, progress, terminal, workflow

    shown = progress.on_standard_error()
    data = demonstration.digits(shown) if photos is None else demonstration.photos(photos)
    _print([f"$ headstart train {data} -o {output}"])
    run = workflow.train(data, output, progress=shown)
    _print(terminal.run_lines(run))
    _print(["", *demonstration.show(run)])


@app.group()
def cache() -> None:
    """Show or shrink the cache."""


@cache.command("info")
def cache_info() -> None:
    """Say where the cache is, and what it holds."""
    from headstart import terminal

    _print(terminal.cache_lines())


@cache.command("prune")
@click.option("--gigabytes", type=click.FloatRange(min=0), default=20.0, show_default=True, help="What may stay.")
def cache_prune(gigabytes: float) -> None:
    """Delete the features that were not used for longest."""
    from headstart.features import store

    freed = store.prune(int(gigabytes * 1024**3))
    _print([f"freed {freed / 1024**2:,.1f} MB"])


@cache.command("clear")
def cache_clear() -> None:
    """Delete the whole cache; everything in it can be made again."""
    from headstart import storage

    freed = storage.clear_cache()
    _print([f"freed {freed / 1024**2:,.1f} MB in {storage.cache_folder()}"])


def main() -> None:
    """Run the command line; a HeadstartError becomes one message, never a traceback."""
    try:
        app(standalone_mode=False)
    except HeadstartError as error:
        _leave(f"error: {error}", error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _leave("interrupted: what was embedded is kept; run the same command again to go on.", INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = None  # whoever read our output has gone; so do we, quietly
        sys.exit(1)
    except OSError as error:
        _leave(f"error: {error}", 1)
    sys.exit(0)


def _leave(message: str, status: int) -> None:
    _warn(message)
    sys.exit(status)


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
    for line in lines:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
