"""A connection of uvicorn that nobody holds for ever: by not asking, by asking slowly, by not reading the answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from caloforge.serving.limits import MAX_CONNECTIONS

RECEIVE_SECONDS = 20.0
"""From the first byte of a request, or the beginning of a connection, to its last byte."""

SEND_SECONDS = 120.0
"""From when the client falls behind until it has the whole answer."""

MAX_HEAD_BYTES = 64 * 2**10
"""Of all that is no body: request line, headers, trailers."""

_FRAMING = 8
"""A byte of a chunked body may take so many on the way."""


class BoundedConnection(HttpToolsProtocol):
    """Adds what uvicorn has no settings for.

    It closes only connections that are idle between two requests, and answers 503 to all, a cluster's probes too, when
    there are too many of them: then whoever opens many would have the server restarted. Here the one that has kept us
    waiting longest makes room for a new one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See uvicorn."""
        super().__init__(*args, **kwargs)
        self._receiving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._bytes = self._body_bytes = self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._make_room()
        self._since = self.loop.time()
        self._receiving = self.loop.call_later(RECEIVE_SECONDS, transport.abort)

    def _make_room(self) -> None:
        if len(self.connections) <= MAX_CONNECTIONS:
            return
        held = [one for one in self.connections if isinstance(one, BoundedConnection)]
        held = [one for one in held if not one.transport.is_closing()]
        if len(held) > MAX_CONNECTIONS:
            others = [one for one in held if one is not self]
            slow = [one for one in others if one._asks_slowly] or [one for one in others if one.flow.write_paused]
            min(slow, key=lambda one: one._since, default=self).transport.abort()

    @property
    def _asks_slowly(self) -> bool:
        """Whether we wait for a request, or for its end."""
        answered = self.cycle is None or self.cycle.response_complete
        return self._receiving is not None or (answered and not self.flow.write_paused)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        _stop(self._receiving)
        _stop(self._sending)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        if self._receiving is None:
            self._since = self.loop.time()
            self._receiving = self.loop.call_later(RECEIVE_SECONDS, self.transport.abort)
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes - _FRAMING * self._body_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers have more than {MAX_HEAD_BYTES} bytes.")

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong, and close."""
        too_long = self._head_bytes > MAX_HEAD_BYTES
        super().send_400_response(f"The headers have more than {MAX_HEAD_BYTES} bytes." if too_long else msg)

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Read a part of the request line."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header, or a trailer."""
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        """Refuse a head that came in one piece, with or without the end of its request."""
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError  # the parser stops, and uvicorn calls send_400_response

    def on_body(self, body: bytes) -> None:
        """Read a part of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Have the whole request."""
        _stop(self._receiving)
        self._receiving = None
        self._bytes = self._body_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client falls behind."""
        if self._sending is None:
            self._since = self.loop.time()
            self._sending = self.loop.call_later(SEND_SECONDS, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has caught up, which counts at the end of an answer only."""
        super().resume_writing()
        if self.cycle is None or self.cycle.response_complete:
            _stop(self._sending)
            self._sending = None

    def on_response_complete(self) -> None:
        """The answer is written, as far as the client reads."""
        if not self.flow.write_paused:
            _stop(self._sending)
            self._sending = None
        self._since = self.loop.time()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more is asked."""
        self.transport.abort()  # also where the client has not read the end of the answer

    def shutdown(self) -> None:
        """The server stops: what is not yet asked is not waited for."""
        if self._receiving is not None:
            self.transport.close()
        else:
            super().shutdown()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
