"""Options that belong together: where the backbone runs, and what predictions are to promise."""

from collections.abc import Callable
from typing import TypeVar

import click

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
