"""Tar and Parquet shards, here or remote: what each holds, and the bytes of one picture in it.

A shard is listed once for each state of its file; the index of what was kept remembers it. A remote tar shard is read
in sequence while it is listed, and its pictures are kept as they come by, so that embedding them needs no further
request. A picture that was not kept, or went to make room, is read again by itself from a tar shard, and with its row
group from a Parquet file. Nothing holds more than one picture, or a few rows.
"""

import io
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

from headstart.errors import DataError, StorageError
from headstart.pictures import embedded, kept, remote
from headstart.pictures.addresses import shown, url_of
from headstart.pictures.dataset import Problem, ProblemKind
from headstart.pictures.decode import TooLarge
from headstart.pictures.kept import Address
from headstart.pictures.tar_shards import Contents, Member, read_tar

ROWS_NOTED_AT_ONCE = 10_000

KEY = "__key__"
"""Under which an entry says the key that it shares with other pictures of its shard."""

_reading = threading.Lock()  # one row group, or one shard's listing, at a time: many threads ask for the same


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture in a shard, with what the shard says of it: texts by the name of the column; and its line there."""

    name: str
    line: int
    said: Mapping[str, str]


@dataclass(frozen=True)
class Listing:
    """What a shard holds; problems have paths relative to it. `columns` are those of a Parquet file."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Where a shard is, in full, and a tag that changes with its content."""

    place: str
    tag: str
    size: int


def is_parquet(shard: Path) -> bool:
    """Whether a shard is a Parquet file, by its name."""
    return shard.suffix.lower() != ".tar"


def list_shard(shard: Path, *, labelled: bool = True) -> Listing:
    """What a shard holds, in its order; a Parquet file may lack labels where they are not to be `labelled`.

    Raises:
        DataError: it is no tar or Parquet file, or its labels cannot be told.
        OSError: it is not there, or cannot be read.
    """
    state = _state(shard)
    return _list_parquet(shard, state, labelled) if is_parquet(shard) else _list_tar(shard, state)


def holds_pictures(shard: Path) -> bool:
    """Whether a Parquet file has a column of pictures; the errors are those of `list_shard`."""
    try:
        with opened(shard) as file:
            return embedded.has_pictures(embedded.open_parquet(file, shown(shard)))
    except FileNotFoundError as error:
        raise DataError(f"there is no {shown(shard)}.") from error
    except OSError as error:
        raise DataError(f"{shown(shard)} cannot be read: {error}.") from error


def read_member(shard: Path, name: str, most: int) -> tuple[bytes, str]:
    """The bytes of a picture in a shard, and their SHA-256 in lower-case hexadecimal.

    Raises:
        TooLarge: it has more than `most` bytes.
        FileNotFoundError: there is no such shard, or nothing of this name in it.
        OSError: it cannot be read.
    """
    state = _state(shard)
    address = _address(shard, state, name)
    if address.digest and (data := kept.kept(address.digest)) is not None:
        return data, address.digest
    if is_parquet(shard):
        return _read_row(shard, state, address)
    assert address.start is not None
    assert address.size is not None
    refuse_too_large(address.size, most)
    url = url_of(shard)
    if url is None:
        with shard.open("rb") as file:
            file.seek(address.start)
            data = file.read(address.size)
        return data, sha256(data).hexdigest()
    data = remote.fetch_part(url, address.start, address.start + address.size)
    digest = kept.keep(data)
    kept.note([Address(address.place, state.tag, address.size, address.start, digest)])
    return data, digest


def known_digest(shard: Path, name: str) -> str:
    """The digest of a picture in a shard, if it is known without reading it; else an empty text."""
    state = _state(shard)
    address = kept.find(f"{state.place}/{name}")
    return address.digest if address is not None and address.tag == state.tag else ""


def refuse_too_large(size: int | None, most: int) -> None:
    """Raise TooLarge for a picture of more than `most` bytes."""
    if size is not None and size > most:
        raise TooLarge(f"{size / 1e9:.1f} GB, more than the {most / 1e9:.1f} GB that are read")


@contextmanager
def opened(shard: Path, size: int | None = None) -> Iterator[IO[bytes]]:
    """A shard, open to be read and sought in."""
    url = url_of(shard)
    if url is None:
        with shard.open("rb") as file:
            yield file
        return
    size = remote.look_up(url).size if size is None else size
    if size is None:
        raise OSError(f"the server of {url} does not say how large it is")
    with io.BufferedReader(cast(Any, remote.RemoteFile(url, size)), remote.BLOCK) as buffered:
        yield buffered


def _state(shard: Path) -> State:
    """The state of a shard's file; that of a remote one is looked up once in a session."""
    url = url_of(shard)
    if url is None:
        status = os.stat(shard)
        return State(shard.resolve().as_posix(), f"{status.st_size}-{status.st_mtime_ns}", status.st_size)
    noted = kept.find_shard(url)
    if noted is not None and noted.is_fresh:
        return State(url, noted.tag, noted.size)
    facts = remote.look_up(url)
    return State(url, facts.tag, facts.size or 0)


def _address(shard: Path, state: State, name: str) -> Address:
    """What is known of a picture in a shard, which is listed for that if need be."""
    place = f"{state.place}/{name}"
    address = kept.find(place)
    if address is None or address.tag != state.tag:
        with _reading:
            address = kept.find(place)
            if address is None or address.tag != state.tag:
                list_shard(shard, labelled=False)
                address = kept.find(place)
    if address is None or address.tag != state.tag:
        raise FileNotFoundError(f"there is no {name} in {shard}")
    return address


def _list_tar(shard: Path, state: State) -> Listing:
    noted = kept.find_shard(state.place)
    if noted is not None and noted.tag == state.tag:
        kept.note_shard(state.place, state.tag, state.size, noted.listing)
        return _from_json(noted.listing)
    with opened(shard, state.size) as file:
        if url_of(shard) is None:
            contents = read_tar(file, str(shard))
            kept.note(Address(f"{state.place}/{one.name}", state.tag, one.size, one.start) for one in contents.members)
        else:
            contents = _read_through(file, state)
    listing = _listing(contents)
    kept.note_shard(state.place, state.tag, state.size, _to_json(listing))
    return listing


def _read_through(file: IO[bytes], state: State) -> Contents:
    """The contents of a remote shard, whose pictures are kept as they come by."""
    addresses: list[Address] = []

    def take(member: Member, data: bytes) -> None:
        digest = kept.keep(data)
        addresses.append(Address(f"{state.place}/{member.name}", state.tag, member.size, member.start, digest))

    contents = read_tar(file, state.place, take)
    kept.note(addresses)
    return contents


def _listing(contents: Contents) -> Listing:
    """The pictures with what is said of them; those that share a key, such as two views, belong together."""
    count: dict[str, int] = {}
    for member in contents.members:
        count[member.key] = count.get(member.key, 0) + 1
    entries = []
    for line, member in enumerate(contents.members, 1):
        said = contents.said.get(member.key, {})
        entries.append(Entry(member.name, line, {KEY: member.key, **said} if count[member.key] > 1 else said))
    problems = (
        Problem(name, cast(ProblemKind, kind), detail, "left out") for name, kind, detail in contents.passed_over
    )
    return Listing(tuple(entries), tuple(problems))


def _list_parquet(shard: Path, state: State, labelled: bool) -> Listing:
    entries: list[Entry] = []
    waiting: list[Address] = []
    with opened(shard, state.size) as file:
        table = embedded.open_parquet(file, state.place)
        layout = embedded.lay_open(table, state.place, labelled=labelled)
        for group, name, (line, texts) in embedded.rows(table, layout, state.place):
            entries.append(Entry(name, line, texts))
            waiting.append(Address(f"{state.place}/{name}", state.tag, None, group))
            if len(waiting) >= ROWS_NOTED_AT_ONCE:
                kept.note(waiting)
                waiting.clear()
    kept.note(waiting)
    kept.note_shard(state.place, state.tag, state.size, "")
    return Listing(tuple(entries), (), layout.columns)


def _read_row(shard: Path, state: State, address: Address) -> tuple[bytes, str]:
    """The bytes of a picture in a Parquet file; all of its row group are kept, because they come together."""
    assert address.start is not None
    with _reading:
        again = kept.find(address.place)  # another thread may have read the group meanwhile
        if again is not None and again.digest and (data := kept.kept(again.digest)) is not None:
            return data, again.digest
        found: tuple[bytes, str] | None = None
        addresses = []
        with opened(shard, state.size) as file:
            table = embedded.open_parquet(file, state.place)
            layout = embedded.lay_open(table, state.place, labelled=False)
            for name, data in embedded.pictures(table, layout, address.start):
                if data is None:
                    continue
                place, digest = f"{state.place}/{name}", kept.keep(data)
                addresses.append(Address(place, state.tag, len(data), address.start, digest))
                if place == address.place:
                    found = data, digest
        kept.note(addresses)
    if found is None:
        raise OSError("the row has no picture in it, at most a path")
    if not kept.is_kept(found[1]):
        raise StorageError(
            f"there is no room in headstart's cache for the pictures of {state.place}, which must be read many at a "
            "time. Free some space, or set HEADSTART_CACHE to a folder on another disk."
        )
    return found


def _to_json(listing: Listing) -> str:
    problems = [[one.path, one.kind, one.detail] for one in listing.problems]
    return json.dumps([[[one.name, one.said] for one in listing.entries], problems], ensure_ascii=False)


def _from_json(text: str) -> Listing:
    entries, problems = json.loads(text)
    return Listing(
        tuple(Entry(name, line, said) for line, (name, said) in enumerate(entries, 1)),
        tuple(Problem(path, kind, detail, "left out") for path, kind, detail in problems),
    )
