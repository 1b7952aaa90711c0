"""A server that says how likely its showers are, over all its doors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import h5py
import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from small_families import quick

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.models.bundle import condition_columns, load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.likelihood.log_prob import TOTAL, log_probs_of
from caloforge.models.training.train import train
from caloforge.serving.client import ask
from caloforge.serving.local import free_port, running_server
from caloforge.showers import Conditions, open_showers

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of fastapi and protobuf, while kserve is imported
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

INFER, PREDICT = "/v2/models/caloforge/infer", "/v1/models/caloforge:predict"
ENERGIES = [5e3, 2e4, 7e4]
CONDITIONS = Conditions(np.array(ENERGIES))
INPUTS = [{"name": "incident_energy", "shape": [3], "datatype": "FP64", "data": ENERGIES}]
SCORED = {"seed": 7, "score": True}


@pytest.fixture(scope="module")
def tree(small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tree") / "bundle"
    request = TrainingRequest(
        showers=small_showers, prepared=small_prepared, output=output, family="tree", overrides=quick("tree"), seed=3
    )
    train(request)
    return output


@pytest.fixture(scope="module")
def scoring(tree: Path) -> Iterator[tuple[str, str]]:
    """Addresses over REST and gRPC of a server of a tree."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with running_server(tree, grpc_port=port) as url:
            yield url, f"127.0.0.1:{port}"


def post(url: str, path: str, **content: Any) -> httpx.Response:
    return httpx.post(url + path, json=content, timeout=60, trust_env=False)


def over_grpc(address: str, **parameters: pb.InferParameter) -> pb.ModelInferResponse:
    request = pb.ModelInferRequest(model_name="caloforge", parameters=parameters)
    request.inputs.add(name="incident_energy", datatype="FP64", shape=[3]).contents.fp64_contents.extend(ENERGIES)
    with grpc.insecure_channel(address) as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request)


def test_every_door_gives_the_log_likelihood_of_the_showers_beside_it(scoring: tuple[str, str], tree: Path) -> None:
    url, address = scoring
    answer = ask(url, CONDITIONS, seed=7, score=True)
    generator = load_bundle(tree)
    columns = condition_columns(CONDITIONS, ("incident_energy",))
    expected = log_probs_of(generator.network, columns, answer.showers)[TOTAL]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(answer.log_likelihood, expected, rtol=1e-4)

    first, second = post(url, INFER, inputs=INPUTS, parameters=SCORED).json()["outputs"]
    assert (second["name"], second["datatype"], second["shape"]) == ("log_likelihood", "FP64", [3])
    assert second["data"] == answer.log_likelihood.tolist()
    np.testing.assert_array_equal(np.array(first["data"], np.float32).reshape(3, -1), answer.showers)

    instances = [{"incident_energy": energy} for energy in ENERGIES]
    content = post(url, PREDICT, instances=instances, parameters=SCORED).json()
    assert content["log_likelihood"] == answer.log_likelihood.tolist()
    np.testing.assert_array_equal(np.array(content["predictions"], np.float32), answer.showers)

    message = over_grpc(address, seed=pb.InferParameter(int64_param=7), score=pb.InferParameter(bool_param=True))
    assert [(output.name, list(output.shape)) for output in message.outputs][1] == ("log_likelihood", [3])
    np.testing.assert_array_equal(np.frombuffer(message.raw_output_contents[1], "<f8"), answer.log_likelihood)


def test_who_does_not_ask_gets_the_showers_alone(scoring: tuple[str, str]) -> None:
    url, address = scoring
    assert ask(url, CONDITIONS, seed=7).log_likelihood is None
    assert [output["name"] for output in post(url, INFER, inputs=INPUTS).json()["outputs"]] == ["showers"]
    assert len(over_grpc(address).outputs) == 1
    known = httpx.get(f"{url}/v2/models/caloforge", trust_env=False).json()["outputs"]
    assert known[1] == {"name": "log_likelihood", "datatype": "FP64", "shape": [-1]}


def test_the_command_keeps_the_score_beside_the_showers(scoring: tuple[str, str], tmp_path: Path) -> None:
    command = ["query", "--url", scoring[0], "--energy", "20000", "--n", "4", "--seed", "7", "-o"]
    for name, score in (("plain", []), ("scored", ["--score"])):
        result = CliRunner().invoke(main, [*command, str(tmp_path / f"{name}.hdf5"), *score], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    expected = ask(scoring[0], Conditions(np.full(4, 2e4)), seed=7, score=True)
    with h5py.File(tmp_path / "scored.hdf5") as file:
        np.testing.assert_array_equal(file["log_prob"][:], expected.log_likelihood)
    with h5py.File(tmp_path / "plain.hdf5") as file:
        assert "log_prob" not in file
    np.testing.assert_array_equal(open_showers(tmp_path / "scored.hdf5").read(), expected.showers)


def test_outputs_can_be_named(scoring: tuple[str, str]) -> None:
    names = [{"name": "showers"}, {"name": "log_likelihood"}]
    for outputs, parameters, text in (
        (names, {}, "output 'log_likelihood': comes with the parameter score, true"),
        ([names[0] | {"parameters": {"binary_data": True}}, names[1]], SCORED, "both in binary or both as JSON"),
    ):
        response = post(scoring[0], INFER, inputs=INPUTS, outputs=outputs, parameters=parameters)
        assert response.status_code == 400
        assert text in response.json()["error"]
    binary = [name | {"parameters": {"binary_data": True}} for name in names]
    response = post(scoring[0], INFER, inputs=INPUTS, outputs=binary, parameters=SCORED)
    length = int(response.headers["Inference-Header-Content-Length"])
    sizes = [o["parameters"]["binary_data_size"] for o in json.loads(response.content[:length])["outputs"]]
    assert sizes[1] == 24
    assert length + sum(sizes) == len(response.content)


def test_a_family_without_a_likelihood_refuses(server: Any) -> None:
    text = "score: this generator has no likelihood of showers; leave the parameter out"
    with pytest.raises(InputError, match=text):
        ask(server.url, CONDITIONS, seed=7, score=True)
    response = post(server.url, INFER, inputs=INPUTS, parameters=SCORED)
    assert (response.status_code, response.json()["error"]) == (400, text)
    with pytest.raises(grpc.RpcError, match=text) as caught:
        over_grpc(server.grpc_address, score=pb.InferParameter(bool_param=True))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    response = post(server.url, INFER, inputs=INPUTS, parameters={"score": "yes"})
    assert "parameter 'score': expected true or false, got 'yes'" in response.json()["error"]
