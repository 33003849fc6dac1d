"""Options that several commands have: where the backbone runs, what predictions are to promise, a file of options."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headstart.errors import UsageError
from headstart.pictures.addresses import is_url

if TYPE_CHECKING:
    from headstart.site import Site

Command = TypeVar("Command", bound=Callable[..., object])


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


def on_a_cluster(command: Command) -> Command:
    """The option --on, which gives the work to a Ray cluster; the command is passed `cluster`, joined, or None."""
    option = click.option(
        "--on",
        metavar="ray|ray://HOST:PORT",
        help="Give the work to a Ray cluster: ray: one with this machine's cores, or the one that this is a job of.",
    )

    @functools.wraps(command)
    def joined(*args: Any, on: str | None, **rest: Any) -> object:
        if on is None:
            return command(*args, cluster=None, **rest)
        from headstart.scale.cluster import joined

        with joined(on) as cluster:
            return command(*args, cluster=cluster, **rest)

    return option(joined)  # type: ignore[return-value]


def site_of(cluster: Any) -> "Site":
    """The site that the option --on chose."""
    if cluster is None:
        from headstart.workflow import HERE

        return HERE
    from headstart.scale import site

    return site.site_of(cluster)


def what_is_promised(command: Command) -> Command:
    """The options that say how often sets hold the truth, which sets, and how often sure answers are right."""
    coverage = click.option(
        "--coverage",
        type=click.Choice(["0.8", "0.9", "0.95", "0.99"]),
        help="How often sets hold the truth; the table then shows them.  [default: 0.95]",
    )
    sets = click.option(
        "--sets",
        type=click.Choice(["threshold", "adaptive", "per-class"]),
        help="The smallest sets, those that grow with the difficulty, or those that hold the truth as often for each "
        "class; the table then shows them.  [default: threshold]",
    )
    wanted = click.option(
        "--wanted-accuracy",
        type=click.Choice(["0.9", "0.95", "0.98", "0.99"]),
        help="Mark answers as unsure, so that the others are right so often.",
    )
    return coverage(sets(wanted(command)))


def from_a_file(command: Command) -> Command:
    """The option --config, which names a TOML file of the command's other options."""
    option = click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_read_settings,
        help="A TOML file of options.",
    )
    return option(command)


def given_options() -> set[str]:
    """The options of the command that were given, in whatever way."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    names = [str(option.name) for option in context.command.params if isinstance(option, click.Option)]
    return {name for name in names if context.get_parameter_source(name) is not default}


def fraction_or_folder(text: str) -> float | Path:
    """What --test says: a fraction of the pictures, or the folder that holds them."""
    try:
        fraction = float(text)
    except ValueError:
        if Path(text).is_dir() or is_url(text):
            return Path(text)
        raise UsageError(f"--test is neither a fraction nor a folder: '{text}'.") from None
    if not 0 < fraction < 1:
        raise UsageError(f"--test must be above 0 and below 1, or a folder; received {text}.")
    return fraction


def _read_settings(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take defaults for the command's options from a TOML file; the command line wins."""
    if path is None:
        return
    import tomllib

    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the settings file {path}: {error}") from error
    options = {option.name: option for option in context.command.params if isinstance(option, click.Option)}
    known = options.keys() - {"config"}
    for key, value in values.items():
        if key.replace("-", "_") not in known:
            raise UsageError(f"unknown setting '{key}' in {path}. Known: {', '.join(sorted(map(str, known)))}.")
        several = options[key.replace("-", "_")].multiple
        if not isinstance(value, list if several else str | int | float):
            kind = "a list of texts" if several else "a text, a number, true or false"
            raise UsageError(f"the setting '{key}' in {path} must be {kind}; received {value!r}.")
    # As on a command line, what is not a switch is text, which the option itself then checks.
    context.default_map = {key.replace("-", "_"): _as_typed(value) for key, value in values.items()}


def _as_typed(value: Any) -> Any:
    if isinstance(value, list):
        return [str(one) for one in value]
    return value if isinstance(value, bool) else str(value)
