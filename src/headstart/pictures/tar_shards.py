"""A tar shard, read in sequence -> the pictures in it: where each begins, and the label that stands beside it.

The layout is that of WebDataset: members of one sample share their name up to the first dot of its last part, such as
`000017.jpg` and `000017.cls`. Nothing is unpacked; names are only ever names.
"""

import errno
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO

from headstart.errors import DataError
from headstart.pictures.formats import EXTENSIONS
from headstart.pictures.tree import is_utf8, readable_name

LABEL_BYTES = 64 * 1024
"""Longer label files are not read."""

PICTURE_BYTES = 256 * 1024**2
"""Larger members are not read on the way: they are left for whoever wants them."""

_LABELS = ("label", "class", "cls", "label_name", "class_name")


@dataclass(frozen=True, slots=True)
class Member:
    """A picture in a shard: its name, where its bytes begin, how many there are, and the key that it shares."""

    name: str
    start: int
    size: int
    key: str


@dataclass
class Contents:
    """What a shard holds: pictures; what `.cls` and `.json` members say, by key; and what was passed over, and why."""

    members: list[Member] = field(default_factory=list)
    said: dict[str, dict[str, str]] = field(default_factory=dict)
    passed_over: list[tuple[str, str, str]] = field(default_factory=list)


def read_tar(file: IO[bytes], called: str, take: Callable[[Member, bytes], None] | None = None) -> Contents:
    """What the tar `file` holds, in one pass from its beginning to its end.

    Args:
        file: the shard, not compressed. Pictures are sought past, unless there is `take`.
        called: what it is called in errors.
        take: is given each picture with its bytes as they come by.

    Returns:
        Its contents; where it is damaged or ends early, those before, and what is wrong under the name "".

    Raises:
        DataError: it is no tar file, or a compressed one.
    """
    found, others = Contents(), Counter[str]()
    names: set[str] = set()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in _each(tar, found):
                name = _usable(info, found)
                if name is None:
                    continue
                key, extension = _parted(name)
                if name in names:
                    found.passed_over.append((name, "ignored", "the shard has another member of this name"))
                elif "." + extension.rpartition(".")[2] in EXTENSIONS:
                    member = Member(name, info.offset_data, info.size, key)
                    if take is not None and info.size <= PICTURE_BYTES:
                        take(member, _bytes(tar, info))
                    found.members.append(member)
                elif extension in ("cls", "json"):
                    _note(found, name, key, _bytes(tar, info) if info.size <= LABEL_BYTES else None)
                else:
                    others[extension] += 1
                names.add(name)
    except (tarfile.TarError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a seek to where no file reaches
            raise
        if not names:
            raise DataError(
                f"{called} is no tar file, or a compressed one ({error}). Shards must be plain tar."
            ) from error
        found.passed_over.append(("", "unreadable", f"damaged after {len(names)} members: {error}"))
    for extension, number in sorted(others.items()):
        found.passed_over.append(("", "ignored", f"{number} members are not pictures: .{extension}"))
    return found


def has_labels(file: IO[bytes], most: int = 100) -> bool:
    """Whether one of the first members of a tar file is the label of another."""
    keys: dict[str, set[str]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info, _ in zip(tar, range(most), strict=False):
                key, extension = _parted(str(PurePosixPath(info.name)))
                kind = "label" if extension in ("cls", "json") else "." + extension.rpartition(".")[2]
                keys.setdefault(key, set()).add(kind)
    except (tarfile.TarError, ValueError, OSError):
        return False
    return any("label" in kinds and kinds & EXTENSIONS for kinds in keys.values())


def _each(tar: tarfile.TarFile, found: Contents) -> Iterator[tarfile.TarInfo]:
    """Every regular member; the archive is not let remember them all."""
    for info in tar:
        tar.members = []  # type: ignore[attr-defined]
        if info.isreg():
            yield info
        elif not info.isdir():
            found.passed_over.append((readable_name(info.name), "ignored", "a link or device in the archive"))


def _usable(info: tarfile.TarInfo, found: Contents) -> str | None:
    """The name under which a member is known, the same as a path would have it; None where it has none."""
    path = PurePosixPath(info.name.lstrip("/"))
    if not is_utf8(info.name):
        found.passed_over.append((readable_name(info.name), "unreadable", "its name is not valid UTF-8"))
    elif ".." in path.parts or "\0" in info.name:
        found.passed_over.append((str(path), "ignored", "a path that leads out of the archive"))
    elif not path.parts or path.name.startswith("."):
        found.passed_over.append((str(path), "ignored", "hidden"))
    else:
        return str(path)
    return None


def _parted(name: str) -> tuple[str, str]:
    """The key of a member's sample, and its extension in lower case, as WebDataset parts them: at the first dot."""
    folder, _, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def _bytes(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    assert file is not None, "a regular member"
    data = file.read()
    if len(data) < info.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _note(found: Contents, name: str, key: str, data: bytes | None) -> None:
    """Take down what a `.cls` or `.json` member says of its sample."""
    try:
        if data is None:
            raise ValueError(f"more than {LABEL_BYTES:,} bytes")
        text = data.decode("utf-8-sig").strip()
        said = _fields(text) if name.lower().endswith(".json") else {"label": text}
    except (ValueError, RecursionError) as error:
        found.passed_over.append((name, "unreadable", f"no label can be read from it: {error}"))
        return
    found.said[key] = {**found.said.get(key, {}), **said}


def _fields(text: str) -> dict[str, str]:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    known = {name: str(fields[name]).strip() for name in ("split", "group") if isinstance(fields.get(name), str | int)}
    for name in _LABELS:
        if isinstance(fields.get(name), str | int):
            return {**known, "label": str(fields[name]).strip()}
    return known
