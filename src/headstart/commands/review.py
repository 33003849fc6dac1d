"""`headstart review`: its options, and what is done where no page is wanted."""

import sys
from pathlib import Path

import click

from headstart.errors import UsageError

FilePath = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FilePath)
@click.option("--unlabelled", type=FilePath, metavar="DIR", help="Pictures to label: shown sorted by prediction.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="0: any that is free.")
@click.option(
    "--export", type=FilePath, metavar="FILE.csv", help="Write what the decisions make of the data as a manifest."
)
@click.option(
    "--apply", is_flag=True, help="Move the files into class folders as decided: shows the plan, and asks before."
)
@click.option("--yes", is_flag=True, help="With --apply: do not ask.")
@click.option("--log", is_flag=True, help="List the decisions.")
def review(
    run: Path, unlabelled: Path | None, host: str, port: int, export: Path | None, apply: bool, yes: bool, log: bool
) -> None:
    """Improve the data of RUN in the browser: doubtful labels, duplicates, mistakes, strangers, new pictures.

    Decisions are kept beside the run, in RUN.review.sqlite; no picture is moved or changed, except by --apply.
    `headstart train RUN` trains again with them.
    """
    if yes and not apply:
        raise UsageError("--yes answers what --apply asks; give --apply too.")
    if sum((export is not None, apply, log)) > 1:
        raise UsageError("give one of --export, --apply and --log at a time.")
    if log:
        _print_log(run)
    elif export is not None:
        _export(run, export)
    elif apply:
        _apply(run, yes)
    else:
        _serve(run, unlabelled, (host, port))


def _serve(run: Path, unlabelled: Path | None, address: tuple[str, int]) -> None:
    from headstart import progress, workflow
    from headstart.delivery.review import running

    shown = progress.on_standard_error()
    running.run(run, unlabelled, address, lambda: workflow.train(run), _say, shown)


def _print_log(run: Path) -> None:
    from headstart.delivery.review import chores

    for line in chores.log_lines(run):
        _say(line)


def _export(run: Path, target: Path) -> None:
    from headstart import progress
    from headstart.delivery.review import chores

    _say(chores.write_manifest(run, target, progress.on_standard_error()))


def _apply(run: Path, yes: bool) -> None:
    from headstart import progress
    from headstart.delivery.review import moving

    plan = moving.plan(run, progress.on_standard_error())
    for line in moving.plan_lines(plan):
        _say(line)
    if not plan.moves:
        return
    if not yes and not click.confirm("Move these files?"):
        _say("nothing was moved")
        return
    _say(moving.carry_out(plan))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
