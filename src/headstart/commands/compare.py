"""`headstart compare`: finished runs, candidates trained on the same split, or backbones before any is chosen."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.printing import show, warn
from headstart.errors import HeadstartError, UsageError
from headstart.options import fraction_or_folder, given_options, on_a_cluster, site_of, where_it_runs

if TYPE_CHECKING:
    from headstart.delivery.comparing import Compared

FilePath = click.Path(path_type=Path)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=FilePath)
@click.option("--output", "-o", type=FilePath, help="Where results go.  [default, of DATA: runs/NAME-compare]")
@click.option("--tune", metavar="T,T,...", help="Of DATA: none, last, all.  [default: these, unless recipes are given]")
@click.option("--recipe", metavar="R,R,...", help="Of DATA: recipes, by name or TOML file; each at every --tune.")
@click.option("--backbone", help="Of DATA: the backbone of all.  [default: the recipe's, or tf_efficientnet_lite0]")
@click.option("--weights", type=FilePath, help="Of DATA: that backbone's weights.")
@click.option(
    "--backbones",
    metavar="A,B,...|installed",
    help="Of DATA: say which of these backbones to take; installed: all whose weights are here.",
)
@click.option("--join", is_flag=True, help="With --backbones: also try the best two joined.")
@click.option(
    "--fit", type=click.Choice(["crop", "squish", "pad"]), help="Of DATA: for pictures of other shapes, as in train."
)
@click.option(
    "--test", default="0.2", show_default=True, metavar="FRACTION|DIR", help="Of DATA: what to hold out, as in train."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of DATA: draws the split.")
@where_it_runs
@on_a_cluster
def compare(paths: tuple[Path, ...], output: Path | None, cluster: Any, **chosen: Any) -> None:
    """Say which of several runs is better, on the held-out pictures that they share; or which backbone to take.

    PATHS are two or more finished runs; or one DATA, as for train, on which candidates are trained first: one for
    each --tune and --recipe, all on the same split. Candidates that are there already are not trained again. With
    --backbones nothing is trained by epochs: heads on the features of each say which to take.
    """
    backbones, join = chosen.pop("backbones"), chosen.pop("join")
    if join and backbones is None:
        raise UsageError("--join joins the best two of several backbones; give --backbones too.")
    if len(paths) == 1 and backbones is not None:
        if cluster is not None:
            raise UsageError("--on trains candidates on a cluster; backbones are compared on one machine.")
        _choose_backbone(paths[0], output, _listed("--backbones", backbones), join, chosen)
        return
    _compare_runs(paths, output, {**chosen, "cluster": cluster})


def _compare_runs(paths: tuple[Path, ...], output: Path | None, chosen: dict[str, Any]) -> None:
    from headstart import terminal
    from headstart.delivery import comparing, run_folder

    if len(paths) == 1:
        output = output or run_folder.default(paths[0], "-compare")
        compared = _train_candidates(paths[0], output, **chosen)
    else:
        _refuse_options_of_data()
        runs = comparing.read_runs(paths)
        if output is not None:
            comparing.claim(output, own=False)
        compared = comparing.compare_runs(runs)
        if output is not None:
            comparing.write(output, compared)
    show(terminal.compare_lines(compared, None if output is None else output / comparing.PAGE))
    if compared.failures:
        count = len(compared.failures) + len(compared.runs)
        raise HeadstartError(f"{len(compared.failures)} of {count} candidates failed: {', '.join(compared.failures)}.")


def _choose_backbone(data: Path, output: Path | None, names: list[str], join: bool, chosen: dict[str, Any]) -> None:
    """Compare backbones, and print what came of it."""
    from headstart import contests, progress, terminal
    from headstart.delivery import choosing, comparing, run_folder
    from headstart.delivery.run_folder import TrainOptions

    if unfit := sorted(given_options() & {"tune", "recipe", "backbone", "weights"}):
        raise UsageError(f"--{unfit[0]} does not go with --backbones, which compares backbones as they are.")
    if comparing.is_run(data):
        raise UsageError(f"{data} is a run; give the data that the backbones are to be compared on.")
    common = {name: chosen[name] for name in ("fit", "seed", "device", "precision")}
    options = TrainOptions(test=fraction_or_folder(chosen["test"]), **common)
    output = output or run_folder.default(data, "-backbones")
    shown = progress.on_standard_error()
    found = contests.compare_backbones(data, output, options, backbones=names, join=join, progress=shown, tell=warn)
    show(terminal.choice_lines(found, output / choosing.PAGE))


def _train_candidates(
    data: Path, output: Path | None, tune: str | None, recipe: str | None, test: str, cluster: Any, **chosen: Any
) -> "Compared":
    from headstart import contests, progress
    from headstart.delivery import comparing
    from headstart.delivery.run_folder import TrainOptions

    if comparing.is_run(data):
        raise UsageError(f"{data} is a run; give two or more runs, or data to train candidates on.")
    options = TrainOptions(test=fraction_or_folder(test), **chosen)
    shown, site = progress.on_standard_error(), site_of(cluster)
    tunes, recipes = _listed("--tune", tune), _listed("--recipe", recipe)
    return contests.compare(data, output, options, tunes=tunes, recipes=recipes, progress=shown, tell=warn, site=site)


def _listed(option: str, text: str | None) -> list[str]:
    """The words of a list with commas between them."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(f"{option} is a list with commas between its words; received '{text}'.")
    return words


def _refuse_options_of_data() -> None:
    """Finished runs have their options; only the place for the results can be chosen."""
    if given := sorted(given_options() - {"output"}):
        option = given[0].replace("_", "-")
        raise UsageError(f"--{option} is for training candidates on one DATA; finished runs stay as they are.")
