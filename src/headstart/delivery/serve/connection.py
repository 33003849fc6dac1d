"""A connection: uvicorn's, which gives up on clients that send or read too slowly, and answers nonsense in JSON."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from headstart.delivery.serve.guards import HEADERS

HEADER_SECONDS = 10.0
READING_SECONDS = 10.0  # in which a client must have taken at least so many bytes of its answer
_READING_BYTES = 10_000
_LINGER = 1.0  # seconds in which a client that is still sending may read its refusal


class Connection(H11Protocol):
    """One client's connection; a request's whole header must arrive within `HEADER_SECONDS`, and answers be taken."""

    _patience: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _is_refused = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first header."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on while a header is incomplete, however many bytes of it come."""
        if not self._is_refused:
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Look from now on whether the client takes its answer; one that does not would hold up a stop, for ever."""
        super().pause_writing()
        self._stop_looking()
        self._look(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Look no longer."""
        self._stop_looking()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also where the end of an answer is not taken."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(READING_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has too long a header (64 KB)."""
        body = json.dumps({"error": f"{msg.rstrip('.')}."}).encode()
        headers = {
            **HEADERS,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        events = (
            h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self._is_refused = True
        self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.close)

    def _look(self, left: int) -> None:
        def again() -> None:
            now = self.transport.get_write_buffer_size()
            if left - now < _READING_BYTES:
                self.transport.abort()
            else:
                self._look(now)

        self._reading = self.loop.call_later(READING_SECONDS, again)

    def _stop_looking(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._patience is None:
            self._patience = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
