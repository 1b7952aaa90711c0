"""Two samples of real Geant4 showers are the same; each planted defect is named."""

import numpy as np
import pytest

from caloforge.showers import open_showers, write_showers
from caloforge.validation.result import Result, Roc
from caloforge.validation.validate import validate
from caloforge.validation.verdict import RULE, verdict

N = 600


def nothing(voxels, geometry, energy):
    return voxels


def scale_a_layer(voxels, geometry, energy):
    voxels[:, geometry.layer_slices[4]] *= 1.1
    return voxels


def swap_two_layers(voxels, geometry, energy):
    layers = voxels.reshape(len(voxels), geometry.n_layers, -1)
    layers[:, [4, 6]] = layers[:, [6, 4]]
    return layers.reshape(voxels.shape)


def drop_faint_voxels(voxels, geometry, energy):
    voxels[voxels < np.quantile(voxels[voxels > 0], 0.1)] = 0
    return voxels


def repeat_showers(voxels, geometry, energy):
    """Every fourth shower, four times, scaled to the energy of its place."""
    source = np.arange(len(voxels)) // 4 * 4
    return voxels[source] * (energy / energy[source])[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def judged(demo_showers, tmp_path_factory):
    """A third sample of Geant4 against two others, as it is and with each defect: metrics and report."""
    folder = tmp_path_factory.mktemp("verdict")
    demo = open_showers(demo_showers)
    samples = [demo.select(range(i * N, (i + 1) * N)) for i in range(3)]
    generated = {}
    for defect in (nothing, scale_a_layer, swap_two_layers, drop_faint_voxels, repeat_showers):
        path = folder / f"{defect.__name__}.hdf5"
        conditions = samples[2].conditions
        with write_showers(path, demo.geometry, attributes={}, provenance={}) as file:
            file.append(conditions, defect(samples[2].read(), demo.geometry, conditions.incident_energy))
        generated[defect.__name__] = open_showers(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.validation.validate.write_plots", lambda *_: [])  # seconds saved
        patch.setattr("caloforge.validation.physics.N_BOOTSTRAPS", 30)
        # The classifier sees all of these defects; without it they must be seen all the same.
        blind = Result(0.5, 0.02, n=N, roc=Roc((0, 1), (0, 1), (1, 0)))
        patch.setattr("caloforge.validation.metrics.classifier_auc", lambda *_, **__: blind)
        metrics = validate(samples[0], generated, folder / "out", floor=samples[1])
    return metrics, (folder / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("defect", "named"),
    [
        (scale_a_layer, "energies of the layers at given incident energy, layer 4"),
        (swap_two_layers, "layer 4"),
        (drop_faint_voxels, "voxel energy"),
        (repeat_showers, "showers that repeat another"),
    ],
)
def test_a_defect_of_real_showers_is_named(defect, named, judged):
    found = judged[0]["generators"][defect.__name__]["verdict"]
    assert not found["indistinguishable"]
    assert found["sigma"] > 3
    assert any(named in title for title in found["distinguishable_by"]), found
    assert found["sentence"].startswith(f"{defect.__name__} is distinguishable from Geant4 by ")


def test_two_samples_of_geant4_are_the_same(judged):
    metrics, report = judged
    found = metrics["verdict"]
    assert found["generator"] == "nothing"
    assert found["indistinguishable"] is True
    assert found["sigma"] < 3
    assert found["distinguishable_by"] == []
    assert f"nothing, is indistinguishable from Geant4 with {N} showers" in found["sentence"]
    assert found["rule"] == RULE
    assert found["sentence"].split(":")[0] in report


def entry(sigma):
    return {"sigma": sigma}


def test_the_correction_counts_the_tests():
    quiet = {name: entry(0.0) for name in ("auc", "fpd")}
    metrics = {
        "n": 100,
        "physics": {"r90": {"title": "Radius, inner", "tested": True, "generators": {"g": entry(3.2)}},
                    "b": {"title": "Noise", "tested": False, "generators": {"g": entry(30.0)}}},
        "in_bins": {},
        "generators": {"g": {**quiet, "separation": {}, "wasserstein": {}}},
    }  # fmt: skip
    few = verdict(metrics, "g")
    # 1 - (1 - p)^3 with p = 0.00069 is 0.0021, 2.87 standard deviations.
    assert few["sigma"] == pytest.approx(2.87, abs=0.01)
    assert few["tests"] == 3
    assert few["indistinguishable"]
    assert few["worst"] == "radius"
    metrics["physics"]["r90"]["generators"]["g"] = entry(4.0)
    assert verdict(metrics, "g")["distinguishable_by"] == ["radius"]
    metrics["generators"]["g"]["auc"] = entry(20.0)
    assert verdict(metrics, "g")["worst"] == "radius"
    metrics["physics"]["r90"]["generators"]["g"] = entry(0.0)
    assert verdict(metrics, "g")["worst"] == "Classifier AUC"
