"""Files that are whole or absent: atomic writes, the cache folder, and one folder replaced by another."""

import errno
import glob
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headstart.errors import StorageError

KEPT_PIXELS_BYTES = 20 * 1024**3
"""Decoded pictures are kept up to this size."""

CACHE_PARTS = ("archives", "backbones", "compiled", "demo", "features", "measured", "pixels", "remote", "runtimes")


def cache_folder() -> Path:
    """The folder of everything that can be made again: `HEADSTART_CACHE`, or the user's cache directory."""
    if given := os.environ.get("HEADSTART_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "headstart"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "headstart"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headstart"


@contextmanager
def clear_storage_errors(place: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into a StorageError that names `place` and says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"no space left on the disk of {place}. Nothing was damaged; free some space "
                "(`headstart cache clear` empties headstart's own cache) and run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise StorageError(
                f"cannot write to {place}: {error.strerror}. Choose another place, or change its permissions."
            ) from error
        raise


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary file path beside `path`, and rename what was written there to `path` at the end."""
    with clear_storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            yield temporary
            _synchronise(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_atomically(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`, which takes the place of `folder` at the end.

    A former `folder` stays whole until the new one is complete; if the process is killed between the two
    renames, `recover` puts the former one back. Where the block fails, the former one is untouched.
    """
    with temporary_folder(folder) as temporary:
        recover(folder)
        yield temporary
        _synchronise_all(temporary)
        if folder.exists():
            folder.rename(_former(folder))
        temporary.rename(folder)
        shutil.rmtree(_former(folder), ignore_errors=True)


@contextmanager
def folder_written_once(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which becomes `folder` unless another process was first with the same."""
    with temporary_folder(folder) as temporary:
        yield temporary
        _synchronise_all(temporary)
        if not folder.exists():
            temporary.rename(folder)


def recover(folder: Path) -> None:
    """Put back what a process killed in the middle of replacing `folder` had moved aside."""
    former = _former(folder)
    if not former.exists():
        return
    if folder.exists():
        shutil.rmtree(former, ignore_errors=True)
    else:
        former.rename(folder)


def folder_bytes(folder: Path) -> int:
    """The size of all files under `folder`, in bytes; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prune_oldest(folder: Path, limit_bytes: int) -> int:
    """Delete the files under `folder` that were written longest ago, down to `limit_bytes`; returns the bytes freed."""
    files = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another thread or process was faster, or has just renamed it
            files += [(path.stat(), path)] if path.is_file() else []
    surplus = freed = max(0, sum(status.st_size for status, _ in files) - limit_bytes)
    for status, path in sorted(files, key=lambda file: file[0].st_mtime):
        if surplus <= 0:
            break
        path.unlink(missing_ok=True)
        surplus -= status.st_size
    return freed - surplus


def clear_cache() -> int:
    """Delete everything in the cache folder that headstart made; returns the bytes freed."""
    freed = 0
    for name in CACHE_PARTS:
        freed += folder_bytes(cache_folder() / name)
        shutil.rmtree(cache_folder() / name, ignore_errors=True)
    return freed


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, removed at the end unless it was renamed.

    What processes that were killed left of theirs is removed too.
    """
    with clear_storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{glob.escape(folder.name)}.new-*"):
            if not _is_alive(left.name.rpartition("-")[2]):
                shutil.rmtree(left, ignore_errors=True)
        temporary = folder.with_name(f".{folder.name}.new-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_alive(process: str) -> bool:
    """Whether a process of this number runs; where that cannot be told without harm, it is taken to."""
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _former(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.former")


def _synchronise_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _synchronise(path)


def _synchronise(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
