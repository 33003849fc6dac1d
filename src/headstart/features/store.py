"""Features by content on disk: crash-safe, shared between processes, bounded."""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import StorageError
from headstart.storage import cache_folder, clear_storage_errors, folder_bytes

SCHEMA = 2
LIMIT_BYTES = 20 * 1024**3
SECONDS_BETWEEN_COMMITS = 1.0
BUSY_TIMEOUT_SECONDS = 60
ROWS_A_QUERY = 500  # below SQLite's limit of parameters in one statement


@dataclass(frozen=True)
class StoredRecipe:
    """One recipe's share of the store: what made its vectors, how many there are, bytes on disk, last use."""

    path: Path
    recipe: Mapping[str, Any]
    vectors: int
    size_bytes: int
    used_at: float


@dataclass(frozen=True, eq=False)
class Entry:
    """What the store has of one picture: its `vector` [d], JSON text `facts`, and `extra` bytes, both perhaps empty."""

    digest: str
    vector: NDArray[Any]
    facts: str
    extra: bytes


class Store:
    """The vectors of one recipe, keyed by the SHA-256 of each picture's file, with what else is known of the picture.

    A recipe is everything that a vector depends on besides the picture: the digest of the weights, the preprocessing,
    the engine and its precision. A vector has `dimension` numbers of type `dtype`. Each recipe has an SQLite file of
    its own, in write-ahead mode: a process killed at any moment loses at most what it put within the last second, and
    several processes may read and write side by side. Each row carries a checksum; a row that fails it is not returned.

    Use from one thread, as a context manager.
    """

    def __init__(self, recipe: Mapping[str, Any], dimension: int, dtype: type[np.generic] = np.float32) -> None:
        key = sha256(json.dumps([SCHEMA, recipe], sort_keys=True).encode()).hexdigest()[:24]
        self.path = _store_folder() / f"{key}.sqlite"
        self.dimension, self.dtype = dimension, np.dtype(dtype)
        with _clear_errors(self.path), clear_storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(self.path)
            with self._database:
                self._database.execute(
                    "create table if not exists features"
                    " (digest blob primary key, vector blob, facts text, extra blob, crc integer)"
                )
                self._database.execute("create table if not exists recipe (json text unique, used_at real)")
                self._database.execute(
                    "insert into recipe values (?, ?) on conflict (json) do update set used_at = excluded.used_at",
                    (json.dumps(recipe, sort_keys=True), time.time()),
                )
        self._pending: list[tuple[bytes, bytes, str, bytes, int]] = []
        self._committed_at = time.monotonic()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            self._database.close()

    def digests(self) -> set[str]:
        """The digests of all pictures that have a vector here."""
        with _clear_errors(self.path):
            return {row[0].hex() for row in self._database.execute("select digest from features")}

    def put(self, digest: str, vector: NDArray[Any], facts: Mapping[str, Any], extra: bytes = b"") -> None:
        """Keep `vector` [d], JSON values and some bytes for the picture `digest`; they reach the disk in a second."""
        assert vector.shape == (self.dimension,)
        assert vector.dtype == self.dtype
        key, content, text = bytes.fromhex(digest), vector.tobytes(), json.dumps(facts)
        self._pending.append((key, content, text, extra, _checksum(key, content, text, extra)))
        if time.monotonic() - self._committed_at >= SECONDS_BETWEEN_COMMITS:
            self.flush()

    def flush(self) -> None:
        """Write what `put` has gathered."""
        if self._pending:
            with _clear_errors(self.path), self._database:
                self._database.executemany("insert or replace into features values (?, ?, ?, ?, ?)", self._pending)
        self._pending.clear()
        self._committed_at = time.monotonic()

    def get(self, digests: Iterable[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        """(digest, vector [d]) of those that are here and whole, in no particular order."""
        for entry in self.entries(digests):
            yield entry.digest, entry.vector

    def entries(self, digests: Iterable[str]) -> Iterator[Entry]:
        """All that was put for those that are here and whole, in no particular order."""
        wanted = [bytes.fromhex(digest) for digest in digests]
        for start in range(0, len(wanted), ROWS_A_QUERY):
            part = wanted[start : start + ROWS_A_QUERY]
            marks = ",".join("?" * len(part))
            query = f"select digest, vector, facts, extra, crc from features where digest in ({marks})"
            with _clear_errors(self.path):
                rows = self._database.execute(query, part).fetchall()
            for key, content, text, extra, crc in rows:
                if crc == _checksum(key, content, text, extra) and len(content) == self.dtype.itemsize * self.dimension:
                    yield Entry(key.hex(), np.frombuffer(content, dtype=self.dtype), text, extra)


def stored_recipes() -> list[StoredRecipe]:
    """What the store holds, the recipe that was used last first."""
    found = []
    for path in sorted(_store_folder().glob("*.sqlite")):
        with _clear_errors(path):
            database = _open(path)
            try:
                recipe, used_at = database.execute("select json, used_at from recipe").fetchone() or (
                    "{}",
                    0.0,
                )
                (count,) = database.execute("select count(*) from features").fetchone()
            finally:
                database.close()
        found.append(StoredRecipe(path, json.loads(recipe), count, _size(path), used_at))
    return sorted(found, key=lambda stored: -stored.used_at)


def prune(limit_bytes: int = LIMIT_BYTES) -> int:
    """Shrink the store to `limit_bytes`: recipes unused for longest go first; returns the bytes freed.

    The recipe used last is never deleted whole: where it alone is above the limit its oldest vectors go.
    """
    before = total = folder_bytes(_store_folder())
    if total <= limit_bytes:
        return 0
    stored = stored_recipes()
    for recipe in reversed(stored[1:]):
        if total > limit_bytes:
            _delete(recipe.path)
            total -= recipe.size_bytes
    if stored and total > limit_bytes:
        _delete_oldest(stored[0], limit_bytes)
    return before - folder_bytes(_store_folder())


def _delete_oldest(stored: StoredRecipe, limit_bytes: int) -> None:
    surplus = int(stored.vectors * (1 - limit_bytes / stored.size_bytes)) + 1
    with _clear_errors(stored.path):
        database = _open(stored.path)
        try:
            with database:
                database.execute(
                    "delete from features where rowid in (select rowid from features order by rowid limit ?)",
                    (surplus,),
                )
            database.execute("vacuum")
            database.execute("pragma wal_checkpoint(truncate)")
        finally:
            database.close()


def _store_folder() -> Path:
    return cache_folder() / "features"


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=normal")
    return database


def _size(path: Path) -> int:
    return sum(other.stat().st_size for other in path.parent.glob(f"{path.name}*"))


def _delete(path: Path) -> None:
    for other in path.parent.glob(f"{path.name}*"):
        other.unlink(missing_ok=True)


def _checksum(key: bytes, content: bytes, text: str, extra: bytes) -> int:
    lengths = f"{len(text)},{len(extra)};"  # so that nothing can move from one column to the next unnoticed
    return zlib.crc32(extra, zlib.crc32((lengths + text).encode(), zlib.crc32(content, zlib.crc32(key))))


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if "disk is full" in str(error):
            raise StorageError(
                f"no space left on the disk of the feature store {path}. What was embedded is kept; free some "
                "space (`headstart cache prune`), or set HEADSTART_CACHE to another disk, and run it again."
            ) from error
        if (isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error)) or "not a database" in str(error):
            raise StorageError(
                f"the feature store {path} is damaged ({error}). Delete it with `headstart cache clear`: "
                "features will be computed again."
            ) from error
        raise StorageError(f"cannot use the feature store {path}: {error}.") from error
