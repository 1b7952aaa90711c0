"""All ways to get showers beside each other: what is measured, what is left out, and what is said."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cpp_vectors import ALL, ODD, write_bundle

from caloforge.cli import main
from caloforge.domain import spread_over
from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.models.bundle import load_bundle, seal_bundle
from caloforge.models.engines.variant import VARIANT_FILE, EngineUnavailable, Variant
from caloforge.showers import Conditions, Showers, open_showers, write_showers
from caloforge.tuning.inference import benchmark as module
from caloforge.tuning.inference.benchmark import benchmark
from caloforge.tuning.inference.benchmark_record import Benchmark, Used, with_ratios
from caloforge.tuning.inference.benchmark_report import page, table
from caloforge.tuning.inference.compiled import build, running_compiled
from caloforge.tuning.inference.record import Timing
from caloforge.tuning.inference.stopwatch import cpu_seconds, peak_megabytes
from caloforge.tuning.inference.ways import Way

pytestmark = pytest.mark.slow

NO_PROVIDER = "this ONNX Runtime has no DnnlExecutionProvider"


class Fake:
    """Draws nothing, in a time that is known; dies at a number of showers."""

    def __init__(self, milliseconds: float, dies_at: int = 0) -> None:
        self.milliseconds, self.dies_at, self.used = milliseconds, dies_at, 0.0

    def start(self, conditions: Conditions) -> None:
        self.conditions = conditions

    def seconds(self, n: int) -> float:
        if n == self.dies_at:
            raise EngineUnavailable("its process ended; was there enough memory?")
        self.used += 2 * self.milliseconds * n / 1000
        return self.milliseconds * n / 1000

    def cpu_seconds(self) -> float:
        return self.used

    def peak_megabytes(self) -> float:
        return 100.0


def fake(names: str, threads: int, *drawers: Fake, reason: str = "") -> Way:
    @contextmanager
    def opened() -> Iterator[dict[str, Fake]]:
        if reason:
            raise EngineUnavailable(reason)
        yield dict(zip(names.split("/"), drawers, strict=True))

    return Way(tuple(names.split("/")), threads, "", opened, Path(__file__), Path(__file__))


@pytest.fixture
def with_cpu_seconds(small_showers: Path, tmp_path: Path) -> Showers:
    """Showers that took Geant4 as many seconds as they have GeV."""
    showers = open_showers(small_showers).select(range(20))
    path = tmp_path / "geant4.hdf5"
    with write_showers(path, showers.geometry, attributes={"energy_threshold": 0.1}, provenance={}) as writer:
        beside = {"extra/cpu_seconds": showers.conditions.incident_energy / 1000}
        writer.append(showers.conditions, showers.read(), beside=beside)
    return open_showers(path)


def test_those_that_fail_are_left_out_and_the_others_compared(
    tiny_bundle: Path, with_cpu_seconds: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, server = Fake(10), Fake(20)
    tried = [
        fake("PyTorch", 1, plain),
        fake("oneDNN (chosen)", 1, reason=NO_PROVIDER),
        fake("dying", 1, Fake(1, dies_at=5)),
        fake("REST/gRPC", 1, server, Fake(30, dies_at=1)),
        fake("PyTorch", 0, Fake(5)),
        fake("C++", 0, Fake(1)),
    ]
    monkeypatch.setattr(module, "ways", lambda *_: iter(tried))
    monkeypatch.setattr(module, "with_graph", lambda bundle, *_: bundle)
    found = benchmark(tiny_bundle, tmp_path / "out", showers=with_cpu_seconds, sizes=(5, 1, 100))
    assert {(one.name, one.threads): one.left_out for one in found.ways if one.left_out} == {
        ("oneDNN (chosen)", 1): NO_PROVIDER,
        ("dying", 1): "its process ended; was there enough memory?",
        ("gRPC", 1): "its process ended; was there enough memory?",
    }
    speeds = {(one.name, one.threads): round(one.speed, 6) for one in found.measured}
    assert speeds == {("PyTorch", 1): 1, ("REST", 1): 0.5, ("PyTorch", 0): 1, ("C++", 0): 5}
    assert found.measured[0].ms[5].model_dump() == pytest.approx({"median": 10, "least": 10, "most": 10, "cpu": 20})

    energies = server.conditions.incident_energy
    assert len(energies) == 100, "20 showers, repeated"
    assert abs(energies[0] - energies.mean()) < 0.5 * energies.std(), "the first is like all"
    assert np.array_equal(np.sort(energies[:20]), np.sort(with_cpu_seconds.conditions.incident_energy))
    for size in (1, 5, 100):
        assert found.geant4[size] == pytest.approx(energies[:size].mean())
        assert found.measured[0].beside_geant4[size] == pytest.approx(energies[:size].mean() / 20), "both CPU time"

    assert Benchmark.model_validate_json((tmp_path / "out" / "benchmark.json").read_text()) == found
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        f"benchmark.{form}" for form in ("md", "html", "svg")
    }
    assert (tmp_path / "out" / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert f"Left out: oneDNN (chosen): {NO_PROVIDER}." in text
    assert "| C++ | all | 1 (1 to 1) | 1 (1 to 1) | 1 (1 to 1) | 2, 2 |" in text


def test_without_pytorch_there_is_nothing_to_compare_with(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "ways", lambda *_: iter([fake("PyTorch", 1, reason="no memory"), fake("C++", 1, Fake(1))])
    )
    monkeypatch.setattr(module, "with_graph", lambda bundle, *_: bundle)
    with pytest.raises(EngineUnavailable, match="no memory"):
        benchmark(tiny_bundle, tmp_path / "out", sizes=(1,))
    assert not (tmp_path / "out").exists()


def test_table_and_page_say_the_same_and_nothing_of_geant4_where_it_is_not_known() -> None:
    ms = {1: Timing(median=2.5, least=2, most=3, cpu=4)}
    ways = with_ratios(
        [Used(name="A|B", threads=1, runs="<b>", ms=ms), Used(name="C++", threads=1, left_out="none")], {}
    )
    found = Benchmark(
        family="vae", geometry="siw", voxels=6480, energy=20_000, sizes=(1, 10), rounds=3, ways=ways,
        machine={"processor": "X", "cores": 2}, provenance={"libraries": {"torch": "9.9"}},
    )  # fmt: skip
    text, html = table(found), page(found)
    assert r"| A\|B (&lt;b&gt;) | 1 | 2.5 (2 to 3) |  | 4, 4 | 1 |" in text
    assert "<td>A|B (&lt;b&gt;)</td>" in html
    assert "Geant4" not in text + html
    for told in (text, html):
        assert "Left out: C++: none." in told
        assert "torch 9.9" in told


def test_the_sampler_in_cpp_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match="the sampler has the family tree, not vae"):
        build("vae", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        EngineUnavailable, match=r"cannot be built here: cmake, a C\+\+ compiler and nlohmann-json3-dev"
    ):
        build("tree", tmp_path)
    monkeypatch.setattr("caloforge.tuning.inference.compiled.SOURCES", tmp_path)
    with pytest.raises(EngineUnavailable, match="which an installed package lacks"):
        build("tree", tmp_path)


def test_a_build_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cmake", "c++"):
        (tmp_path / name).write_text("#!/bin/sh\necho noise >&2; echo 'CMake Error: no json' >&2; exit 3\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(
        EngineUnavailable, match=r"cmake -S failed \(exit status 3\); .* are needed \(CMake Error: no json\)"
    ):
        build("tree", tmp_path)


def test_a_program_that_refuses_or_dies_says_so(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'bundle/config.json: damaged' >&2; exit 2\n")
    program.chmod(0o755)
    told = pytest.raises(EngineUnavailable, match=r"^bundle/config\.json: damaged$")
    with running_compiled(program, tmp_path, 1) as drawer, told:
        drawer.start(Conditions(np.array([1e3, 2e3])))
    program.write_text("#!/bin/sh\nread line; echo g++; kill -9 $$\n")
    told = pytest.raises(EngineUnavailable, match=r"its process was killed \(SIGKILL\)")
    with running_compiled(program, tmp_path, 1) as drawer:
        drawer.start(Conditions(np.array([1e3, 2e3])))
        assert drawer.made_by == "g++"
        with told:
            drawer.seconds(1)


def test_wrong_input_is_refused_before_anything_is_measured(
    tiny_bundle: Path, small_showers: Path, tmp_path: Path
) -> None:
    words = ["benchmark", "--bundle", str(tiny_bundle), "-o", str(tmp_path / "out")]
    showers = open_showers(small_showers)
    outside = tmp_path / "outside.hdf5"
    with write_showers(outside, showers.geometry, attributes={"energy_threshold": 0.1}, provenance={}) as writer:
        writer.append(Conditions(np.full(2, 5e6)), showers.read()[:2])
    newer = tmp_path / "newer"
    shutil.copytree(tiny_bundle, newer)
    config = json.loads((newer / "config.json").read_text())
    write_json(newer / "config.json", {**config, "format": 99})
    for more, message in (
        (["--data", str(outside)], "incident_energy"),
        (["--bundle", str(newer)], "not a bundle of format"),
        (["--sizes", "1,20000"], "20000 showers at once: a server answers 10000 at most"),
        (["--data", str(tmp_path / "none.hdf5")], r"none.hdf5"),
    ):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 2
        assert message in done.output
    assert not (tmp_path / "out").exists()


def test_showers_of_another_detector_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.hdf5"
    with write_showers(path, ODD, attributes={"energy_threshold": 0.1}, provenance={}) as writer:
        writer.append(Conditions(np.full(3, 1e4)), np.ones((3, ODD.n_voxels), np.float32))
    with pytest.raises(InputError, match=f"has {ODD.n_voxels} voxels, the generator 480"):
        benchmark(tiny_bundle, tmp_path / "out", showers=open_showers(path))


@pytest.mark.slow
def test_python_graph_and_server_draw_and_a_missing_provider_is_named(
    tiny_bundle: Path, small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle, ignore=shutil.ignore_patterns(".*"))
    variant = Variant(name="oneDNN", engine="onnxruntime", graph="variant.onnx", provider="DnnlExecutionProvider")
    write_json(bundle / VARIANT_FILE, variant.model_dump(mode="json"))
    (bundle / "variant.onnx").write_bytes(b"none")
    seal_bundle(bundle, {key: value for key, value in read_json(bundle / "config.json").items() if key != "files"})
    found = benchmark(bundle, tmp_path / "out", showers=open_showers(small_showers), sizes=(1, 7))
    reasons = {one.name: one.left_out for one in found.ways}
    assert NO_PROVIDER in reasons.pop("oneDNN (chosen)")
    assert "has the family tree, not vae" in reasons.pop("C++")
    assert reasons == dict.fromkeys(
        ("PyTorch", "ONNX Runtime", "server, REST", "server, REST as JSON", "server, gRPC"), ""
    )
    used = {one.name: one for one in found.measured}
    for one in used.values():
        assert set(one.ms) == {1, 7}
        assert one.peak_mb > 30
        assert one.file_mb > 0.01
        assert one.cold is not None
        assert one.cold.median > 0.1
    assert used["server, gRPC"].runs == "PyTorch", "what cannot run is not what was timed"
    assert used["ONNX Runtime"].peak_mb < used["PyTorch"].peak_mb, "the graph alone needs no PyTorch"
    assert used["PyTorch"].library_mb > used["ONNX Runtime"].library_mb > 10


@pytest.mark.slow
def test_the_sampler_in_cpp_is_built_and_draws_with_all_conditions(tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    bundle = tmp_path / "tree"
    bundle.mkdir()
    write_bundle(bundle, ODD, ALL)
    program = build("tree", tmp_path / "build")
    with running_compiled(program, bundle, 2) as drawer:
        drawer.start(spread_over(load_bundle(bundle).domains, 40))
        assert "AVX" in drawer.made_by or "plain" in drawer.made_by
        assert min(drawer.seconds(1), drawer.seconds(40)) > 0
        assert 1 < drawer.peak_megabytes() < 100, "of the program, not of what started it"
    outside = pytest.raises(EngineUnavailable, match="outside the trained range")
    with running_compiled(program, bundle, 1) as drawer, outside:
        drawer.start(Conditions(np.array([1e9])))


def test_what_a_process_has_used_is_its_own_and_one_that_is_gone_is_named() -> None:
    before = time.process_time()
    assert before <= cpu_seconds(os.getpid()) <= time.process_time(), "the same clock"
    with subprocess.Popen(["sleep", "60"]) as small:
        assert peak_megabytes(small.pid) < 20, "not of the process that started it"
        assert cpu_seconds(small.pid) < 1
        small.kill()
    for ask in (cpu_seconds, peak_megabytes):
        with pytest.raises(EngineUnavailable, match="its process ended"):
            ask(small.pid)
