"""A local HTTP server that speaks as much of the API of Kubeflow Pipelines as our commands need, faults included."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from local_server import QuietHandler, listening

Object = dict[str, Any]

PREFIX = "/apis/v2beta1/"
NOW = "2026-01-02T03:04:05Z"
LATER = "2026-01-02T03:05:05Z"
NEVER = "0001-01-01T00:00:00Z"
"""What the real server says of a task that has not ended."""

WORKFLOW = "caloforge-zszzx"
_LOG = re.compile(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log")

_KINDS = {
    "experiments": "experiment_id", "pipelines": "pipeline_id", "versions": "pipeline_version_id",
    "runs": "run_id", "recurringruns": "recurring_run_id",
}  # fmt: skip
_LISTS = {"versions": "pipeline_versions", "recurringruns": "recurringRuns"}


class KfpApi:
    """Kubeflow Pipelines with nobody who runs the pipelines.

    Attributes:
        objects: kind to the objects of it.
        multi_user: whether users have namespaces of their own.
        token: bearer token that is asked for; empty: anybody may come.
        play: what happens to a run whenever somebody reads it.
        script: what goes wrong, one entry for each request: ``"none"``, an HTTP status, ``"html"`` for the
            login page of a proxy, seconds of delay (a float), ``"reset"`` for a connection that breaks before the work is done,
            ``"lost"`` for one that breaks after it.
        requests: (method, path, query, headers, content) of all requests.
        logs: Argo's identifier of a node to the log of its container.
        version: which the older API tells.
    """

    def __init__(self, *, multi_user: bool = False, token: str = "") -> None:
        self.objects: dict[str, list[Object]] = {kind: [] for kind in _KINDS}
        self.multi_user, self.token = multi_user, token
        self.play: Callable[[Object], None] = lambda run: None
        self.script: list[int | float | str] = []
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        self.logs: dict[str, str] = {}
        self.url, self.version = "", "2.15.0"
        self._lock = threading.Lock()

    def asked(self, method: str, ending: str) -> list[Any]:
        """Return the content of all requests of a method to a path with this end."""
        return [content for verb, path, _, _, content in self.requests if verb == method and path.endswith(ending)]

    def add(self, kind: str, body: Object) -> Object:
        """Put an object there, as a request would."""
        identifier = f"{kind}-{len(self.objects[kind]) + 1}"
        made = {**body, _KINDS[kind]: identifier, "created_at": NOW}
        if kind == "runs":
            made.setdefault("state", "PENDING")
            made["run_details"] = {"task_details": []}
            if (reference := made.get("pipeline_version_reference")) is not None:  # the run does not repeat it
                assert self._find("versions", reference["pipeline_version_id"]) is not None
        self.objects[kind].append(made)
        return made

    def _find(self, kind: str, identifier: str) -> Object | None:
        return next((one for one in self.objects[kind] if one[_KINDS[kind]] == identifier), None)

    def replay(self, run: Object, specification: Object) -> str:
        """Put a recorded run there, and the version that it was started from; return its identifier."""
        reference = run["pipeline_version_reference"]
        self.objects["versions"].append({**reference, "pipeline_spec": specification})
        self.objects["runs"].append(run)
        return str(run["run_id"])

    def answer(self, method: str, path: str, query: dict[str, str], content: Any) -> tuple[int, Object | str]:
        """Return status and content of an answer."""
        if match := _LOG.fullmatch(path):
            if self._find("runs", match[1]) is None or match[2] not in self.logs:
                return 500, {"error_message": "Failed to read log"}
            return 200, self.logs[match[2]]
        if path == "/apis/v1beta1/healthz" and self.version:
            return 200, {"tag_name": self.version, "multi_user": self.multi_user}
        if not path.startswith(PREFIX):
            return 404, {"message": "Not Found"}
        place = path.removeprefix(PREFIX)
        if place == "healthz":
            return 200, {"multi_user": self.multi_user, "apiServerReady": True}
        if place == "pipelines/upload_version" and method == "POST":
            return self._upload(query, content)
        if match := re.fullmatch(r"pipelines/([^/]+)/versions", place):
            versions = [one for one in self.objects["versions"] if one["pipeline_id"] == match[1]]
            return 200, {"pipeline_versions": [one for one in versions if _fits(one, query)]}
        if match := re.fullmatch(r"pipelines/([^/]+)/versions/([^/]+)", place):
            version = self._find("versions", match[2])
            if version is None or version["pipeline_id"] != match[1]:
                return 404, {"message": f"PipelineVersion {match[2]} not found"}
            return 200, version
        kind, _, identifier = place.partition("/")
        if kind not in self.objects:
            return 404, {"message": f"no {kind}"}
        if method == "POST":
            if kind == "pipelines" and any(
                one["display_name"] == content["display_name"] for one in self.objects[kind]
            ):
                return 409, {"message": "a pipeline of that name is there"}
            if self.multi_user and kind == "experiments" and not content.get("namespace"):
                return 400, {"message": "Invalid input error: Namespace is empty"}
            return 200, self.add(kind, content)
        if identifier:
            found = self._find(kind, identifier)
            if found is None:
                return 404, {"message": f"{kind} {identifier} not found"}
            if kind == "runs":
                self.play(found)
            return 200, found
        fitting = [one for one in self.objects[kind] if _fits(one, query)]
        return 200, {_LISTS.get(kind, kind): fitting}

    def _upload(self, query: dict[str, str], content: bytes) -> tuple[int, Object]:
        if self._find("pipelines", query["pipelineid"]) is None:
            return 404, {"error_message": "no such pipeline"}
        if any(one["display_name"] == query["name"] for one in self.objects["versions"]):
            return 409, {"error_message": "a version of that name is there"}
        pipeline, *platforms = yaml.load_all(content, Loader=yaml.CSafeLoader)
        spec = {"pipeline_spec": pipeline, "platform_spec": platforms[0]} if platforms else pipeline
        body = {"display_name": query["name"], "pipeline_id": query["pipelineid"], "pipeline_spec": spec}
        return 200, self.add("versions", body)

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request."""
        content = _content(handler)
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.requests.append((handler.command, parts.path, query, headers, content))
            fault = self.script.pop(0) if self.script else "none"
            if fault == "reset":
                handler.close_connection = True
                return
            if fault == "html":
                _send(handler, 200, b"<html><body>run_id: please log in</body></html>", "text/html; charset=utf-8")
                return
            if isinstance(fault, int):
                code, answer = fault, {"error": "as the script says", "message": f"as the script says to {headers}"}
            elif self.token and headers.get("authorization") != f"Bearer {self.token}":
                code, answer = 401, {"message": f"Unauthenticated: {headers.get('authorization')}"}
            else:
                code, answer = self.answer(handler.command, parts.path, query, content)
            if fault == "lost":
                handler.close_connection = True
                return
        if isinstance(fault, float):
            time.sleep(fault)
        if isinstance(answer, str):
            _send(handler, code, answer.encode(), "text/plain; charset=utf-8")
        elif code == 502:
            _send(handler, code, b"<html>a proxy's page</html>", "text/html")
        else:
            _send(handler, code, json.dumps(answer).encode(), "application/json")


def node_id(path: str) -> str:
    """Return what Argo calls a node, by its name below the workflow: ``root(0).train(0).executor(0)``."""
    code = 0x811C9DC5
    for letter in f"{WORKFLOW}(0).{path}".encode():
        code = ((code ^ letter) * 0x01000193) & 0xFFFFFFFF
    return f"{WORKFLOW}-{code}"


def step_nodes(path: tuple[str, ...], state: str, *, attempts: int = 1, error: str = "") -> list[Object]:
    """Return the nodes by which the real server tells of one step; ``SKIPPED`` is one that the cache had.

    Args:
        path: names of the groups around the step and its own: ``("root", "train")``.
        state: of the step's container.
        attempts: how many containers there were.
        error: what the step's node says.
    """
    key, full = path[-1], "(0).".join(path)
    driver, container = f"{full}-driver(0)", f"{full}(0).executor"
    group = "SUCCEEDED" if state == "SKIPPED" else "RUNNING" if state == "PENDING" else state
    nodes = [
        _node(f"{key}-driver", "SUCCEEDED", driver),
        _node(f"{key}-driver(0)", "SUCCEEDED", f"{full}"),
        _node(key, group, f"{full}(0)", error=error),
        _node(f"{key}(0)", group, container, f"{full}-elsewhere(0)"),
    ]
    if state == "SKIPPED":
        return [*nodes, _node("executor", "SKIPPED")]
    tries = [f"{container}({number})" for number in range(attempts)]
    before = [_node(f"executor({number})", "FAILED") for number in range(attempts - 1)]
    last = _node(f"executor({attempts - 1})", state)
    return [*nodes, _node("executor", group, *tries), *before, last]


def _node(name: str, state: str, *children: str, error: str = "") -> Object:
    described: Object = {
        "task_id": f"{name} of {children}", "display_name": name, "state": state, "start_time": NOW,
        "end_time": NEVER if state in ("RUNNING", "PENDING") else LATER,
        "child_tasks": [{"pod_name": node_id(child)} for child in children],
        "state_history": [{"update_time": NOW, "state": state}],
    }  # fmt: skip
    return {**described, "error": {"code": 13, "message": error}} if error else described


def _fits(item: Object, query: dict[str, str]) -> bool:
    predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
    return all(item.get(one["key"]) == one["stringValue"] for one in predicates) and (
        query.get("experiment_id") in (None, item.get("experiment_id"))
    )


def _content(handler: BaseHTTPRequestHandler) -> Any:
    length = int(handler.headers.get("Content-Length") or 0)
    body = handler.rfile.read(length)
    kind = handler.headers.get("Content-Type", "")
    if kind.startswith("multipart/"):
        [part] = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
        return part.get_payload(decode=True)  # type: ignore[union-attr]
    return json.loads(body) if body else None


def _send(handler: BaseHTTPRequestHandler, code: int, body: bytes, kind: str) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # nobody waits any more
        handler.send_response(code)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def running(api: KfpApi) -> Iterator[KfpApi]:
    """Serve Kubeflow Pipelines on a free port of this machine; its address is ``api.url``."""

    class Handler(QuietHandler):
        def _serve(self) -> None:
            api.respond(self)

        do_GET = do_POST = _serve

    with listening(Handler) as api.url:
        yield api
