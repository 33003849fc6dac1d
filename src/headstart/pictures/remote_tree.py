"""A folder behind a URL -> its folders and candidate pictures, as `read_tree` gives those of a folder here."""

import posixpath
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from headstart.errors import DataError
from headstart.pictures import kept, remote
from headstart.pictures.addresses import SHARD_SUFFIXES, as_path
from headstart.pictures.dataset import Problem
from headstart.pictures.formats import EXTENSIONS
from headstart.pictures.kept import Address
from headstart.pictures.remote import Facts
from headstart.pictures.tree import DEEPEST, SYSTEM_NAMES, Folder, tree_of
from headstart.storage import written_atomically


@dataclass(frozen=True)
class RemoteTree:
    """What a remote folder holds: candidate pictures, what was passed over, and the paths of shards, sorted."""

    tree: Folder
    problems: tuple[Problem, ...]
    shards: tuple[str, ...]


def read_remote_tree(url: str) -> RemoteTree:
    """Everything below a URL, in the order of names; sizes and tags are noted, so that no picture is asked for twice.

    A file is a candidate if its name ends like a picture's, or has no ending: nothing is read to tell.

    Raises:
        DataError: there is nothing, or it cannot be listed.
    """
    pictures: dict[str, list[str]] = {}
    problems: list[Problem] = []
    shards: list[str] = []

    def enters(folder: str) -> bool:
        refusal = _refusal(url, folder, is_folder=True)
        problems.extend([Problem(f"{folder}/", "ignored", refusal, "left out")] if refusal else [])
        return refusal is None

    try:
        for folder, files in remote.folders(url, enters):
            candidates: dict[str, Facts] = {}
            for path, facts in files.items():
                refusal = _refusal(url, path)
                if path.lower().endswith(SHARD_SUFFIXES):
                    shards.append(path)
                elif refusal is None:
                    candidates[path] = facts
                else:
                    problems.append(Problem(path, "ignored", refusal, "left out"))
            pictures[folder] = list(candidates)
            kept.note(Address(f"{url}/{path}", facts.tag, facts.size) for path, facts in candidates.items())
    except FileNotFoundError as error:
        raise DataError(f"there is nothing at {url}.") from error
    except OSError as error:
        raise DataError(f"{url} cannot be listed: {error}.") from error
    return RemoteTree(tree_of(pictures), tuple(sorted(problems, key=lambda one: one.path)), tuple(sorted(shards)))


def copied(url: str) -> Path:
    """A copy here of a whole file, a manifest or an archive, under its own name; made anew when the file has changed.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    try:
        facts = remote.look_up(url)
        name = posixpath.basename(url.partition("?")[0])
        path = kept.files() / sha256(f"{url} {facts.tag}".encode()).hexdigest()[:24] / name
        if not path.exists():
            with written_atomically(path) as temporary, temporary.open("wb") as file:
                for start in range(0, facts.size or 0, remote.BLOCK):
                    file.write(remote.fetch_part(url, start, min(start + remote.BLOCK, facts.size or 0)))
                if facts.size is None:
                    file.write(remote.fetch(url, None))
    except FileNotFoundError as error:
        raise DataError(f"there is no {url}.") from error
    except OSError as error:
        raise DataError(f"{url} cannot be read: {error}.") from error
    return path


def _refusal(url: str, path: str, *, is_folder: bool = False) -> str | None:
    """Why a file or folder is passed over; None if it may be a picture, or hold some."""
    *folders, name = path.split("/")
    extension = posixpath.splitext(name)[1].lower()
    if name.startswith(".") and name not in (".", ".."):
        return "hidden"
    if name.lower() in SYSTEM_NAMES:
        return "made by the operating system"
    if as_path(f"{url}/{path}") != f"{url}/{path}":
        return "its name has an empty part, '.' or '..' in it"
    if len(folders) > DEEPEST:
        return f"nested deeper than {DEEPEST} folders"
    return None if is_folder or extension in EXTENSIONS or not extension else f"not a picture: {extension}"
