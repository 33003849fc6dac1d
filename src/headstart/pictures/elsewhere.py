"""A picture that is no file of its own here, by its path: behind a URL, or in a shard -> its bytes and digest."""

import threading
from pathlib import Path

from headstart.errors import DataError
from headstart.pictures import kept, remote, shards
from headstart.pictures.addresses import member_of, shown, url_of
from headstart.pictures.kept import Address
from headstart.pictures.remote import Unreachable
from headstart.pictures.shards import refuse_too_large

ENOUGH = 16
"""So many pictures in a row that cannot be reached for the same reason end the work."""


class Patience:
    """Ends work whose pictures cannot be reached any more, rather than note the same problem a million times.

    It counts the failures of sources, such as a network that is down or access that is refused, and none of pictures.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason, self._count = "", 0
        self._end: DataError | None = None

    def check(self) -> None:
        """Raise the DataError that ended the work, if it has ended."""
        if self._end is not None:
            raise self._end

    def note(self, path: Path, error: Exception | None) -> None:
        """Take note of how the reading of a picture went.

        Raises:
            DataError: it is the last of `ENOUGH` in a row that failed alike.
        """
        reason = error.reason if isinstance(error, Unreachable) else ""
        with self._lock:
            self._count = self._count + 1 if reason and reason == self._reason else int(bool(reason))
            self._reason = reason
            if self._count < ENOUGH:
                return
            self._end = DataError(
                f"{ENOUGH} pictures in a row cannot be read, the last {shown(path)}: {error}. What was read before is "
                "kept; when the source answers again, run the same command again."
            )
        self.check()


def is_elsewhere(path: Path) -> bool:
    """Whether a path leads to no file of its own here; nothing is looked up."""
    return url_of(path) is not None or member_of(path) is not None


def read_elsewhere(path: Path, most: int) -> tuple[bytes, str]:
    """The bytes of a picture, and their SHA-256 in lower-case hexadecimal; what was read before is not read again.

    Raises:
        TooLarge: it has more than `most` bytes.
        FileNotFoundError: there is none.
        OSError: it cannot be read, or not now: see `headstart.pictures.remote`.
        DataError: its server wants credentials.
    """
    inside = member_of(path)
    if inside is not None:
        return shards.read_member(*inside, most)
    url = url_of(path)
    if url is None:
        raise FileNotFoundError(f"there is no {path}")
    address = _address(url)
    if address.digest and (data := kept.kept(address.digest)) is not None:
        return data, address.digest
    refuse_too_large(address.size, most)
    data = remote.fetch(url, address.size)
    digest = kept.keep(data)
    kept.note([Address(url, address.tag, len(data), None, digest)])
    return data, digest


def known_digest(path: Path) -> str:
    """The digest of a picture that was read before and has not changed since; else an empty text.

    The errors are those of `read_elsewhere`.
    """
    inside = member_of(path)
    if inside is not None:
        return shards.known_digest(*inside)
    url = url_of(path)
    return "" if url is None else _address(url).digest


def _address(url: str) -> Address:
    """What is known of the object at a URL; asked of its server unless it was listed in this session."""
    known = kept.find(url)
    if known is not None and known.is_fresh:
        return known
    facts = remote.look_up(url)
    kept.note([Address(url, facts.tag, facts.size)])
    noted = kept.find(url)
    assert noted is not None
    return noted
