"""A folder on disk -> its folders and candidate pictures; nothing is decoded, and what is passed over is named."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headstart.errors import DataError
from headstart.pictures.dataset import Problem, ProblemKind
from headstart.pictures.formats import EXTENSIONS, HEAD_BYTES, looks_like_picture

DEEPEST = 64
"""Folders nested deeper than this are not entered."""

SYSTEM_NAMES = frozenset(
    [
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle", "lost+found"),
        *("$recycle.bin", "system volume information"),
    ]
)

Identity = tuple[int, int]
"""What a folder is, whatever path leads to it: device and inode."""


@dataclass(frozen=True)
class Folder:
    """A folder with what is of use in it; `path` and `pictures` are relative to the root, with forward slashes."""

    path: str
    pictures: tuple[str, ...]
    folders: tuple["Folder", ...]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def walk(self) -> Iterator["Folder"]:
        """This folder and all those within it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


@dataclass
class Finds:
    """What `read_tree` notes on its way: problems so far, and the folders that it must not enter."""

    problems: list[Problem] = field(default_factory=list)
    closed: frozenset[Identity] = frozenset()

    def note(self, path: str, kind: ProblemKind, detail: str) -> None:
        """Add a problem with something that is left out."""
        self.problems.append(Problem(path, kind, detail, "left out"))


def read_tree(root: Path, *, apart: Path | None = None) -> tuple[Folder, tuple[Problem, ...]]:
    """Everything under `root`, in the order of names, and a Problem for each thing that is passed over.

    A file is a candidate if its name ends like a picture's or its first bytes are a picture's. Links are
    followed, but never to a folder that they lie in. Names that are not valid UTF-8 are passed over.

    Args:
        root: the folder to look through.
        apart: a folder that is not entered, because it is used in another way.

    Raises:
        DataError: `root` itself cannot be read.
    """
    try:
        finds = Finds(closed=frozenset(_identity(os.stat(apart)) for apart in [apart] if apart))
        return _read_folder(root, "", (_identity(os.stat(root)),), finds), tuple(finds.problems)
    except OSError as error:
        raise DataError(f"the folder {root} cannot be read: {error.strerror}.") from error


def _read_folder(root: Path, path: str, above: tuple[Identity, ...], finds: Finds) -> Folder:
    """One folder and what is below it; `above` holds its own identity and those of the folders around it."""
    with os.scandir(root / path) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    pictures: list[str] = []
    folders: list[Folder] = []
    for entry in listed:
        inner = f"{path}/{entry.name}" if path else entry.name
        if not _is_for_us(entry, inner, finds):
            continue
        try:
            if entry.is_dir():
                folder = _enter(root, inner, entry, above, finds)
                folders += [folder] if folder else []
            elif _is_candidate(entry, inner, finds):
                pictures.append(inner)
        except OSError as error:
            finds.note(inner, "unreadable", f"cannot be read: {error.strerror}")
    return Folder(path, tuple(pictures), tuple(folders))


def _enter(root: Path, path: str, entry: os.DirEntry[str], above: tuple[Identity, ...], finds: Finds) -> Folder | None:
    identity = _identity(os.stat(entry.path))  # an entry's own `stat` knows no inode on Windows
    if identity in finds.closed:
        return None
    if identity in above:
        finds.note(f"{path}/", "ignored", "a link to a folder that it lies in")
        return None
    if len(above) > DEEPEST:
        finds.note(f"{path}/", "ignored", f"nested deeper than {DEEPEST} folders")
        return None
    try:
        return _read_folder(root, path, (*above, identity), finds)
    except OSError as error:
        finds.note(f"{path}/", "unreadable", f"the folder cannot be read: {error.strerror}")
        return None


def _is_for_us(entry: os.DirEntry[str], path: str, finds: Finds) -> bool:
    """Whether an entry is no system's own, and has a name that can be written down."""
    slash = "/" if entry.is_dir() else ""
    if not is_utf8(entry.name):
        finds.note(readable_name(path) + slash, "unreadable", "its name is not valid UTF-8: rename it")
    elif entry.name.startswith("."):
        finds.note(path + slash, "ignored", "hidden")
    elif entry.name.lower() in SYSTEM_NAMES:
        finds.note(path + slash, "ignored", "made by the operating system")
    else:
        return True
    return False


def _is_candidate(entry: os.DirEntry[str], path: str, finds: Finds) -> bool:
    """Whether a file may be a picture."""
    if not entry.is_file():
        broken = entry.is_symlink() and not os.path.exists(entry.path)
        detail = "a link to a file that does not exist" if broken else "not a regular file"
        finds.note(path, "unreadable" if broken else "ignored", detail)
        return False
    extension = os.path.splitext(entry.name)[1].lower()
    if extension in EXTENSIONS:
        return True
    with open(entry.path, "rb") as file:
        if looks_like_picture(file.read(HEAD_BYTES)):
            return True
    finds.note(path, "ignored", f"not a picture: {extension or 'a file without extension'}")
    return False


def tree_of(pictures: Mapping[str, Iterable[str]]) -> Folder:
    """The tree whose folders, by path, hold these pictures; folders above them, which need not be named, hold none."""
    inside: dict[str, set[str]] = {"": set()}
    for path in pictures:
        while path:
            above = path.rpartition("/")[0]
            inside.setdefault(path, set())
            inside.setdefault(above, set()).add(path)
            path = above

    def build(path: str) -> Folder:
        return Folder(path, tuple(sorted(pictures.get(path, ()))), tuple(map(build, sorted(inside[path]))))

    return build("")


def is_utf8(name: str) -> bool:
    """Whether a file name can be written as UTF-8; Linux and tar archives allow any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def readable_name(name: str) -> str:
    r"""A file name with each byte that is not UTF-8 written as `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _identity(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino
