"""A generator as a KServe model: Open Inference Protocol v2, and v1 JSON for KServe's batcher.

Importing this module imports kserve, which parses ``sys.argv``: :func:`caloforge.serving.server.serve`
does so with an empty one.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import to_http_parameters
from numpy.typing import NDArray

from caloforge.errors import InputError, unknown_name
from caloforge.models.bundle import Generator
from caloforge.serving.limits import check_count, check_seed, check_steps
from caloforge.showers import Conditions

logger = logging.getLogger(__name__)

OUTPUT = "showers"

_FLOATS = ("FP32", "FP64")
_PARAMETERS = ("seed", "steps", "geometry", "binary_data_output")


@dataclass(frozen=True)
class Query:
    """What a request asks for.

    Attributes:
        conditions: one row per shower, MeV and rad.
        seed: seed of the showers.
        steps: sampling steps, None for the generator's own number.
        geometry: whether the answer should carry the mesh.
    """

    conditions: Conditions
    seed: int
    steps: int | None
    geometry: bool


class GeneratorModel(Model):
    """Answer requests with showers; one request is sampled at a time, in a thread of its own.

    Inputs are the generator's conditions, ``incident_energy`` (MeV) and, if it was trained with
    them, ``theta`` and ``phi`` (rad): FP32 or FP64 of shape [n] or [n, 1]. Request parameters are
    ``seed`` (0 if absent), ``steps``, and ``geometry``: true for the parameters ``geometry_name`` and
    ``geometry_xml`` in the answer. The output ``showers`` is FP32 of shape [n, V], MeV.
    """

    def __init__(self, name: str, generator: Generator) -> None:
        """Take a loaded generator; ``name`` is the model's name in URLs."""
        super().__init__(name, return_response_headers=True)
        self._generator = generator
        # One thread: torch uses all cores for one request, and the event loop stays free for probes.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sampling")
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the inputs for the model's metadata."""
        return [{"name": name, "datatype": "FP64", "shape": [-1]} for name in self._generator.condition_names]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the output for the model's metadata."""
        return [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, self._generator.geometry.n_voxels]}]

    async def predict(
        self,
        payload: InferRequest | dict[str, Any],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse | dict[str, Any] | bytes:
        """Sample the showers that a request asks for.

        Raises:
            InvalidInput: the request is wrong (HTTP 400, gRPC INVALID_ARGUMENT).
            InferenceError: the generator failed (HTTP 500).
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._answer, payload, response_headers)

    def _answer(
        self, payload: InferRequest | dict[str, Any], response_headers: dict[str, str] | None
    ) -> InferResponse | dict[str, Any] | bytes:
        try:
            if not isinstance(payload, InferRequest):
                return {"predictions": self._sample(query_of_instances(payload, self._generator.condition_names))}
            binary = wants_binary(payload)
            asked = query_of_tensors(payload, self._generator.condition_names)
            showers = self._sample(asked)
        except InvalidInput:
            raise
        except InputError as error:
            raise InvalidInput(str(error)) from None
        except Exception as error:
            # kserve would answer an unknown exception with 500 too, but also drop the connection.
            logger.exception("sampling failed")
            raise InferenceError(f"sampling failed: {error}") from error
        identity = payload.id or uuid.uuid4().hex  # kserve answers 500 to a request without an id
        if response_headers is not None:
            # Capitals get past kserve, which strips "content-type" and sends none of its own.
            response_headers["Content-Type"] = "application/octet-stream" if binary else "application/json"
        geometry = self._generator.geometry
        parameters = {"geometry_name": geometry.name, "geometry_xml": geometry.to_xml()} if asked.geometry else {}
        if payload.from_grpc or binary:
            output = InferOutput(name=OUTPUT, shape=list(showers.shape), datatype="FP32", data=showers)
            return InferResponse(
                response_id=identity,
                model_name=self.name,
                infer_outputs=[output],
                parameters=parameters,
                use_binary_outputs=not payload.from_grpc,  # for REST; gRPC sends an array raw in any case
            )
        # Finished here, in the thread: kserve's own JSON takes seconds per hundred showers, in the event loop.
        body = {
            "model_name": self.name,
            "id": identity,
            "parameters": parameters,
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": showers.shape, "data": showers.ravel()}],
        }
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)

    def _sample(self, query: Query) -> NDArray[np.float32]:
        start = time.perf_counter()
        showers = self._generator.sample(query.conditions, seed=query.seed, steps=query.steps)
        seconds = time.perf_counter() - start
        logger.info("%d showers in %.4f s (seed %d)", len(showers), seconds, query.seed)
        return showers


def query_of_tensors(request: InferRequest, names: tuple[str, ...]) -> Query:
    """Read a v2 request, REST or gRPC.

    Args:
        request: the request as kserve decoded it.
        names: the generator's conditions; all of them are asked for, and no others.

    Raises:
        InputError: an input or parameter is missing, unknown or wrong.
    """
    inputs = {tensor.name: tensor for tensor in request.inputs}
    _check_names("input", inputs, names)
    columns = {name: _column(inputs[name]) for name in names}
    return _query(columns, to_http_parameters(request.parameters or {}))


def query_of_instances(payload: Any, names: tuple[str, ...]) -> Query:
    """Read a v1 request, ``{"instances": [{"incident_energy": 1000.0}, ...], "parameters": {"seed": 1}}``.

    Raises:
        InputError: an instance or parameter is missing, unknown or wrong.
    """
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(instances, list) or not all(isinstance(instance, dict) for instance in instances):
        raise InputError('expected {"instances": [{"incident_energy": MEV}, ...]}')
    for instance in instances:
        _check_names("condition", instance, names)
    try:
        columns = {name: np.array([instance[name] for instance in instances], np.float64) for name in names}
    except (TypeError, ValueError) as error:
        raise InputError(f"instances: expected one number per condition ({error})") from None
    return _query(columns, payload.get("parameters") or {})


def wants_binary(request: InferRequest) -> bool:
    """Tell whether a v2 request wants its output as raw bytes.

    Raises:
        InputError: it asks for an output that does not exist.
    """
    for output in request.request_outputs or []:
        if output.name != OUTPUT:
            raise unknown_name("output", output.name, [OUTPUT])
        if output.binary_data is not None:
            return bool(output.binary_data)
    return bool(request.use_binary_outputs)


def _check_names(kind: str, given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name not in given:
            raise InputError(f"{kind} {name!r} is missing (got: {', '.join(sorted(given)) or 'none'})")
    for name in given:
        if name not in names:
            raise unknown_name(kind, name, names)


def _column(tensor: InferInput) -> NDArray[np.float64]:
    if tensor.datatype not in _FLOATS:
        raise InputError(f"input {tensor.name!r}: expected datatype {' or '.join(_FLOATS)}, got {tensor.datatype}")
    try:
        values = np.asarray(tensor.as_numpy(), np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"input {tensor.name!r}: the data do not fit shape {tensor.shape} ({error})") from None
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise InputError(f"input {tensor.name!r}: expected shape [n] or [n, 1], got {list(values.shape)}")
    return values.reshape(-1)


def _query(columns: Mapping[str, NDArray[np.float64]], parameters: Mapping[str, Any]) -> Query:
    n = len(columns["incident_energy"])
    check_count(n)
    for name, column in columns.items():
        if column.shape != (n,):
            raise InputError(f"{name} has shape {list(column.shape)} but incident_energy has {n} rows")
        if not np.isfinite(column).all():
            row = int(np.argmin(np.isfinite(column)))
            raise InputError(f"{name}: row {row} is {column[row]}; expected finite numbers")
    for name in parameters:
        if name not in _PARAMETERS:
            raise unknown_name("parameter", name, _PARAMETERS)
    seed, steps = _integer(parameters, "seed"), _integer(parameters, "steps")
    check_steps(steps)
    check_seed(seed := seed or 0)
    return Query(Conditions(**columns), seed, steps, geometry=parameters.get("geometry") is True)


def _integer(parameters: Mapping[str, Any], name: str) -> int | None:
    value = parameters.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise InputError(f"parameter {name!r}: expected an integer, got {value!r}")
    return value


class StrictDataPlane(DataPlane):
    """kserve's data plane, but a malformed binary request is the client's error (400, not 500)."""

    def decode_inference_request(self, body: Any, headers: dict[str, str], model_name: str) -> InferRequest:
        """Decode a v2 REST request.

        Raises:
            InvalidInput: lengths, shapes and bytes do not fit together.
        """
        try:
            return super().decode_inference_request(body, headers, model_name)
        except InvalidInput:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"malformed request: {type(error).__name__}: {error}") from error
