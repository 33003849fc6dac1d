"""Which paths lead to pictures that are no files of their own here: URLs, and places inside shards.

A URL travels through the house as a `Path`, like any other place: `Path("s3://bucket/a.jpg")` is written
`s3:/bucket/a.jpg`, and `url_of` puts back the slash that `Path` takes away. A URL in a path is relative to nothing, so
that `root / "https://host/a.jpg"` is the picture at that host whatever the root. A picture in a shard is written as if
the shard were a folder: `train-000.tar/ants/1.jpg`.
"""

import re
from pathlib import Path, PurePath

SCHEMES = ("s3", "gs", "hf", "http", "https")
"""What URLs may begin with."""

SHARD_SUFFIXES = (".tar", ".parquet", ".pq")

_NAMES = "|".join(SCHEMES)
_URL = re.compile(rf"(?:.*/)?({_NAMES}):/+(.*)", re.DOTALL)  # the last one in the path
_BEGINS = re.compile(rf"({_NAMES})://+", re.IGNORECASE)
_INNER = re.compile(rf"(?<=/)({_NAMES}):(?=/)")


def url_of(path: PurePath | str) -> str | None:
    """The URL that a path stands for; None for a place on this machine.

    >>> url_of(Path("s3://bucket/photos") / "ants/1.jpg")
    's3://bucket/photos/ants/1.jpg'
    """
    found = _URL.fullmatch(path.as_posix() if isinstance(path, PurePath) else path)
    return f"{found[1]}://{found[2]}" if found else None


def is_url(text: str) -> bool:
    """Whether a text, such as a cell of a manifest, begins as a URL that can be read."""
    return _BEGINS.match(text) is not None


def as_path(url: str) -> str | None:
    """A URL written so that `url_of` gives it back from a path; None where no path can say it.

    In the address of a web page, what a path would lose is written as `%2F` and `%3A`, which servers take for the same.
    The keys of an object store mean what they say, so that one with an empty part, `.` or `..` has no such form.

    >>> as_path("https://host/a//b.jpg?from=http://other/c")
    'https://host/a/%2Fb.jpg?from=http:/%2Fother/c'
    """
    begins = _BEGINS.match(url)
    if begins is None:
        return None
    scheme, rest = begins[1].lower(), url[begins.end() :]
    if scheme in ("http", "https"):
        rest = _INNER.sub(r"\1%3A", rest.replace("//", "/%2F"))
    parts = rest.split("/")
    if _INNER.search(rest) or any(part in ("", ".", "..") for part in parts) or "\0" in rest:
        return None
    return f"{scheme}://{rest}"


def shown(path: Path) -> str:
    """A path as a person writes it: a URL with both of its slashes."""
    return url_of(path) or str(path)


def member_of(path: Path) -> tuple[Path, str] | None:
    """The shard and the name in it, where a path leads into a shard; whether there is such a shard is not looked at.

    >>> member_of(Path("sets/train-000.tar/ants/1.jpg"))
    (PosixPath('sets/train-000.tar'), 'ants/1.jpg')
    """
    parts = path.parts
    for number, part in enumerate(parts[:-1], 1):
        if part.lower().endswith(SHARD_SUFFIXES) and not Path(*parts[:number]).is_dir():
            return Path(*parts[:number]), "/".join(parts[number:])
    return None
