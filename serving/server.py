"""Serve a generator bundle with kserve's model server, REST and gRPC."""

from __future__ import annotations

import gc
import importlib
import logging
import socket
import sys
from pathlib import Path

from caloforge.errors import InputError
from caloforge.memory import memory_limit
from caloforge.models.bundle import load_bundle
from caloforge.serving.device import best_device
from caloforge.serving.limits import FORMS, REQUEST_SECONDS, Limits

logger = logging.getLogger(__name__)


def serve(
    bundle: Path,
    *,
    http_port: int = 8080,
    grpc_port: int = 8081,
    name: str = "caloforge",
    max_steps: int | None = None,
    request_seconds: float = REQUEST_SECONDS,
) -> None:
    """Serve a bundle until SIGTERM or SIGINT; requests under way are finished first.

    kserve listens on all interfaces and authenticates nobody: on a cluster the mesh in front of
    it does, elsewhere a firewall must.

    Args:
        bundle: folder of the generator.
        http_port: port of the Open Inference Protocol v2 over REST.
        grpc_port: port of the same over gRPC.
        name: name of the model in URLs, ``/v2/models/NAME/infer``.
        max_steps: most sampling steps of a request; None for four times the generator's own.
        request_seconds: after which a request is given up.

    Raises:
        InputError: the bundle cannot be loaded, or a port is taken.
        GeneratorFailed: the generator draws no showers, or impossible ones.
    """
    _check_port(http_port)
    _check_port(grpc_port)
    generator = load_bundle(bundle, device=best_device())
    generator.try_out()
    limits = Limits.within(
        memory_limit(), n_voxels=generator.geometry.n_voxels, default_steps=generator.default_steps,
        max_steps=max_steps, seconds=request_seconds, has_likelihood=generator.network.has_likelihood,
    )  # fmt: skip
    import_kserve()
    from prometheus_client import REGISTRY  # what kserve tells at /metrics

    from caloforge.serving.kserve_server import GeneratorServer
    from caloforge.serving.model import GeneratorModel

    model = GeneratorModel(name, generator, limits, registry=REGISTRY)
    server = GeneratorServer(model, http_port=http_port, grpc_port=grpc_port)
    logger.info("serving %s (%s, on %s) as %r on ports %d (REST) and %d (gRPC)",
                bundle, generator.family, generator.device, name, http_port, grpc_port)  # fmt: skip
    logger.info("a request asks for at most %d showers (%d as JSON, %d over gRPC) and has %g s",
                *(limits.most_showers(form) for form in FORMS), request_seconds)  # fmt: skip
    gc.freeze()  # what is there stays: no use in looking through it again and again
    server.start()
    logger.info("server stopped")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port} cannot be used ({error}); choose another") from None


def import_kserve() -> None:
    """Import kserve, which parses ``sys.argv`` when it is imported and exits on what it dislikes."""
    argv = sys.argv
    sys.argv = argv[:1]
    try:
        model_server = importlib.import_module("kserve.model_server")
    finally:
        sys.argv = argv
    model_server.args.configure_logging = False  # its lines go where all others go, warnings only
