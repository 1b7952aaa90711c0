"""What a client writes is read strictly, and repeated shortly and harmlessly."""

import json
from typing import Any

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.serving.limits import Limits
from caloforge.serving.requests import Query, read_v1, read_v2, shown

NAMES = ("incident_energy", "theta")
LIMITS = Limits(n_voxels=10, answer_bytes=40_000, room_bytes=80_000, default_steps=5, max_steps=20)


def tensor(name: str = "incident_energy", *values: Any, **changes: Any) -> dict[str, Any]:
    values = values or (1e4, 2e4)
    fields = {"name": name, "shape": [len(values)], "datatype": "FP64", "data": list(values), **changes}
    return {key: value for key, value in fields.items() if value is not None}


def v2(inputs: Any = None, *, raw: bytes = b"", json_length: str | None = None, **fields: Any) -> Query:
    inputs = [tensor(), tensor("theta", 0.1, 0.2)] if inputs is None else inputs
    header = json.dumps({"inputs": inputs, **fields}).encode()
    length = json_length or (str(len(header)) if raw else None)
    return read_v2(header + raw, length, NAMES, LIMITS)


def binary(name: str, values: list[float], **changes: Any) -> dict[str, Any]:
    size = {"parameters": {"binary_data_size": 8 * len(values)}}
    return tensor(name, *values, **{"data": None, **size, **changes})


def test_a_good_request_is_read() -> None:
    query = v2(id="mine", parameters={"seed": 3, "steps": 7, "geometry": True})
    assert (query.seed, query.steps, query.geometry, query.identity, query.form) == (3, 7, True, "mine", "json")
    np.testing.assert_array_equal(query.conditions.incident_energy, [1e4, 2e4])
    np.testing.assert_array_equal(query.conditions.theta, [0.1, 0.2])


def test_columns_may_be_nested_once() -> None:
    query = v2([tensor(data=[[1e4], [2e4]], shape=[2, 1]), tensor("theta", 1, 2, datatype="FP32")])
    np.testing.assert_array_equal(query.conditions.incident_energy, [1e4, 2e4])


def test_particles_are_whole_numbers_of_any_type() -> None:
    names = ("incident_energy", "particle")

    def read(*codes: float, datatype: str) -> Query:
        inputs = [tensor(), tensor("particle", *codes, datatype=datatype)]
        return read_v2(json.dumps({"inputs": inputs}).encode(), None, names, LIMITS)

    for datatype in ("INT64", "INT32", "FP64"):
        particle = read(22, -211, datatype=datatype).conditions.particle
        assert particle is not None
        assert particle.dtype == np.int64
        np.testing.assert_array_equal(particle, [22, -211])
    raw = np.array([1e4, 2e4]).tobytes() + np.array([22, -211], "<i4").tobytes()
    coded = binary("particle", [22, -211], datatype="INT32", parameters={"binary_data_size": 8})
    header = json.dumps({"inputs": [binary("incident_energy", [1e4, 2e4]), coded]}).encode()
    query = read_v2(header + raw, str(len(header)), names, LIMITS)
    np.testing.assert_array_equal(query.conditions.particle, [22, -211])
    with pytest.raises(InputError, match=r"particle: row 1 is 22.5; 1 of 2 are not PDG codes of particles"):
        read(22, 22.5, datatype="FP64")
    v1 = {"instances": [{"incident_energy": 1e4, "particle": 11}, {"incident_energy": 1e4, "particle": 0}]}
    with pytest.raises(InputError, match="particle: row 1 is 0; 1 of 2 are not PDG codes"):
        read_v1(json.dumps(v1).encode(), names, LIMITS)


def test_bytes_belong_to_the_inputs_in_their_order() -> None:
    energies, angles = [1e4, 2e4], [0.5, 0.25]
    raw = np.array(energies).tobytes() + np.array(angles, np.float32).tobytes()
    narrow = binary("theta", angles, datatype="FP32", parameters={"binary_data_size": 8})
    query = v2([binary("incident_energy", energies), narrow], raw=raw)
    np.testing.assert_array_equal(query.conditions.incident_energy, energies)
    np.testing.assert_array_equal(query.conditions.theta, angles)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([tensor(), tensor(), tensor("theta", 1, 2)], "input 'incident_energy' is there twice"),
        ([tensor("incident_energy", "1e4", "2e4"), tensor("theta", 1, 2)], "row 0 is '1e4'; expected a number"),
        ([tensor("incident_energy", 1e4, True), tensor("theta", 1, 2)], "row 1 is True; expected a number"),
        ([tensor("incident_energy", 1e4, None), tensor("theta", 1, 2)], "row 1 is None; expected a number"),
        ([tensor("incident_energy", 1e4, [1e4]), tensor("theta", 1, 2)], "row 1 is .*expected a number"),
        ([tensor(datatype="BYTES"), tensor("theta", 1, 2)], "expected datatype FP32 or FP64, got 'BYTES'"),
        ([tensor(datatype=["FP64"]), tensor("theta", 1, 2)], r"expected datatype FP32 or FP64, got \['FP64'\]"),
        ([tensor(shape=[-1]), tensor("theta", 1, 2)], r"expected shape \[n\] or \[n, 1\], got \[-1\]"),
        ([tensor(shape=[2.0]), tensor("theta", 1, 2)], r"expected shape \[n\] or \[n, 1\], got \[2.0\]"),
        ([tensor(shape=[True]), tensor("theta", 1, 2)], r"expected shape \[n\] or \[n, 1\]"),
        ([tensor(shape=[1, 2]), tensor("theta", 1, 2)], r"expected shape \[n\] or \[n, 1\], got \[1, 2\]"),
        ([tensor(shape=[3]), tensor("theta", 1, 2)], r"the data do not fit shape \[3\]: 2 numbers"),
        ([tensor(data=None), tensor("theta", 1, 2)], "expected numbers in data, got None"),
        ([tensor(parameters=True), tensor("theta", 1, 2)], "parameters of input 'incident_energy': expected an object"),
        ([tensor(name=7), tensor("theta", 1, 2)], "an input's name is text, got 7"),
        ([tensor(), tensor("theta", 1)], "theta has 1 rows but incident_energy has 2"),
        ([tensor("incident_energy", float("inf"), 1), tensor("theta", 1, 2)], "the body is not JSON"),
        ([7], "expected {\"inputs\""),
        ("text", "expected {\"inputs\""),
    ],
)  # fmt: skip
def test_a_bad_input_is_refused(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        v2(inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parameters": True}, "parameters: expected an object with names and values, got True"),
        ({"parameters": {"seed": "1"}}, "parameter 'seed': expected an integer, got '1'"),
        ({"parameters": {"seed": True}}, "parameter 'seed': expected an integer, got True"),
        ({"parameters": {"steps": 1.0}}, "parameter 'steps': expected an integer, got 1.0"),
        ({"parameters": {"geometry": 1}}, "parameter 'geometry': expected true or false, got 1"),
        ({"parameters": {"binary_data_output": "no"}}, "parameter 'binary_data_output': expected true or false"),
        ({"outputs": {"name": "showers"}}, "outputs: expected"),
        ({"outputs": [{"name": "showers", "parameters": {"binary_data": 1}}]}, "'binary_data': expected true or false"),
        ({"id": 7}, "id: expected text, got 7"),
    ],
)  # fmt: skip
def test_parameters_have_types(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        v2(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"paramters": {"seed": 3}}, "unknown key 'paramters'; did you mean 'parameters'"),
        ({"model_version": "9"}, "unknown key 'model_version'"),
        ({"outputs": [{"name": "showers", "parametres": {}}]}, "unknown key of output 'showers' 'parametres'"),
        ({"outputs": [{"name": "showers", "parameters": {"binary": True}}]}, "unknown parameter of output 'showers'"),
        ({"inputs": [tensor(Data=[1]), tensor("theta", 1, 2)]}, "unknown key of input 'incident_energy' 'Data'"),
        (
            {"inputs": [tensor(parameters={"binary_size": 16}), tensor("theta", 1, 2)]},
            "unknown parameter of input 'incident_energy' 'binary_size'; did you mean 'binary_data_size'",
        ),
    ],
)
def test_a_misspelt_key_is_not_left_out(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        v2(**fields)
    with pytest.raises(InputError, match="unknown key 'seed'"):
        read_v1(json.dumps({"instances": [], "seed": 1}).encode(), NAMES, LIMITS)
    assert v2(model_name="caloforge").seed == 0  # kserve's client says it


@pytest.mark.parametrize("size", [-16, 17, 15, 10**6, True, "16", 16.0])
def test_a_size_that_lies_is_refused(size: Any) -> None:
    inputs = [binary("incident_energy", [1, 2], parameters={"binary_data_size": size}), tensor("theta", 1, 2)]
    with pytest.raises(InputError, match="malformed request: input 'incident_energy'"):
        v2(inputs, raw=bytes(16))


@pytest.mark.parametrize("length", ["-1", "1e2", "99999", "9" * 5000, "²", ""])
def test_a_json_length_that_lies_is_refused(length: str) -> None:
    with pytest.raises(InputError, match="malformed request: Inference-Header-Content-Length"):
        read_v2(b"{}", length, NAMES, LIMITS)


def test_no_byte_is_left_over() -> None:
    with pytest.raises(InputError, match="1 bytes too many"):
        v2([binary("incident_energy", [1, 2]), tensor("theta", 1, 2)], raw=bytes(17))


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b"[" * 100_000, b"7", b"null", b'"' + b"a" * 100_000])
def test_what_is_no_request_is_refused_shortly(body: bytes) -> None:
    for read in (lambda: read_v1(body, NAMES, LIMITS), lambda: read_v2(body, None, NAMES, LIMITS)):
        with pytest.raises(InputError, match="the body is not") as caught:
            read()
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"instances": [{"incident_energy": 1}]}, "condition 'theta' is missing"),
        ({"instances": [{"incident_energy": "1", "theta": 1}]}, "incident_energy: row 0 is '1'; expected a number"),
        ({"instances": [{"incident_energy": 1, "theta": 1}], "parameters": True}, "parameters: expected an object"),
        ({"instances": [{"incident_energy": 1, "theta": 1}], "parameters": [1]}, "parameters: expected an object"),
        ({"instances": 7}, "expected {\"instances\""),
        ({"instances": []}, "at least one shower"),
    ],
)  # fmt: skip
def test_v1_is_read_as_strictly(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_v1(json.dumps(content).encode(), NAMES, LIMITS)


def test_messages_are_short_and_on_one_line() -> None:
    wild = "a\n\x1b[31mERROR: \u202e" + "x" * 100_000
    asked = [
        lambda: v2([tensor(wild), tensor("theta", 1, 2)]),
        lambda: v2([tensor(datatype=wild), tensor("theta", 1, 2)]),
        lambda: v2(parameters={wild: 1}),
        lambda: v2(parameters={"seed": wild}),
        lambda: v2(outputs=[{"name": wild}]),
        lambda: read_v1(json.dumps({"instances": [{wild: 1}]}).encode(), NAMES, LIMITS),
    ]
    for ask in asked:
        with pytest.raises(InputError) as caught:
            ask()
        text = str(caught.value)
        assert text.isprintable()
        assert len(text) < 300


def test_large_values_are_shown_shortly() -> None:
    assert len(shown([[list(range(1000))] * 1000] * 1000)) < 200


@pytest.mark.parametrize(("form", "most"), [("binary", 1000), ("json", 200), ("grpc", 250)])
def test_showers_are_bounded_by_the_memory_of_their_answer(form: Any, most: int) -> None:
    LIMITS.check(form, n=most, seed=0, steps=None)
    with pytest.raises(InputError, match=rf"showers of 10 voxels asks for at most {most} of them .*, got {most + 1}"):
        LIMITS.check(form, n=most + 1, seed=0, steps=None)


def test_an_answer_takes_less_than_half_of_the_memory() -> None:
    memory = 4 * 10**9
    limits = Limits.within(memory, n_voxels=40_500, default_steps=None)
    for form in ("binary", "json", "grpc"):
        assert limits.cost(form, limits.most_showers(form)) < memory / 4
        assert limits.cost(form, limits.most_showers(form)) <= limits.room_bytes


def test_steps_are_bounded() -> None:
    own = Limits.within(10**9, n_voxels=10, default_steps=25)
    own.check("json", n=1, seed=0, steps=100)
    with pytest.raises(InputError, match=r"steps: at most 100 \(the generator's own number is 25\), got 101"):
        own.check("json", n=1, seed=0, steps=101)
    more = Limits.within(10**9, n_voxels=10, default_steps=25, max_steps=300)
    more.check("json", n=1, seed=0, steps=300)
    one_pass = Limits.within(10**9, n_voxels=10, default_steps=None, max_steps=300)
    with pytest.raises(InputError, match="takes one pass and no steps"):
        one_pass.check("json", n=1, seed=0, steps=1)
