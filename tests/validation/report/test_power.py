"""A difference that is called detectable is where the verdict turns."""

import pytest
from rows import row

from caloforge.validation.metrics.result import Result
from caloforge.validation.report.power import power, with_detectable
from caloforge.validation.report.verdict import NOTABLE, verdict
from caloforge.validation.row import PHYSICS, Parts


def others(n=30):
    return [row("g", f"test {i}") for i in range(n)]


@pytest.mark.parametrize("two_sided", [False, True])
def test_a_value_that_far_from_the_floor_is_notable(two_sided):
    floor = Result(0.5, 0.011, n=1600, two_sided=two_sided)
    fields = {"floor": floor.value, "floor_error": floor.error, "two_sided": two_sided}
    (found, *rest) = with_detectable([row("g", "auc", **fields), *others()], NOTABLE)
    sign = -1 if two_sided else 1
    sigma = Result(floor.value + sign * found.detectable, 0.011, n=1600, two_sided=two_sided).sigma_from(floor)
    assert verdict("g", [row("g", "auc", sigma=sigma, **fields), *rest], 1600).sigma == pytest.approx(NOTABLE, abs=1e-6)


def test_rows_of_layers_and_untested_ones_have_none():
    parts = Parts(what="layers", where=("layer 0",))
    rows = [row("g", "a", parts=parts), row("g", "b", tested=False), row("g", "c", kind=PHYSICS), row("h", "d")]
    found = with_detectable(rows, NOTABLE)
    assert [one.detectable is None for one in found] == [True, True, True, False]
    # The only test of its generator needs no correction.
    assert found[3].detectable == pytest.approx(3 * 2**0.5 * 0.01)


def test_in_words():
    fields = {"floor": 0.5, "floor_error": 0.01}
    response = row(
        "g",
        "mean_response",
        kind=PHYSICS,
        reference=0.8,
        reference_error=0.001,
        error=0.001,
        ratio=1.0,
        ratio_error=0.002,
    )
    rows = with_detectable([row("g", "auc", **fields), response, *others()], NOTABLE)
    text = power(rows, 1600)
    assert text.startswith("With 1600 showers of each, half of all generators with an AUC of 0.55")
    assert "a mean response that is 0.7" in text
    assert verdict("g", rows, 1600).power == text
    needed = 1600 * (rows[0].detectable / 0.01) ** 2
    said = float(text.rpartition("it would take about ")[2].partition(" for the AUC.")[0].replace(",", ""))
    assert said == pytest.approx(needed, rel=0.05)
    # With so many showers, whose errors are smaller by the root of their ratio, that difference is what is detectable.
    error = 0.01 * (1600 / said) ** 0.5
    (more, *_) = with_detectable([row("g", "auc", floor=0.5, floor_error=error), response, *others()], NOTABLE)
    assert more.detectable == pytest.approx(0.01, rel=0.03)
    assert power([row("g", "x", tested=False)], 10) == ""
