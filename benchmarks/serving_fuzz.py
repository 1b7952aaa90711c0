"""Send a server thousands of broken requests over REST, raw sockets and gRPC: unexpected errors, stack traces, showers.

Usage: OMP_NUM_THREADS=1 python benchmarks/serving_fuzz.py BUNDLE [--requests N] [--seed S]

Ends with 1 if the server fails (5xx), does not answer, writes a stack trace or a control character to its log, or
makes other showers after it than before.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from caloforge.domain import spread_over
from caloforge.models.bundle import load_bundle
from caloforge.serving.client import query
from caloforge.serving.local import free_port, running_server

INFER, PREDICT = "/v2/models/caloforge/infer", "/v1/models/caloforge:predict"
SERVICE = "/inference.GRPCInferenceService/"
METHODS = ("ModelInfer", "ModelReady", "ModelMetadata", "ServerLive", "RepositoryModelUnload", "RepositoryModelLoad")
ANY: list[Any] = [
    None, True, -1, 0, 1, 2**63, 10**30, 1.5, 1e308, "", "FP64", "BYTES", "\n\x1b[31mERROR Traceback\r\n", "x" * 5000,
    [], [[]], [None], {}, {"a": {}}, [1, "2"], ["showers"], [-1], [1, 1, 1], [10**9], "\ud800", "NaN", -(2**63),
]  # fmt: skip
REQUEST_LINES = [
    "GET / HTTP/1.1", "POST /v2/models/caloforge/infer HTTP/9.9", "BREW / HTTP/1.1", "\x00\x01\x02", "GET /%ff%00 HTTP/1.1",
    "POST /v2/repository/models/caloforge/unload HTTP/1.1", "GET /v2/models/\x1b[31mERROR HTTP/1.1", "PRI * HTTP/2.0",
]  # fmt: skip
HEADERS = [
    "Host: a", "Content-Length: -5", "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked",
    "Inference-Header-Content-Length: 7", "Expect: 100-continue", "Upgrade: websocket\r\nConnection: upgrade",
    "X: " + "y" * 70_000, "ce-id: 1\r\nce-source: a\r\nce-type: b\r\nce-specversion: 1.0", "\x1b[31mERROR: 1",
]  # fmt: skip
ALIVE_SECONDS = 30


class Fuzz:
    """Makes broken requests and counts what comes back."""

    def __init__(self, url: str, grpc_address: str, names: tuple[str, ...], seed: int) -> None:
        self.random = random.Random(seed)
        self.names = names
        self.http = httpx.Client(base_url=url, timeout=ALIVE_SECONDS, trust_env=False)
        self.channel = grpc.insecure_channel(grpc_address)
        self.address = (urlsplit(url).hostname, urlsplit(url).port)
        self.counts: Counter[str] = Counter()

    def once(self) -> None:
        kind = self.random.choice(["v2", "v2", "v1", "bytes", "path", "socket", "grpc", "grpc"])
        getattr(self, f"_{kind}")()

    def _v2(self) -> None:
        body = {
            "inputs": [
                {"name": name, "shape": [1], "datatype": "FP64", "data": [1e4 if name == "incident_energy" else 1.0]}
                for name in self.names
            ],
            "parameters": {"seed": 1},
        }
        self._send(INFER, self._broken(body))

    def _v1(self) -> None:
        row = {name: 1e4 if name == "incident_energy" else 1.0 for name in self.names}
        self._send(PREDICT, self._broken({"instances": [row], "parameters": {"seed": 1}}))

    def _bytes(self) -> None:
        tensor = {
            "name": self.names[0],
            "shape": self._any(),
            "datatype": self.random.choice(["FP64", "FP32", "BYTES"]),
        }
        header = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": self._any()}}]}).encode()
        length = self.random.choice([str(len(header)), "-1", "0", "1e9", "", str(10**12), str(len(header) + 8)])
        body = header + self.random.randbytes(self.random.choice([0, 4, 8, 1000]))
        self._count("rest", self.http.post(INFER, content=body, headers={"Inference-Header-Content-Length": length}))

    def _path(self) -> None:
        method = self.random.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
        parts = [
            "v1",
            "v2",
            "models",
            "caloforge",
            "infer",
            "repository",
            "unload",
            "versions",
            "1",
            "%0a%1b[31mERROR",
            "..",
            "x" * 300,
        ]
        path = "/" + "/".join(self.random.choices(parts, k=self.random.randint(0, 6)))
        content = json.dumps(self._any()) if self.random.random() < 0.5 else None
        self._count("rest", self.http.request(method, path, content=content))

    def _socket(self) -> None:
        lines = [self.random.choice(REQUEST_LINES), *self.random.choices(HEADERS, k=self.random.randint(0, 4)), "", ""]
        data = "\r\n".join(lines).encode() + self.random.randbytes(self.random.choice([0, 10, 100_000]))
        with suppress(ConnectionError, TimeoutError), socket.create_connection(self.address, 5) as client:
            client.settimeout(0.05)  # whether or not there is an answer, we hang up
            client.sendall(data)
            status = client.recv(100).split(b" ")[1:2]
            self.counts[f"socket {status[0].decode() if status else 'closed'}"] += 1
            return
        self.counts["socket hung up"] += 1

    def _grpc(self) -> None:
        method = self.random.choice(METHODS)
        message = self._message().SerializeToString()
        for _ in range(self.random.choice([0, 1, 5])):
            at = self.random.randrange(len(message) + 1)
            message = message[:at] + self.random.randbytes(self.random.choice([0, 1, 3])) + message[at + 1 :]
        if self.random.random() < 0.02:
            message = bytes(5_000_000)
        try:
            self.channel.unary_unary(SERVICE + method)(message, timeout=ALIVE_SECONDS)
            self.counts["grpc OK"] += 1
        except grpc.RpcError as error:
            self.counts[f"grpc {error.code().name}"] += 1

    def _message(self) -> pb.ModelInferRequest:
        message = pb.ModelInferRequest(model_name=self.random.choice(["caloforge", "\x1b[31mERROR", ""]))
        for name in self.random.choices([*self.names, "other"], k=self.random.randint(0, 3)):
            tensor = message.inputs.add(name=name, datatype=self.random.choice(["FP64", "FP32", "BYTES", ""]))
            tensor.shape.extend(self.random.choices([1, -1, 0, 2**62], k=self.random.randint(0, 2)))
            if self.random.random() < 0.5:
                tensor.contents.fp64_contents.extend(self.random.choices([1e4, float("nan"), -1.0], k=2))
        if self.random.random() < 0.3:
            message.raw_input_contents.append(self.random.randbytes(8))
        return message

    def _any(self) -> Any:
        return self.random.choice(ANY)

    def _broken(self, value: Any) -> Any:
        """Return a value of JSON with something in it replaced, removed, added or given twice."""
        if self.random.random() < 0.2 or not isinstance(value, dict | list) or not value:
            return self._any()
        if isinstance(value, list):
            return value + value if self.random.random() < 0.2 else [self._broken(value[0]), *value[1:]]
        key = self.random.choice(list(value))
        broken = {**value, key: self._broken(value[key])}
        if self.random.random() < 0.2:
            del broken[key]
        if self.random.random() < 0.2:
            broken[self.random.choice(["other", "\n\x1b[31mERROR", "data", "id"])] = self._any()
        return broken

    def _send(self, path: str, content: Any) -> None:
        body = json.dumps(content).encode()
        if self.random.random() < 0.1:
            at = self.random.randrange(len(body))
            body = body[:at] + self.random.randbytes(2) + body[at:]
        if self.random.random() < 0.01:
            body = body.ljust(5_000_000)
        self._count("rest", self.http.post(path, content=body))

    def _count(self, kind: str, response: httpx.Response) -> None:
        self.counts[f"{kind} {response.status_code}"] += 1


FAILURES = ("rest 5", "socket 5", "grpc INTERNAL", "grpc UNKNOWN", "grpc UNAVAILABLE", "grpc DEADLINE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    options: Any = parser.parse_args()
    generator = load_bundle(options.bundle)
    conditions, port = spread_over(generator.domains, 5), free_port()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # where the server's log goes
        with running_server(options.bundle, grpc_port=port) as url:
            before = query(url, conditions, seed=3)
            fuzz = Fuzz(url, f"127.0.0.1:{port}", generator.condition_names, options.seed)
            for _ in range(options.requests):
                fuzz.once()
            same = np.array_equal(query(url, conditions, seed=3), before)
            log = next(Path(folder).glob("*/server.log")).read_text(errors="replace")
    traces = log.count("Traceback")
    raw = sum(not character.isprintable() and character != "\n" for character in log)
    failed = sum(count for what, count in fuzz.counts.items() if what.startswith(FAILURES))
    for what, count in sorted(fuzz.counts.items()):
        print(f"{count:6} {what}")
    print(f"{options.requests} requests: {failed} failures of the server, {traces} stack traces and {raw} control "
          f"characters in its log, {'the same' if same else 'OTHER'} showers after them")  # fmt: skip
    if traces:
        print(log[log.index("Traceback") - 500 :][:4000])
    if failed or traces or raw or not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
