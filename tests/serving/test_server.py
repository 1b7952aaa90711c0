import asyncio
import json
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from caloforge.domain import spread_over
from caloforge.errors import InputError
from caloforge.models.bundle import Generator, load_bundle
from caloforge.serving.client import ask, is_ready, query
from caloforge.serving.errors import LateError
from caloforge.serving.limits import MAX_BODY_BYTES, MAX_SHOWERS_PER_REQUEST, Limits
from caloforge.serving.local import free_port
from caloforge.serving.requests import Query
from caloforge.serving.server import serve
from caloforge.showers import Conditions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of fastapi and protobuf, while kserve is imported
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

INFER = "/v2/models/caloforge/infer"


@pytest.fixture(scope="module")
def generator(tiny_bundle: Path) -> Generator:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def http(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[GRPCInferenceServiceStub]:
    unlimited = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options=unlimited) as channel:
        yield GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def conditions(generator: Generator) -> Conditions:
    return spread_over(generator.domains, 10)


def tensors(conditions: Conditions) -> list[dict]:
    return [
        {"name": name, "shape": [len(conditions)], "datatype": "FP64", "data": getattr(conditions, name).tolist()}
        for name in conditions.names
    ]


def grpc_request(conditions: Conditions, seed: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="caloforge", parameters={"seed": pb.InferParameter(int64_param=seed)})
    for name in conditions.names:
        tensor = request.inputs.add(name=name, datatype="FP64", shape=[len(conditions), 1])
        tensor.contents.fp64_contents.extend(getattr(conditions, name))
    return request


def assert_same_showers(showers: np.ndarray, expected: np.ndarray) -> None:
    # Same code, seed and batch: only the threads that torch takes may differ.
    np.testing.assert_allclose(showers, expected, rtol=1e-4, atol=1e-4 * expected.sum(axis=1).min())


def test_same_seed_gives_the_showers_of_in_process_sampling(
    server: Any, generator: Generator, conditions: Conditions
) -> None:
    showers = query(server.url, conditions, seed=7)
    assert showers.shape == (len(conditions), generator.geometry.n_voxels)
    assert showers.dtype == np.float32
    assert_same_showers(showers, generator.sample(conditions, seed=7))


def test_the_answer_carries_the_mesh(server: Any, generator: Generator, conditions: Conditions) -> None:
    geometry = ask(server.url, conditions, seed=7).geometry
    assert (geometry.name, geometry.to_text()) == (generator.geometry.name, generator.geometry.to_text())


def test_another_seed_gives_other_showers(server: Any, conditions: Conditions) -> None:
    assert not np.array_equal(query(server.url, conditions, seed=7), query(server.url, conditions, seed=8))


def test_rest_json_carries_the_same_showers(server: Any, http: httpx.Client, conditions: Conditions) -> None:
    response = http.post(INFER, json={"id": "mine", "inputs": tensors(conditions), "parameters": {"seed": 7}})
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    (output,) = content["outputs"]
    assert (content["id"], content["model_name"]) == ("mine", "caloforge")
    assert (output["name"], output["datatype"]) == ("showers", "FP32")
    showers = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_array_equal(showers, query(server.url, conditions, seed=7))


def test_a_single_output_can_be_asked_for_in_binary(server: Any, http: httpx.Client, conditions: Conditions) -> None:
    outputs = [{"name": "showers", "parameters": {"binary_data": True}}]
    response = http.post(INFER, json={"inputs": tensors(conditions), "outputs": outputs})
    length = int(response.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(response.content[:length])["outputs"]
    showers = np.frombuffer(response.content[length:], "<f4").reshape(output["shape"])
    np.testing.assert_array_equal(showers, query(server.url, conditions, seed=0))


def test_v1_predict_carries_the_same_showers(server: Any, http: httpx.Client, conditions: Conditions) -> None:
    rows = [{name: getattr(conditions, name)[i] for name in conditions.names} for i in range(len(conditions))]
    response = http.post("/v1/models/caloforge:predict", json={"instances": rows, "parameters": {"seed": 7}})
    showers = np.array(response.json()["predictions"], np.float32)
    np.testing.assert_array_equal(showers, query(server.url, conditions, seed=7))


def test_grpc_carries_the_same_showers(server: Any, stub: GRPCInferenceServiceStub, conditions: Conditions) -> None:
    response = stub.ModelInfer(grpc_request(conditions, seed=7))
    showers = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)
    np.testing.assert_array_equal(showers, query(server.url, conditions, seed=7))


def test_large_answers_come_over_grpc(stub: GRPCInferenceServiceStub, generator: Generator) -> None:
    n = 9 * 2**20 // (4 * generator.geometry.n_voxels)  # more than gRPC's default of 8 MiB
    response = stub.ModelInfer(grpc_request(spread_over(generator.domains, n), seed=0))
    assert response.outputs[0].shape == [n, generator.geometry.n_voxels]


def test_there_is_no_other_version_over_grpc(stub: GRPCInferenceServiceStub, conditions: Conditions) -> None:
    showers = grpc_request(conditions, seed=7)
    showers.model_version = "9"
    for method, request in (
        (stub.ModelInfer, showers),
        (stub.ModelReady, pb.ModelReadyRequest(name="caloforge", version="9")),
        (stub.ModelMetadata, pb.ModelMetadataRequest(name="caloforge", version="9")),
    ):
        with pytest.raises(grpc.RpcError, match="one version of one model") as caught:
            method(request)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_grpc_says_what_is_wrong(stub: GRPCInferenceServiceStub) -> None:
    with pytest.raises(grpc.RpcError, match="input 'incident_energy' is missing") as caught:
        stub.ModelInfer(pb.ModelInferRequest(model_name="caloforge"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_concurrent_requests_get_their_own_showers(server: Any, generator: Generator, conditions: Conditions) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: query(server.url, conditions, seed=seed), range(8)))
    for seed, answer in enumerate(answers):
        assert_same_showers(answer, generator.sample(conditions, seed=seed))


def test_readiness_and_metadata(server: Any, http: httpx.Client, generator: Generator) -> None:
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert is_ready(server.url)
    assert not is_ready(server.url, name="another")
    metadata = http.get("/v2/models/caloforge").json()
    low, high = generator.energy_range
    told = {"unit": "MeV", "low": low, "high": high}
    assert metadata["inputs"] == [{"name": "incident_energy", "datatype": "FP64", "shape": [-1], "parameters": told}]
    assert http.get("/v2/models/another").status_code == 404
    voxels = generator.geometry.n_voxels
    assert metadata["outputs"] == [{"name": "showers", "datatype": "FP32", "shape": [-1, voxels]}]


def test_metrics_say_how_long_each_stage_takes_and_what_runs(
    server: Any, http: httpx.Client, stub: GRPCInferenceServiceStub, conditions: Conditions, generator: Generator
) -> None:
    def told() -> dict[str, float]:
        families = text_string_to_metric_families(http.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name.startswith("caloforge")]
        return {f"{one.name} {' '.join(one.labels.values())}".strip(): one.value for one in samples}

    before = told()
    query(server.url, conditions, seed=7)
    http.post(INFER, json={"inputs": tensors(conditions)})
    stub.ModelInfer(grpc_request(conditions, seed=7))
    after = told()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    for stage in ("decode", "wait", "sampling", "encode"):
        assert grown[f"caloforge_stage_seconds_count {stage}"] == 3
        assert 0 < grown[f"caloforge_stage_seconds_sum {stage}"] < 60
    assert grown["caloforge_batch_showers_sum"] == 3 * len(conditions)
    assert grown["caloforge_batch_requests_count"] == grown["caloforge_batch_requests_sum"] == 3
    mesh = f"{generator.geometry.name} {generator.geometry.n_voxels}"
    [what] = [name for name in after if name.startswith("caloforge_generator_info")]
    assert sorted(what.split()[1:]) == sorted(f"vae {mesh} PyTorch pytorch fp32 cpu".split())


def energy(*values: float | str | None, shape: list[int] | None = None, datatype: str = "FP64") -> dict:
    shape = [len(values)] if shape is None else shape
    return {"name": "incident_energy", "shape": shape, "datatype": datatype, "data": list(values)}


@pytest.mark.parametrize(
    ("inputs", "parameters", "text"),
    [
        ([], {}, "input 'incident_energy' is missing"),
        ([energy(1e4), energy(1e4) | {"name": "energy"}], {}, "unknown input 'energy'; did you mean"),
        ([energy(1e4, shape=[2])], {}, "the data do not fit shape [2]"),
        ([energy(1e4, 1e4, shape=[1, 2])], {}, "expected shape [n] or [n, 1], got [1, 2]"),
        ([energy(1e4, datatype="INT64")], {}, "expected datatype FP32 or FP64, got 'INT64'"),
        ([energy("much")], {}, "row 0 is 'much'; expected a number"),
        ([energy(1e4, None)], {}, "row 1 is None; expected a number"),
        ([energy()], {}, "at least one shower, got 0"),
        ([energy(*[1e4] * (MAX_SHOWERS_PER_REQUEST + 1))], {}, "at most 10000 showers, got 10001"),
        ([energy(1e-3)], {}, "0.001"),
        ([energy(1e12)], {}, "1e+12"),
        ([energy(-1e4)], {}, "-10000"),
        ([energy(1e4)], {"seed": -1}, "seed: expected an integer from 0"),
        ([energy(1e4)], {"seed": 1.5}, "parameter 'seed': expected an integer, got 1.5"),
        ([energy(1e4)], {"steps": 0}, "steps: expected a positive integer"),
        ([energy(1e4)], {"steps": 1}, "steps: this generator takes one pass and no steps"),
        ([energy(1e4), energy(1e4)], {}, "input 'incident_energy' is there twice"),
        ([energy(1e4)], {"sed": 1}, "unknown parameter 'sed'; did you mean 'seed'"),
    ],
)  # fmt: skip
def test_a_bad_query_is_refused_with_its_reason(
    http: httpx.Client, inputs: list[dict], parameters: dict, text: str
) -> None:
    response = http.post(INFER, json={"inputs": inputs, "parameters": parameters})
    assert response.status_code == 400
    assert text in response.json()["error"]


def test_not_a_number_in_binary_is_refused(server: Any, conditions: Conditions) -> None:
    broken = Conditions(**{name: getattr(conditions, name).copy() for name in conditions.names})
    broken.incident_energy[3] = np.nan
    with pytest.raises(InputError, match="incident_energy: row 3 is nan"):
        query(server.url, broken, seed=0)


def test_a_malformed_binary_request_is_refused(http: httpx.Client) -> None:
    tensor = energy(shape=[3]) | {"parameters": {"binary_data_size": 8}}
    del tensor["data"]
    header = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
    response = http.post(INFER, content=header + bytes(8), headers=headers)
    assert response.status_code == 400
    assert "malformed request" in response.json()["error"]


def test_an_unknown_output_is_refused(http: httpx.Client, conditions: Conditions) -> None:
    response = http.post(INFER, json={"inputs": tensors(conditions), "outputs": [{"name": "shower"}]})
    assert response.status_code == 400
    assert "unknown output 'shower'" in response.json()["error"]


def test_an_unknown_model_is_refused(server: Any, conditions: Conditions) -> None:
    with pytest.raises(InputError, match="Model with name 'another' does not exist"):
        query(server.url, conditions, seed=0, name="another")


def test_nobody_unloads_the_model(server: Any, http: httpx.Client, stub: GRPCInferenceServiceStub) -> None:
    for verb in ("unload", "load"):
        response = http.post(f"/v2/repository/models/caloforge/{verb}")
        assert response.status_code == 403
        assert "neither loaded nor unloaded" in response.json()["error"]
    for call, message in (
        (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="caloforge")),
        (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="caloforge")),
    ):
        with pytest.raises(grpc.RpcError, match="neither loaded nor unloaded") as caught:
            call(message)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert is_ready(server.url)


def test_too_large_a_request_is_refused(
    http: httpx.Client, stub: GRPCInferenceServiceStub, conditions: Conditions
) -> None:
    padding = " " * MAX_BODY_BYTES
    sizes: list[dict[str, Any]] = [
        {"content": json.dumps({"inputs": tensors(conditions)}) + padding},
        {"content": (part for part in [b"{}", padding.encode(), b" "])},  # without its length
    ]
    for path in (INFER, "/v1/models/caloforge:predict"):
        for size in sizes:
            response = http.post(path, **size)
            assert response.status_code == 413
            assert f"at most {MAX_BODY_BYTES} bytes" in response.json()["error"]
        sizes = sizes[:1]  # a generator is read once
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(pb.ModelInferRequest(model_name="caloforge", raw_input_contents=[bytes(MAX_BODY_BYTES)]))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


BAD_REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/v1/models/caloforge:predict", {"json": {"instances": [{"incident_energy": 1e4}], "parameters": True}}, 400),
    ("POST", INFER, {"content": b"\xff\x00{"}, 400),
    ("POST", INFER, {"json": {"inputs": [energy(1e4) | {"datatype": "BYTES", "data": ["\n\x1b[31mERROR"]}]}}, 400),
    ("POST", INFER, {"json": {"inputs": [], "parameters": {"\n\x1b[31mERROR": 1}}}, 400),
    ("POST", INFER, {"content": b"{}", "headers": {"Inference-Header-Content-Length": "-1"}}, 400),
    ("POST", "/v2/models/%0a%1b[31mERROR/infer", {"json": {}}, 404),
    ("POST", "/v2/models/caloforge/versions/1/infer", {"json": {}}, 404),
    ("GET", "/v2/models/caloforge/versions/1", {}, 404),
    ("GET", "/v2/models/%1b[31mERROR", {}, 404),
    ("GET", "/v2/models/%1b[31mERROR/ready", {}, 404),
    ("GET", "/v1/models/%1b[31mERROR", {}, 404),
    ("POST", "/v1/models/caloforge:explain", {"json": {}}, 404),
    ("GET", INFER, {}, 405),
    ("GET", "/nowhere?%0a%1b[31mERROR", {}, 404),
]  # fmt: skip


def test_what_clients_do_wrong_is_told_to_them_and_leaves_no_stack_trace(
    server: Any, http: httpx.Client, conditions: Conditions
) -> None:
    for method, path, content, status in BAD_REQUESTS:
        response = http.request(method, path, **content)
        assert response.status_code == status, (path, response.text)
        assert len(response.text) < 400
    channel = grpc.insecure_channel(server.grpc_address)
    with channel:
        for method in ("ModelInfer", "ModelReady", "ServerLive", "Nothing"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\x0a\xff\xff\xff\xff\x0fgarbage")
            wanted = grpc.StatusCode.UNIMPLEMENTED if method == "Nothing" else grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.code() == wanted
        stub = GRPCInferenceServiceStub(channel)
        for answer in (stub.ModelReady, stub.ModelMetadata):
            message = pb.ModelReadyRequest if answer is stub.ModelReady else pb.ModelMetadataRequest
            with pytest.raises(grpc.RpcError, match="does not exist"):
                answer(message(name="\x1b[31mERROR"))
    url = httpx.URL(server.url)
    for beginning in (b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01"):
        with socket.create_connection((url.host, url.port), 20) as client:
            client.sendall(beginning)
            assert client.recv(20).startswith(b"HTTP/1.1 400")
    assert len(query(server.url, conditions, seed=1)) == len(conditions)
    log = server.log.read_text()
    assert "serving" in log
    assert "WARNING" not in log
    assert "Traceback" not in log
    assert "ERROR" not in log
    assert "\x1b" not in log


def test_a_server_without_its_model_is_dead(generator: Generator) -> None:
    from kserve import ModelRepository

    from caloforge.serving.model import GeneratorModel, OneModel

    repository = ModelRepository()
    plane = OneModel(repository)
    assert not asyncio.run(plane.ready())
    limits = Limits.within(10**9, n_voxels=generator.geometry.n_voxels, default_steps=None)
    model = GeneratorModel("caloforge", generator, limits)
    repository.update(model)
    assert asyncio.run(plane.live()) == {"status": "alive"}
    model.queue.end()
    assert model.queue.join(20)
    assert asyncio.run(plane.live()) == {"status": "dead"}  # nobody samples any more
    repository.unload("caloforge")
    assert asyncio.run(plane.live()) == {"status": "dead"}


def test_a_request_that_takes_too_long_is_given_up(generator: Generator, conditions: Conditions) -> None:
    from caloforge.serving.model import GeneratorModel

    limits = Limits.within(10**9, n_voxels=generator.geometry.n_voxels, default_steps=None, seconds=1e-6)
    model = GeneratorModel("caloforge", generator, limits)
    asked = Query(conditions, 0, None, geometry=False, score=False, form="json", identity="")
    with pytest.raises(LateError, match="10 showers were not there within 1e-06 s"):
        asyncio.run(model.predict(asked))
    model.queue.end()
    assert model.queue.join(20)


def test_a_taken_port_is_refused(server: Any, tiny_bundle: Path) -> None:
    taken = int(server.url.rpartition(":")[2])
    with pytest.raises(InputError, match=f"port {taken} cannot be used .*choose another"):
        serve(tiny_bundle, http_port=taken, grpc_port=free_port())


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-Encoding": "gzip"}, "Content-Encoding: 'gzip' is not taken"),
        ({"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "a"}, "send no Upgrade header"),
    ],
    ids=["compressed", "HTTP/2"],
)
def test_a_body_that_is_not_read_as_sent_is_refused_by_that(
    headers: dict[str, str], said: str, http: httpx.Client, conditions: Conditions
) -> None:
    answer = http.post("/v2/models/caloforge/infer", json={"inputs": tensors(conditions)}, headers=headers)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_an_offer_of_another_protocol_alone_is_passed_over(http: httpx.Client, conditions: Conditions) -> None:
    body = {"inputs": tensors(conditions)}
    assert http.post("/v2/models/caloforge/infer", json=body, headers={"Upgrade": "h2c"}).status_code == 200
