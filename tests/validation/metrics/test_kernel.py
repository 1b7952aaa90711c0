import numpy as np
import pytest

from caloforge.validation.metrics import kernel
from caloforge.validation.metrics.kernel import kpd


# 300 rows are multiplied all at once, 3000 batch by batch; 100 rows of a block make several of each.
@pytest.mark.parametrize(("n", "m"), [(300, 300), (3000, 3000), (3000, 250)])
def test_agrees_with_the_definition_draw_for_draw(n, m, oracle, monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK", 100)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 7)), rng.normal(0.1, 1.1, size=(m, 7))
    result = kpd(x, y, batch_size=250)
    value, error = oracle.kpd(x, y, 250)
    assert result.value == pytest.approx(value, rel=1e-6, abs=1e-12)
    assert result.error == pytest.approx(error, rel=1e-6)


def test_constants():
    zeros, twos = np.zeros((2000, 2)), np.full((2000, 2), 2.0)
    assert kpd(twos, zeros, batch_size=500).value == pytest.approx(15)
    assert kpd(twos, zeros, batch_size=500, normalise=False).value == pytest.approx(624)
    assert kpd(twos, twos, batch_size=500).value == pytest.approx(0, abs=1e-9)


def test_samples_of_one_distribution_scatter_about_zero():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 2000, 5))
    result = kpd(x, y, batch_size=1000)
    shifted = kpd(x, y + 0.5, batch_size=1000)
    assert abs(result.value) < 5 * result.error
    assert shifted.value > 10 * shifted.error
