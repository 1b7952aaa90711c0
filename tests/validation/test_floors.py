"""The floors of real showers are what the number of showers makes expect, and samples at the edge do no harm."""

import numpy as np
import pytest

from caloforge.showers import open_showers
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.metrics.separation import separation_power
from caloforge.validation.observables.histogram import bin_edges, histogram
from caloforge.validation.observables.summary import summarise
from caloforge.validation.registries import OBSERVABLES, SAMPLE_METRICS
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["response", "centre_r", "longitudinal_first_moment"])
@pytest.mark.parametrize("n", [400, 1600])
def test_separation_floors_of_real_showers_are_occupied_bins_over_twice_n(name, n, demo_showers):
    demo = open_showers(demo_showers)
    observable = OBSERVABLES.get(name)
    columns = observable.columns(summarise(demo))
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(12):
        order = rng.permutation(len(demo))
        x, y = columns[order[:n]], columns[order[n : 2 * n]]
        edges = [bin_edges(x[:, i], log=observable.log) for i in range(x.shape[1])]
        occupied = np.mean([(histogram(columns[:, i], e) > 0).sum() - 1 for i, e in enumerate(edges)])
        ratios.append(separation_power(x, y, log=observable.log).value / (occupied / (2 * n)))
    # Some 50 bins: each ratio scatters by 20 %, their mean by 6 %; bins of few showers stay below 1.
    assert 0.7 < np.mean(ratios) < 1.15


def test_floors_of_whole_samples_fall_with_their_number(demo_showers):
    demo = open_showers(demo_showers)

    def floors(n):
        pair = [demo.select(range(i * n, (i + 1) * n)) for i in range(2)]
        x, y = (Sample(s, summarise(s)) for s in pair)
        found = {}
        for metric in SAMPLE_METRICS.values():
            found |= metric.function(x, y, 0)
        return {name: result for name, result in found.items() if name in wanted}

    wanted = ("prd_auc_features", "prd_auc_voxels")
    few, many = floors(100), floors(800)
    for name in wanted:
        assert few[name].value < many[name].value < 1
        assert (few[name].n, many[name].n) == (100, 800)
        assert few[name].error > many[name].error > 0


def test_samples_of_unlike_layers_and_empty_showers_have_all_metrics(irregular_mesh, toy_showers, write):
    energy, voxels = toy_showers(irregular_mesh, 120, 1)
    voxels[:5] = 0
    showers = write("showers", irregular_mesh, energy, voxels)
    nothing = write("nothing", irregular_mesh, energy, np.zeros_like(voxels))
    for generated in (showers, nothing):
        x, y = (Sample(s, summarise(s)) for s in (showers, generated))
        for metric in SAMPLE_METRICS.values():
            for name, result in metric.function(x, y, 0).items():
                assert np.isfinite([result.value, result.error]).all(), name
                assert name in metric.labels or name.startswith("prd_f")


def test_a_generator_of_nothing_is_judged_and_told_apart(mesh, toy_showers, write, tmp_path, monkeypatch):
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
    energy, voxels = toy_showers(mesh, 200, 1)
    reference = write("reference", mesh, energy, voxels)
    nothing = write("nothing", mesh, energy, np.zeros_like(voxels))
    metrics = validate(reference, {"nothing": nothing}, tmp_path / "out", training=write("more", mesh, energy, voxels))
    found = metrics.verdict
    assert not found.indistinguishable
    assert "response in bins of incident energy" in " ".join(found.distinguishable_by)
    for name in ("reference", "second sample"):
        assert any(f"100 % of the {name}'s showers are in the training" in text for text in metrics.warnings)
