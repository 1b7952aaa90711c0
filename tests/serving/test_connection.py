"""Connections of clients that do not ask, ask slowly, or do not read, on a server of this process."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from caloforge.serving import connection
from caloforge.serving.connection import BoundedConnection

WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE_ANSWER = WHOLE.replace(b"/", b"/large", 1)
LARGE = 64 * 2**20
SECONDS = 20
ENOUGH = threading.Event()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, and answer with its length, late at /wait, or with much at /large."""
    if scope["type"] != "http":
        return
    n, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        n, more = n + len(message.get("body", b"")), message.get("more_body", False)
    while scope["path"] == "/wait" and not ENOUGH.is_set():
        await asyncio.sleep(0.01)
    body = bytes(LARGE) if scope["path"] == "/large" else str(n).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving() -> Iterator[uvicorn.Server]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo, http=BoundedConnection, lifespan="off", log_config=None, timeout_graceful_shutdown=60)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    server.address = listener.getsockname()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


@contextmanager
def connected(server: Any, *parts: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(server.address, SECONDS) as client:
        for part in parts:
            client.sendall(part)
        yield client


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_closed(client: socket.socket) -> bool:
    """Wait for the end of a connection on which nothing is said."""
    with suppress(ConnectionError):
        return client.recv(1) == b""
    return True


def answered(client: socket.socket, body: bytes) -> bool:
    """Read an answer."""
    received = b""
    while not received.endswith(b"\r\n\r\n" + body) and (data := client.recv(1000)):
        received += data
    return received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST / HTT",
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
    ],
)
def test_half_a_request_is_not_waited_for(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RECEIVE_SECONDS", 0.2)
    with serving() as server, connected(server, beginning) as client:
        assert is_closed(client)


def test_half_a_second_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RECEIVE_SECONDS", 0.2)
    with serving() as server, connected(server, WHOLE) as client:
        assert answered(client, b"0")
        time.sleep(0.4)  # between two requests there is time
        client.sendall(WHOLE)
        assert answered(client, b"0")
        client.sendall(b"GET / HTT")
        assert is_closed(client)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000,
        b"GET /" + b"a" * 200_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: " + b"a" * 200_000,
    ],
)
def test_what_is_no_body_is_bounded(endless: bytes) -> None:
    with serving() as server, connected(server) as client:
        with suppress(ConnectionError):  # it may be closed while we send
            client.sendall(endless)
        received = b""
        with suppress(ConnectionError):
            received = client.recv(1000)
        assert received == b"" or received.startswith(b"HTTP/1.1 400")


def test_a_body_in_small_pieces_is_read() -> None:
    pieces = b"1\r\na\r\n" * 50_000
    request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    with serving() as server, connected(server, request) as client:
        assert answered(client, b"50000")


def test_an_answer_that_is_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.3)
    with serving() as server, connected(server, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        deadline = time.monotonic() + SECONDS
        assert client.recv(1)
        while server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not server.server_state.connections


def test_who_has_not_asked_does_not_keep_a_server_from_stopping() -> None:
    with (
        serving() as server,
        connected(server, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc") as client,
    ):
        time.sleep(0.2)
        server.should_exit = True
        assert is_closed(client)


@pytest.mark.parametrize(
    "idle", [b"", b"POST / HTT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", WHOLE, LARGE_ANSWER]
)
def test_who_holds_many_connections_keeps_nobody_out(idle: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    ENOUGH.clear()
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 4)
    monkeypatch.setitem(globals(), "LARGE", 8 * 2**20)
    with serving() as server, ExitStack() as stack:
        working = stack.enter_context(connected(server, WHOLE.replace(b"/", b"/wait", 1)))
        stack.callback(ENOUGH.set)
        until(lambda: server.server_state.tasks)
        held = []
        for _ in range(6):
            held.append(stack.enter_context(connected(server, idle)))
            time.sleep(0.03)
        with connected(server, WHOLE) as client:
            assert answered(client, b"0")
        ENOUGH.set()
        assert answered(working, b"0")
        assert is_closed(held[0]) or idle in (WHOLE, LARGE_ANSWER)  # they have answers to read first
        until(lambda: len(server.server_state.connections) <= 4)


def heads(size: int) -> dict[str, bytes]:
    """Return requests whose heads have about so many bytes."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    long = b"a" * (size // 100)
    return {
        "one header": start + b"X: " + b"a" * size + b"\r\n\r\n",
        "many headers": start + b"".join(b"X%d: %b\r\n" % (number, long) for number in range(100)) + b"\r\n",
        "the address": b"GET /" + b"a" * size + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "no end": start + b"X: " + b"a" * size,
    }


@pytest.mark.parametrize("pieces", [1, 9])
@pytest.mark.parametrize("kind", heads(0))
def test_long_heads_are_refused(kind: str, pieces: int) -> None:
    head = heads(2 * connection.MAX_HEAD_BYTES)[kind]
    step = len(head) // pieces
    with serving() as server, connected(server) as client:
        with suppress(ConnectionError):  # it may be closed before all of it is sent
            for start in range(0, len(head), step):
                client.sendall(head[start : start + step])
                time.sleep(0.01)
        received = b""
        with suppress(ConnectionError):
            while data := client.recv(1000):
                received += data
    assert received.startswith(b"HTTP/1.1 400")
    assert b"The headers have more than 65536 bytes." in received


@pytest.mark.parametrize("kind", [kind for kind in heads(0) if kind != "no end"])
def test_heads_of_less_are_taken_again_and_again(kind: str) -> None:
    with serving() as server, connected(server) as client:
        for _ in range(4):  # of one connection: each head counts by itself
            client.sendall(heads(connection.MAX_HEAD_BYTES * 2 // 3)[kind])
            assert answered(client, b"0")
