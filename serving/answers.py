"""Showers as bytes: Open Inference Protocol v2 over REST, binary and JSON, v1 JSON, and gRPC."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from caloforge.geometry import Geometry, geometry_attributes
from caloforge.serving.queue import Drawn
from caloforge.serving.requests import LOG_LIKELIHOOD, OUTPUT, Query

_CHUNK_BYTES = 2**20


def v1_body(drawn: Drawn) -> list[bytes | memoryview]:
    """Return the parts of a v1 answer, ``{"predictions": [[MeV, ...], ...], "log_likelihood": [nats, ...]}``."""
    parts: list[bytes | memoryview] = [b'{"predictions":[', *_text(drawn.showers), b"]"]
    if drawn.log_likelihood is not None:
        parts += [f',"{LOG_LIKELIHOOD}":['.encode(), *_text(drawn.log_likelihood), b"]"]
    return [*parts, b"}"]


def v2_body(
    query: Query, drawn: Drawn, *, model: str, geometry: Geometry
) -> tuple[list[bytes | memoryview], int | None]:
    """Return the parts of a v2 answer over REST, and the length of its JSON where bytes follow it.

    The showers are not copied: large answers would need several times their size.
    """
    arrays = [values for _, _, values in _outputs(drawn)]
    outputs: list[dict[str, Any]] = [
        {"name": name, "datatype": datatype, "shape": list(values.shape)} for name, datatype, values in _outputs(drawn)
    ]
    body = {
        "model_name": model,
        "id": query.identity or uuid.uuid4().hex,
        "parameters": geometry_attributes(geometry) if query.geometry else {},
        "outputs": outputs if query.form == "binary" else [],
    }
    if query.form == "binary":
        for output, values in zip(outputs, arrays, strict=True):
            output["parameters"] = {"binary_data_size": values.nbytes}
        header = orjson.dumps(body)
        return [header, *(piece for values in arrays for piece in _slices(values))], len(header)
    head = orjson.dumps(body)
    assert head.endswith(b"[]}")  # the outputs are the last of all
    parts: list[bytes | memoryview] = [head[: -len(b"]}")]]
    for number, (output, values) in enumerate(zip(outputs, arrays, strict=True)):
        start = orjson.dumps({**output, "data": []})
        parts += [b"," if number else b"", start[: -len(b"]}")], *_text(values.reshape(-1)), b"]}"]
    return [*parts, b"]}"], None


def grpc_body(query: Query, drawn: Drawn, *, model: str, geometry: Geometry) -> bytes:
    """Return a ``ModelInferResponse`` as bytes."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    message = pb.ModelInferResponse(model_name=model, id=query.identity or uuid.uuid4().hex)
    for name, datatype, values in _outputs(drawn):
        message.outputs.add(name=name, datatype=datatype, shape=values.shape)
        message.raw_output_contents.append(values.tobytes())
    if query.geometry:
        for name, value in geometry_attributes(geometry).items():
            message.parameters[name].string_param = value
    encoded: bytes = message.SerializeToString()
    return encoded


def _outputs(drawn: Drawn) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Yield name, datatype and values of each output."""
    yield OUTPUT, "FP32", drawn.showers
    if drawn.log_likelihood is not None:
        yield LOG_LIKELIHOOD, "FP64", drawn.log_likelihood


def _slices(values: NDArray[Any]) -> Iterator[memoryview]:
    """Yield the bytes of an output in pieces that a connection can wait between."""
    data = values.astype(values.dtype.newbyteorder("<"), copy=False).data.cast("B")
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


def _text(values: NDArray[Any]) -> Iterator[bytes]:
    """Yield the elements of an array as JSON, with commas between them, without the outer brackets."""
    rows = max(1, _CHUNK_BYTES // (4 * int(np.prod(values.shape[1:]))))
    for start in range(0, len(values), rows):
        text = orjson.dumps(values[start : start + rows], option=orjson.OPT_SERIALIZE_NUMPY)
        yield text[1:-1] if start == 0 else b"," + text[1:-1]
