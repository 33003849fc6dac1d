"""A request's body -> pictures: whole, or in parts of multipart/form-data, within the limits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from headstart.delivery.serve.room import Refused, Share
from headstart.delivery.serve.settings import Limits

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

UNNAMED = "picture"
FIELDS = ("file", "files")
_NAME_LENGTH = 200
_RAW_TYPES = ("application/octet-stream", "")


class Gone(Exception):  # noqa: N818
    """The client hung up before its request was complete."""


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent: the bytes of its file, and a name that is safe to show and names no place."""

    name: str
    data: bytes


async def receive_pictures(receive: Receive, headers: Mapping[str, str], limits: Limits, share: Share) -> list[Upload]:
    """The pictures of a request.

    Args:
        receive: gives the parts of its body, as ASGI has it.
        headers: by lower-case name.
        limits: what is refused.
        share: counts the bytes as they arrive.

    Raises:
        Refused: too large (413), too slow (408), no form and no picture (415), damaged or empty (400), busy (503).
        Gone: the client hung up.
    """
    boundary = _boundary(headers.get("content-type", ""))
    most = limits.request_bytes if boundary is not None else min(limits.file_bytes, limits.request_bytes)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(limits.seconds):
            body = await _body(receive, most, share)
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {limits.seconds:g} s.") from None
    if boundary is None:
        if not body:
            raise Refused(400, "the request has no body: send a picture, or several as multipart/form-data.")
        return [Upload(UNNAMED, body)]
    return split_form(body, boundary, limits)


def split_form(body: bytes, boundary: bytes, limits: Limits) -> list[Upload]:
    """The pictures in a body of multipart/form-data.

    Raises:
        Refused: damaged, empty or with an unknown field (400), or too much of something (413).
    """
    parts = _Parts(limits)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
    except FormParserError as error:
        raise Refused(400, f"the multipart body is damaged: {error}.") from error
    if not parts.complete:
        raise Refused(400, "the multipart body ends early.")
    if not parts.uploads:
        raise Refused(400, "no picture in the form: send it in the field 'file'.")
    return parts.uploads


def plain_name(name: str) -> str:
    r"""A client's name for a file as one that names no place and hides nothing.

    >>> plain_name("../../etc/passwd"), plain_name("C:\\photos\\ant.jpg"), plain_name("..")
    ('passwd', 'ant.jpg', 'picture')
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(letter for letter in last if letter.isprintable()).strip()
    if len(shown) > _NAME_LENGTH:
        shown = shown[: _NAME_LENGTH - 31] + "…" + shown[-30:]
    return shown if shown.strip(".") else UNNAMED


class _Parts:
    """What the parser has found so far."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.uploads: list[Upload] = []
        self.complete = False
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = bytearray(), bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": self._more,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._data, self._size = {}, [], 0

    def _header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size > self.limits.file_bytes:
            raise _too_large(self.limits.file_bytes, "a picture")
        self._data.append(data[start:end])

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        file_name = options.get(b"filename")
        if file_name is None and field not in FIELDS:
            raise Refused(400, f"unknown field '{_shown(field)}': send pictures in the field 'file'.")
        if len(self.uploads) == self.limits.files:
            raise Refused(413, f"more than {self.limits.files} pictures in one request.")
        name = UNNAMED if file_name is None else plain_name(file_name.decode("utf-8", "replace"))
        self.uploads.append(Upload(name, b"".join(self._data)))

    def _finish(self) -> None:
        self.complete = True


async def _body(receive: Receive, most: int, share: Share) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        if share.bytes + len(chunk) > most:
            raise _too_large(most)
        share.take_bytes(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _boundary(content_type: str) -> bytes | None:
    """The boundary of a form; None where the body is the picture itself."""
    kind, options = parse_options_header(content_type)
    name = kind.decode("latin-1")
    if name == "multipart/form-data":
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= 70:
            raise Refused(400, "the form's Content-Type names no boundary of 1 to 70 characters.")
        return boundary
    if name in _RAW_TYPES or name.startswith("image/"):
        return None
    raise Refused(
        415,
        f"cannot read a body of type '{_shown(name)}': send a picture as image/jpeg (or another image/...) or "
        "application/octet-stream, or several as multipart/form-data.",
    )


def _shown(text: str) -> str:
    """A client's text within a message: short and printable."""
    return "".join(letter for letter in text if letter.isprintable())[:100]


def _too_large(most: int, what: str = "the request") -> Refused:
    return Refused(413, f"{what} has more than the {most / 1e6:g} MB that are accepted.")
