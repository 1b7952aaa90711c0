"""A trained generator with another sampler than its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.bundle import load_bundle
from caloforge.models.export import export, run_onnx
from caloforge.showers import Conditions, open_showers

pytestmark = pytest.mark.slow

ENERGIES = Conditions(np.geomspace(2000.0, 90000.0, 12))


@pytest.mark.parametrize("sampler", [{"name": "ddpm", "steps": 4}, {"name": "restart", "steps": 5, "restarts": 2}])
def test_fresh_noise_is_that_of_the_seed_and_the_shower(sampler: dict, family_bundles: dict[str, Path]) -> None:
    generator = load_bundle(family_bundles["diffusion"], sampler=sampler)
    showers = generator.sample(ENERGIES, seed=5)
    in_pieces = generator.sample(ENERGIES, seed=5, batch_size=5)
    # Matrix products of other sizes round differently.
    assert (np.abs(in_pieces - showers).sum(1) / showers.sum(1)).max() < 1e-4
    assert np.array_equal(generator.sample(ENERGIES, seed=5), showers)
    assert not np.allclose(load_bundle(family_bundles["diffusion"]).sample(ENERGIES, seed=5), showers)
    assert generator.network.noise_for(9) > generator.network.noise_for(1)


def test_the_graph_has_it_and_asks_for_its_noise(family_bundles: dict[str, Path], tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    figures = export(family_bundles["diffusion"], exported, sampler={"name": "ddpm"}, steps=3)
    assert figures["max_difference"] < 1e-4
    generator = load_bundle(exported)
    assert generator.config["settings"]["sampler"]["name"] == "ddpm"
    assert '"name": "ddpm"' in (exported / "README.md").read_text()
    n_voxels, n_layers = generator.geometry.n_voxels, generator.geometry.n_layers
    assert read_json(exported / "onnx.json")["inputs"]["noise"] == ["N", 3 * n_layers + 3 * n_voxels]
    ours = generator.sample(ENERGIES, seed=2, steps=3)
    assert (np.abs(ours - run_onnx(exported, ENERGIES, seed=2, threads=1)).max(1) / ours.sum(1)).max() < 1e-4


def test_what_does_not_fit_is_one_line(family_bundles: dict[str, Path]) -> None:
    with pytest.raises(
        InputError, match=r"sampler 'heun' takes a velocity, but .*trains a denoiser; choose ddim or ddpm"
    ):
        load_bundle(family_bundles["diffusion"], sampler={"name": "heun"})
    with pytest.raises(InputError, match=r"unknown key 'sampler.etha'; did you mean 'sampler.eta'"):
        load_bundle(family_bundles["diffusion"], sampler={"name": "ddim", "etha": 1})
    with pytest.raises(InputError, match=r"diffusion of .*: sampler: unknown sampler 'dim'; did you mean 'ddim'"):
        load_bundle(family_bundles["diffusion"], sampler={"name": "dim"})
    with pytest.raises(InputError, match="family 'tree' draws its showers itself and takes no sampler"):
        load_bundle(family_bundles["tree"], sampler={"name": "ddim"})


@pytest.mark.parametrize(("words", "name"), [("dpm_solver", "dpm_solver"), ("{name: ddim, eta: 0.5}", "ddim")])
def test_generate_takes_it(words: str, name: str, family_bundles: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "showers.hdf5"
    command = ["generate", "--bundle", str(family_bundles["diffusion"]), "--energy", "20000", "--n", "3"]
    result = CliRunner().invoke(main, [*command, "--sampler", words, "--steps", "2", "-o", str(output)])
    assert result.exit_code == 0, result.output
    attributes = open_showers(output).attributes
    assert attributes["sampler"] == name
    assert attributes["sampler_steps"] == 2
