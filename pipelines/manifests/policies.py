"""Who may talk to a server, which authenticates nobody: a NetworkPolicy, and an AuthorizationPolicy of Istio."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from caloforge.pipelines.manifests.products import AUTHORIZATION_POLICY
from caloforge.pipelines.manifests.text import Object, new_object
from caloforge.serving.inference_service import LABELS as SERVER_LABELS

CLIENT_LABEL = {"caloforge/client": "true"}
"""Pods with this label may ask a server; steps of pipelines and notebooks may without it."""

MODEL = "caloforge"
"""What the model is called in addresses, whatever the InferenceService is called."""

_REST, _GRPC = 8080, 8081
_KNATIVE = (8012, 8013)
"""Knative's proxy in the pod: HTTP/1 and HTTP/2."""
_KNATIVE_METRICS = (9090, 9091)
_STORE_PORTS = (9000, 8333)
"""A NetworkPolicy sees the port of the pod, not that of the Service: Kubeflow's store listens on either."""
_ISTIOD = (15010, 15012)

_MESH = ("istio-system", "knative-serving")
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

_ASKED = {
    "POST": (
        f"/v1/models/{MODEL}:predict",
        f"/v2/models/{MODEL}/infer",
        *(
            f"/inference.GRPCInferenceService/{method}"
            for method in ("ModelInfer", "ModelReady", "ModelMetadata", "ServerLive", "ServerReady", "ServerMetadata")
        ),
    ),
    "GET": (
        f"/v1/models/{MODEL}",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        f"/v2/models/{MODEL}",
        f"/v2/models/{MODEL}/ready",
    ),
}
_WATCHED = ("/metrics",)
"""What Prometheus and Knative's autoscaler read; nobody through a gateway, which lets strangers in."""
_PROBED = ("/healthz", "/ready", "/wait-for-drain")
"""What Knative asks its proxy, through the gateway too."""


def network_policy(store: str) -> Object:
    """Return the policy: which pods reach which ports of a server, and where a server's pod goes.

    Args:
        store: address of the object store from which KServe fetches bundles, within the pod.
    """
    here = [{"podSelector": {"matchExpressions": [{"key": key, "operator": "Exists"}]}} for key in _CLIENT_KEYS]
    clients = [*here, {"podSelector": {"matchLabels": dict(CLIENT_LABEL)}}]
    gateways = [
        _pods("istio-system", "istio", "ingressgateway", "cluster-local-gateway"),
        _pods("knative-serving", "app", "activator"),
        _pods("kourier-system", "app", "3scale-kourier-gateway"),
        _pods("envoy-gateway-system", "app.kubernetes.io/managed-by", "envoy-gateway"),
        # Gateways of the Gateway API, which lie where their Gateway does.
        *(_pods(namespace, "gateway.networking.k8s.io/gateway-name") for namespace in ("kserve", "kubeflow")),
    ]
    watchers = [
        _pods("monitoring", "app.kubernetes.io/name", "prometheus"),
        _pods("knative-serving", "app", "autoscaler"),
    ]
    egress: list[Object] = [
        {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]},
        {"ports": _tcp(443)},
        {"to": [_pods("istio-system", "app", "istiod")], "ports": _tcp(*_ISTIOD)},
    ]
    return {
        **new_object("networking.k8s.io/v1", "NetworkPolicy", "caloforge-server"),
        "spec": {
            "podSelector": {"matchLabels": dict(SERVER_LABELS)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": clients, "ports": _tcp(_REST, _GRPC, *_KNATIVE)},
                {"from": gateways, "ports": _tcp(_REST, *_KNATIVE)},
                {"from": watchers, "ports": _tcp(_REST, *_KNATIVE_METRICS)},
            ],
            "egress": [*egress, *_to_store(store)],
        },
    }


_CLIENT_KEYS = ("pipeline/runid", "notebook-name")
"""Labels of Kubeflow's steps and notebooks."""


def authorization_policy(namespace: str) -> Object:
    """Return the policy: who in the mesh, or beside it, may ask for what.

    Pods of pipelines have no sidecar, so that Istio does not know who they are: they are let in by their address
    within the cluster, and the NetworkPolicy says which of them.

    Args:
        namespace: where servers and their clients are.
    """
    beside = {"notPrincipals": ["*"], "ipBlocks": list(_PRIVATE)}
    return {
        **new_object(AUTHORIZATION_POLICY.api_version, AUTHORIZATION_POLICY.name, "caloforge"),
        "spec": {
            "selector": {"matchLabels": dict(SERVER_LABELS)},
            "action": "ALLOW",
            "rules": [
                {
                    "from": [{"source": {"namespaces": [namespace, *_MESH]}}, {"source": dict(beside)}],
                    "to": [_operation(method, paths) for method, paths in _ASKED.items()],
                },
                {
                    "from": [{"source": {"namespaces": ["monitoring", "knative-serving"]}}, {"source": dict(beside)}],
                    "to": [_operation("GET", _WATCHED)],
                },
                {
                    "from": [{"source": {"namespaces": list(_MESH)}}, {"source": dict(beside)}],
                    "to": [_operation("GET", _PROBED)],
                },
            ],
        },
    }


def _operation(method: str, paths: Sequence[str]) -> Object:
    return {"operation": {"methods": [method], "paths": list(paths)}}


def _pods(namespace: str, label: str, *values: str) -> Object:
    """Return a peer: pods of another namespace by a label, with any value without one."""
    expression: dict[str, Any] = {"key": label, "operator": "In", "values": list(values)}
    if not values:
        expression = {"key": label, "operator": "Exists"}
    return {"namespaceSelector": _named(namespace), "podSelector": {"matchExpressions": [expression]}}


def _named(namespace: str) -> Object:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


def _tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _to_store(store: str) -> list[Object]:
    """Return what lets KServe's container fetch the bundle; port 443 is open already."""
    address = urlsplit(store)
    port = address.port or (443 if address.scheme == "https" else 80)
    labels = (address.hostname or "").split(".")
    if len(labels) > 1 and (len(labels) == 2 or labels[2] == "svc"):  # SERVICE.NAMESPACE[.svc.cluster.local]
        return [{"to": [{"namespaceSelector": _named(labels[1])}], "ports": _tcp(*sorted({port, *_STORE_PORTS}))}]
    return [] if port == 443 else [{"ports": _tcp(port)}]
