"""One server for all that ask it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from small_families import quick

from caloforge.models.configuration import TrainingRequest
from caloforge.models.training.train import train
from caloforge.serving.local import free_port, running_server


class Server(NamedTuple):
    url: str
    grpc_address: str
    log: Path


@pytest.fixture(scope="session")
def tiny_tree(small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree bundle trained for a moment."""
    folder = tmp_path_factory.mktemp("bundle") / "tree"
    train(
        TrainingRequest(
            showers=small_showers,
            prepared=small_prepared,
            output=folder,
            family="tree",
            overrides=quick("tree"),
            seed=1,
        )
    )
    return folder


@pytest.fixture(scope="session")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of ``tiny_bundle``."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # other tests want the cores too
        folder = tmp_path_factory.mktemp("server")
        patch.setattr(tempfile, "tempdir", str(folder))
        with running_server(tiny_bundle, grpc_port=port) as url:
            patch.undo()
            (log,) = folder.glob("*/server.log")
            yield Server(url, f"127.0.0.1:{port}", log)
