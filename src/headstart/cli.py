"""The commands: parse, call, print, by way of `commands`. The only module that configures logging, and exits."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart import __version__
from headstart.commands.backbones import backbones
from headstart.commands.compare import compare
from headstart.commands.export import export
from headstart.commands.predict import predict
from headstart.commands.printing import show, warn
from headstart.commands.review import review
from headstart.commands.serve import serve
from headstart.errors import HeadstartError, UsageError
from headstart.options import fraction_or_folder, from_a_file, given_options, on_a_cluster, site_of, where_it_runs

if TYPE_CHECKING:
    from headstart.delivery.run_folder import TrainOptions

# Rooms are imported inside the commands: `headstart --help` must not wait for NumPy, let alone torch.

INTERRUPTED = 130

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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="headstart")
def app() -> None:
    """From a folder of labelled pictures to an image classifier that you can trust."""


@app.command()
@data_argument
@click.option("--output", "-o", type=FilePath, help="The run folder.  [default: runs/NAME]")
@click.option(
    "--backbone",
    help="Any timm classifier, or torchvision/NAME.  [default: the recipe's, or tf_efficientnet_lite0]",
)
@click.option(
    "--weights",
    type=FilePath,
    metavar="FILE|none",
    help="The backbone's weights: safetensors or a PyTorch state dict; none: start untrained.",
)
@click.option(
    "--tune",
    type=click.Choice(["none", "last", "all"]),
    help="How much of the backbone moves.  [default: none, or the recipe's]",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE.toml",
    help="How to train by epochs: classic-frozen, classic-finetune, adam-clip, sgd-decay, augmented, ..., or a file.",
)
@click.option("--resume", is_flag=True, help="Go on with an unfinished training by epochs.")
@click.option(
    "--track",
    type=click.Choice(["tensorboard", "mlflow", "trackio"]),
    help="Send each epoch's numbers to a tracker.",
)
@click.option(
    "--fit",
    type=click.Choice(["crop", "squish", "pad"]),
    help="For pictures of other shapes.  [default: the backbone's]",
)
@click.option(
    "--test",
    metavar="FRACTION|DIR",
    help="How many pictures to hold out, or a folder that holds them.  [default: 0.2, or the recipe's]",
)
@group_by_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Draws the split, and all that is random in training.",
)
@click.option("--balanced", is_flag=True, help="Weigh classes equally, however many pictures each has.")
@keep_leaks_option
@where_it_runs
@from_a_file
@on_a_cluster
def train(data: Path, output: Path | None, test: str | None, cluster: Any, **chosen: Any) -> None:
    """Train a classifier on the labelled pictures in DATA.

    DATA is a folder of class folders, a folder of split folders (train, val, test), a CSV, Parquet or JSON Lines
    manifest (path,label[,split][,group]), or a zip or tar archive of one of these; or shards: WebDataset tar files, or
    Parquet files with pictures in them, by folder, pattern ('train-{000..099}.tar') or a .txt list. Each may be a URL
    (s3, gs, hf, http), and so may the paths in a manifest. DATA may also be a finished run, which is trained again from
    its data, with its options, and with what was decided in `headstart review`.
    """
    from headstart import processes, progress, terminal, workflow
    from headstart.delivery import run_folder

    options = run_folder.TrainOptions(test=None if test is None else fraction_or_folder(test), **chosen)
    if run_folder.is_run(data):
        options = _as_recorded(data, options)
    run = workflow.train(data, output, options, progress.on_standard_error(), site_of(cluster))
    if processes.is_main():
        show(terminal.run_lines(run))


def _as_recorded(run: Path, chosen: "TrainOptions") -> "TrainOptions":
    """The options that `run` was trained with, but for the few that do not change what comes out."""
    from dataclasses import replace

    from headstart.delivery import run_folder

    given = given_options()
    free = {"resume", "track", "device", "precision"}
    if fixed := given - free - {"output"}:
        option = sorted(fixed)[0].replace("_", "-")
        raise UsageError(f"{run} is a run, which is trained again as it was; leave out --{option}, or train its data.")
    return replace(run_folder.recorded(run)[1], **{name: getattr(chosen, name) for name in given & free})


@app.command()
@model_argument
@data_argument
@click.option(
    "--output", "-o", type=FilePath, help="Write metrics.json, predictions.csv, problems.csv into this folder."
)
@click.option("--allow-training-pictures", is_flag=True, help="Only warn about pictures that the model learnt from.")
@where_it_runs
@on_a_cluster
def evaluate(
    model: Path, data: Path, output: Path | None, allow_training_pictures: bool, cluster: Any, **engine: Any
) -> None:
    """Measure the classifier MODEL on the labelled pictures in DATA, which it must not have seen."""
    from headstart import progress, terminal, workflow
    from headstart.delivery import artefact, evidence, run_folder

    predictor = artefact.load(model, **engine)
    reviewed = run_folder.reviewed_of_model(model)
    shown = progress.on_standard_error()
    measured = workflow.measure(
        predictor, data, allow_seen=allow_training_pictures, reviewed=reviewed, progress=shown, site=site_of(cluster)
    )
    if output is not None:
        extras = evidence.of_trial(measured.dataset, measured.trial, lambda: predictor, output)
        found = measured.trial, measured.promises, measured.dataset
        run_folder.write_measured(output, *found, extras, seen=measured.seen)
    show(terminal.measured_lines(measured))


@app.command()
@data_argument
@click.option(
    "--output", "-o", type=FilePath, help="Write problems.csv, suspects.csv and report.html into this folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything that was found as JSON.")
@group_by_option
@keep_leaks_option
@click.option(
    "--preview-augmentation",
    "sheet",
    type=FilePath,
    metavar="FILE",
    help="Draw what an augmentation makes of some of the pictures into this PNG.",
)
@click.option(
    "--augmentation",
    metavar="NAME|RECIPE",
    help="Which: a policy's name, or a recipe's, or a .toml file.  [default: gentle]",
)
@on_a_cluster
def check(
    data: Path,
    output: Path | None,
    group_by: str | None,
    keep_leaks: bool,
    as_json: bool,
    sheet: Path | None,
    augmentation: str | None,
    cluster: Any,
) -> None:
    """Say what is in DATA and what is wrong with it: duplicates, leaks, doubtful labels, flawed pictures, shortcuts."""
    import json

    from headstart import progress, terminal, workflow
    from headstart.delivery import evidence, run_folder

    if sheet is None and augmentation is not None:
        raise UsageError("--augmentation says what to preview; give --preview-augmentation FILE.png too.")
    chosen = None
    if sheet is not None:
        from headstart.delivery import preview  # with torch

        chosen = preview.choose(augmentation or preview.DEFAULT)  # a mistyped name is not to cost a long check
    shown, site = progress.on_standard_error(), site_of(cluster)
    checked = workflow.check(data, group_by=group_by, keep_leaks=keep_leaks, progress=shown, site=site)
    if output is not None:
        extras = evidence.of_data(checked.dataset, output)
        run_folder.write_checked(output, checked.dataset, checked.audit, checked.examples, extras)
    if as_json:
        show(
            [json.dumps(run_folder.checked_json(checked.dataset, checked.audit, checked.obstacle), ensure_ascii=False)]
        )
    else:
        show(terminal.check_lines(checked, data))
    if sheet is not None and chosen is not None and checked.dataset.samples:
        lines = terminal.preview_lines(sheet, workflow.preview(checked.dataset, chosen, sheet))
        show([] if as_json else lines)
    if checked.obstacle is not None:
        raise HeadstartError(checked.obstacle)


@app.command()
@click.option("--photos", metavar="SET", help="Download real photos instead: eurosat, imagenette or textures.")
@click.option("--output", "-o", type=FilePath, default=Path("runs/demo"), show_default=True, help="The run folder.")
def demo(photos: str | None, output: Path) -> None:
    """Run the main job from start to finish on a small real set: pictures, training, report, prediction."""
    from headstart import demonstration, progress, terminal, workflow

    shown = progress.on_standard_error()
    data = demonstration.digits(shown) if photos is None else demonstration.photos(photos)
    show([f"$ headstart train {data} -o {output}"])
    run = workflow.train(data, output, progress=shown)
    show(terminal.run_lines(run))
    show(["", *demonstration.show(run)])


@app.group()
def cache() -> None:
    """Show or shrink the cache."""


@cache.command("info")
def cache_info() -> None:
    """Say where the cache is, and what it holds."""
    from headstart import terminal

    show(terminal.cache_lines())


@cache.command("prune")
@click.option("--gigabytes", type=click.FloatRange(min=0), default=20.0, show_default=True, help="What may stay.")
def cache_prune(gigabytes: float) -> None:
    """Delete the features that were not used for longest."""
    from headstart.features import store

    freed = store.prune(int(gigabytes * 1024**3))
    show([f"freed {freed / 1024**2:,.1f} MB"])


@cache.command("clear")
def cache_clear() -> None:
    """Delete the whole cache; everything in it can be made again."""
    from headstart import storage

    freed = storage.clear_cache()
    show([f"freed {freed / 1024**2:,.1f} MB in {storage.cache_folder()}"])


app.add_command(backbones)
app.add_command(compare)
app.add_command(export)
app.add_command(predict)
app.add_command(serve)
app.add_command(review)


def main() -> None:
    """Run the command line; a HeadstartError becomes one message, never a traceback."""
    try:
        app(standalone_mode=False)
    except HeadstartError as error:
        _leave(f"error: {error}", error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        _leave(f"interrupted: {_what_is_kept(error)}", INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = None  # whoever read our output has gone; so do we, quietly
        sys.exit(1)
    except OSError as error:
        _leave(f"error: {error}", 1)
    sys.exit(0)


def _what_is_kept(error: BaseException) -> str:
    """What the interrupted work says of itself; click wraps a KeyboardInterrupt into its own."""
    said = str(error.__cause__ or error)
    return said or "what was embedded is kept; run the same command again to go on."


def _leave(message: str, status: int) -> None:
    warn(message)
    sys.exit(status)
