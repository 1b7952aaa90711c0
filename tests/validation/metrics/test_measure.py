import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.showers import open_showers
from caloforge.validation.metrics.compare import distances
from caloforge.validation.metrics.measure import COLUMN_METRICS, measure
from caloforge.validation.observables.summary import summarise
from caloforge.validation.plots.panels import Samples
from caloforge.validation.plots.write import _distributions
from caloforge.validation.registries import DISTRIBUTION_METRICS, FEATURE_METRICS, OBSERVABLES

DOCS = Path(__file__).parents[3] / "docs"


def normal(seed, n=200, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, 3))


@pytest.mark.parametrize("name", sorted([*FEATURE_METRICS, *COLUMN_METRICS]))
def test_each_metric_has_its_floor_and_sees_a_shift(name):
    x, y, z = (normal(seed, shift=shift) for seed, shift in ((1, 5), (2, 5), (3, 7)))
    other = measure(name, x, z, floor=y)
    assert other.n == 200
    assert other.sigma > 3
    assert other.value > other.floor > -1


def test_generated_rows_with_the_energies_of_the_reference_are_as_far_as_the_floor():
    """What follows from the energy alone is the same in both, and is another in the second sample."""
    rng = np.random.default_rng(0)
    sigmas = []
    for _ in range(30):
        energy, others = rng.uniform(0, 2, (2, 400))
        hits, generated, second = (np.round(100 * e + rng.normal(0, 1, 400)) for e in (energy, energy, others))
        sigmas.append(measure("separation", hits, generated, floor=second).sigma)
    assert abs(np.mean(sigmas)) < 0.5


def test_without_a_second_sample_the_reference_is_halved():
    result = measure("separation", normal(1, 500), normal(2, 900))
    assert result.n == 250
    assert abs(result.sigma) < 3
    assert result == measure("separation", normal(1, 500), normal(2, 900))


def test_bad_arrays_are_refused():
    x = normal(1)
    with pytest.raises(InputError, match="did you mean 'separation'"):
        measure("seperation", x, x)
    with pytest.raises(InputError, match="generated has 2 columns but the reference has 3"):
        measure("fpd", x, x[:, :2])
    with pytest.raises(InputError, match="49 rows"):
        measure("auc", x[:98], x)
    with pytest.raises(InputError, match="generated: 1 values are no finite numbers"):
        measure("auc", x, np.where(x == x.max(), np.nan, x))
    with pytest.raises(InputError, match="expected"):
        measure("auc", x[None], x)


def run_example(page, place, holding=""):
    """Run the only example of a page that holds some text; return its names."""
    examples = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    (example,) = (text for text in examples if holding in text)
    place.write_text(example)
    return runpy.run_path(str(place))


def test_the_documented_use_on_arrays_works(demo_showers, monkeypatch, tmp_path):
    showers = open_showers(demo_showers)
    files = {"geant4.hdf5": showers.select(np.arange(300)), "generated.hdf5": showers.select(np.arange(300, 600))}
    monkeypatch.setattr("caloforge.showers.open_showers", lambda path: files[path])
    names = run_example("validation.md", tmp_path / "example.py")
    assert names["fpd"].n == names["depth"].n == 150
    assert abs(names["depth"].sigma) < 3


def test_the_documented_observable_appears_by_itself(demo_showers, monkeypatch, tmp_path):
    try:
        written = run_example("extending.md", tmp_path / "example.py", "OBSERVABLES.register")["FIRST_HALF"]
        summary = summarise(open_showers(demo_showers).select(np.arange(100)))
        for metric in DISTRIBUTION_METRICS.values():
            assert distances(metric, summary, summary)["first_half"].value == 0
        monkeypatch.setattr(OBSERVABLES, "_own", {})  # the others need not be drawn
        (drawn,) = _distributions(Samples(summary, {"g": summary}))
        assert drawn.title == written.title
    finally:
        OBSERVABLES.forget("first_half")


def test_the_documented_metric_is_used_on_arrays(tmp_path):
    try:
        run_example("extending.md", tmp_path / "example.py", "FEATURE_METRICS.register")
        rng = np.random.default_rng(0)
        x, y, z = (rng.normal((0, shift), 1, (400, 2)) for shift in (0, 1, 0))
        found = measure("means", x, y, floor=z)
        assert found.value == pytest.approx(1, abs=5 * 0.07)
        assert found.sigma > 3
        assert found.error == pytest.approx(0.1, rel=0.2)  # sqrt(2/400) in each of two columns
    finally:
        FEATURE_METRICS.forget("means")
