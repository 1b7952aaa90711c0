"""A family that fails: what its artifact says, and what still ends the step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caloforge.components.family import FAILED, family_of, why_failed
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.training.worker import TrainingFailed


class Ending:
    """What the step would write at its end."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def failed(self, cause: str) -> None:
        self.causes.append(cause)


@pytest.fixture
def bundle(tmp_path: Path) -> Any:
    return SimpleNamespace(path=str(tmp_path / "bundle"), metadata={})


def work(bundle: Any, error: BaseException | None, *, strict: bool = False) -> tuple[str, list[str]]:
    ending = Ending()
    with family_of(bundle, "vae", ending, strict=strict) as outcome:
        Path(bundle.path).mkdir()
        (Path(bundle.path) / "half").touch()
        if error is not None:
            raise error
    return outcome.failed, ending.causes


def test_one_that_succeeds_leaves_its_work_alone(bundle: Any) -> None:
    assert work(bundle, None) == ("", [])
    assert bundle.metadata == {"family": "vae"}
    assert [path.name for path in Path(bundle.path).iterdir()] == ["half"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingFailed("OOMKilled: memory is 3Gi"), "OOMKilled: memory is 3Gi"),
        (RuntimeError("several\n  lines"), "several lines"),
        (MemoryError(), "MemoryError"),
        (ZeroDivisionError("division by zero"), "division by zero"),
    ],
)
def test_its_artifact_says_of_what_it_failed(bundle: Any, error: Exception, reason: str) -> None:
    assert work(bundle, error) == (reason, [reason])
    assert why_failed(bundle) == reason
    assert [path.name for path in Path(bundle.path).iterdir()] == [FAILED], "half a bundle would pass for one"
    assert read_json(Path(bundle.path) / FAILED) == {"family": "vae", "reason": reason}


def test_what_is_no_fault_of_the_family_ends_the_step(bundle: Any) -> None:
    for error in (InputError("no such file"), SystemExit(143), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            work(SimpleNamespace(path=f"{bundle.path}-{type(error).__name__}", metadata={}), error)


def test_strict_lets_the_step_fail(bundle: Any) -> None:
    with pytest.raises(TrainingFailed, match="diverged"):
        work(bundle, TrainingFailed("diverged"), strict=True)
    assert not why_failed(bundle)


def test_a_failure_of_an_earlier_step_is_handed_on(bundle: Any) -> None:
    ending = Ending()
    with family_of(bundle, "vae", ending, strict=False, before="OOMKilled: memory is 3Gi") as outcome:
        assert outcome.failed, "the block sees it and does nothing"
    assert why_failed(bundle) == "OOMKilled: memory is 3Gi"
    assert ending.causes == ["OOMKilled: memory is 3Gi"]
