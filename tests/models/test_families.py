"""The contract of a generator, checked on every family: a new one is tested on arrival."""

from __future__ import annotations

import gc
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_showers import MESH, incident_energies, known_showers
from small_families import VOXEL_FAMILIES, quick

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Geometry, Layer
from caloforge.models.batch import Batch
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.export import SEEDED_FILE, export, run_onnx
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES, NETWORKS, PRESETS
from caloforge.models.training import fabric
from caloforge.models.training.train import train
from caloforge.models.voxel_family import VoxelModel
from caloforge.preprocessing.prepare import prepare
from caloforge.showers import Conditions, open_showers, write_showers

pytestmark = pytest.mark.slow

ALL = sorted(FAMILIES)
SMALL = CylindricalGeometry(
    "small", (Layer(0, (0.0, 1.0, 2.0), 1), Layer(1, (0.0,), 1), Layer(2, (0.0, 1.0, 3.0, 9.0), 4))
)
ENERGIES = Conditions(np.geomspace(2000.0, 90000.0, 40))


def fitting(name: str) -> list[str]:
    """Return the backbones that a family can be built of."""
    return [key for key in NETWORKS if FAMILIES.get(name).architecture.needs in NETWORKS.get(key).kinds]


PAIRS = [(name, backbone) for name in VOXEL_FAMILIES for backbone in fitting(name)]


def build(name: str, backbone: str, geometry: Geometry = SMALL, **overrides: Any) -> VoxelModel:
    size = {"width": 16, "blocks": 1} | ({"heads": 2} if backbone in ("layers", "patches") else {})
    config = resolve(name, "demo", {"model": {"network": {"backbone": backbone, **size}}, **overrides})
    torch.manual_seed(0)
    return VoxelModel(FAMILIES.get(name).architecture(geometry, 7, config.model), config)


def coded_batch(n: int) -> Batch:
    batch = Batch(
        SMALL,
        0.1,
        raw_conditions=torch.ones(n, 1),
        layer_energy=torch.ones(n, 2),
        layer_hits=torch.ones(n, 2),
        voxels=lambda: torch.empty(0),
    )
    x = torch.randn(n, SMALL.n_voxels)
    return batch.seen_as(torch.randn(n, 7), lambda _: x)


@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_loss_is_finite_and_gradients_reach_every_parameter(name: str, backbone: str) -> None:
    model = build(name, backbone)
    batch = coded_batch(8)
    reached = set()
    for part in dict.fromkeys(model.parts):
        model.zero_grad()
        loss = model(part, batch, Draws(torch.Generator().manual_seed(1)))
        assert loss.ndim == 0
        loss.backward()
        own = {id(p) for p in model.parameters_of(part)}
        reached |= {n for n, p in model.named_parameters() if id(p) in own and p.grad is not None}
    assert reached == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_decoding_is_a_function_of_the_noise(name: str, backbone: str) -> None:
    model = build(name, backbone).eval()
    condition = torch.randn(5, 7)
    noise = torch.randn(5, model.noise_for(2))
    with torch.no_grad():
        first, again = (model.decode(noise, condition, 2) for _ in range(2))
        other = model.decode(noise + 0.5, condition, 2)
    assert first.shape == (5, SMALL.n_voxels)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("name", ALL)
def test_families_that_need_more_than_a_laptop_say_so(name: str) -> None:
    note = FAMILIES.get(name).note
    assert bool(re.search(r"about \d GPU-hours? .*; published: ", note)) == (name != "tree")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ALL)
def test_every_preset_resolves(name: str, preset: str) -> None:
    assert resolve(name, preset).family == name


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_showers_whatever_the_batches(name: str, family_bundles: dict[str, Path]) -> None:
    generator = load_bundle(family_bundles[name])
    showers = generator.sample(ENERGIES, seed=5)
    assert showers.shape == (40, 480)
    assert showers.dtype == np.float32
    energy = showers.sum(1, keepdims=True)
    in_pieces = generator.sample(ENERGIES, seed=5, batch_size=7)
    first_rows = generator.sample(ENERGIES.take(slice(0, 9)), seed=5)
    # Matrix products of other sizes round differently.
    assert (np.abs(in_pieces - showers) / energy).max() < 1e-5
    assert (np.abs(first_rows - showers[:9]) / energy[:9]).max() < 1e-5
    assert np.array_equal(generator.sample(ENERGIES, seed=5), showers)
    assert not np.allclose(generator.sample(ENERGIES, seed=6), showers)


@pytest.mark.parametrize("name", ALL)
def test_seeds_that_are_drawn_together_give_the_showers_that_they_give_alone(
    name: str, family_bundles: dict[str, Path]
) -> None:
    """To the bit where the family says so, with any number of threads; otherwise but for rounding, as in any batch."""
    generator = load_bundle(family_bundles[name])
    sizes = (1, 1, 7, 2, 1)
    asked = [(ENERGIES.take(slice(seed, seed + n)), seed) for seed, n in enumerate(sizes)]
    together = generator.sample_together(asked, steps=None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for (conditions, seed), showers in zip(asked, together, strict=True):
            alone = generator.sample(conditions, seed=seed)
            if generator.exact_rows:
                assert np.array_equal(showers, alone)
            assert (np.abs(showers - alone) / alone.sum(1, keepdims=True)).max() < 1e-5
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ALL)
def test_showers_are_physical(name: str, family_bundles: dict[str, Path]) -> None:
    generator = load_bundle(family_bundles[name])
    showers = generator.sample(ENERGIES, seed=1)
    assert np.isfinite(showers).all()
    assert (showers >= 0).all()
    hits = showers[showers > 0]
    assert hits.min() >= generator.threshold * (1 - 1e-5)
    assert (showers.sum(1) > 0).all()


@pytest.mark.parametrize("name", ALL)
def test_sampling_leaves_no_circles_in_memory(name: str, family_bundles: dict[str, Path]) -> None:
    """Python looks for them seldom, and a server would hold the numbers of many batches until then."""
    generator = load_bundle(family_bundles[name])
    generator.sample(ENERGIES, seed=1)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        generator.sample(ENERGIES, seed=1)
        gc.collect()
        kept = [item for item in gc.garbage if isinstance(item, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not kept


@pytest.mark.parametrize("name", ALL)
def test_onnx_agrees_with_pytorch(name: str, family_bundles: dict[str, Path], tmp_path: Path) -> None:
    """The graph that is given the noise; export itself compares it, and the one with random numbers inside."""
    exported = tmp_path / "exported"
    figures = export(family_bundles[name], exported, seeded=True)
    assert figures["max_difference"] < 1e-4
    assert (exported / SEEDED_FILE).is_file()
    generator = load_bundle(exported)
    ours, theirs = generator.sample(ENERGIES, seed=2), run_onnx(exported, ENERGIES, seed=2, threads=1)
    assert (np.abs(ours - theirs).max(1) / ours.sum(1)).max() < 1e-4
    one = ENERGIES.take(slice(0, 1))
    assert run_onnx(exported, one, seed=2, threads=1).shape == (1, 480)


@pytest.mark.parametrize("name", ["diffusion", "flow_matching"])
def test_steps_can_be_chosen_at_sampling(name: str, family_bundles: dict[str, Path]) -> None:
    generator = load_bundle(family_bundles[name])
    assert generator.default_steps == 3
    few, many = (generator.sample(ENERGIES, seed=1, steps=steps) for steps in (1, 6))
    assert not np.allclose(few, many)
    with pytest.raises(InputError, match=r"steps must be at least 1"):
        generator.sample(ENERGIES, seed=1, steps=0)


def test_energies_outside_the_trained_range(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load_bundle(tiny_bundle)
    far = Conditions(np.array([5000.0, 5e6]))
    with pytest.raises(InputError, match=r"row 1 is 5e\+06 MeV, outside the trained range"):
        generator.sample(far, seed=0)
    monkeypatch.setattr(generator, "extrapolation", "warn")
    with caplog.at_level(logging.WARNING):
        assert len(generator.sample(far, seed=0)) == 2
    assert "outside the trained range" in caplog.text


@pytest.mark.parametrize("name", ALL)
def test_it_learns_what_it_does_with_float32_where_there_is_bfloat16(
    name: str, small_showers: Path, small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for bfloat16 in (True, False):
        monkeypatch.setattr(fabric, "has_bfloat16", lambda answer=bfloat16: answer)
        output = tmp_path / str(bfloat16)
        found[bfloat16] = train(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=output, family=name, overrides=quick(name)
            )
        )
    for figure in found[False]:
        if figure.endswith("loss"):
            assert found[True][figure] == pytest.approx(found[False][figure], rel=0.05, abs=0.05), figure


def test_conditions_that_do_not_fit(tiny_bundle: Path) -> None:
    generator = load_bundle(tiny_bundle)
    with pytest.raises(InputError, match=r"no showers were asked for"):
        generator.sample(Conditions(np.array([])), seed=0)
    with pytest.raises(InputError, match=r"row 1 is not finite"):
        generator.sample(Conditions(np.array([5000.0, np.nan])), seed=0)


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown family 'vea'; did you mean 'vae'"):
        resolve("vea", "demo")
    with pytest.raises(InputError, match=r"unknown preset 'dmo'; did you mean 'demo'"):
        resolve("vae", "dmo")
    with pytest.raises(InputError, match=r"unknown key 'training.batch_sise'; did you mean 'training.batch_size'"):
        resolve("vae", "demo", {"training": {"batch_sise": 3}})
    with pytest.raises(InputError, match=r"unknown override 'trainign'; did you mean 'training'"):
        resolve("vae", "demo", {"trainign": {}})
    with pytest.raises(InputError, match=r"unknown key 'model.network.widht'; did you mean 'model.network.width'"):
        resolve("vae", "demo", {"model": {"network": {"widht": 3}}})


def test_a_sample_of_the_same_spectrum_ends_at_slightly_other_energies(tiny_bundle: Path) -> None:
    generator = load_bundle(tiny_bundle)
    low, high = generator.energy_range
    assert len(generator.sample(Conditions(np.array([0.97 * low, 1.03 * high])), seed=0)) == 2
    with pytest.raises(InputError, match="outside the trained range"):
        generator.sample(Conditions(np.array([0.9 * low])), seed=0)


def test_the_tree_of_a_sample_without_zeros_draws_none(tmp_path: Path) -> None:
    """Nothing cut the noise, or every voxel is hit: hits say nothing, and what is left is a cascade of energies."""
    file, energy = tmp_path / "full.hdf5", incident_energies(300, np.random.default_rng(0))
    with write_showers(file, MESH, attributes={"energy_threshold": 1e-3}, provenance={}) as writer:
        writer.append(Conditions(energy), 5 + known_showers(energy, np.random.default_rng(0)))
    prepare(open_showers(file), tmp_path / "prepared")
    request = TrainingRequest(
        showers=file, prepared=tmp_path / "prepared", output=tmp_path / "bundle", family="tree", overrides=quick("tree")
    )
    train(request)
    showers = load_bundle(request.output).sample(Conditions(energy), seed=0)
    assert np.isfinite(showers).all()
    assert (showers > 0).all()
