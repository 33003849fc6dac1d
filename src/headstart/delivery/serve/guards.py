"""What surrounds every request: whom it is addressed to, who may ask, how the answer is kept safe, how long it took."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any

from headstart.delivery.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

_DRAINED, _DRAIN_SECONDS = 64_000_000, 10.0  # on a busy machine, bodies that are refused still take seconds to come


def safe(app: Application) -> Application:
    """Every answer with headers that keep a browser from doing more with it than it should."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_RAW_HEADERS]}
            await send(message)

        await app(scope, receive, send_safely if scope["type"] == "http" else send)

    return wrapped


def measured(app: Application, metrics: Metrics, paths: Collection[str]) -> Application:
    """Every request counted and timed; those to no path of ours together, so that nobody can swell the counts."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in paths else "other"
            metrics.request(path, status, time.perf_counter() - started)

    return wrapped


def addressed(app: Application, known_as: Collection[str] | None) -> Application:
    """Only requests to one of these host names, in lower case (all where None), and not from pages of other sites."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and known_as is not None:
            host = _header(scope, b"host").lower()
            name = host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
            if name not in known_as:
                await _refuse(send, 400, "this server does not answer to that host name; see --allow-host.")
                return
        # A browser says where a request comes from: a stranger's page could not read the answer, but cause the work.
        if scope["type"] == "http" and scope["method"] == "POST" and _header(scope, b"sec-fetch-site") == "cross-site":
            await _refuse(send, 400, "this server does not answer to pages of other sites.")
            return
        await app(scope, receive, send)

    return wrapped


def authorised(app: Application, token: str | None, open_to_all: Collection[str]) -> Application:
    """Only requests that carry the token as `Authorization: Bearer`, but for paths that are open to all."""
    if token is None:
        return app
    expected = token.encode()

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in open_to_all:
            scheme, _, given = _header(scope, b"authorization").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), expected):
                await _refuse(
                    send, 401, "a token is needed: Authorization: Bearer TOKEN.", {"www-authenticate": "Bearer"}
                )
                return
        await app(scope, receive, send)

    return wrapped


def patient(app: Application) -> Application:
    """A refused body is read to its end, within reason, before the refusal is sent.

    Who is answered in the middle of sending, and then finds the connection closed, often never sees the answer: the
    system throws it away with what was not read. Bodies that came too slowly (408) are not waited for again. Where the
    end does not come, the connection is closed.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        has_body = _header(scope, b"content-length") not in ("", "0") or _header(scope, b"transfer-encoding") != ""
        unread = has_body
        # Who asks before it sends is refused before it sends.
        asks_first = _header(scope, b"expect").lower() == "100-continue"

        async def watched() -> Message:
            nonlocal unread, asks_first
            asks_first = False
            message = await receive()
            unread = bool(message.get("more_body", False))
            return message

        async def send_later(message: Message) -> None:
            if message["type"] == "http.response.start" and unread:
                if not asks_first and message["status"] != 408:
                    await _drain(watched, lambda: unread)
                if unread:
                    message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        await app(scope, watched, send_later)

    return wrapped


async def _drain(receive: Receive, unread: Callable[[], bool]) -> None:
    left = _DRAINED
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while unread() and left > 0:
                left -= len((await receive()).get("body", b""))
    except TimeoutError:
        return


async def _refuse(send: Send, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
    body = json.dumps({"error": why}).encode()
    raw = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    raw += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
