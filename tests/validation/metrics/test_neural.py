"""The neural classifiers where the answer is known."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import nn

from caloforge.showers import open_showers
from caloforge.validation.metrics.challenge_classifiers import classifier_results
from caloforge.validation.metrics.classifier import auc_error
from caloforge.validation.metrics.classifier_inputs import Columns, LowLevel, LowLevelNormalised, high_level
from caloforge.validation.metrics.headlines import CLASSIFIER_LABELS
from caloforge.validation.metrics.neural import MARGIN, calibrated, dense, divergence, judge, operations
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.metrics.training import Training
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.summary import summarise

pytestmark = pytest.mark.slow

SMALL = Training(epochs=8, batch_size=100, learning_rate=2e-3)
CPU = torch.device("cpu")


def verdict(reference, generated, *, training=SMALL, seed=0, hidden=16):
    x, y = Columns(reference), Columns(generated)
    return judge(x, y, partial(dense, x.width, hidden=hidden), name="test", training=training, seed=seed)


def test_shifted_gaussians():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 2)), rng.normal((1.5, 0), 1, size=(2000, 2))
    found = verdict(x, y)
    best = norm.cdf(1.5 / np.sqrt(2))
    # 400 of each kind in the last split: 0.017; three of them, and a little that training leaves.
    assert best - 0.06 < found.auc.value < best + 0.05
    assert found.auc.error == pytest.approx(auc_error(found.auc.value, 400), rel=1e-9)
    # The divergence in closed form is an integral: E[log2(p / m)] over both densities, m their mean.
    grid = np.linspace(-8, 10, 20_001)
    p, q = norm.pdf(grid), norm.pdf(grid, 1.5)
    m = (p + q) / 2
    exact = np.trapezoid((p * np.log2(p / m) + q * np.log2(q / m)) / 2, grid)
    assert found.jsd.value == pytest.approx(exact, abs=4 * found.jsd.error)
    assert found.jsd.error < 0.05
    assert (found.auc.n, found.jsd.n) == (2000, 2000)
    assert np.trapezoid(found.auc.roc.tpr, found.auc.roc.fpr) == pytest.approx(found.auc.value, abs=0.01)


def test_two_halves_of_geant4_are_not_told_apart(demo_showers):
    showers = open_showers(demo_showers)
    halves = [showers.select(range(k, 2400, 2)) for k in (0, 1)]
    inputs = [LowLevel(summarise(half), half.read()) for half in halves]
    network = partial(dense, inputs[0].width, hidden=32)
    found = judge(*inputs, network, name="test", training=Training(epochs=3, batch_size=200), seed=0)
    # 240 of each in the last split: 0.026.
    assert found.auc.value == pytest.approx(0.5, abs=4 * 0.026)
    assert found.auc.error == pytest.approx(0.026, abs=0.002)


def test_the_same_energies_teach_nothing():
    # Row i of both samples is in the same split: a network that knows the energies by heart gains
    # nothing, and loses nothing either.
    energy = np.random.default_rng(3).random((200, 1))
    training = Training(epochs=15, batch_size=20, learning_rate=5e-3)
    found = verdict(energy, energy.copy(), training=training, hidden=64)
    assert found.auc.value == 0.5


def test_a_seed_fixes_everything_and_trainings_differ():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 3)), rng.normal(0.5, 1, size=(300, 3))
    torch.manual_seed(11)
    first = verdict(x, y, seed=5)
    state = torch.random.get_rng_state()
    torch.manual_seed(12)
    assert verdict(x, y, seed=5) == first
    assert verdict(x, y, seed=6).auc.value != first.auc.value
    torch.manual_seed(11)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's random numbers were taken


def test_several_trainings_give_mean_and_spread(monkeypatch):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(300, 1)), rng.normal(1, 1, size=(300, 1))
    areas = []

    def area(labels, scores):
        areas.append(roc_auc_score(labels, scores))
        return areas[-1]

    monkeypatch.setattr("caloforge.validation.metrics.neural.roc_auc_score", area)
    found = verdict(x, y, training=Training(epochs=2, batch_size=60, repeats=3))
    assert len(set(areas)) == 3
    assert found.auc.value == pytest.approx(np.mean(areas))
    assert found.auc.error == pytest.approx(max(np.std(areas, ddof=1), np.mean([auc_error(a, 60) for a in areas])))


def test_the_epoch_of_the_best_accuracy_is_kept():
    class Script(nn.Module):
        """Tells the kinds apart until it has been trained for an epoch, then always says Geant4."""

        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1))
            self.epochs = nn.Buffer(torch.zeros(()))

        def forward(self, x):
            if self.training:
                self.epochs += 1
            wrong = x[:, :1] if self.epochs == 1 else torch.ones_like(x[:, :1])
            return wrong + 0 * self.bias

    x, y = np.full((100, 1), 1.0), np.full((100, 1), -1.0)
    x[:5] = -1.0  # not all, so that training does not stop there
    found = judge(Columns(x), Columns(y), Script, name="test", training=Training(epochs=3, batch_size=200), seed=0)
    assert found.auc.value > 0.9


def plain_isotonic(scores, labels, others):
    """Pool adjacent violators by hand; straight lines between, the ends held."""
    values = [[s, float(np.mean(labels[scores == s])), int((scores == s).sum())] for s in np.unique(scores)]
    blocks = [[value, weight, [s]] for s, value, weight in values]
    i = 0
    while i < len(blocks) - 1:
        if blocks[i][0] > blocks[i + 1][0]:
            (a, na, sa), (b, nb, sb) = blocks[i], blocks[i + 1]
            blocks[i : i + 2] = [[(a * na + b * nb) / (na + nb), na + nb, sa + sb]]
            i = max(i - 1, 0)
        else:
            i += 1
    knots = [(s, value) for value, _, block in blocks for s in block]
    return np.interp(others, *np.clip(np.transpose(knots), [[-np.inf], [MARGIN]], [[np.inf], [1 - MARGIN]]))


def test_calibration_and_divergence_by_hand():
    rng = np.random.default_rng(4)
    scores = np.round(rng.random(120), 2)  # with ties
    labels = (rng.random(120) < scores**2).astype(float)
    others = rng.random(80)
    truth = (rng.random(80) < others**2).astype(float)
    probability = calibrated(scores, labels, others)
    assert probability == pytest.approx(plain_isotonic(scores, labels, others), abs=1e-12)
    entropy = nn.BCELoss()(torch.from_numpy(probability), torch.from_numpy(truth)).item()
    assert divergence(truth, probability)[0] == pytest.approx((np.log(2) - entropy) / np.log(2), rel=1e-12)


def test_the_published_network():
    network = dense(369)
    assert sum(p.numel() for p in network.parameters()) == 369 * 2048 + 2 * 2048**2 + 3 * 2048 + 2048 + 1
    assert [m.negative_slope for m in network if isinstance(m, nn.LeakyReLU)] == [0.01] * 3
    training = Training()
    assert training.sizes(100_000) == (60_000, 20_000, 20_000)
    assert training.sizes(1000) == (600, 200, 200)
    # Twice the weights for a forward pass, three times that for a step; 50 epochs of both kinds.
    weights = 369 * 2048 + 2 * 2048**2 + 2048
    assert operations(partial(dense, 369), 369, 1000, training) == pytest.approx(2 * weights * 50 * 2 * (3 * 600 + 200))


def test_inputs_as_published(toy_showers, irregular_mesh, write):
    energy, voxels = toy_showers(irregular_mesh, 60, 1)
    voxels[0] = 0  # an empty shower
    voxels[1, 5] = 0.05  # below the threshold
    showers = write("a", irregular_mesh, energy, voxels)
    summary, stored = summarise(showers, threshold=0.2), showers.read()
    energy = showers.conditions.incident_energy[:, None]
    cut = np.where(stored < np.float32(0.2), 0, stored).astype(np.float64)
    rows = np.array([1, 0, 40])

    low = LowLevel(summary, stored)
    expected = np.hstack([np.log10(energy), cut / energy])
    assert low.rows(rows, CPU).numpy() == pytest.approx(expected[rows], rel=1e-12)

    layers = np.stack([cut[:, place].sum(axis=1) for place in irregular_mesh.layer_slices], axis=1)
    sizes = [place.stop - place.start for place in irregular_mesh.layer_slices]
    normed = stored / (np.repeat(layers, sizes, axis=1) + 1e-16)  # without the cut, as the script has it
    expected = np.hstack([np.log10(energy), normed, np.log10(layers + 1e-8)])
    assert LowLevelNormalised(summary, stored).rows(rows, CPU).numpy() == pytest.approx(expected[rows], rel=1e-12)

    assert (high_level(summary).rows(rows, CPU).numpy() == high_level_features(summary)[rows]).all()
    for inputs in (low, LowLevelNormalised(summary, stored), high_level(summary)):
        assert inputs.rows(rows, CPU).shape == (3, inputs.width)
        assert inputs.rows(rows, CPU).dtype == torch.float64
        assert len(inputs) == 60
    assert (stored == showers.read()).all()


@pytest.mark.parametrize("regular", [True, False])
def test_all_classifiers_of_a_mesh(regular, mesh, irregular_mesh, toy_showers, write, caplog):
    geometry, samples = mesh if regular else irregular_mesh, []
    for seed in (1, 2):
        energy, voxels = toy_showers(geometry, 20, seed)
        showers = write(str(seed), geometry, energy, voxels)
        samples.append(Sample(showers, summarise(showers)))
    with caplog.at_level("INFO", logger="caloforge"):
        found = classifier_results(*samples, training=Training(epochs=1, batch_size=24), seed=0)
    names = ["low", "low_normed", "high"] + ["resnet"] * regular
    assert list(found) == [f"{score}_{kind}" for kind in names for score in ("auc", "jsd")]
    assert set(found) <= set(CLASSIFIER_LABELS)
    assert all(np.isfinite([result.value, result.error]).all() and result.n == 20 for result in found.values())
    assert f"neural classifiers {', '.join(names)}: 1 training(s) each, 1 epochs of 24 showers" in caplog.text
