"""What surrounds every request to the desk: whom it is addressed to, who may change something, what keeps answers safe.

The desk is for the person at this machine. A page of some other site must not be able to read pictures or decide
anything through that person's browser: the Host header is checked (against names that lead to this machine by trick),
what comes from another site is refused, and what changes something needs the token of this start, which only the desk's
own page is given.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN = "x-headstart-token"
MOST_BYTES = 1_000_000
TOO_LARGE = f"a request has at most {MOST_BYTES:,} bytes."
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def guarded(app: Application, token: str, host: str) -> Application:
    """`app` behind the gate, bound to the address `host`; see the module."""
    only_here = host in LOOPBACK | {"::1"}

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = _refusal(scope["method"], headers, token, only_here)
        if refused is not None:
            await _answer(send, *refused)
            return

        async def sending(message: Message) -> None:
            await send(_with_headers(message))

        await app(scope, _bounded(receive), sending)

    return gate


def _refusal(method: str, headers: dict[str, str], token: str, only_here: bool) -> tuple[int, str] | None:
    """The status and the reason, where a request is refused."""
    host = headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if only_here and name not in LOOPBACK:
        return 421, "this desk answers to 127.0.0.1 and localhost alone."
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return 403, "requests from other sites are refused."
    if origin is not None and origin.partition("://")[2] != host:
        return 403, "requests from other sites are refused."
    if method in ("GET", "HEAD"):
        return None
    if not hmac.compare_digest(headers.get(TOKEN, "").encode("latin-1"), token.encode()):
        return 403, f"the header {TOKEN} does not hold this start's token. Reload the page."
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "send application/json."
    if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > MOST_BYTES:
        return 413, TOO_LARGE
    return None


def _bounded(receive: Receive) -> Receive:
    total = 0

    async def receiving() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MOST_BYTES:
            raise HTTPException(413, TOO_LARGE)
        return message

    return receiving


def _with_headers(message: Message) -> Message:
    if message["type"] != "http.response.start":
        return message
    given = {name.lower() for name, _ in message["headers"]}
    more = {"cache-control": "no-store", **HEADERS}
    added = [(name.encode(), value.encode()) for name, value in more.items() if name.encode() not in given]
    return {**message, "headers": [*message["headers"], *added]}


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(_with_headers({"type": "http.response.start", "status": status, "headers": headers}))
    await send({"type": "http.response.body", "body": body})
