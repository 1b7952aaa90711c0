"""Showers as bytes: Open Inference Protocol v2 over REST, binary and JSON, v1 JSON, and gRPC."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from caloforge.geometry import Geometry
from caloforge.serving.requests import OUTPUT, Query

_CHUNK_BYTES = 2**20


def v1_body(showers: NDArray[np.float32]) -> list[bytes | memoryview]:
    """Return the parts of a v1 answer, ``{"predictions": [[MeV, ...], ...]}``."""
    return [b'{"predictions":[', *_text(showers), b"]}"]


def v2_body(
    query: Query, showers: NDArray[np.float32], *, model: str, geometry: Geometry
) -> tuple[list[bytes | memoryview], int | None]:
    """Return the parts of a v2 answer over REST, and the length of its JSON where bytes follow it.

    The showers are not copied: large answers would need several times their size.
    """
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(showers.shape)}
    body = {
        "model_name": model,
        "id": query.identity or uuid.uuid4().hex,
        "parameters": _mesh(geometry) if query.geometry else {},
        "outputs": [output],
    }
    if query.form == "binary":
        output["parameters"] = {"binary_data_size": showers.nbytes}
        header = orjson.dumps(body)
        return [header, *_slices(showers)], len(header)
    output["data"] = []
    head = orjson.dumps(body)
    assert head.endswith(b"[]}]}")  # the data are the last of all
    return [head[: -len(b"]}]}")], *_text(showers.reshape(-1)), b"]}]}"], None


def grpc_body(query: Query, showers: NDArray[np.float32], *, model: str, geometry: Geometry) -> bytes:
    """Return a ``ModelInferResponse`` as bytes."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    message = pb.ModelInferResponse(model_name=model, id=query.identity or uuid.uuid4().hex)
    message.outputs.add(name=OUTPUT, datatype="FP32", shape=showers.shape)
    message.raw_output_contents.append(showers.tobytes())
    if query.geometry:
        for name, value in _mesh(geometry).items():
            message.parameters[name].string_param = value
    encoded: bytes = message.SerializeToString()
    return encoded


def _mesh(geometry: Geometry) -> dict[str, str]:
    return {"geometry_name": geometry.name, "geometry_xml": geometry.to_xml()}


def _slices(showers: NDArray[np.float32]) -> Iterator[memoryview]:
    """Yield the bytes of showers in pieces that a connection can wait between."""
    data = showers.astype("<f4", copy=False).data.cast("B")
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


def _text(values: NDArray[np.float32]) -> Iterator[bytes]:
    """Yield the elements of an array as JSON, with commas between them, without the outer brackets."""
    rows = max(1, _CHUNK_BYTES // (4 * int(np.prod(values.shape[1:]))))
    for start in range(0, len(values), rows):
        text = orjson.dumps(values[start : start + rows], option=orjson.OPT_SERIALIZE_NUMPY)
        yield text[1:-1] if start == 0 else b"," + text[1:-1]
