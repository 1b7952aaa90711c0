"""The C++ sampler draws PyTorch's showers, and what this machine or sampler cannot do is said in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cell_grids import unlike_cells
from cpp_vectors import ALL, ENERGY, ODD, write_bundle
from safetensors.torch import load_file, save_file
from torch import Tensor

from caloforge.conditions import Conditions
from caloforge.domain import spread_over
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.agreement import TOLERANCE, relative_difference
from caloforge.models.bundle import condition_columns, load_bundle, seal_bundle
from caloforge.models.engines import cpp, cpp_library
from caloforge.models.engines.variant import EngineUnavailable, Variant
from caloforge.models.noise import Noise, NoiseStream
from caloforge.models.registries import ENGINES

CPP = Variant(name="C++", engine="cpp", threads=1)
N = 60


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp().parent / "cache"))
        yield


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree on layers that differ, with energies, angles and particles as conditions."""
    folder = tmp_path_factory.mktemp("odd")
    write_bundle(folder, ODD, ALL)
    return folder


@pytest.fixture(scope="module")
def built() -> None:
    """The library; where it cannot be built the tests that need it are left out."""
    try:
        cpp_library.library()
    except EngineUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_showers_are_those_of_pytorch_by_any_number_of_threads_in_any_batch(odd: Path) -> None:
    conditions = spread_over(ALL, N)
    plain, generator = load_bundle(odd), load_bundle(odd)
    generator.run_as(CPP, odd)
    ours = generator.sample(conditions, seed=2**40 + 3)
    differences = relative_difference(ours, plain.sample(conditions, seed=2**40 + 3), plain.threshold)
    assert (differences > TOLERANCE).mean() < 0.1
    assert np.median(differences) < 1e-6
    assert (ours > 0).sum() > 2 * N
    assert np.array_equal(ours, generator.sample(conditions, seed=2**40 + 3, batch_size=7))
    with ThreadPoolExecutor(3) as pool:
        for again in pool.map(lambda _: generator.sample(conditions, seed=2**40 + 3), range(3)):
            assert np.array_equal(ours, again)
    generator.run_as(CPP.model_copy(update={"threads": 3}), odd)
    assert np.array_equal(ours, generator.sample(conditions, seed=2**40 + 3))
    assert not np.array_equal(ours, generator.sample(conditions, seed=4))


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_a_batch_may_hold_showers_of_several_seeds(odd: Path) -> None:
    generator = load_bundle(odd)
    draw = ENGINES.get("cpp")(CPP, generator.network, generator.condition_names, odd)
    columns = condition_columns(spread_over(ALL, 9), generator.condition_names)
    streams = [NoiseStream(seed, generator.network.noise_features) for seed in (1, 2**64 - 1)]
    parts = [streams[0].take(4), streams[1].take(5)]
    together = draw(columns, Noise.joined(parts))
    assert np.array_equal(together, np.concatenate([draw(columns[:4], parts[0]), draw(columns[4:], parts[1])]))


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_energies_that_float32_moves_over_the_edge_are_drawn(odd: Path) -> None:
    generator = load_bundle(odd)
    generator.run_as(CPP, odd)
    low, high = generator.energy_range
    edge = spread_over(ALL, 2)
    edges = Conditions(np.array([low * 0.95, high * 1.05]), theta=edge.theta, phi=edge.phi, particle=edge.particle)
    assert np.isfinite(generator.sample(edges, seed=1)).all()


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_a_library_that_draws_other_showers_is_refused(odd: Path, tmp_path: Path) -> None:
    other = _changed(odd, tmp_path / "other", lambda name, value: value + (name == "totals.energy_trend.mean"))
    with pytest.raises(EngineUnavailable, match="of 8 showers differ from PyTorch's"):
        load_bundle(odd).run_as(CPP, other)


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_showers_that_are_not_finite_are_nan(odd: Path, tmp_path: Path) -> None:
    huge = _changed(odd, tmp_path / "huge", lambda name, value: value + 100 * (name == "totals.energy_trend.mean"))
    particles = np.array([[100.0, 0.5, 3.0, 11.0]] * 3)
    assert np.isnan(cpp._Sampler(huge, 1).draw(particles, NoiseStream(0, 9).take(3))).all()
    assert np.isfinite(cpp._Sampler(odd, 1).draw(particles, NoiseStream(0, 9).take(3))).all()
    with pytest.raises(InputError, match="particle is 12, which the generator was not trained on"):
        cpp._Sampler(odd, 1).draw(particles + np.array([0, 0, 0, 1]), NoiseStream(0, 9).take(3))


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_cells_of_any_shape_are_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "cells"
    bundle.mkdir()
    write_bundle(bundle, unlike_cells(), ENERGY)
    with pytest.raises(EngineUnavailable, match=r"C\+\+: .*cells of any shape \(geometry\.csv\) are not here"):
        load_bundle(bundle).run_as(CPP, bundle)


def test_other_families_are_refused_before_anything_is_built(tiny_bundle: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"C\+\+: the C\+\+ sampler has no vae; it has: tree"):
        load_bundle(tiny_bundle).run_as(CPP, tiny_bundle)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Another user's empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    return monkeypatch


def test_without_a_compiler_it_is_said_what_to_install(build: pytest.MonkeyPatch, odd: Path, tmp_path: Path) -> None:
    build.setattr(cpp_library, "library", cpp_library.library.__wrapped__)
    build.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match=r"there is no C\+\+ compiler .*apt-get install g\+\+"):
        cpp_library.library()


@pytest.mark.slow
@pytest.mark.usefixtures("built")
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_what_was_built_into_the_package_needs_neither_compiler_nor_cache(
    build: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = tmp_path / "cpp"
    sources.mkdir()
    (sources / "caloforge.hpp").touch()
    (sources / "c_interface.cpp").write_text(
        'extern "C" const char* caloforge_digest() { return CALOFORGE_DIGEST; }\n', encoding="utf-8"
    )
    build.setattr(cpp_library, "_SOURCES", sources)
    assert cpp_library.build_beside_sources().parent == sources
    build.setenv("PATH", str(tmp_path))
    assert Path(cpp_library.library.__wrapped__()._name).parent == sources
    assert not (tmp_path / "cache").exists()


def test_a_compiler_that_fails_is_quoted(build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build.setenv(
        "CXX", _script(tmp_path / "cxx", "echo 'x.hpp:1: fatal error: nlohmann/json.hpp: No such file' >&2; exit 1")
    )
    with pytest.raises(EngineUnavailable, match=r"cxx cannot build .*nlohmann-json3-dev.*: x\.hpp:1: fatal error"):
        cpp_library.library.__wrapped__()
    build.setenv("CXX", str(tmp_path / "none"))
    with pytest.raises(EngineUnavailable, match="cannot be built"):
        cpp_library.library.__wrapped__()


def test_what_is_no_library_of_these_sources_is_not_used(build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build.setenv("CXX", _script(tmp_path / "cxx", 'while [ "$1" != -o ]; do shift; done; echo junk > "$2"'))
    with pytest.raises(EngineUnavailable, match="cannot be loaded"):
        cpp_library.library.__wrapped__()
    [cached] = (tmp_path / "cache" / "caloforge").iterdir()
    assert cached.name == cpp_library._name(cpp_library._digest())
    assert cpp_library._opened(cached, cpp_library._digest()) is None


def test_a_folder_that_others_write_in_is_no_cache(build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cpp_library._folder() == tmp_path / "cache" / "caloforge"
    (tmp_path / "cache" / "caloforge").chmod(0o777)
    assert cpp_library._folder() is None
    (tmp_path / "cache" / "caloforge").rmdir()
    (tmp_path / "cache" / "caloforge").write_text("a file")
    assert cpp_library._folder() is None


def _changed(bundle: Path, folder: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    """Copy a bundle with other weights."""
    shutil.copytree(bundle, folder)
    weights = load_file(folder / "weights.safetensors")
    save_file({name: change(name, value) for name, value in weights.items()}, folder / "weights.safetensors")
    seal_bundle(folder, {key: value for key, value in read_json(folder / "config.json").items() if key != "files"})
    return folder


def _script(path: Path, content: str) -> str:
    path.write_text(f"#!{shutil.which('sh')}\n{content}\n", encoding="utf-8")
    path.chmod(0o755)
    assert os.access(path, os.X_OK)
    return str(path)
