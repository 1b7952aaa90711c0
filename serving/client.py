"""Ask a server for showers: Open Inference Protocol v2 over REST with its binary extension."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry import Geometry, geometry_of
from caloforge.network import lasting_problem, trust, web_client
from caloforge.secrets import masked, remember_address, without_secrets
from caloforge.seeds import check_seed
from caloforge.serving.errors import ServingError
from caloforge.serving.limits import check_count, check_steps
from caloforge.showers import Conditions

_JSON_LENGTH = "Inference-Header-Content-Length"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Answer:
    """What a server answers.

    Attributes:
        showers: (N, V) float32, MeV.
        geometry: their mesh.
        log_likelihood: (N,) float64, log p of each shower in nats, if the score was asked for.
    """

    showers: NDArray[np.float32]
    geometry: Geometry
    log_likelihood: NDArray[np.float64] | None = None


def query(
    url: str,
    conditions: Conditions,
    *,
    seed: int,
    steps: int | None = None,
    name: str = "caloforge",
    headers: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> NDArray[np.float32]:
    """Return the showers that a server makes for the conditions, (N, V) MeV.

    Args:
        url: where the server is, e.g. ``http://127.0.0.1:8080``.
        conditions: one row per shower.
        seed: same seed, same showers.
        steps: sampling steps, None for the generator's own number.
        name: name of the model on the server.
        headers: sent along, e.g. ``Authorization``, or ``Host`` behind a gateway.
        timeout: seconds to wait for the answer.

    Raises:
        InputError: the server cannot be reached, or refuses the query (its text is in the message).
        ServingError: the server failed.
    """
    return ask(url, conditions, seed=seed, steps=steps, name=name, headers=headers, timeout=timeout).showers


def ask(
    url: str,
    conditions: Conditions,
    *,
    seed: int,
    steps: int | None = None,
    score: bool = False,
    name: str = "caloforge",
    headers: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> Answer:
    """Return the showers as :func:`query` does, and their mesh, so that they can be written to a file.

    With ``score`` also how likely each of them is, if the generator can say it.
    """
    check_count(len(conditions))
    check_seed(seed)
    check_steps(steps)
    body, json_length = _request(conditions, seed=seed, steps=steps, score=score)
    sent = {_JSON_LENGTH: str(json_length), "Content-Type": "application/octet-stream", **(headers or {})}
    with _connection(url, timeout) as client:
        response = client.post(f"/v2/models/{name}/infer", content=body, headers=sent)
    _check_status(without_secrets(url), response)
    return _answer(without_secrets(url), response, len(conditions), score=score)


def is_ready(url: str, *, name: str = "caloforge", headers: Mapping[str, str] | None = None) -> bool:
    """Tell whether the server is there and its model is ready.

    Raises:
        InputError: ``url`` is not an address, or who answers there does not let us in.
    """
    with _connection(url, timeout=5) as client:
        try:
            response = client.get(f"/v2/models/{name}/ready", headers=dict(headers or {}))
        except httpx.TransportError as error:
            if isinstance(error, httpx.UnsupportedProtocol) or lasting_problem(error):
                raise
            return False
    if response.status_code in (401, 403) or response.is_redirect:
        _check_status(without_secrets(url), response)
    return response.is_success


def wait_until_ready(
    url: str, *, name: str = "caloforge", timeout: float = 120, headers: Mapping[str, str] | None = None
) -> None:
    """Wait until the model on the server is ready.

    Raises:
        InputError: it is not after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not is_ready(url, name=name, headers=headers):
        if time.monotonic() > deadline:
            raise InputError(
                f"{without_secrets(url)}: model {name!r} is not ready after {timeout:g} s; see the server's log"
            )
        time.sleep(0.1)


def _request(conditions: Conditions, *, seed: int, steps: int | None, score: bool) -> tuple[bytes, int]:
    """Return the body of a request and the length of its JSON part."""
    columns = {name: np.ascontiguousarray(getattr(conditions, name), "<f8") for name in conditions.names}
    parameters: dict[str, Any] = {"seed": int(seed), "geometry": True, "binary_data_output": True}
    if steps is not None:
        parameters["steps"] = int(steps)
    if score:
        parameters["score"] = True
    inputs = [
        {
            "name": name,
            "shape": [len(column)],
            "datatype": "FP64",
            "parameters": {"binary_data_size": column.nbytes},
        }
        for name, column in columns.items()
    ]
    header = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    return b"".join([header, *(column.tobytes() for column in columns.values())]), len(header)


@contextmanager
def _connection(url: str, timeout: float) -> Iterator[httpx.Client]:
    """Yield a client; failures of the transport become an InputError with the address."""
    shown = without_secrets(url)
    remember_address(url)
    try:
        address = httpx.URL(url)
        with web_client(
            url,
            base_url=url.rstrip("/"),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10)),
            trust_env=address.host not in _LOOPBACK,  # a proxy of the environment cannot reach our loopback
            verify=address.scheme == "https"
            and trust(),  # reading all certificates takes 30 ms, which http need not pay
        ) as client:
            yield client
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise InputError(f"{shown!r} is not the address of a server; expected e.g. http://127.0.0.1:8080") from None
    except httpx.TransportError as error:
        if problem := lasting_problem(error):
            raise InputError(f"{shown}: {problem}") from None
        if isinstance(error, httpx.TimeoutException):
            msg = f"{shown}: no answer within {timeout:g} s; ask for fewer showers or wait longer"
            raise InputError(msg) from None
        if not isinstance(error, httpx.ConnectError):
            msg = f"{shown}: the connection broke ({masked(str(error))}); see the server's log"
            raise InputError(msg) from None
        msg = f"{shown}: no server answers ({masked(str(error))}); start one with 'caloforge serve', or check host and port"
        raise InputError(msg) from None


def _check_status(shown: str, response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    if response.is_redirect:
        target = response.headers.get("location", "elsewhere")
        raise InputError(
            f"{shown}: redirected to {without_secrets(target)}: a login page? Give an Authorization header"
        )
    text = _error_text(response)
    if status in (401, 403):
        raise InputError(f"{shown}: not allowed (HTTP {status}: {text}); give a valid Authorization header")
    if status < 500:
        raise InputError(f"{shown}: {text}")
    raise ServingError(f"{shown}: the server failed (HTTP {status}): {text}")


def _error_text(response: httpx.Response) -> str:
    """Return what the server says: kserve's ``error``, FastAPI's ``detail``, or the start of the body."""
    try:
        content = response.json()
        return masked(str(content.get("error") or content.get("detail") or content))
    except (ValueError, AttributeError):
        return masked(response.text[:200].strip()) or response.reason_phrase


def _answer(shown: str, response: httpx.Response, n: int, *, score: bool) -> Answer:
    try:
        json_length = int(response.headers[_JSON_LENGTH])
        header = json.loads(response.content[:json_length])
        n_rows, n_voxels = header["outputs"][0]["shape"]
        scored = 8 * n_rows * score  # bytes at the end
        end = len(response.content) - scored
        showers = np.frombuffer(memoryview(response.content)[json_length:end], "<f4").reshape(n_rows, n_voxels)
        log_likelihood = np.frombuffer(response.content, "<f8", offset=end).copy() if score else None
        if (geometry := geometry_of(header["parameters"], name=shown)) is None:
            raise KeyError("geometry_name")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        msg = f"{shown}: the answer is not that of a shower server ({type(error).__name__}: {error}); check the address"
        raise InputError(msg) from None
    if n_rows != n or n_voxels != geometry.n_voxels or not np.isfinite(showers).all():
        msg = (
            f"{shown}: asked for {n} finite showers of {geometry.n_voxels} voxels, got {n_rows} of {n_voxels}, "
            f"{int((~np.isfinite(showers)).sum())} voxels not finite"
        )
        raise ServingError(msg)
    return Answer(showers.astype(np.float32), geometry, log_likelihood)  # copies that can be written to
