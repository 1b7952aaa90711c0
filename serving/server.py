"""Serve a generator bundle with kserve's model server, REST and gRPC."""

from __future__ import annotations

import importlib
import logging
import socket
import sys
from pathlib import Path
from types import ModuleType

from caloforge.errors import InputError
from caloforge.models.bundle import load_bundle
from caloforge.serving.device import best_device

logger = logging.getLogger(__name__)


def serve(bundle: Path, *, http_port: int = 8080, grpc_port: int = 8081, name: str = "caloforge") -> None:
    """Serve a bundle until SIGTERM or SIGINT; requests under way are finished first.

    kserve listens on all interfaces and authenticates nobody: on a cluster the mesh in front of
    it does, elsewhere a firewall must.

    Args:
        bundle: folder of the generator.
        http_port: port of the Open Inference Protocol v2 over REST.
        grpc_port: port of the same over gRPC.
        name: name of the model in URLs, ``/v2/models/NAME/infer``.

    Raises:
        InputError: the bundle cannot be loaded, or a port is taken.
    """
    _check_port(http_port)
    _check_port(grpc_port)
    generator = load_bundle(bundle, device=best_device())
    kserve_server = _import_model_server()
    from caloforge.serving.model import GeneratorModel, StrictDataPlane

    # workers=1: kserve restarts a worker that needs more than 5 s to import; scale with replicas.
    server = kserve_server.ModelServer(
        http_port=http_port, grpc_port=grpc_port, workers=1, enable_latency_logging=False
    )
    server.dataplane = StrictDataPlane(server.registered_models)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)  # two lines a request, which ours replaces
    logger.info("serving %s (%s, on %s) as %r on ports %d (REST) and %d (gRPC)",
                bundle, generator.family, generator.device, name, http_port, grpc_port)  # fmt: skip
    server.start([GeneratorModel(name, generator)])
    logger.info("server stopped")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port} cannot be used ({error}); choose another") from None


def _import_model_server() -> ModuleType:
    """Import kserve, which parses ``sys.argv`` when it is imported and exits on what it dislikes."""
    argv = sys.argv
    sys.argv = argv[:1]
    try:
        model_server = importlib.import_module("kserve.model_server")
    finally:
        sys.argv = argv
    # The only way to its gRPC options; the default of 8 MiB is a few hundred showers.
    model_server.args.grpc_max_send_message_length = -1
    model_server.args.grpc_max_receive_message_length = -1
    return model_server
