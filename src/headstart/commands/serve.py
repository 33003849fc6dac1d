"""`headstart serve`: its options, made into settings of the server."""

import sys
from pathlib import Path
from typing import Any

import click

from headstart.commands.printing import warn
from headstart.errors import UsageError
from headstart.options import from_a_file, where_it_runs

MB = 1_000_000


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--model", "models", multiple=True, metavar="NAME=PATH", help="One more model, asked for by its name; repeatable."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option(
    "--token",
    envvar="HEADSTART_TOKEN",
    metavar="TEXT",
    help="What callers must send as `Authorization: Bearer TEXT`.  [default: $HEADSTART_TOKEN, or nothing]",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A host name by which callers may know this server, as behind a proxy; repeatable.  "
    "[default: this machine's own on loopback, else any]",
)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that answer.")
@click.option(
    "--batch",
    type=click.IntRange(1, 1024),
    help="The most pictures that go through the network together.  [default: 4 on a CPU, 64 on a GPU]",
)
@click.option(
    "--batch-wait",
    type=click.FloatRange(0, 1000),
    metavar="MS",
    help="How long a picture may wait for others to join its batch.  [default: 0 on a CPU, which gains nothing by it; "
    "5 on a GPU]",
)
@click.option(
    "--queue", type=click.IntRange(1), default=512, show_default=True, help="Pictures that may wait; then 503."
)
@click.option("--max-file-mb", type=click.FloatRange(0.001), default=32, show_default=True, help="Of one picture.")
@click.option("--max-request-mb", type=click.FloatRange(0.001), default=128, show_default=True, help="Of one request.")
@click.option("--max-files", type=click.IntRange(1), default=100, show_default=True, help="Pictures in one request.")
@click.option(
    "--max-megapixels", type=click.FloatRange(0.001, 100), default=100, show_default=True, help="Of one picture."
)
@click.option(
    "--max-memory-mb",
    type=click.FloatRange(0.001),
    default=512,
    show_default=True,
    help="Of all pictures that are under way in one process.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="For a request to arrive, and again for its answer.",
)
@where_it_runs
@from_a_file
def serve(model: Path | None, models: tuple[str, ...], **chosen: Any) -> None:
    """Answer over HTTP what is in pictures, and show a page for it in the browser.

    MODEL is a run folder or its model/. When it changes, as after another `headstart train`, the new model takes over
    without a pause.
    """
    from headstart.delivery.serve import running
    from headstart.delivery.serve.settings import Limits, Settings

    limits = Limits(
        file_bytes=round(chosen["max_file_mb"] * MB),
        request_bytes=round(chosen["max_request_mb"] * MB),
        files=chosen["max_files"],
        pixels=round(chosen["max_megapixels"] * 1_000_000),
        held_bytes=round(chosen["max_memory_mb"] * MB),
        waiting=chosen["queue"],
        seconds=chosen["timeout"],
    )
    wait = chosen["batch_wait"]
    settings = Settings(
        models=_named(model, models),
        limits=limits,
        token=chosen["token"] or None,
        batch_wait=None if wait is None else wait / 1000,
        **{key: chosen[key] for key in ("host", "port", "allowed_hosts", "workers", "batch", "device", "precision")},
    )
    try:
        running.serve(settings, _say, warn)
    except KeyboardInterrupt:  # while it starts; later on it is the way to stop
        sys.exit(130)


def _named(model: Path | None, models: tuple[str, ...]) -> tuple[tuple[str, Path], ...]:
    """The models with their names, the first of which answers where none is asked for."""
    named = [] if model is None else [(_own_name(model), model)]
    for text in models:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--model takes NAME=PATH; received '{text}'.")
        named.append((name, Path(path)))
    if not named:
        raise UsageError("no model: give a run folder, or --model NAME=PATH.")
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two models are called '{twice[0]}'; give them different names with --model NAME=PATH.")
    return tuple(named)


def _own_name(model: Path) -> str:
    """The run folder's name."""
    whole = model.resolve()
    return (whole.parent if whole.name == "model" else whole).name or "model"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
