"""Two samples of real Geant4 showers are the same; each planted defect is named."""

import numpy as np
import pytest
from rows import row

from caloforge.showers import open_showers, write_showers
from caloforge.validation.metrics.metric import FeatureMetric
from caloforge.validation.metrics.result import Result, Roc
from caloforge.validation.registries import FEATURE_METRICS, SAMPLE_METRICS
from caloforge.validation.report.verdict import RULE, verdict
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow

N = 1600


def nothing(voxels, geometry, energy):
    return voxels


def turn_all_alike(voxels, geometry, energy):
    """No defect: showers along the axis look the same from all sides."""
    return voxels[:, geometry.rotation(3)]


def scale_a_layer(voxels, geometry, energy):
    voxels[:, geometry.layer_slices[4]] *= 1.03
    return voxels


def swap_two_layers(voxels, geometry, energy):
    layers = voxels.reshape(len(voxels), geometry.n_layers, -1)
    layers[:, [4, 6]] = layers[:, [6, 4]]
    return layers.reshape(voxels.shape)


def zero_a_layer(voxels, geometry, energy):
    voxels[:, geometry.layer_slices[7]] = 0
    return voxels


def turn_to_one_side(voxels, geometry, energy):
    """Turn each shower so that the hottest half lies where phi is positive."""
    halves = [(voxels * half).sum(axis=1) for half in (geometry.alpha_of_voxel > 0, geometry.alpha_of_voxel < 0)]
    below = halves[0] < halves[1]
    voxels[below] = voxels[below][:, geometry.rotation(geometry.active_layers[0].n_alpha // 2)]
    return voxels


def drop_faint_voxels(voxels, geometry, energy):
    voxels[voxels < np.quantile(voxels[voxels > 0], 0.1)] = 0
    return voxels


def freeze_the_energy(voxels, geometry, energy):
    return voxels * (np.median(energy) / energy)[:, None].astype(np.float32)


def repeat_showers(voxels, geometry, energy):
    """Every fourth shower, four times, scaled to the energy of its place."""
    source = np.arange(len(voxels)) // 4 * 4
    return voxels[source] * (energy / energy[source])[:, None].astype(np.float32)


def turn_layers_apart(voxels, geometry, energy):
    """Turn each layer of each shower by itself: all layers are right, but they know nothing of each other."""
    rng = np.random.default_rng(0)
    for layer, place in zip(geometry.active_layers, geometry.layer_slices, strict=True):
        cells = voxels[:, place].reshape(-1, layer.n_alpha, layer.n_r)
        turned = (np.arange(layer.n_alpha) + rng.integers(layer.n_alpha, size=(len(cells), 1))) % layer.n_alpha
        voxels[:, place] = np.take_along_axis(cells, turned[:, :, None], axis=1).reshape(len(cells), -1)
    return voxels


NAMED = {
    turn_layers_apart: "hottest sector kept from the layer before",
    scale_a_layer: "energies of the layers at given incident energy, layer 4",
    swap_two_layers: "layer 4",
    zero_a_layer: "fraction of empty layers",
    turn_to_one_side: "centre of energy in phi",
    drop_faint_voxels: "voxel energy",
    freeze_the_energy: "response in bins of incident energy",
    repeat_showers: "showers that repeat another",
}


@pytest.fixture(scope="module")
def judged(demo_showers, tmp_path_factory):
    """A third sample of Geant4 against two others, as it is and with each defect: metrics and report.

    One more generator repeats what it was trained on.
    """
    folder = tmp_path_factory.mktemp("verdict")
    demo = open_showers(demo_showers)
    samples = [demo.select(range(i * N, (i + 1) * N)) for i in range(4)]
    generated = {"copy_training": samples[3]}
    for defect in (nothing, turn_all_alike, *NAMED):
        path = folder / f"{defect.__name__}.hdf5"
        conditions = samples[2].conditions
        with write_showers(path, demo.geometry, attributes={}, provenance={}) as file:
            file.append(conditions, defect(samples[2].read(), demo.geometry, conditions.incident_energy))
        generated[defect.__name__] = open_showers(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
        patch.setattr("caloforge.validation.figures.physics.N_BOOTSTRAPS", 30)
        # A classifier and distances between whole samples see some of these defects; without them they must be seen
        # all the same, and by name.
        blind = Result(0.5, 0.02, n=N, roc=Roc((0, 1), (0, 1), (1, 0)))
        blinded = {name: FeatureMetric(name, lambda *_: blind) for name in ("auc", "fpd")}
        for registry, left in ((FEATURE_METRICS, blinded), (SAMPLE_METRICS, {})):
            patch.setattr(registry, "_own", {})
            patch.setattr(registry, "_registered", left)
        metrics = validate(samples[0], generated, folder / "out", floor=samples[1], training=samples[3])
    return metrics, (folder / "out" / "report.html").read_text()


@pytest.mark.parametrize(("defect", "named"), [(defect.__name__, named) for defect, named in NAMED.items()])
def test_a_defect_of_real_showers_is_named(defect, named, judged):
    found = judged[0].generators[defect].verdict
    assert not found.indistinguishable
    assert found.sigma > 3
    assert any(named in title for title in found.distinguishable_by), found
    assert found.sentence.startswith(f"{defect} is distinguishable from Geant4 by ")


def test_showers_of_the_training_sample_are_told_from_new_ones(judged):
    found = judged[0].generators["copy_training"].verdict
    assert found.distinguishable_by == ("showers nearer to the training sample than held-out ones",)


def test_turning_all_showers_alike_is_no_defect(judged):
    assert judged[0].generators["turn_all_alike"].verdict.indistinguishable


def test_two_samples_of_geant4_are_the_same(judged):
    metrics, report = judged
    found = metrics.verdict
    assert found.generator in ("nothing", "copy_training", "turn_all_alike")
    found = metrics.generators["nothing"].verdict
    assert found.indistinguishable is True
    assert found.sigma < 3
    assert found.distinguishable_by == ()
    assert f"nothing is indistinguishable from Geant4 with {N} showers" in found.sentence
    assert metrics.verdict.rule == RULE
    assert metrics.verdict.sentence.split(":")[0] in report


def test_the_correction_counts_the_tests():
    def judge(radius, auc=0.0):
        rows = [
            row("g", "auc", title="Classifier AUC", phrase="Classifier AUC", sigma=auc, explains=False),
            row("g", "fpd", title="FPD", phrase="FPD", explains=False),
            row("g", "r90", kind="physics", title="Radius, inner", phrase="radius", sigma=radius),
            row("g", "b", kind="physics", title="Noise", phrase="noise", sigma=30.0, tested=False),
        ]
        return verdict("g", rows, 100)

    few = judge(3.2)
    # 1 - (1 - p)^3 with p = 0.00069 is 0.0021, 2.87 standard deviations.
    assert few.sigma == pytest.approx(2.87, abs=0.01)
    assert few.tests == 3
    assert few.indistinguishable
    assert few.worst == "radius"
    assert judge(4.0).distinguishable_by == ("radius",)
    assert judge(4.0, auc=20.0).worst == "radius"
    assert judge(0.0, auc=20.0).worst == "Classifier AUC"
