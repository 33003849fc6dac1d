"""What was read from elsewhere: which bytes stood at which address, for good, and the bytes themselves, up to a bound.

The index is one SQLite file in write-ahead mode, opened anew for each use, so that threads and processes share it. It
is small: a digest for each address. Bytes are kept in files named by their digest; where the bound is passed those that
came first go, and are read again where they are needed again.
"""

import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from headstart.errors import StorageError
from headstart.storage import cache_folder, clear_storage_errors, prune_oldest

KEPT_BYTES = 20 * 1024**3
"""Bytes of pictures are kept up to this size, and as long as `SPARE_BYTES` stay free on the disk."""

SPARE_BYTES = 1024**3
BYTES_BETWEEN_PRUNINGS = 1024**3

SESSION = uuid.uuid4().hex
"""This process and those forked from it: what was listed in it needs no second look."""

_SCHEMA = (
    "create table if not exists pictures (place text primary key, tag text, size integer, start integer, digest text,"
    " session text) without rowid",
    "create table if not exists shards (place text primary key, tag text, size integer, listing text, session text)",
)
_lock = threading.Lock()
_written = [0]  # bytes since the last pruning; guarded by the lock


@dataclass(frozen=True, slots=True)
class Address:
    """What is known of the picture at an address.

    `tag` changes with the content. `size` is in bytes, if known; `start` is where it begins in a tar shard, or the row
    group of a Parquet file. `digest` is empty until the picture has been read.
    """

    place: str
    tag: str
    size: int | None = None
    start: int | None = None
    digest: str = ""
    is_fresh: bool = False


def note(addresses: Iterable[Address]) -> None:
    """Note what was listed just now; a digest known from before stays where the tag is the same."""
    rows = ((one.place, one.tag, one.size, one.start, one.digest, SESSION) for one in addresses)
    with _index() as index:
        index.executemany(
            "insert into pictures values (?, ?, ?, ?, ?, ?) on conflict (place) do update set"
            " digest = iif(tag = excluded.tag and excluded.digest = '', digest, excluded.digest),"
            " tag = excluded.tag, size = excluded.size, start = excluded.start, session = excluded.session",
            rows,
        )


def find(place: str) -> Address | None:
    """What is known of an address; it `is_fresh` if it was noted in this session."""
    with _index() as index:
        row = index.execute("select * from pictures where place = ?", (place,)).fetchone()
    if row is None:
        return None
    place, tag, size, start, digest, session = row
    return Address(place, tag, size, start, digest, session == SESSION)


def note_shard(place: str, tag: str, size: int, listing: str) -> None:
    """Note what a whole shard holds."""
    with _index() as index:
        index.execute("insert or replace into shards values (?, ?, ?, ?, ?)", (place, tag, size, listing, SESSION))


@dataclass(frozen=True, slots=True)
class Shard:
    """What is known of a shard that was listed to its end; it `is_fresh` if that was noted in this session."""

    tag: str
    size: int
    listing: str
    is_fresh: bool


def find_shard(place: str) -> Shard | None:
    """What is known of a shard."""
    with _index() as index:
        row = index.execute("select tag, size, listing, session from shards where place = ?", (place,)).fetchone()
    if row is None:
        return None
    tag, size, listing, session = row
    return Shard(tag, size, listing, session == SESSION)


def keep(data: bytes) -> str:
    """Keep the bytes of a picture, if there is room; returns their SHA-256 in lower-case hexadecimal."""
    digest = sha256(data).hexdigest()
    path = _path(digest)
    if path.exists():
        return digest
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    with suppress(OSError):  # no room, or a folder that cannot be written: they are read again when needed
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < SPARE_BYTES + len(data):
            return digest
        temporary.write_bytes(data)
        os.replace(temporary, path)
        _count(len(data))
    return digest


def kept(digest: str) -> bytes | None:
    """The bytes of a picture, if they are here and whole."""
    try:
        data = _path(digest).read_bytes()
    except OSError:
        return None
    return data if sha256(data).hexdigest() == digest else None


def is_kept(digest: str) -> bool:
    """Whether the bytes of a picture are here."""
    return _path(digest).exists()


def prune() -> None:
    """Keep the bytes within their bound."""
    prune_oldest(_folder() / "bytes", KEPT_BYTES)


def files() -> Path:
    """The folder for whole files that were copied here: manifests and archives."""
    return _folder() / "files"


def _count(written: int) -> None:
    with _lock:
        _written[0] += written
        if _written[0] < BYTES_BETWEEN_PRUNINGS:
            return
        _written[0] = 0
    prune()


def _folder() -> Path:
    return cache_folder() / "remote"


def _path(digest: str) -> Path:
    return _folder() / "bytes" / digest[:2] / digest


def _is_prepared(index: sqlite3.Connection) -> bool:
    return index.execute("select 1 from sqlite_master where name = 'shards'").fetchone() is not None


def _prepare(index: sqlite3.Connection) -> None:
    """Make the tables; where another thread or process is at it, wait for that."""
    for number in range(100):
        try:
            with _lock:
                index.execute("pragma journal_mode=wal")  # which does not wait for others by itself
                for statement in _SCHEMA:
                    index.execute(statement)
                return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or number == 99:
                raise
        time.sleep(0.05)


@contextmanager
def _index() -> Iterator[sqlite3.Connection]:
    """The index, in one transaction."""
    path = _folder() / "index.sqlite"
    try:
        with clear_storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        index = sqlite3.connect(path, timeout=60)
        try:
            if not _is_prepared(index):
                _prepare(index)
            index.execute("pragma synchronous=normal")
            with index:
                yield index
        finally:
            index.close()
    except sqlite3.Error as error:
        raise StorageError(
            f"cannot use the index of remote pictures {path}: {error}. Free some space on its disk, or delete it with "
            "`headstart cache clear`: pictures are then read again."
        ) from error
