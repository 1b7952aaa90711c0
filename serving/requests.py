"""What a request asks for, read strictly: Open Inference Protocol v2 over REST and gRPC, and v1 JSON.

What a client wrote is repeated in messages only shortly and with its control characters escaped.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from caloforge.conditions import COLUMNS, ConditionName
from caloforge.errors import InputError, unknown_name
from caloforge.serving.limits import Form, Limits
from caloforge.showers import Conditions

OUTPUT = "showers"

LOG_LIKELIHOOD = "log_likelihood"
"""Output of the requests that ask for the score: log p of each shower, in nats."""

_TYPES: Mapping[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_CODE_TYPES: Mapping[str, np.dtype[Any]] = {**_TYPES, "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8")}
"""Of inputs that are codes."""
_CONTENTS = {"FP32": "fp32_contents", "FP64": "fp64_contents", "INT32": "int_contents", "INT64": "int64_contents"}
_PARAMETERS = ("seed", "steps", "geometry", "score", "binary_data_output")
_SHOWN_LENGTH = 60

# What REST knows of a request; kserve's client says the model's name, too. A misspelt key would be left out quietly.
_V1_KEYS = ("instances", "parameters")
_V2_KEYS = ("id", "inputs", "model_name", "outputs", "parameters")
_INPUT_KEYS = ("data", "datatype", "name", "parameters", "shape")
_OUTPUT_KEYS = ("name", "parameters")

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _SHOWN_LENGTH - 10


@dataclass(frozen=True)
class Query:
    """What a request asks for.

    Attributes:
        conditions: one row per shower, MeV, rad and PDG codes.
        seed: seed of the showers.
        steps: sampling steps, None for the generator's own number.
        geometry: whether the answer should carry the mesh.
        score: whether it should say how likely each shower is.
        form: how the showers are sent.
        identity: what the client calls its request, repeated in the answer; may be empty.
    """

    conditions: Conditions
    seed: int
    steps: int | None
    geometry: bool
    score: bool
    form: Form
    identity: str


def read_v1(body: bytes, names: tuple[ConditionName, ...], limits: Limits) -> Query:
    """Read a v1 request, ``{"instances": [{"incident_energy": 1000.0}, ...], "parameters": {"seed": 1}}``.

    Args:
        body: JSON.
        names: the generator's conditions; all of them are asked for, and no others.
        limits: of the server.

    Raises:
        InputError: an instance or parameter is missing, unknown or wrong, or too much is asked for.
    """
    content = _json(body)
    _check_keys("key", content, _V1_KEYS)
    instances = content.get("instances")
    if not isinstance(instances, list) or not all(isinstance(instance, dict) for instance in instances):
        raise InputError('expected {"instances": [{"incident_energy": MEV}, ...]}')
    for instance in instances:
        _check_names("condition", instance, names)
    columns = {name: _numbers(name, [instance[name] for instance in instances]) for name in names}
    parameters = _mapping("parameters", content.get("parameters"))
    return _query(columns, parameters, limits, form="json", identity="")


def read_v2(body: bytes, json_length: str | None, names: tuple[ConditionName, ...], limits: Limits) -> Query:
    """Read a v2 request over REST.

    Args:
        body: JSON, and the inputs' bytes after it.
        json_length: value of the header that says where the JSON ends; None without it.
        names: the generator's conditions.
        limits: of the server.

    Raises:
        InputError: it is malformed, an input or parameter is missing, unknown or wrong, or too much is asked for.
    """
    length = _json_length(json_length, len(body))
    content, data = _json(body[:length]), memoryview(body)[length:]
    _check_keys("key", content, _V2_KEYS)
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise InputError('expected {"inputs": [{"name": ..., "shape": [n], "datatype": "FP64", "data": [...]}, ...]}')
    _check_input_names([tensor.get("name") for tensor in inputs], names)
    columns = {}
    for tensor in inputs:
        columns[tensor["name"]], data = _column(tensor, data)
    if data.nbytes:
        raise InputError(f"malformed request: {data.nbytes} bytes too many after the inputs")
    identity = content.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InputError(f"id: expected text, got {shown(identity)}")
    parameters = _mapping("parameters", content.get("parameters"))
    wanted = _flag(parameters, "binary_data_output")
    given = {
        _flag(output, "binary_data", default=wanted) for output in _outputs(content.get("outputs"), _known(parameters))
    }
    if len(given) > 1:
        raise InputError(f"outputs: {OUTPUT} and {LOG_LIKELIHOOD} come both in binary or both as JSON")
    form: Form = "binary" if given == {True} or (wanted and not given) else "json"
    return _query(columns, parameters, limits, form=form, identity=identity or "")


def read_grpc(message: Any, names: tuple[ConditionName, ...], limits: Limits) -> Query:
    """Read a v2 request over gRPC, a ``ModelInferRequest``.

    Raises:
        InputError: as :func:`read_v2`.
    """
    _check_input_names([tensor.name for tensor in message.inputs], names)
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InputError(f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs")
    columns: dict[Any, NDArray[np.float64]] = {}
    for number, tensor in enumerate(message.inputs):
        dtype = _dtype(tensor.name, tensor.datatype)
        n = _rows(tensor.name, list(tensor.shape))
        given = {field.name: values for field, values in tensor.contents.ListFields()}
        expected = _CONTENTS[tensor.datatype]
        if raw and given:
            raise InputError(f"input {tensor.name!r}: give contents or raw_input_contents, not both")
        if given.keys() - {expected}:
            raise InputError(f"input {tensor.name!r}: {tensor.datatype} lies in {expected}, not {', '.join(given)}")
        if raw:
            columns[tensor.name] = _from_bytes(tensor.name, raw[number], dtype, n)
        else:
            columns[tensor.name] = np.array(given.get(expected, ()), np.float64)
            _check_length(tensor.name, len(columns[tensor.name]), n)
    parameters = {
        name: getattr(value, choice) if (choice := value.WhichOneof("parameter_choice")) else None
        for name, value in message.parameters.items()
    }
    for output in message.outputs:
        _check_output(output.name, _known(parameters))
    return _query(columns, parameters, limits, form="grpc", identity=message.id)


def shown(value: Any) -> str:
    """Return what a client wrote for a message: short, on one line, without control characters."""
    return _short(_repr.repr(value))


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON ({error.msg}: line {error.lineno} column {error.colno})") from None
    if not isinstance(content, dict):
        raise InputError(f"the body is not a JSON object but {type(content).__name__}")
    return content


def _json_length(header: str | None, body_length: int) -> int:
    if header is None:
        return body_length
    # str.isdigit knows more digits than int does.
    if not (header.isascii() and header.isdigit() and len(header) < 20 and int(header) <= body_length):
        text = f"expected a number from 0 to {body_length}, the length of the body, got {shown(header)}"
        raise InputError(f"malformed request: Inference-Header-Content-Length: {text}")
    return int(header)


def _mapping(what: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{what}: expected an object with names and values, got {shown(value)}")
    return value


def _check_keys(kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise unknown_name(kind, _short(name), known)


def _known(parameters: Mapping[str, Any]) -> list[str]:
    """Return the outputs that a request may name."""
    return [OUTPUT, LOG_LIKELIHOOD] if _flag(parameters, "score") else [OUTPUT]


def _outputs(value: Any, known: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Yield the parameters of the outputs that are asked for."""
    if value is None:
        return
    if not isinstance(value, list) or not all(isinstance(output, dict) for output in value):
        raise InputError(f'outputs: expected [{{"name": "{OUTPUT}"}}], got {shown(value)}')
    for output in value:
        name = output.get("name")
        _check_output(name, known)
        _check_keys(f"key of output {name!r}", output, _OUTPUT_KEYS)
        parameters = _mapping(f"parameters of output {name!r}", output.get("parameters"))
        _check_keys(f"parameter of output {name!r}", parameters, ("binary_data",))
        yield parameters


def _check_output(name: Any, known: Sequence[str]) -> None:
    if name == LOG_LIKELIHOOD and name not in known:
        raise InputError(f"output {LOG_LIKELIHOOD!r}: comes with the parameter score, true")
    if name not in known:
        raise unknown_name("output", _short(name), known)


def _check_input_names(given: list[Any], names: tuple[ConditionName, ...]) -> None:
    for name in given:
        if not isinstance(name, str):
            raise InputError(f"an input's name is text, got {shown(name)}")
        if given.count(name) > 1:
            raise InputError(f"input {shown(name)} is there twice")
        if len(given) > len(names) + 1:  # one too many is named below
            raise InputError(f"{len(given)} inputs; the generator has {len(names)}: {', '.join(names)}")
    _check_names("input", given, names)


def _check_names(kind: str, given: Collection[str], names: tuple[ConditionName, ...]) -> None:
    for name in names:
        if name not in given:
            there = ", ".join(shown(one) for one in sorted(given)[:5]) or "none"
            raise InputError(f"{kind} {name!r} is missing (got: {there})")
    for other in given:
        if other not in names:
            raise unknown_name(kind, _short(other), names)


def _short(name: Any) -> str:
    text = name if isinstance(name, str) else str(type(name).__name__)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _column(tensor: dict[str, Any], data: memoryview) -> tuple[NDArray[np.float64], memoryview]:
    """Return an input's (n,) numbers, and the bytes after the body's JSON that belong to the inputs after it."""
    name = tensor["name"]
    _check_keys(f"key of input {name!r}", tensor, _INPUT_KEYS)
    dtype = _dtype(name, tensor.get("datatype"))
    n = _rows(name, tensor.get("shape"))
    parameters = _mapping(f"parameters of input {name!r}", tensor.get("parameters"))
    _check_keys(f"parameter of input {name!r}", parameters, ("binary_data_size",))
    size = parameters.get("binary_data_size")
    values = tensor.get("data")
    if size is None:
        if not isinstance(values, list):
            raise InputError(f"input {name!r}: expected numbers in data, got {shown(values)}")
        if values and all(isinstance(row, list) and len(row) == 1 for row in values):
            values = [row[0] for row in values]
        column = _numbers(f"input {name!r}", values)
        _check_length(name, len(column), n)
        return column, data
    if values is not None:
        raise InputError(f"input {name!r}: give data or binary_data_size, not both")
    if not _is_integer(size) or not 0 <= size <= data.nbytes:
        text = f"expected a number from 0 to {data.nbytes}, the bytes that are there"
        raise InputError(f"malformed request: input {name!r}: binary_data_size: {text}, got {shown(size)}")
    return _from_bytes(name, data[:size], dtype, n), data[size:]


def _dtype(name: str, datatype: Any) -> np.dtype[Any]:
    types = _CODE_TYPES if name in COLUMNS and COLUMNS[cast("ConditionName", name)].whole else _TYPES
    if not isinstance(datatype, str) or datatype not in types:
        raise InputError(f"input {name!r}: expected datatype {' or '.join(types)}, got {shown(datatype)}")
    return types[datatype]


def _rows(name: str, shape: Any) -> int:
    """Return the number of rows of a shape [n] or [n, 1]."""
    good = isinstance(shape, list) and len(shape) in (1, 2) and all(_is_integer(length) for length in shape)
    if not good or shape[0] < 0 or shape[1:] not in ([], [1]):
        raise InputError(f"input {name!r}: expected shape [n] or [n, 1], got {shown(shape)}")
    return int(shape[0])


def _check_length(name: str, got: int, n: int) -> None:
    if got != n:
        raise InputError(f"input {name!r}: the data do not fit shape [{n}]: {got} numbers")


def _from_bytes(name: str, data: bytes | memoryview, dtype: np.dtype[Any], n: int) -> NDArray[np.float64]:
    if len(data) != n * dtype.itemsize:
        text = f"{n} numbers of {dtype.itemsize} bytes are {n * dtype.itemsize} bytes, got {len(data)}"
        raise InputError(f"malformed request: input {name!r}: {text}")
    return np.frombuffer(data, dtype).astype(np.float64)


def _numbers(what: str, values: list[Any]) -> NDArray[np.float64]:
    for row, value in enumerate(values):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError(f"{what}: row {row} is {shown(value)}; expected a number")
    return np.array(values, np.float64)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InputError(f"parameter {name!r}: expected true or false, got {shown(value)}")
    return value


def _integer(parameters: Mapping[str, Any], name: str) -> int | None:
    value = parameters.get(name)
    if value is not None and not _is_integer(value):
        raise InputError(f"parameter {name!r}: expected an integer, got {shown(value)}")
    return value


def _query(
    columns: Mapping[ConditionName, NDArray[np.float64]],
    parameters: Mapping[str, Any],
    limits: Limits,
    *,
    form: Form,
    identity: str,
) -> Query:
    _check_keys("parameter", parameters, _PARAMETERS)
    seed, steps = _integer(parameters, "seed") or 0, _integer(parameters, "steps")
    geometry, score = _flag(parameters, "geometry"), _flag(parameters, "score")
    _flag(parameters, "binary_data_output")
    n = len(columns["incident_energy"])
    limits.check(form, n=n, seed=seed, steps=steps, score=score)
    for name, column in columns.items():
        if len(column) != n:
            raise InputError(f"{name} has {len(column)} rows but incident_energy has {n}")
        if not np.isfinite(column).all():
            row = int(np.argmin(np.isfinite(column)))
            raise InputError(f"{name}: row {row} is {column[row]}; expected finite numbers")
        if COLUMNS[name].whole:  # what is no whole number would become another particle
            COLUMNS[name].check(column, where=name)
    return Query(Conditions.of(columns), seed, steps, geometry, score, form, identity)
