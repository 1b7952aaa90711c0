"""The server, started as anybody starts it and asked through sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import httpx
import psutil

from caloforge.errors import InputError
from caloforge.models.engines.variant import EngineUnavailable
from caloforge.serving.errors import ServingError
from caloforge.serving.local import free_port, running_server
from caloforge.serving.protocols import Ask, protocols
from caloforge.showers import Conditions
from caloforge.tuning.inference.stopwatch import cpu_seconds, peak_megabytes

PROTOCOLS = {"binary": "server, REST", "json": "server, REST as JSON", "grpc": "server, gRPC"}
"""What is asked, and what tables call it."""


class Served:
    """A running server and one of its protocols; made by :func:`serving`."""

    def __init__(self, ask: Ask, pid: int) -> None:
        """Take how it is asked, and its process."""
        self._ask, self._pid = ask, pid

    def start(self, conditions: Conditions) -> None:
        """Ask for the first shower."""
        self._conditions = conditions
        self.seconds(1)

    def seconds(self, n: int) -> float:
        """Return how long n showers take, from the question to the array."""
        began = time.perf_counter()
        try:
            self._ask(self._conditions.take(slice(0, n)), 1)
        except (InputError, ServingError, httpx.HTTPError, grpc.RpcError) as error:
            raise EngineUnavailable((str(error).splitlines() or [type(error).__name__])[0]) from None
        return time.perf_counter() - began

    def peak_megabytes(self) -> float:
        """Return the most memory that the server has had so far."""
        return peak_megabytes(self._pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""
        return cpu_seconds(self._pid)


@contextmanager
def serving(bundle: Path, names: Sequence[str]) -> Iterator[dict[str, Served]]:
    """Serve a bundle while the block runs, and yield each protocol under the name that tables call it.

    Args:
        bundle: the generator.
        names: of its conditions.

    Raises:
        EngineUnavailable: the server does not become ready.
    """
    port = free_port()
    with ExitStack() as stack:
        try:
            url = stack.enter_context(running_server(bundle, grpc_port=port))
        except ServingError as error:
            raise EngineUnavailable(" ".join(str(error).split())) from None
        asks = stack.enter_context(protocols(url, port, names))
        pid = _process_with(str(port))
        yield {told: Served(asks[name], pid) for name, told in PROTOCOLS.items()}


def _process_with(word: str) -> int:
    """Return the one that this process started with a word in its command."""
    for one in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # others come and go
            if word in one.cmdline():
                return int(one.pid)
    raise EngineUnavailable("the server's process ended")
