"""The rule that picks a variant."""

from caloforge.models.engines.variant import Variant
from caloforge.tuning.inference.choice import choose, refusal, speed
from caloforge.tuning.inference.record import Fidelity, Measured, Timing, Value


def _fidelity(fpd: float, auc: float, auc_plain: float) -> Fidelity:
    return Fidelity(
        fpd=Value(value=fpd, error=0.03), auc=Value(value=auc, error=0.01), auc_plain=Value(value=auc_plain, error=0.01)
    )


def _measured(name: str, ms: dict[int, float], **more: object) -> Measured:
    timings = {size: Timing(median=time, least=time, most=time) for size, time in ms.items()}
    return Measured(variant=Variant(name=name), ms=timings, **more)


PLAIN = _measured("fp32", {1: 100.0, 100: 4.0}, speed=1.0)


def test_speed_is_the_geometric_mean_over_the_sizes_that_both_were_timed_at() -> None:
    assert abs(speed(_measured("a", {1: 25.0, 100: 4.0}), PLAIN) - 2) < 1e-12
    assert abs(speed(_measured("b", {1: 25.0, 1000: 1.0}), PLAIN) - 4) < 1e-12
    assert speed(_measured("c", {}), PLAIN) == 0


def test_a_figure_that_is_worse_by_more_than_its_errors_is_named() -> None:
    usual = _fidelity(0.2, 0.55, 0.5)
    assert refusal(_fidelity(0.2, 0.55, 0.5), usual, tolerance=1) == ""
    assert refusal(_fidelity(0.1, 0.5, 0.4), usual, tolerance=0) == ""  # better is no fault
    assert refusal(_fidelity(0.3, 0.55, 0.5), usual, tolerance=1).startswith("FPD to Geant4 0.3")
    assert refusal(_fidelity(0.2, 0.58, 0.5), usual, tolerance=1).startswith("AUC against Geant4 0.58")
    assert refusal(_fidelity(0.2, 0.55, 0.53), usual, tolerance=1).startswith("AUC against fp32 0.53")
    assert refusal(_fidelity(0.2, 0.55, 0.53), usual, tolerance=3) == ""


def test_the_fastest_that_is_not_refused_is_chosen() -> None:
    fast, faster = _measured("fast", {1: 50.0}, speed=2.0), _measured("faster", {1: 10.0}, speed=10.0, refused="FPD 9")
    chosen, why = choose([PLAIN, fast, faster])
    assert chosen is fast
    assert "2.00 times as fast as fp32" in why
    assert "faster is 10.00 times as fast, but refused: FPD 9" in why


def test_nothing_gained_keeps_the_plain_one() -> None:
    chosen, why = choose([PLAIN, _measured("same", {1: 99.0}, speed=1.01)])
    assert chosen is PLAIN
    assert why == "nothing is gained; the best of the others that may be used is 1.01 times as fast"
    assert choose([PLAIN]) == (PLAIN, "nothing is gained")
    assert choose([PLAIN, _measured("bad", {1: 1.0}, speed=100.0, refused="FPD 9")])[0] is PLAIN
