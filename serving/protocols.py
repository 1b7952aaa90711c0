"""All protocols that a server of showers speaks, each as a function that asks for some."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
from numpy.typing import NDArray

from caloforge.serving.client import query
from caloforge.serving.server import import_kserve
from caloforge.showers import Conditions

Ask = Callable[[Conditions, int], NDArray[np.float32]]
"""From conditions and a seed to showers (N, V) in MeV."""


@contextmanager
def protocols(
    url: str, grpc_port: int, names: Sequence[str], *, connections: int = 1, timeout: float = 120
) -> Iterator[dict[str, Ask]]:
    """Yield how ``binary`` and ``json`` over REST and ``grpc`` are asked.

    Args:
        url: where the server is, on this machine.
        grpc_port: of the same.
        names: of the conditions that its generator needs.
        connections: most that are open at once.
        timeout: seconds to wait for an answer.

    What the functions raise: httpx.HTTPError, grpc.RpcError, and what :func:`caloforge.serving.client.query` raises.
    """
    import_kserve()
    messages: Any = importlib.import_module("kserve.protocol.grpc.grpc_predict_v2_pb2")
    services: Any = importlib.import_module("kserve.protocol.grpc.grpc_predict_v2_pb2_grpc")

    def as_json(conditions: Conditions, seed: int) -> NDArray[np.float32]:
        inputs = [
            {"name": name, "shape": [len(conditions)], "datatype": "FP64", "data": getattr(conditions, name).tolist()}
            for name in names
        ]
        body = {"inputs": inputs, "parameters": {"seed": seed}}
        response = http.post(f"{url}/v2/models/caloforge/infer", json=body)
        response.raise_for_status()
        (output,) = response.json()["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    def as_message(conditions: Conditions, seed: int) -> NDArray[np.float32]:
        parameters = {"seed": messages.InferParameter(int64_param=seed)}
        message = messages.ModelInferRequest(model_name="caloforge", parameters=parameters)
        for name in names:
            tensor = message.inputs.add(name=name, datatype="FP64", shape=[len(conditions)])
            tensor.contents.fp64_contents.extend(getattr(conditions, name))
        response = stub.ModelInfer(message, timeout=timeout)
        return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)

    options = [("grpc.max_receive_message_length", -1)]
    limits = httpx.Limits(max_connections=connections)
    with (
        httpx.Client(timeout=timeout, trust_env=False, limits=limits) as http,
        grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options=options) as channel,
    ):
        stub = services.GRPCInferenceServiceStub(channel)
        yield {
            "binary": lambda conditions, seed: query(url, conditions, seed=seed, timeout=timeout),
            "json": as_json,
            "grpc": as_message,
        }
