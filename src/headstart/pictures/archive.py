"""A zip or tar archive -> a folder in the cache, unpacked once, with nothing outside of it touched."""

import errno
import json
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import IO

from headstart.errors import DataError, StorageError
from headstart.pictures.dataset import Problem
from headstart.pictures.tree import is_utf8, readable_name
from headstart.storage import clear_storage_errors

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
_NONSENSE = (None, errno.EINVAL)  # gzip's own complaints, and a seek to where no file reaches
_IMPOSSIBLE_NAME = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_SPARE_BYTES = 64 * 1024**2  # left free on the disk


@dataclass(frozen=True)
class Member:
    """A file or something else in an archive; `open` gives its bytes, `refusal` says why it is not unpacked."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    refusal: str | None


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, told by its bytes; a DataError if they cannot be read."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def unpack(archive: Path, cache: Path) -> tuple[Path, tuple[Problem, ...]]:
    """The folder into which an archive was unpacked, now or before, and a Problem for each member that was not.

    Members with an absolute path or `..` in it, links, devices and names that are not UTF-8 are refused. The
    folder is named after the SHA-256 of the archive, and appears under its name when it is complete.

    Args:
        archive: the zip or tar file; a tar may be compressed with gzip, bzip2 or xz.
        cache: the folder below which to unpack.

    Raises:
        DataError: the archive is damaged or encrypted.
        StorageError: its contents do not fit on the disk, or the cache cannot be written.
    """
    with archive.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    place = cache / "archives" / digest
    notes = place / "problems.json"
    if not notes.exists():
        with clear_storage_errors(place), _damage_named(archive):
            _unpack_into(archive, place)
    problems = tuple(Problem(*fields) for fields in json.loads(notes.read_text(encoding="utf-8")))
    return place / "contents", problems


def _unpack_into(archive: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=place.parent))
    try:
        contents = temporary / "contents"
        contents.mkdir()
        with _members(archive) as members:
            _check_space(archive, sum(member.size for member in members), temporary)
            problems = [problem for member in members if (problem := _write(member, contents))]
        text = json.dumps([astuple(problem) for problem in problems], ensure_ascii=False)
        (temporary / "problems.json").write_text(text, encoding="utf-8")
        try:
            temporary.rename(place)
        except OSError:
            if not place.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(member: Member, contents: Path) -> Problem | None:
    """Unpack one member; the reason if it cannot be."""
    name = readable_name(member.name)
    refusal = member.refusal or _unsafe(member.name)
    if refusal:
        return Problem(name, "ignored", refusal, "left out")
    target = contents / PurePosixPath(member.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1024**2)
    except _DAMAGE as error:
        target.unlink(missing_ok=True)
        return Problem(name, "unreadable", f"damaged in the archive: {error}", "left out")
    except OSError as error:
        if error.errno not in _IMPOSSIBLE_NAME:
            raise
        return Problem(name, "unreadable", f"cannot be unpacked: {error.strerror}", "left out")
    return None


def _unsafe(name: str) -> str | None:
    """Why a member's name must not become a path."""
    if not is_utf8(name):
        return "its name is not valid UTF-8"
    if name.startswith("/") or (os.name == "nt" and (":" in name or "\\" in name)):
        return "an absolute path in the archive"
    if ".." in PurePosixPath(name).parts:
        return "a path that leads out of the archive"
    return None


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """All members but folders, while the archive is open."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield [_zip_member(archive, opened, info) for info in opened.infolist() if not info.is_dir()]
    else:
        with tarfile.open(archive) as opened_tar:
            yield [_tar_member(opened_tar, info) for info in opened_tar.getmembers() if not info.isdir()]


def _zip_member(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    if info.flag_bits & 1:
        raise DataError(f"{archive} is encrypted. Unpack it, and give the folder instead.")
    kind = stat.S_IFMT(info.external_attr >> 16)
    refusal = None if kind in (0, stat.S_IFREG) else "a link or device in the archive"
    return Member(info.filename, info.file_size, lambda: opened.open(info), refusal)


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    def open_member() -> IO[bytes]:
        file = opened.extractfile(info)
        assert file is not None, "a regular member"
        return file

    return Member(info.name, info.size, open_member, None if info.isreg() else "a link or device in the archive")


def _check_space(archive: Path, wanted: int, place: Path) -> None:
    free = shutil.disk_usage(place).free
    if wanted + _SPARE_BYTES > free:
        raise StorageError(
            f"{archive} unpacks to {wanted / 1e9:.1f} GB, but the disk of {place.parent} has {free / 1e9:.1f} GB free."
            " Free some space, or set HEADSTART_CACHE to a folder on another disk."
        )


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NONSENSE:
            raise
        raise DataError(f"{archive} is damaged: {error}. Copy or download it again.") from error
