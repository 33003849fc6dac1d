"""Bytes from object stores and web servers: time limits, tries again with back-off, and failures in plain words.

The servers are spoken to by fsspec and its file systems; which failure is worth another try is decided here, so that
all of them behave alike.
"""

import errno
import functools
import importlib
import io
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from headstart.errors import DataError, UsageError

TRIES = 5
FIRST_WAIT_SECONDS = 0.5
"""Before the second try; twice as long before each further one, each time a random part of it."""

READERS = 16
"""How many objects are read at a time: most of the time of each is waiting."""

CONNECT_SECONDS = 10
STALL_SECONDS = 60
SLOWEST_BYTES_PER_SECOND = 50_000
"""A read may take `STALL_SECONDS`, and longer for many bytes, at this pace."""

BLOCK = 8 * 1024**2
"""Bytes that a large remote file is read in, each with tries of its own."""

Result = TypeVar("Result")

_EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "http": ("aiohttp", "http"), "https": ("aiohttp", "http")}
_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "mtime", "LastModified", "Last-Modified", "updated", "last_modified")
_NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError"),
    *("DefaultCredentialsError", "LocalTokenNotFoundError"),
}
_FOREIGN = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "httpx": ("HTTPError",),
}
_DAMAGED = {"FlexibleChecksumError"}  # S3's own word for bytes that changed on the way
_WORTH_ANOTHER = (408, 425, 429)  # and all from 500: the server's own trouble
_HOPELESS = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG)  # how s3fs writes other answers of 4xx


class Unreachable(OSError):  # noqa: N818 - the reason is what a reader wants to see
    """The source of a picture, not the picture, is at fault: it refuses us, or gives no answer in `TRIES` tries.

    `reason` is the same for pictures that fail alike.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Truncated(OSError):  # noqa: N818
    """Fewer bytes came than the source had announced, or others, each time."""


@dataclass(frozen=True)
class Facts:
    """What a server says of an object: its `size` in bytes, if it does, and a `tag` that changes with its content."""

    size: int | None
    tag: str


def look_up(url: str) -> Facts:
    """What is known of an object without reading it.

    Raises:
        FileNotFoundError: there is none.
        Unreachable: the server refuses us, or gives no answer.
        DataError: it wants credentials, and there are none here.
    """
    files, path = _open(url)
    return _facts(_tried(url, lambda: _ask(files, "info", path)))


def fetch(url: str, size: int | None) -> bytes:
    """All bytes of an object, `size` of them where that is known.

    Raises:
        Truncated: fewer came, in each of the tries. Further errors are those of `look_up`.
    """
    files, path = _open(url)

    def once() -> bytes:
        return _whole(_ask(files, "cat_file", path, seconds=_patience(size)), size)

    return _tried(url, once)


def fetch_part(url: str, start: int, stop: int) -> bytes:
    """The bytes from `start` up to `stop` of an object; the errors are those of `fetch`."""
    if stop <= start:
        return b""
    files, path = _open(url)

    def once() -> bytes:
        data = _ask(files, "cat_file", path, start=start, end=stop, seconds=_patience(stop - start))
        if len(data) > stop - start:
            raise DataError(f"the server of {url} gives no parts of files. Copy the file here, and give the copy.")
        return _whole(data, stop - start)

    return _tried(url, once)


def folders(url: str, enters: Callable[[str], bool]) -> Iterator[tuple[str, dict[str, Facts]]]:
    """Each folder below `url` and itself, with its files: paths are relative to it. One folder's are held at a time.

    Folders of which `enters` says no are not entered. Where an object store has keys with an empty part in a folder,
    which no path can say, their common beginning stands for them, and ends with two slashes.

    Raises:
        FileNotFoundError: there is nothing. Further errors are those of `look_up`.
    """
    files, top = _open(url)
    top = top.rstrip("/")
    waiting = [""]
    while waiting:
        here = waiting.pop()
        place = f"{top}/{here}".rstrip("/")
        place += "/" if url.startswith("http") else ""  # by which a web server tells a folder
        listed = _tried(url, lambda place=place: _ask(files, "ls", place, detail=True))  # type: ignore[misc]
        found: dict[str, Facts] = {}
        for entry in listed:
            name = str(entry["name"])[len(place.rstrip("/")) + 1 :]
            inner = f"{here}/{name.rstrip('/')}".strip("/")
            is_folder = entry["type"] == "directory" or name.endswith("/")
            if inner == here:  # a web server's link to the folder itself, or the mark that a store keeps for a folder
                if is_folder and not url.startswith("http"):
                    found[f"{inner}//"] = Facts(None, "")
            elif is_folder:
                waiting += [inner] if enters(inner) else []
            else:
                found[inner] = _facts(entry)
        yield here, found


def matching(url: str) -> list[str]:
    """The URLs that a pattern with `*`, `?` and `[...]` stands for, sorted; the errors are those of `look_up`."""
    files, pattern = _open(url)
    found = _tried(url, lambda: _ask(files, "glob", pattern))
    return sorted(one if one.startswith("http") else f"{url.partition('://')[0]}://{one}" for one in map(str, found))


class RemoteFile(io.RawIOBase):
    """A remote object as a file that can be sought in; each read is a request for a range, with tries of its own."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._place = url, size, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset`, as counted from `whence`."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; fewer bytes only at the end."""
        data = fetch_part(self._url, self._place, min(self._size, self._place + len(buffer)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


@functools.cache
def _files(scheme: str, process: int) -> Any:
    """The file system of a kind of URL; one for each `process`, because a fork takes no threads along."""
    import fsspec

    if scheme in _EXTRAS:
        package, extra = _EXTRAS[scheme]
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UsageError(f"{scheme}:// needs one more package: pip install headstart[{extra}]") from error
    del process
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **_options(scheme))


def _options(scheme: str) -> dict[str, Any]:
    """Time limits, no tries but ours, and no more than `READERS` connections."""
    if scheme == "s3":
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": STALL_SECONDS, "max_pool_connections": READERS}
        # With more than one request for an object s3fs fills what did not come with zeros.
        return {"config_kwargs": {**limits, "retries": {"total_max_attempts": 1}}, "max_concurrency": 1}
    if scheme in ("http", "https"):
        import aiohttp

        return {
            "client_kwargs": {"timeout": aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS)}
        }
    return {}


def _open(url: str) -> tuple[Any, str]:
    """The file system for a URL, and what it calls the object."""
    files = _files(url.partition(":")[0], os.getpid())
    if hasattr(files, "retries"):
        files.retries = 1  # those here are enough
    return files, url if url.startswith("http") else str(files._strip_protocol(url))


def _ask(files: Any, request: str, *arguments: Any, seconds: float = STALL_SECONDS, **named: Any) -> Any:
    """Put a request to a file system, and wait no longer than `seconds` where it can be left waiting."""
    if getattr(files, "async_impl", False):
        from fsspec.asyn import sync

        return sync(files.loop, getattr(files, f"_{request}"), *arguments, timeout=seconds, **named)
    return getattr(files, request)(*arguments, **named)


def _patience(size: int | None) -> float:
    return STALL_SECONDS + (size or BLOCK) / SLOWEST_BYTES_PER_SECOND


def _whole(data: bytes, size: int | None) -> bytes:
    if size is not None and len(data) < size:
        raise Truncated(f"truncated on the way: {len(data):,} of {size:,} bytes")
    return data


def _facts(entry: dict[str, Any]) -> Facts:
    tag = next((str(entry[name]) for name in _TAGS if entry.get(name)), "")
    size = entry.get("size")
    if not tag and size is None:
        return Facts(None, uuid.uuid4().hex)  # nothing tells whether it has changed, so that it always may have
    return Facts(size, f"{tag.strip(chr(34))}-{size}")


def _tried(url: str, once: Callable[[], Result]) -> Result:
    """The outcome of `once`, after further tries where a failure may pass."""
    for number in range(TRIES):
        try:
            return once()
        except _failures() as error:
            last = _underlying(error)
            failure = _named(url, last)
            if failure is not None:
                raise failure from error
        if number + 1 < TRIES:
            time.sleep(FIRST_WAIT_SECONDS * 2**number * random.uniform(0.5, 1))
    if isinstance(last, Truncated) or type(last).__name__ in _DAMAGED:
        raise Truncated(f"{_said(last)}, in each of {TRIES} tries") from last
    raise Unreachable(f"no answer from {_host(url)} in {TRIES} tries: {_said(last)}", _reason(url, last)) from last


def _underlying(error: Exception) -> Exception:
    """What is behind an error: fsspec takes any trouble of a web server for an absent file."""
    cause = error.__cause__
    return cause if isinstance(error, FileNotFoundError) and isinstance(cause, _foreign()) else error


def _named(url: str, error: BaseException) -> Exception | None:
    """What a failure is to be called; None where it may pass."""
    if _NO_CREDENTIALS & {kind.__name__ for kind in type(error).__mro__}:
        return DataError(
            f"there are no credentials for {_host(url)} ({_said(error)}). Log in as its own tools do; for a public S3 "
            "bucket set FSSPEC_S3_ANON=true."
        )
    status = _status(error)
    if status in (404, 410) or isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such object", url)
    if status in (401, 403) or isinstance(error, PermissionError):
        return Unreachable(f"{_host(url)} refuses access: {_said(error)}", _reason(url, error))
    if status is not None:
        passing = status in _WORTH_ANOTHER or status >= 500
        return None if passing else OSError(f"{_host(url)} answers {status}: {_said(error)}")
    if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno in _HOPELESS):
        return OSError(f"{_host(url)} cannot be asked for it: {_said(error)}")
    return None


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error tells of, where it does."""
    found = getattr(error, "status", None) if hasattr(error, "status") else getattr(error, "code", None)
    if isinstance(found, int):
        return found
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _host(url: str) -> str:
    return "/".join(url.split("/")[:3])


def _reason(url: str, error: BaseException) -> str:
    return f"{_host(url)} {type(error).__name__} {_status(error) or ''}"


def _said(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    if isinstance(status := getattr(error, "status", None), int):
        return f"{status} {getattr(error, 'message', '')}".rstrip()
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def _failures() -> tuple[type[Exception], ...]:
    """What a request may raise."""
    return (OSError, EOFError, ValueError, *_foreign())


def _foreign() -> tuple[type[Exception], ...]:
    """What the libraries that are loaded raise besides Python's own errors."""
    modules = {name: sys.modules.get(name) for name in _FOREIGN}
    return tuple(
        getattr(module, kind)
        for name, module in modules.items()
        if module is not None
        for kind in _FOREIGN[name]
        if hasattr(module, kind)
    )
