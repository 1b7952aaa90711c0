"""One server for all that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from caloforge.serving.local import free_port, running_server


class Server(NamedTuple):
    url: str
    grpc_address: str


@pytest.fixture(scope="session")
def server(tiny_bundle: Path) -> Iterator[Server]:
    """A server of ``tiny_bundle``."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # other tests want the cores too
        with running_server(tiny_bundle, grpc_port=port) as url:
            yield Server(url, f"127.0.0.1:{port}")
