"""Reach a port of a pod through the API server, from where the cluster's own network cannot be reached."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward

from caloforge.cluster import Cluster
from caloforge.errors import InputError

logger = logging.getLogger(__name__)

_CHUNK = 1 << 16


@contextmanager
def forwarded(cluster: Cluster, pod: str, port: int) -> Iterator[str]:
    """Yield an address on this machine that leads to a port of a pod while the block runs, as kubectl port-forward.

    Unlike the proxy of services this goes by way of the node, like ``kubectl logs``, and ends at the pod's own
    loopback: no firewall between API server and pods, no NetworkPolicy and no mTLS of Istio is in its way.

    Args:
        cluster: where the pod is.
        pod: its name.
        port: where it listens.

    Raises:
        InputError: the API server does not let us through.
    """
    _open(cluster, pod, port).close()  # a refusal is told before anything is sent
    over = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(0.1)
        acceptor = threading.Thread(target=_accept, args=(listener, over, cluster, pod, port), daemon=True)
        acceptor.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            acceptor.join()


def reachable(host: str, port: int, *, timeout: float = 5.0) -> bool:
    """Return whether a host name is known here and something listens there."""
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return False
    return True


def _open(cluster: Cluster, pod: str, port: int) -> Any:
    """Return a new tunnel to the pod."""
    # A client of its own: the library puts another way to ask into it for as long as it opens a tunnel.
    api = client.CoreV1Api(client.ApiClient(cluster.api.configuration))
    try:
        return portforward(api.connect_get_namespaced_pod_portforward, pod, cluster.namespace, ports=str(port))
    except ApiException as error:
        text = " ".join(str(error.reason).split(" -+-+- ")[0].split())
        raise InputError(f"pod {pod} cannot be reached through the API server (pods/portforward): {text}") from None


def _accept(listener: socket.socket, over: threading.Event, cluster: Cluster, pod: str, port: int) -> None:
    """Give each connection a tunnel of its own."""
    while not over.is_set():
        try:
            here, _ = listener.accept()
        except TimeoutError:
            continue
        try:
            tunnel = _open(cluster, pod, port)
        except InputError as error:
            logger.warning("%s", error)
            here.close()
            continue
        there = tunnel.socket(port)
        for source, target in ((here, there), (there, here)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: Any, target: Any) -> None:
    """Send on what comes until one side hangs up; then hang up both."""
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            end.close()
