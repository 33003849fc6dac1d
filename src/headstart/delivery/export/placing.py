"""Where an export goes: a folder or one file, with its record; whole or not at all, and never over a stranger."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.delivery.export.formats import FORMATS, Format
from headstart.delivery.run_folder import write_json
from headstart.errors import StorageError, UsageError
from headstart.storage import (
    clear_storage_errors,
    folder_written_atomically,
    recover,
    temporary_folder,
    written_atomically,
)

RECORD = "export.json"


@dataclass(frozen=True)
class Place:
    """`path` as it was given: a folder, or, where `is_file`, the one file of the format, its record beside it."""

    path: Path
    is_file: bool

    @property
    def record(self) -> Path:
        """Where the record stands."""
        return self.path.with_name(f"{self.path.name}.{RECORD}") if self.is_file else self.path / RECORD


def claim(path: Path, form: Format) -> Place:
    """The place that `path` stands for, made sure, before any long work, that it can be written to.

    Raises:
        UsageError: `path` has the ending of another format.
        StorageError: something stands there that is not an earlier export, or it cannot be written to.
    """
    endings = {one.ending: one.name for one in FORMATS.values() if one.ending} | {".xml": "", ".bin": ""}
    ending = path.suffix.lower()
    if ending in endings and ending != form.ending:
        what = f"one file, *{form.ending}, or a folder" if form.ending else "a folder"
        raise UsageError(f"--to {form.name} is written as {what}; received {path}.")
    if path.name in ("", ".."):
        path = path.resolve()
    place = Place(path, is_file=form.ending is not None and ending == form.ending)
    if not place.is_file:
        recover(path)
    if path.exists() or path.is_symlink():
        _refuse_strangers(place)
    with clear_storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path):
        pass
    return place


@contextmanager
def handed_over(place: Place, form: Format, record: dict[str, Any]) -> Iterator[Path]:
    """Yield a folder for the format's files, which take their place with the `record` when the block has ended well.

    `record` is what the block makes of it. Where the block fails, what stood there is untouched.
    """
    if not place.is_file:
        with folder_written_atomically(place.path) as folder:
            yield folder
            write_json(folder / RECORD, record)
        return
    with temporary_folder(place.path) as folder:
        yield folder
        # The record comes first: a file without one would never be taken for an export again.
        with written_atomically(place.record) as temporary:
            write_json(temporary, record)
        with written_atomically(place.path) as temporary:
            (folder / form.files[0]).rename(temporary)


def _refuse_strangers(place: Place) -> None:
    if not place.is_file and place.path.is_dir() and not any(place.path.iterdir()):
        return
    files = _recorded_files(place)
    if not files:
        raise StorageError(
            f"{place.path} exists and is not an earlier export; nothing was touched. Choose another place with -o."
        )
    if place.is_file:
        return
    strangers = [one.name for one in sorted(place.path.iterdir()) if one.name not in {*files, RECORD}]
    if strangers:
        raise StorageError(
            f"{place.path} holds something beside an earlier export ({strangers[0]}); nothing was touched. "
            "Choose another place with -o."
        )


def _recorded_files(place: Place) -> list[str]:
    """The files of the earlier export that stands at `place`; none where there is no such export."""
    if place.is_file != place.path.is_file():
        return []
    try:
        record = json.loads(place.record.read_text("utf-8"))
        return [str(name) for name in record["files"]] if "format" in record else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
