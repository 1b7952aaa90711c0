"""A local HTTP server that speaks as much Kubernetes as the steps need, faults included."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import port_forward
import yaml
from kubernetes import client
from local_server import QuietHandler, listening

from caloforge.cluster import Cluster
from caloforge.pipelines.rights import RIGHTS

Object = dict[str, Any]
Controller = Callable[[Object], None]

_ADDRESS = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>status|log|portforward))?"
)


class KubernetesApi:
    """A cluster that holds objects, and lets controllers play with them.

    Attributes:
        kinds: names of the kinds that are installed, e.g. ``experiments``; others are answered 404.
        objects: (plural, namespace, name) to the object.
        controllers: plural to what happens to an object whenever somebody reads it, as a
            controller would change its status.
        admission: plural to what happens to an object before it is made.
        updates: plural to why an object (as it is, as it shall be) may not be changed, empty if it may.
        script: what goes wrong, one entry for each request: ``"none"``, an HTTP status, ``"reset"``
            for a connection that breaks before the work is done, ``"lost"`` for one that breaks after it.
        requests: (method, path with query, headers) of all requests.
        bodies: (method, path with query, text) of those that have a body.
        logs: name of a pod to its log.
        groups: name of an API group to the versions that are served, and their kinds.
        openapi: what is served below ``/openapi/v3``.
        denied: (who, verb, resource) that may not be done; who is empty for the one who asks.
        reviewable: whether one may ask what others may do.
        forwards: (pod, port) to the address where it really listens.
        away_at: number of requests answered after which the server goes away for ``away_seconds``: it hangs up
            and listens no more.
    """

    def __init__(self, *kinds: str) -> None:
        self.kinds = {*kinds, "events", "pods", "namespaces"}
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.controllers: dict[str, Controller] = {}
        self.admission: dict[str, Controller] = {}
        self.updates: dict[str, Callable[[Object, Object], str]] = {}
        self.script: list[int | str] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[tuple[str, str, str]] = []
        self.logs: dict[str, str] = {}
        self.groups: dict[str, dict[str, list[str]]] = {}
        self.openapi: dict[str, Object] = {}
        self.denied: set[tuple[str, str, str]] = set()
        self.reviewable = True
        self.forwards: dict[tuple[str, int], tuple[str, int]] = {}
        self.away_at: int | None = None
        self.away_seconds = 0.0
        self.came_back = threading.Event()
        self.url = ""
        self._lock = threading.Lock()

    def add(self, plural: str, body: Object, *, namespace: str = "default") -> Object:
        """Put an object there, as a request would."""
        body = deepcopy(body)
        body["metadata"].update(
            namespace=namespace,
            uid=f"uid-{len(self.objects)}",
            resourceVersion="1",
            generation=1,
            creationTimestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self.objects[plural, namespace, body["metadata"]["name"]] = body
        return body

    def of(self, plural: str) -> list[Object]:
        """Return all objects of a kind."""
        return [item for (kind, _, _), item in self.objects.items() if kind == plural]

    def answer(self, method: str, address: str, body: Object | None) -> tuple[int, Any]:
        """Return status and content of an answer."""
        parts = urlsplit(address)
        if known := self._discovered(parts.path):
            return 200, known
        if parts.path.endswith("accessreviews"):
            assert body is not None
            return self._reviewed(body)
        found = _ADDRESS.fullmatch(parts.path)
        if found is None or found["plural"] not in self.kinds:
            return 404, _status(404, f"the server could not find {parts.path}")
        plural, namespace, name = found["plural"], found["namespace"] or "", found["name"]
        if found["part"] == "portforward":
            known = any(pod == name for pod, _ in self.forwards)
            return (101, name) if known else (404, _status(404, f"pods {name!r} not found"))
        if found["part"] == "log":
            return (200, self.logs[name]) if name in self.logs else (404, _status(404, f"no pod {name}"))
        if method == "POST":
            assert body is not None
            if (plural, namespace, body["metadata"]["name"]) in self.objects:
                return 409, _status(409, "already exists")
            self.admission.get(plural, lambda _: None)(body)
            return 201, self.add(plural, body, namespace=namespace)
        if name is None:
            selector = parse_qs(parts.query).get("labelSelector", [""])[0]
            items = [
                self._seen(plural, item)
                for (kind, place, _), item in sorted(self.objects.items())
                if kind == plural and place in (namespace, "" if namespace else place) and _fits(item, selector)
            ]
            return 200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}
        key = plural, namespace, name
        if key not in self.objects:
            return 404, _status(404, f"{plural} {name!r} not found")
        if method == "DELETE" and self.objects[key]["metadata"].get("finalizers"):
            self.objects[key]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        elif method == "DELETE":
            return 200, self.objects.pop(key)
        if method in ("PATCH", "PUT"):
            assert body is not None
            old = self.objects[key]
            new = _merged(old, body) if method == "PATCH" else {**body, "metadata": old["metadata"]}
            if refused := self.updates.get(plural, lambda *_: "")(old, new):
                return 400, _status(400, refused)
            self.objects[key] = new
            new["metadata"] = {**new["metadata"], "resourceVersion": str(int(old["metadata"]["resourceVersion"]) + 1)}
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        return 200, self._seen(plural, self.objects[key])

    def _discovered(self, path: str) -> Object | None:
        """Return what the server says of itself."""
        if path == "/version":
            return {"gitVersion": "v1.32.1"}
        if path.startswith("/openapi/v3/"):
            return self.openapi.get(path.removeprefix("/openapi/v3/"))
        group, _, version = path.removeprefix("/apis/").partition("/")
        if path.startswith("/apis/") and group in self.groups:
            if not version:
                return {"kind": "APIGroup", "versions": [{"version": name} for name in self.groups[group]]}
            if version in self.groups[group]:
                return {
                    "kind": "APIResourceList",
                    "resources": [{"name": kind} for kind in self.groups[group][version]],
                }
        return None

    def _reviewed(self, review: Object) -> tuple[int, Any]:
        """Answer whether somebody may do something."""
        user = review["spec"].get("user", "")
        if user and not self.reviewable:
            return 403, _status(403, "subjectaccessreviews is forbidden")
        asked = review["spec"]["resourceAttributes"]
        resource = f"{asked['resource']}/{asked['subresource']}" if asked["subresource"] else asked["resource"]
        who = user.rpartition(":")[2]
        return 201, {**review, "status": {"allowed": (who, asked["verb"], resource) not in self.denied}}

    def _seen(self, plural: str, item: Object) -> Object:
        if plural in self.controllers:
            self.controllers[plural](item)
        return item

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request."""
        length = int(handler.headers.get("Content-Length") or 0)
        text = handler.rfile.read(length).decode()
        body = json.loads(text) if text else None
        with self._lock:
            if text:
                self.bodies.append((handler.command, handler.path, text))
            self.requests.append(
                (handler.command, handler.path, {key.lower(): value for key, value in handler.headers.items()})
            )
            fault = self.script.pop(0) if self.script else "none"
            if fault == "reset":
                handler.close_connection = True
                return
            if isinstance(fault, int):
                code, answer = fault, _status(fault, "as the script says")
            else:
                code, answer = self.answer(handler.command, handler.path, body)
            if handler.command == "PATCH" and handler.headers["Content-Type"] != "application/merge-patch+json":
                code, answer = 415, _status(415, "custom resources know merge patches only")
            if fault == "lost":
                handler.close_connection = True
                return
            text = answer if isinstance(answer, str) else json.dumps(answer)
        if code == 101:
            port = int(parse_qs(urlsplit(handler.path).query)["ports"][0])
            port_forward.serve(handler, port, self.forwards[str(answer), port])
            return
        content = (b"<html>a proxy's page</html>") if fault == 502 else text.encode()
        handler.send_response(code)
        handler.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


def rights_used(api: KubernetesApi) -> set[tuple[str, str, str]]:
    """Return group, resource and verb of all requests, as a Role has to name them."""
    used = set()
    for method, address, _ in api.requests:
        found = _ADDRESS.fullmatch(urlsplit(address).path)
        assert found is not None
        reading = "get" if found["name"] else "list"
        verb = {"GET": reading, "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[method]
        part = f"/{found['part']}" if found["part"] else ""
        used.add((found["group"] or "", found["plural"] + part, verb))
    return used


def assert_granted(api: KubernetesApi) -> None:
    """The steps' Role grants all that was asked for."""
    assert rights_used(api) <= {(right.group, right.resource, verb) for right in RIGHTS for verb in right.verbs}


def _status(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def _fits(item: Object, selector: str) -> bool:
    labels = item["metadata"].get("labels", {})
    wanted = [one.split("=", 1) for one in selector.split(",") if one]
    return all(labels.get(key) == value for key, value in wanted)


def _merged(old: Any, changes: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(changes, dict):
        return changes
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


@contextmanager
def running(api: KubernetesApi) -> Iterator[KubernetesApi]:
    """Serve the cluster on a free port of this machine; its address is ``api.url``."""
    started, gone, over = threading.Event(), threading.Event(), threading.Event()

    class Handler(QuietHandler):
        def _serve(self) -> None:
            if api.away_at is not None and len(api.requests) >= api.away_at:
                api.away_at = None
                gone.set()
            if gone.is_set():
                self.close_connection = True
            else:
                api.respond(self)

        do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _serve

    def come_and_go() -> None:
        """Close the port when the server is to go away, and open the same one again later."""
        port = 0
        while not over.is_set():
            with listening(Handler, port=port) as api.url:
                port = int(api.url.rpartition(":")[2])
                started.set()
                while not gone.wait(0.01) and not over.is_set():
                    pass
            if gone.is_set():
                over.wait(api.away_seconds)
                gone.clear()
                api.came_back.set()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    started.wait()
    try:
        yield api
    finally:
        over.set()
        thread.join()


def kubeconfig(api: KubernetesApi, folder: Path, *, namespace: str = "default", token: str = "none") -> str:
    """Write a kubeconfig whose only context, ``here``, is a running cluster; returns its path."""
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@contextmanager
def connected(api: KubernetesApi, **options: Any) -> Iterator[Cluster]:
    """Return our side of a running cluster, quick to look and quick to give up."""
    configuration = client.Configuration(host=api.url)
    configuration.retries = False
    with client.ApiClient(configuration) as connection:
        yield Cluster(connection, "default", **{"poll_seconds": 0.01, "patience": 1.0, **options})
        connection.rest_client.pool_manager.clear()
