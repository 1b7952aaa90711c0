"""Each planted defect is seen by the observable that should see it, and by no unrelated one."""

import numpy as np
import pytest

from caloforge.validation.metrics.compare import compare
from caloforge.validation.metrics.headlines import headline_labels
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.summary import summarise, summarise_voxels
from caloforge.validation.registries import DISTRIBUTION_METRICS, OBSERVABLES
from caloforge.validation.significance import worst_of

pytestmark = pytest.mark.slow

N = 1500


def scale_a_layer(geometry, energy, voxels):
    voxels[:, geometry.layer_slices[2]] *= 1.3


def swap_two_layers(geometry, energy, voxels):
    voxels[:] = voxels.reshape(len(voxels), 6, -1)[:, [0, 4, 2, 3, 1, 5]].reshape(voxels.shape)


def shift_in_phi(geometry, energy, voxels):
    voxels[:, geometry.alpha_of_voxel > 0] *= 1.3


def drop_faint_voxels(geometry, energy, voxels):
    voxels[voxels < np.quantile(voxels[voxels > 0], 0.1)] = 0


def freeze_the_energy(geometry, energy, voxels):
    voxels *= (3000 / energy)[:, None].astype(np.float32)


def spread_out(geometry, energy, voxels):
    voxels[:, geometry.r_of_voxel > 10] *= 1.5


@pytest.mark.parametrize(
    ("defect", "sees", "blind"),
    [
        (scale_a_layer, "layer_energy", "centre_phi"),
        (swap_two_layers, "longitudinal_first_moment", "lateral_first_moment"),
        (shift_in_phi, "centre_phi", "centre_eta"),
        (drop_faint_voxels, "number_of_voxels", "response"),
        (drop_faint_voxels, "sparsity", "response"),
        (freeze_the_energy, "response", "sparsity"),
        (spread_out, "width_r", "sparsity"),
        (spread_out, "lateral_second_moment", "number_of_voxels"),
    ],
)
@pytest.mark.parametrize("metric", sorted(DISTRIBUTION_METRICS))
def test_a_planted_defect_is_seen(defect, sees, blind, metric, mesh, toy_showers):
    energy, voxels = toy_showers(mesh, 2 * N, seed=7)
    defective = voxels[N:].copy()
    defect(mesh, energy[N:], defective)
    reference = summarise_voxels([voxels[:N]], energy[:N], mesh)
    same = summarise_voxels([voxels[N:]], energy[N:], mesh)
    broken = summarise_voxels([defective], energy[N:], mesh)

    def result(name, summary):
        observable = OBSERVABLES.get(name)
        return DISTRIBUTION_METRICS.get(metric).function(
            observable, observable.columns(reference), observable.columns(summary)
        )

    assert result(sees, broken).sigma_from(result(sees, same)) > 3
    assert result(blind, broken).sigma_from(result(blind, same)) < 2


def test_the_voxel_spectrum_sees_scaled_voxels(mesh, toy_showers):
    energy, voxels = toy_showers(mesh, 2 * N, seed=8)
    reference, same, broken = (
        summarise_voxels([x], energy[:N], mesh).spectrum for x in (voxels[:N], voxels[N:], 1.5 * voxels[N:])
    )
    for metric in DISTRIBUTION_METRICS.values():
        floor = metric.of_profiles(reference, same, N)
        assert metric.of_profiles(reference, broken, N).sigma_from(floor) > 5


def test_the_same_seed_gives_the_same_figures(mesh, toy_showers, write):
    energy, voxels = toy_showers(mesh, 200, seed=9)
    showers = write("showers", mesh, energy, voxels)
    reference, generated = (
        Sample(part, summarise(part)) for part in (showers.select(range(100)), showers.select(range(100, 200)))
    )
    first = compare(reference, generated, seed=1)
    assert first == compare(reference, generated, seed=1)
    assert first.features != compare(reference, generated, seed=2).features
    unnamed = set(first.headline) - set(headline_labels(first.headline))
    assert all(name.startswith(("prd_f8", "prd_f1_8")) for name in unnamed)


def test_one_bad_layer_is_not_lost_in_the_mean():
    floor = Result(0.01, 0.01, 100, parts=(0.01,) * 40, part_errors=(0.01,) * 40)
    parts = (*floor.parts[:-1], 0.2)
    result = Result(sum(parts) / 40, 0.01, 100, parts=parts, part_errors=floor.part_errors)
    assert 10 < result.sigma_from(floor) < 0.19 / 0.01 / 2**0.5
    assert floor.sigma_from(floor) < 0


def test_the_worst_of_many_lucky_ones_is_not_significant():
    rng = np.random.default_rng(0)
    worst = [worst_of(rng.normal(size=45)) for _ in range(2000)]
    # Normal again: 2.3 % above 2; the error of that fraction is 0.33 %.
    assert np.mean(np.asarray(worst) > 2) == pytest.approx(0.0228, abs=0.013)
    assert np.isfinite([worst_of([1e6, 0.0]), worst_of([-1e6, -1e6])]).all()
