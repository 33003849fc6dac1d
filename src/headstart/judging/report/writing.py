"""The report of a run folder, written: one self-contained page that says how good a classifier is, and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headstart.judging.report.page import render
from headstart.judging.report.record import read_record
from headstart.storage import written_atomically

REPORT = "report.html"


@dataclass(frozen=True)
class Extras:
    """What the report shows and a run folder does not hold.

    `locate` leads from a path of the CSV files to its file. `saliency` holds, by path, PNG or WebP bytes that show
    where the classifier looked: laid over the whole picture if they have transparency, in its place if not. `twins`
    are the paths of nearly the same pictures, in pairs. `place` is where the folder will stand, for the commands in
    the page; None: where it stands now.
    """

    locate: Callable[[str], Path]
    saliency: Mapping[str, bytes] = field(default_factory=dict)
    twins: Sequence[tuple[str, str]] = ()
    place: Path | None = None


def write_report(folder: Path, extras: Extras, path: Path | None = None) -> Path:
    """Write the report of the run folder `folder` to `path` (`folder/report.html` if None), and return its path.

    `folder` is what `train`, `evaluate -o` or `check -o` wrote; a file that is not there leaves out its section.
    Every number in the page comes from these files. The page is one file below 10 MB, needs no network, and
    opens from a disk. Pictures that cannot be read (any more) are left blank.

    Raises:
        StorageError: a file of the folder is damaged, or the page cannot be written.
    """
    path = folder / REPORT if path is None else path
    page = render(read_record(folder), extras.locate, extras.saliency, extras.twins, extras.place or folder)
    with written_atomically(path) as temporary:
        temporary.write_text(page, "utf-8", newline="\n")
    return path
