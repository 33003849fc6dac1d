"""The journal's file: opened, begun where there is none, and what can go wrong with it in words."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headstart.errors import StorageError

FORMAT, APPLICATION = 1, 0x68735256  # "hsRV": how `file` and we know a journal
BUSY_SECONDS = 60

SCHEMA = """
create table decisions (id integer primary key autoincrement, at text not null, who text not null, action text not null,
    value text, target integer, subjects text not null);
create table trainings (id integer primary key autoincrement, at text not null, who text not null,
    revision integer not null, facts text not null);
create trigger decisions_stay before delete on decisions begin select raise(abort, 'the journal only grows'); end;
create trigger decisions_last before update on decisions begin select raise(abort, 'the journal only grows'); end;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the journal at `path`, which begins empty where there is none.

    Raises:
        StorageError: it is damaged, no journal, of a later headstart, or cannot be written to; it is left as it is.
    """
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _check(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """As `connect`; where nothing can be written, a connection that can only read what no process is changing.

    Raises:
        StorageError: see `connect`; or the last decisions were not yet taken into the file, by a process that died.
    """
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        return connect(path)
    beside = path.with_name(f"{path.name}-wal")
    if beside.exists() and beside.stat().st_size:
        raise StorageError(f"{path} can be read only where {beside.name} beside it can be written to: copy both there.")
    with clear_errors(path):
        address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        try:
            _recognise(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    """Make sure that the file is a whole journal that we know, or make it one where it is empty."""
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    if connection.execute("pragma quick_check").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("malformed: its pages do not hang together")
    connection.execute("begin immediate")  # of two that begin an empty one, the second finds the first's
    try:
        (application,) = connection.execute("pragma application_id").fetchone()
        if application == 0 and connection.execute("select count(*) from sqlite_master").fetchone() == (0,):
            for statement in SCHEMA.strip().split(";\n"):
                connection.execute(statement)
            connection.execute(f"pragma application_id = {APPLICATION}")
            connection.execute(f"pragma user_version = {FORMAT}")
        _recognise(path, connection)
    finally:
        connection.execute("commit")


def _recognise(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("pragma application_id").fetchone()
    (known,) = connection.execute("pragma user_version").fetchone()
    if application != APPLICATION:
        raise StorageError(
            f"{path} is an SQLite file, but no journal of a review. Move it away, or choose another run."
        )
    if known > FORMAT:
        raise StorageError(
            f"the journal {path} has format {known}; this headstart reads up to {FORMAT}. Upgrade headstart. "
            "The journal was left as it is."
        )


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Errors of SQLite and the file system, as StorageErrors that say what to do."""
    try:
        yield
    except (sqlite3.Error, json.JSONDecodeError) as error:
        if "full" in str(error):
            raise StorageError(
                f"no space left on the disk of {path}. What was decided before is kept; free some space and go on."
            ) from error
        if isinstance(error, json.JSONDecodeError) or "malformed" in str(error) or "not a database" in str(error):
            raise StorageError(
                f"the journal {path} is damaged ({error}). It was left as it is: put a copy back if you have one, or "
                "move it away to begin anew."
            ) from error
        if "unable to open" in str(error) or "readonly" in str(error):
            raise StorageError(
                f"cannot write the journal {path} ({error}). It lies beside the run: copy the run to a place that can "
                "be written to."
            ) from error
        raise StorageError(f"cannot use the journal {path}: {error}.") from error
    except OSError as error:
        raise StorageError(f"cannot use the journal {path}: {error.strerror or error}.") from error
