import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from object_store import ObjectStore, serving

from caloforge import cli
from caloforge.cli.group import Command
from caloforge.cli.inputs import at_energy
from caloforge.cli.options import PLACE, Address, InputPath
from caloforge.conditions import Conditions
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.logs import LINE
from caloforge.outputs import Written
from caloforge.result_kinds import REPORT
from caloforge.showers import open_showers


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """Run a command that must refuse its input; return the one line that says why."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if not LINE.fullmatch(line)]
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("Error: ")
    return errors[0]


def succeeded(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A place below a file: nobody can write there, root neither."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "output"


@pytest.fixture
def altered(small_showers: Path, tmp_path: Path) -> Callable[[Callable[[h5py.File], None]], Path]:
    """Return a function that copies the showers and changes the copy."""

    def alter(change: Callable[[h5py.File], None]) -> Path:
        path = tmp_path / "altered.hdf5"
        path.write_bytes(small_showers.read_bytes())
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return alter


# Help and start-up ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(cli.main.commands))
def test_every_help_has_an_example_that_parses(name: str) -> None:
    help_text = succeeded(name, "--help")
    command = cli.main.commands[name]
    assert isinstance(command, Command)
    for example in command.example.splitlines():
        assert example in help_text
        program, verb, *arguments = example.split()
        assert (program, verb) == ("caloforge", name)
        command.make_context(verb, list(arguments))


def reading() -> list[tuple[str, str]]:
    """Return each option that a command which writes something reads, by name."""
    of_commands = [(name, command) for name, command in cli.main.commands.items() if isinstance(command, Command)]
    return [
        (name, str(option.name))
        for name, command in of_commands
        if any(option.name == "output" for option in command.params)
        for option in command.params
        if isinstance(option.type, InputPath | Address) and option.expose_value
    ]


@pytest.mark.parametrize(("name", "option"), reading())
def test_no_output_is_an_input(name: str, option: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("precious", encoding="utf-8")
    command = cli.main.commands[name]
    context = click.Context(command)
    several = next(one for one in command.params if one.name == option)
    many = getattr(several, "multiple", False) or several.nargs == -1
    context.params = {"output": mine, option: (str(mine),) if many else mine}
    with pytest.raises(InputError, match=r"mine\.yaml: is the input .*mine\.yaml; give another output"):
        command.invoke(context)
    assert mine.read_text(encoding="utf-8") == "precious"


def test_what_names_a_file_is_an_input_or_an_output() -> None:
    other = [
        f"{name} {option.opts[0]}"
        for name, command in cli.main.commands.items()
        for option in command.params
        if re.search(r"FILE|FOLDER|URI|YAML|SOURCE", option.metavar or "") or isinstance(option.type, click.Path)
        if not (isinstance(option.type, InputPath | Address) or option.type is PLACE)
    ]
    assert other == []


def test_an_input_may_lie_where_a_work_goes_on(small_showers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "space.yaml").write_text("{}", encoding="utf-8")
    message = refused("tune", "--data", small_showers, "--family", "vae", "--trials", 1, "--space", folder / "space.yaml", "-o", folder)  # fmt: skip
    assert "space.yaml" in message
    assert "holds the input" not in message


def test_help_does_not_wait_for_heavy_imports() -> None:
    code = (
        "import sys; from caloforge.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'kfp', 'kserve', 'matplotlib', 'sklearn', 'numpy', 'h5py'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


def test_a_process_of_its_own_collects_garbage_seldom() -> None:
    code = (
        "import atexit, gc, sys; from caloforge.cli import main; sys.argv = ['caloforge', '--version']; "
        "atexit.register(lambda: print(gc.get_threshold()[2])); main()"
    )
    output = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "100"


def test_a_typo_in_a_verb_is_answered_with_the_nearest() -> None:
    assert "'train'" in refused("trian")


# Showers that cannot be read --------------------------------------------------------------------


def _preprocess(path: Path, tmp_path: Path, *more: object) -> str:
    return refused("preprocess", "--data", path, "-o", tmp_path / "prepared", *more)


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in _preprocess(tmp_path / "nothing.hdf5", tmp_path)


def test_not_an_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "text.hdf5"
    path.write_text("no HDF5")
    assert "not an HDF5 file" in _preprocess(path, tmp_path)


def test_missing_dataset(altered: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(lambda file: file.__delitem__("incident_energies"))
    assert "'incident_energies' is missing" in _preprocess(path, tmp_path)


def test_different_lengths(altered: Callable[..., Path], tmp_path: Path) -> None:
    def shorten(file: h5py.File) -> None:
        energies = file["incident_energies"][:-1]
        del file["incident_energies"]
        file["incident_energies"] = energies

    assert "they must be equal" in _preprocess(altered(shorten), tmp_path)


def test_voxels_that_do_not_fit_the_geometry(small_showers: Path, tmp_path: Path) -> None:
    voxels = open_showers(small_showers).geometry.n_voxels
    message = _preprocess(small_showers, tmp_path, "--geometry", "dataset_2")
    assert f"{voxels} voxels" in message
    assert "6480" in message
    assert "fit" in message


def test_unknown_geometry(small_showers: Path, tmp_path: Path) -> None:
    assert "did you mean 'dataset_2'" in _preprocess(small_showers, tmp_path, "--geometry", "dataset2")


@pytest.mark.parametrize("value", [np.nan, -1.0, 0.0])
def test_wrong_incident_energies(value: float, altered: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(lambda file: file["incident_energies"].__setitem__(7, value))
    assert "row 7" in refused("run", "--data", path, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Names and settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--families", "vae,difusion"), "did you mean 'diffusion'"),
        (("--families", ""), "unknown family"),
        (("--preset", "dmo"), "did you mean 'demo'"),
        (("--max-minutes", "-1"), "--max-minutes"),
        (("--seed", "-1"), "--seed"),
        (("--threshold", "nan"), "--threshold"),
        (("--threshold", "1e300"), "--threshold"),
    ],
)
def test_wrong_options_of_a_run(options: tuple[str, str], message: str, small_showers: Path, tmp_path: Path) -> None:
    assert message in refused("run", "--data", small_showers, "-o", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("option", "value"), [("--family", "wgn"), ("--preset", "fulll")])
def test_unknown_names_in_training(option: str, value: str, small_showers: Path, tmp_path: Path) -> None:
    options = {"--family": "vae", "--preset": "demo", option: value}
    flat = [word for pair in options.items() for word in pair]
    message = refused("train", "--data", small_showers, "--prepared", tmp_path / "no", "-o", tmp_path / "bundle", *flat)
    assert "did you mean" in message


@pytest.mark.parametrize("content", ["familys: [vae]\n", "families: {\n", "[1, 2]\n"])
@pytest.mark.parametrize("verb", ["compile", "run"])
def test_wrong_settings_files(content: str, verb: str, small_showers: Path, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    data = ["--data", small_showers] if verb == "run" else []
    assert "settings.yaml" in refused(verb, *data, "--settings", path, "-o", tmp_path / "output")


def test_wrong_preprocessing_settings(small_showers: Path, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("treshold: 1\n")
    assert "did you mean 'threshold'" in _preprocess(small_showers, tmp_path, "--settings", path)


def test_missing_settings_file(tmp_path: Path) -> None:
    assert "nothing.yaml" in refused("compile", "--settings", tmp_path / "nothing.yaml", "-o", tmp_path / "x.yaml")


# Output folders ---------------------------------------------------------------------------------


def test_a_run_sees_at_once_that_it_cannot_write(small_showers: Path, unwritable: Path) -> None:
    start = time.monotonic()
    assert "cannot write here" in refused("run", "--data", small_showers, "-o", unwritable)
    assert time.monotonic() - start < 5


def test_demo_and_compile_cannot_write(unwritable: Path) -> None:
    assert "cannot write here" in refused("demo", "-o", unwritable)
    assert "cannot write here" in refused("compile", "-o", unwritable)


def test_preprocess_cannot_write(small_showers: Path, unwritable: Path) -> None:
    assert "cannot write here" in refused("preprocess", "--data", small_showers, "-o", unwritable)


# Generators -------------------------------------------------------------------------------------


def _generate(bundle: Path, output: Path, *more: object) -> tuple[object, ...]:
    return ("generate", "--bundle", bundle, "-o", output, *more)


def _middle_energy(showers: Path) -> float:
    return float(np.median(open_showers(showers).conditions.incident_energy))


def test_generate_at_one_energy(tiny_bundle: Path, small_showers: Path, tmp_path: Path) -> None:
    energy = _middle_energy(small_showers)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ("--energy", energy, "--n", 5, "--seed", seed)
        assert "ms_per_shower=" in succeeded(*_generate(tiny_bundle, tmp_path / f"{name}.hdf5", *options))
    first, same, other = (open_showers(tmp_path / f"{name}.hdf5").read() for name in "abc")
    assert len(first) == 5
    assert open_showers(tmp_path / "a.hdf5").attributes["variant"] == "PyTorch"
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_generate_like_a_file(tiny_bundle: Path, small_showers: Path, tmp_path: Path) -> None:
    succeeded(*_generate(tiny_bundle, tmp_path / "a.hdf5", "--like", small_showers))
    made, given = open_showers(tmp_path / "a.hdf5").conditions, open_showers(small_showers).conditions
    np.testing.assert_allclose(made.incident_energy, given.incident_energy, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either"),
        (("--energy", 1000), "give either"),
        (("--n", 10), "give either"),
        (("--energy", 1e9, "--n", 10), "energ"),
        (("--energy", -5, "--n", 10), "energ"),
        (("--energy", "nan", "--n", 10), "energ"),
        (("--energy", 10000, "--n", 0), "--n"),
        (("--energy", 10000, "--n", 1, "--condition", "theta=1"), "no such condition: incident_energy"),
        (("--energy", 10000, "--n", 10, "--steps", 0), "--steps"),
    ],
)
def test_wrong_queries_of_a_bundle(
    options: tuple[object, ...], message: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    assert message in refused(*_generate(tiny_bundle, tmp_path / "out.hdf5", *options))
    assert not (tmp_path / "out.hdf5").exists()


@pytest.mark.parametrize("verb", ["generate", "export", "serve"])
@pytest.mark.parametrize("damage", ["missing", "altered", "empty folder", "no folder"])
def test_damaged_bundles(verb: str, damage: str, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    if damage != "no folder":
        bundle.mkdir()
    if damage in ("missing", "altered"):
        for path in tiny_bundle.iterdir():
            (bundle / path.name).write_bytes(path.read_bytes())
    weights = bundle / "weights.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "altered":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    arguments: dict[str, list[object]] = {
        "generate": ["--energy", 10000, "--n", 1, "-o", tmp_path / "out.hdf5"],
        "export": ["-o", tmp_path / "exported"],
        "serve": ["--http-port", 0, "--grpc-port", 0],
    }
    assert str(bundle) in refused(verb, "--bundle", bundle, *arguments[verb])
    assert not (tmp_path / "out.hdf5").exists()
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--energy", 1000, "--n", 0), "at least one"),
        (("--energy", 1000, "--n", 1_000_000), "at most"),
        (("--energy", 1000, "--n", 1), "127.0.0.1:9"),
        (("--energy", 1000, "--n", 1, "--header", "nonsense"), "NAME: VALUE"),
    ],
)
def test_wrong_queries_of_a_server(options: tuple[object, ...], message: str, tmp_path: Path) -> None:
    """The last but two asks where nobody listens: port 9 is for discarding, and reserved."""
    assert message in refused("query", "--url", "http://127.0.0.1:9", "-o", tmp_path / "out.hdf5", *options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("theta",), "--condition 'theta': expected NAME=VALUE"),
        (("theta=",), "expected NAME=VALUE"),
        (("theta=57.3",), "--condition theta: 57.3 is not between 0 and 3.1416 rad"),
        (("theta=nan",), "--condition theta: nan is not between"),
        (("theta=up",), "--condition theta: 'up' is no number (rad)"),
        (("thteta=1",), "unknown condition 'thteta'; did you mean 'theta'"),
        (("theta=1", "eta=0.3"), "--condition eta: is given twice"),
        (("particle=gama",), "unknown particle 'gama'; did you mean 'gamma'"),
        (("particle=22.5",), "unknown particle '22.5'"),
        (("incident_energy=5",), "--condition incident_energy: give --energy"),
    ],
)
@pytest.mark.parametrize("verb", ["generate", "query"])
def test_wrong_conditions(verb: str, words: tuple[str, ...], message: str, tiny_bundle: Path, tmp_path: Path) -> None:
    whom = ("--bundle", tiny_bundle) if verb == "generate" else ("--url", "http://127.0.0.1:9")
    options = [part for word in words for part in ("--condition", word)]
    assert message in refused(verb, *whom, "-o", tmp_path / "out.hdf5", "--energy", 10000, "--n", 1, *options)


def test_words_are_conditions_of_all_showers() -> None:
    found = at_energy(5e4, 3, ("eta=1.2", "phi=-2", "particle=pi-"))
    assert found.names == ("incident_energy", "theta", "phi", "particle")
    np.testing.assert_allclose(np.cos(np.asarray(found.theta)), np.tanh([1.2] * 3))
    np.testing.assert_array_equal(found.particle, [-211] * 3)
    of_file = Conditions(np.array([1.0, 2.0]), phi=np.array([0.1, 0.2]))
    both = of_file.labelled({"particle": 22}, where="a.hdf5")
    np.testing.assert_array_equal(both.particle, [22, 22])
    np.testing.assert_array_equal(both.phi, of_file.phi)
    with pytest.raises(InputError, match=r"--condition phi: a.hdf5 says it for each shower"):
        of_file.labelled({"phi": 1.0}, where="a.hdf5")


def test_files_of_one_particle_each_become_one_of_two(small_showers: Path, tmp_path: Path) -> None:
    for name in ("gamma", "pi+"):
        succeeded("convert", small_showers, "--condition", f"particle={name}", "-o", tmp_path / f"{name}.hdf5")
    succeeded("convert", tmp_path / "gamma.hdf5", tmp_path / "pi+.hdf5", "-o", tmp_path / "both.hdf5")
    found, one = open_showers(tmp_path / "both.hdf5").conditions, open_showers(small_showers)
    np.testing.assert_array_equal(found.particle, np.repeat([22, 211], len(one)))
    assert "particle:        gamma (22), pi+ (211)" in succeeded("inspect", tmp_path / "both.hdf5")
    again = ("convert", tmp_path / "gamma.hdf5", "--condition", "particle=11", "-o", tmp_path / "again.hdf5")
    assert "gamma.hdf5 says it for each shower" in refused(*again)


# The verbs, one after the other -----------------------------------------------------------------


@pytest.mark.slow
def test_steps_by_hand(small_showers: Path, tmp_path: Path) -> None:
    prepared, bundle, showers = tmp_path / "prepared", tmp_path / "bundle", tmp_path / "vae.hdf5"
    overrides = tmp_path / "overrides.yaml"
    overrides.write_text(yaml.safe_dump({"training": {"steps": 5}, "energies": {"steps": 5}}))
    succeeded("preprocess", "--data", small_showers, "--seed", 1, "-o", prepared)
    output = succeeded("train", "--data", small_showers, "--prepared", prepared, "--family", "vae",
                       "--overrides", overrides, "-o", bundle)  # fmt: skip
    assert "steps=5" in output
    succeeded(*_generate(bundle, showers, "--like", small_showers))
    succeeded("validate", "--reference", small_showers, "--generated", showers, "-o", tmp_path / "judged")
    metrics = read_json(tmp_path / "judged" / "metrics.json")
    assert set(metrics["generators"]) == {"vae"}
    assert (tmp_path / "judged" / "report.html").is_file()
    assert [name for name in Written(tmp_path / "judged").laid if not REPORT.has(name)] == []


@pytest.mark.slow
def test_steps_by_address(
    tiny_bundle: Path, small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every verb of one machine fetches what it reads, and leaves no copy behind."""
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    prepared, bundle, showers = tmp_path / "prepared", tmp_path / "bundle", tmp_path / "vae.hdf5"
    overrides = tmp_path / "overrides.yaml"
    overrides.write_text(yaml.safe_dump({"training": {"steps": 2}, "energies": {"steps": 2}}))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    with serving(ObjectStore()) as store:
        store.objects["physics/small.hdf5"] = small_showers.read_bytes()
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        data = "s3://physics/small.hdf5"
        succeeded("preprocess", "--data", data, "--seed", 1, "-o", prepared)
        assert read_json(prepared / "prepared.json")["source"]["address"] == data
        train = ("--prepared", prepared, "--family", "vae", "--overrides", overrides, "-o", bundle)
        assert "steps=2" in succeeded("train", "--data", data, *train)
        succeeded(*_generate(tiny_bundle, showers, "--like", data))
        store.objects["physics/generated/small.hdf5"] = showers.read_bytes()
        store.objects["physics/other/small.hdf5"] = showers.read_bytes()
        generated = [f"{store.url}/physics/{name}/small.hdf5" for name in ("generated", "other")]
        judge = ("validate", "--reference", data, "--generated", generated[0], "--generated", generated[1])
        succeeded(*judge, "-o", tmp_path / "judged")
        metrics = read_json(tmp_path / "judged" / "metrics.json")
        assert list(metrics["generators"]) == [address.removesuffix(".hdf5") for address in generated]
        assert metrics["source"]["address"] == data
        store.objects["physics/small.hdf5"] += b"changed"
        assert "its SHA-256 is" in refused("train", "--data", data, *train)
        message = "s3://physics/nothing.hdf5: nothing is there"
        assert message in refused("preprocess", "--data", "s3://physics/nothing.hdf5", "-o", prepared)
    assert not list((tmp_path / "scratch").iterdir())


def test_compile(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("families: [vae, wgan]\n")
    succeeded("compile", "--settings", settings, "-o", tmp_path / "pipeline.yaml")
    content = next(yaml.load_all((tmp_path / "pipeline.yaml").read_text(), Loader=yaml.CSafeLoader))
    parameters = content["root"]["inputDefinitions"]["parameters"]
    assert parameters["families"]["defaultValue"] == ["vae", "wgan"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("caloforge.cli.kubeflow.check_file", fails)
    result = invoke("compile", "-o", "pipeline.yaml")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "not enough memory" in result.stderr
