"""Run the server as a subprocess of this machine, the way a cluster runs it in a container."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caloforge.child import Child
from caloforge.serving.client import is_ready
from caloforge.serving.errors import ServingError
from caloforge.temporary import scratch_folder

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Importing torch and kserve takes 5 to 20 s on a busy machine."""


@contextmanager
def running_server(bundle: Path, *, grpc_port: int | None = None) -> Iterator[str]:
    """Serve a bundle while the block runs, and yield the server's URL.

    The URL is on the loopback, but kserve cannot be told to listen there only: while the block
    runs, other machines reach the port too unless a firewall is in the way.

    Args:
        bundle: folder of the generator.
        grpc_port: port for gRPC; a free one without it.

    Raises:
        ServingError: the server does not become ready; the end of its log is in the message.
    """
    http_port = free_port()
    url = f"http://127.0.0.1:{http_port}"
    ports = ["--http-port", str(http_port), "--grpc-port", str(grpc_port or free_port())]
    command = [sys.executable, "-P", "-m", "caloforge", "serve", "--bundle", str(bundle), *ports]
    with scratch_folder() as folder:
        with Child(command, what="the server", log=folder / "server.log") as server:
            _wait(server, url)
            try:
                yield url
            except Exception as error:
                if server.poll() is not None:
                    raise ServingError(_death(server)) from error
                raise
        if (code := server.wait()) > 0:
            logger.warning("the server ended with code %d", code)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _wait(server: Child, url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(url):
        if server.poll() is not None:
            raise ServingError(_death(server))
        if time.monotonic() > deadline:
            raise ServingError(f"the server is not ready after {START_SECONDS:g} s; its log ends:\n{server.tail()}")
        time.sleep(0.1)


def _death(server: Child) -> str:
    return f"the server ended with code {server.poll()}; its log ends:\n{server.tail()}"
