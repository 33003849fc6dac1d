"""A manifest, which is a table with the columns path,label[,split][,group] -> samples."""

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from sys import intern

from headstart.errors import DataError
from headstart.pictures.addresses import as_path, is_url
from headstart.pictures.dataset import Part, Problem, Sample
from headstart.pictures.elsewhere import is_elsewhere
from headstart.pictures.layout import PART_NAMES
from headstart.pictures.tables import Table

REQUIRED = ("path", "label")


def is_manifest(table: Table) -> bool:
    """Whether a table has the columns that a manifest needs."""
    return set(REQUIRED) <= set(table.columns)


def read_manifest(
    manifest: Path, table: Table, root: Path, *, group_column: str = "group", confined: bool = False
) -> tuple[list[Sample], list[Problem]]:
    """The samples that a manifest lists, in its order, and a Problem for each line that is of no use.

    Args:
        manifest: where the table is.
        table: what is in it; its paths are URLs, absolute, or relative to `root`.
        root: the manifest's own folder, which may be a URL. What is not on this machine is not looked for yet.
        group_column: the column that says which pictures must stay together.
        confined: whether to refuse paths that lead out of the folder, as for a manifest from an archive.

    Raises:
        DataError: a column is missing, a path is empty, or a part has a name that is not in `PART_NAMES`.
    """
    if not is_manifest(table):
        missing = ", ".join(repr(name) for name in REQUIRED if name not in table.columns)
        raise DataError(
            f"{manifest} has no column {missing}; its columns are {', '.join(map(repr, table.columns)) or 'none'}."
            " A manifest needs the columns path,label and may have split and group."
        )
    samples: list[Sample] = []
    problems: list[Problem] = []
    for line, row in table.rows:
        sample = _sample(manifest, line, row, group_column)
        problem = _problem(root, sample, f"line {line}", confined)
        if problem is None:
            samples.append(sample)
        else:
            problems.append(problem)
    return samples, problems


def _sample(manifest: Path, line: int, row: Mapping[str, str], group_column: str) -> Sample:
    if not row.get("path"):
        raise DataError(f"{manifest}, line {line}: the path is empty. Fill it in or remove the line.")
    return Sample(
        path=_path(row["path"].strip()),
        label=intern(row.get("label", "").strip()),  # a few different ones, however many pictures
        given=_part(manifest, line, row.get("split", "").strip()),
        group=row.get(group_column, "").strip() or None,
    )


def _path(text: str) -> str:
    return (as_path(text) or text) if is_url(text) else str(PurePosixPath(text))


def _part(manifest: Path, line: int, word: str) -> Part | None:
    if not word:
        return None
    part = PART_NAMES.get(word.lower())
    if part is None:
        allowed = ", ".join(PART_NAMES)
        raise DataError(f"{manifest}, line {line}: the split is {word!r}, but must be one of {allowed}, or empty.")
    return part


def _problem(folder: Path, sample: Sample, where: str, confined: bool) -> Problem | None:
    """Why a listed picture is of no use; None if it may be a picture."""
    if not sample.label:
        return Problem(sample.path, "ignored", f"no label ({where})", "left out")
    if confined and (os.path.isabs(sample.path) or is_url(sample.path) or ".." in PurePosixPath(sample.path).parts):
        return Problem(sample.path, "ignored", f"leads out of the archive ({where})", "left out")
    refused = Problem(sample.path, "unreadable", "", "left out")
    if is_url(sample.path) and as_path(sample.path) != sample.path:
        return replace(refused, detail=f"its address has an empty part, '.' or '..' in it ({where})")
    if is_elsewhere(folder / sample.path):
        return None
    try:
        mode = os.stat(folder / sample.path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return replace(refused, detail=f"no such file ({where})")
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return replace(refused, detail=f"cannot be read: {getattr(error, 'strerror', None) or error} ({where})")
    if not stat.S_ISREG(mode):
        detail = "a folder, not a file" if stat.S_ISDIR(mode) else "not a regular file"
        return replace(refused, detail=f"{detail} ({where})")
    return None
