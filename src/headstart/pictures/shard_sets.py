"""Shards (a tar or Parquet file, a folder, pattern or list of them, here or remote) -> labelled samples."""

import glob
import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from headstart.errors import DataError
from headstart.parallel import in_order
from headstart.pictures import remote
from headstart.pictures.addresses import SHARD_SUFFIXES, as_path, is_url, shown, url_of
from headstart.pictures.dataset import Part, Problem, Sample
from headstart.pictures.layout import PART_NAMES, lay_out
from headstart.pictures.remote_tree import read_remote_tree
from headstart.pictures.shards import KEY, Entry, Listing, list_shard
from headstart.pictures.tree import tree_of

AT_ONCE = 4
"""Remote shards that are listed at a time."""

LIST_SUFFIX = ".txt"

_BRACES = re.compile(r"\{([^{}]*)\}")
_WORD = re.compile(r"[a-z]+")


def is_shard(path: Path) -> bool:
    """Whether a path ends like a shard's."""
    return path.name.lower().endswith(SHARD_SUFFIXES)


def is_pattern(data: Path) -> bool:
    """Whether a path stands for several shards: `train-{000..099}.tar`, `*.parquet`."""
    return (glob.has_magic(str(data)) or bool(_BRACES.search(str(data)))) and is_shard(data)


def shards_in(folder: Path) -> list[Path]:
    """The shards in a folder here and in those below it, sorted; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if is_shard(path) and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def shards_meant(data: Path) -> tuple[Path, list[str]]:
    """The folder that a shard, a pattern or a list of shards is about, and the shards, as written from there.

    Raises:
        DataError: a pattern matches nothing, or the list is empty.
    """
    if is_pattern(data):
        found = list(itertools.chain.from_iterable(_matching(one) for one in expand_braces(shown(data))))
        if not found:
            raise DataError(f"nothing matches {shown(data)}.")
        fixed = Path(*itertools.takewhile(lambda part: not re.search(r"[*?\[{]", part), data.parts[:-1]))
        return fixed, [_below(fixed, one) for one in found]
    if data.suffix.lower() == LIST_SUFFIX and url_of(data) is None:
        lines = [line.strip() for line in data.read_text("utf-8").splitlines()]
        named = [line for line in lines if line and not line.startswith("#")]
        if not named or not all(is_shard(Path(line)) for line in named):
            wrong = next((line for line in named if not is_shard(Path(line))), None)
            said = "it is empty" if wrong is None else f"one is {wrong!r}"
            raise DataError(f"{data} is no list of shards ({', '.join(SHARD_SUFFIXES)}), one on each line: {said}.")
        return data.parent, [(as_path(line) or line) if is_url(line) else line for line in named]
    return data.parent, [data.name]


def read_shards(
    root: Path, shards: list[str], group_by: str | None
) -> tuple[list[Sample], list[Problem], tuple[str, ...]]:
    """The samples in `shards`, which are written from `root`; their problems; and the columns, if they have any.

    The label is the one that stands beside the picture; where there is none, it is the picture's folder in the shard,
    as for a folder of class folders. The part is what the shard says, or its own name or folder: `train-000.tar`.

    Raises:
        DataError: a shard is not there, or is none.
    """
    listings = dict(_listed(root, shards))
    columns = next((listing.columns for listing in listings.values() if listing.columns), ())
    group = group_by if group_by in columns and group_by is not None else "group"
    problems = [
        replace(problem, path=f"{shard}/{problem.path}".rstrip("/"))
        for shard, listing in listings.items()
        for problem in listing.problems
    ]
    folders = _folders(listings)
    samples: list[Sample] = []
    for shard, listing in listings.items():
        for entry in listing.entries:
            sample = _sample(shard, entry, folders, group, bool(listing.columns))
            if isinstance(sample, Problem):
                problems.append(sample)
            else:
                samples.append(sample)
    return samples, problems, columns


def members(data: Path) -> Iterator[str]:
    """The paths of all pictures in a shard, pattern or list of shards, or a remote folder, labelled or not."""
    url = url_of(data)
    if url is None or is_shard(data):
        root, shards = shards_meant(data)
        for shard in shards:
            yield from (shown(root / shard / entry.name) for entry in _list(root / shard, labelled=False).entries)
        return
    found = read_remote_tree(url)
    for folder in found.tree.walk():
        yield from (f"{url}/{path}" for path in folder.pictures)
    for shard in found.shards:
        yield from members(data / shard)


def expand_braces(text: str) -> list[str]:
    """What a text with `{000..099}` or `{a,b}` stands for, in order.

    >>> expand_braces("{train,val}-{08..10}.tar")[:4]
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar']
    """
    found = _BRACES.search(text)
    if found is None:
        return [text]
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if ends is None:
        words = found[1].split(",")
    else:
        words = [f"{number:0{len(ends[1])}}" for number in range(int(ends[1]), int(ends[2]) + 1)]
    return [text[: found.start()] + word + rest for word in words for rest in expand_braces(text[found.end() :])]


def _matching(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]
    return remote.matching(pattern) if is_url(pattern) else sorted(glob.glob(pattern, recursive=True))


def _below(root: Path, shard: str) -> str:
    """A shard as written from `root`."""
    return Path(shard).relative_to(root).as_posix()


def _listed(root: Path, shards: list[str]) -> Iterator[tuple[str, Listing]]:
    """What each shard holds; several remote ones are listed at a time."""
    threads = AT_ONCE if any(url_of(root / shard) for shard in shards) else 1
    with ThreadPoolExecutor(threads) as pool:
        listings = in_order(pool, partial(_list, labelled=True), [root / one for one in shards], threads)
        yield from zip(shards, listings, strict=True)


def _list(shard: Path, *, labelled: bool) -> Listing:
    try:
        return list_shard(shard, labelled=labelled)
    except FileNotFoundError as error:
        raise DataError(f"there is no {shown(shard)}.") from error
    except OSError as error:
        raise DataError(f"{shown(shard)} cannot be read: {error}. What was read before is kept.") from error


def _folders(listings: dict[str, Listing]) -> dict[str, tuple[str, Part | None]]:
    """The class and the part of each folder in the shards, where pictures have no label of their own."""
    names = {
        entry.name.rpartition("/")[0]
        for listing in listings.values()
        for entry in listing.entries
        if not listing.columns and not entry.said.get("label")
    }
    samples, _ = lay_out(tree_of({name: [f"{name}/one"] for name in names if name}))
    return {sample.path.rpartition("/")[0]: (sample.label, sample.given) for sample in samples}


def _sample(
    shard: str, entry: Entry, folders: dict[str, tuple[str, Part | None]], group: str, is_table: bool
) -> Sample | Problem:
    """An entry as a sample, or why it is none."""
    path, label, given = f"{shard}/{entry.name}", entry.said.get("label", ""), _part_of(shard)
    if not label and not is_table:
        label, inner = folders.get(entry.name.rpartition("/")[0], ("", None))
        given = inner or given
    if not label:
        detail = f"no label (row {entry.line})" if is_table else "no label beside it, and not in a class folder"
        return Problem(path, "ignored", detail, "left out")
    if word := entry.said.get("split", "").lower():
        if word not in PART_NAMES:
            raise DataError(f"{path}: the split is {word!r}, but must be one of {', '.join(PART_NAMES)}, or empty.")
        given = PART_NAMES[word]
    together = entry.said.get(group) or (f"{shard}/{entry.said[KEY]}" if KEY in entry.said else None)
    return Sample(path, label, given, together)


def _part_of(shard: str) -> Part | None:
    """The part that a shard's name begins with, as in `train-00000-of-00002.parquet`, or that of a folder around it."""
    url = url_of(shard)
    *folders, name = (url or shard).lower().split("/")
    word = _WORD.match(name)
    own = PART_NAMES.get(word[0]) if word else None
    return own or next((PART_NAMES[one] for one in reversed(folders) if one in PART_NAMES), None)
