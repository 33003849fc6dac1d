"""What `headstart review` does without its page: the manifest written, the decisions listed."""

from collections.abc import Iterator
from pathlib import Path

from headstart.delivery import run_folder
from headstart.delivery.review import again, export
from headstart.delivery.review.journal import journal_path, open_journal
from headstart.errors import UsageError
from headstart.pictures.overlay import Overlay
from headstart.progress import SILENT, Progress
from headstart.storage import written_atomically


def write_manifest(run: Path, target: Path, progress: Progress = SILENT) -> str:
    """Write what the decisions make of the data of `run` as a CSV manifest; returns a line about it."""
    overlay = present_overlay(run)
    examples = again.divided(again.load(run, overlay, None, progress), overlay)
    with written_atomically(target) as temporary:
        temporary.write_text(export.manifest(examples), "utf-8", newline="\n")
    return (
        f"{len(examples.dataset.samples):,} pictures of {len(examples.dataset.classes)} classes are listed in {target}"
    )


def log_lines(run: Path) -> Iterator[str]:
    """Every decision, the oldest first."""
    path = _journal(run)
    if path is None:
        yield f"nothing was decided about {run} yet"
        return
    journal = open_journal(path, to_read=True)
    try:
        yield from (export.log_line(row) for row in journal.decisions())
    finally:
        journal.close()


def present_overlay(run: Path) -> Overlay:
    """What was decided about the pictures of `run`; empty where it has no journal."""
    path = _journal(run)
    if path is None:
        return Overlay()
    journal = open_journal(path, to_read=True)
    try:
        return journal.overlay()
    finally:
        journal.close()


def _journal(run: Path) -> Path | None:
    if not run_folder.is_run(run):
        raise UsageError(f"{run} is not a run. Give a folder that `headstart train` made.")
    path = journal_path(run)
    return path if path.exists() else None
