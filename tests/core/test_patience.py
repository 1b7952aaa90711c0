"""The one policy of asking again, on a clock of its own."""

import pytest

from caloforge import patience
from caloforge.patience import JITTER, LONGEST_PAUSE_SECONDS, Patience


class Clock:
    def __init__(self) -> None:
        self.now, self.pauses = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def test_pauses_double_up_to_a_bound_and_end_with_the_patience(clock: Clock) -> None:
    waiting = Patience(60)
    while waiting.wait("away"):
        pass
    for pause, expected in zip(clock.pauses[:-1], (1, 2, 4, 8, *[LONGEST_PAUSE_SECONDS] * 9), strict=False):
        assert abs(pause / expected - 1) <= JITTER
    assert clock.now == pytest.approx(60), "the last attempt is made at the very end"
    assert len({pause / expected for pause, expected in zip(clock.pauses, (1, 2, 4, 8), strict=False)}) == 4, (
        "at random"
    )


def test_an_answer_begins_anew(clock: Clock) -> None:
    waiting = Patience(10)
    while waiting.wait("away"):
        pass
    waiting.renew()
    clock.pauses.clear()
    assert waiting.wait("away")
    assert clock.pauses[0] <= 1 + JITTER


def test_no_patience_asks_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert not Patience(0).wait("away")
    assert not clock.pauses
    assert not caplog.text
