"""Run the server as a subprocess of this machine, the way a cluster runs it in a container."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caloforge.serving.client import is_ready
from caloforge.serving.errors import ServingError

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Importing torch and kserve takes 5 to 20 s on a busy machine."""

STOP_SECONDS = 10.0

_LOG_TAIL_LINES = 30


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
    # -P: a folder called caloforge in the current directory is not the package.
    command = [sys.executable, "-P", "-m", "caloforge", "serve", "--bundle", str(bundle), *ports]
    with tempfile.TemporaryDirectory(prefix="caloforge-serve-") as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait(process, url, log)
            try:
                yield url
            except Exception as error:
                if process.poll() is not None:
                    raise ServingError(_death(process, log)) from error
                raise
        finally:
            _stop(process)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(url):
        if process.poll() is not None:
            raise ServingError(_death(process, log))
        if time.monotonic() > deadline:
            raise ServingError(f"the server is not ready after {START_SECONDS:g} s; its log ends:\n{_tail(log)}")
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        logger.warning("the server did not stop within %g s of SIGTERM and is killed", STOP_SECONDS)
        process.kill()
        process.wait()
    if process.returncode > 0:
        logger.warning("the server ended with code %d", process.returncode)


def _death(process: subprocess.Popen[bytes], log: Path) -> str:
    return f"the server ended with code {process.returncode}; its log ends:\n{_tail(log)}"


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace", encoding="utf-8").splitlines()[-_LOG_TAIL_LINES:])
