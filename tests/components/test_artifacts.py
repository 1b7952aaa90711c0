import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rows import headline as figures
from rows import judgement

from caloforge.components.artifacts import describe, headline, log_roc, log_scalars, record
from caloforge.files import digest
from caloforge.source import Source
from caloforge.validation.report.leaderboard import leaderboard


@pytest.fixture
def metrics(tmp_path: Path) -> Any:
    logged: dict[str, float] = {}
    curves: list[Any] = []
    return SimpleNamespace(
        path=str(tmp_path / "metrics"), logged=logged, curves=curves, metadata={},
        log_metric=logged.__setitem__, log_roc_curve=lambda *columns: curves.append(columns),
    )  # fmt: skip


def test_only_finite_plain_floats_are_logged(metrics: Any) -> None:
    values = {"a": 1, "b": np.float64(2), "c": math.inf, "d": math.nan, "e": "text", "f": None, "g": True}
    log_scalars(metrics, values)
    assert metrics.logged == {"a": 1.0, "b": 2.0}
    assert {type(value) for value in metrics.logged.values()} == {float}
    assert json.loads(Path(metrics.path).read_text(encoding="utf-8")) == metrics.logged


def test_the_infinite_threshold_of_a_roc_is_left_out(metrics: Any) -> None:
    log_roc(metrics, [0.0, 0.0, 1.0], [0.0, 0.5, 1.0], [math.inf, 0.9, 0.1])
    assert metrics.curves == [([0.0, 1.0], [0.5, 1.0], [0.9, 0.1])]
    assert Path(metrics.path).is_file()


def test_headline_names_generator_and_floor() -> None:
    values = headline(leaderboard(judgement(figures("vae", 0.7, 0.7, 0.7, floor=0.5))))
    assert values["vae_auc"] == 0.7
    assert values["floor_auc"] == 0.5


def test_describe_adds_where_it_comes_from(metrics: Any) -> None:
    describe(metrics, family="vae")
    assert metrics.metadata["family"] == "vae"
    assert {"caloforge", "git_revision"} <= set(metrics.metadata)


def test_artifacts_of_a_family_are_shown_under_its_name(metrics: Any) -> None:
    log_scalars(metrics, {"loss": 1.0}, family="vae")
    assert metrics.metadata["display_name"] == "metrics vae"


def _written(path: Path, uri: str) -> Any:
    path.mkdir()
    (path / "config.json").write_text("{}")
    return SimpleNamespace(path=str(path), uri=uri, metadata={})


def test_a_record_says_what_was_written_and_where_it_lies(tmp_path: Path) -> None:
    bundle = _written(tmp_path / "bundle", "minio://mlpipeline/run/train/bundle")
    found = json.loads(record("train", {"bundle": bundle}, family="vae"))
    checksum, size = digest(tmp_path / "bundle")
    [artifact] = found["artifacts"]
    assert artifact == {
        "step": "train", "family": "vae", "name": "bundle", "address": "minio://mlpipeline/run/train/bundle",
        "kind": "folder", "sha256": checksum, "bytes": size,
    }  # fmt: skip
    assert bundle.metadata == {"sha256": checksum, "bytes": size}


def test_what_a_failed_family_left_does_not_count(tmp_path: Path) -> None:
    bundle = _written(tmp_path / "bundle", "minio://mlpipeline/run/train/bundle")
    found = json.loads(record("train", {"bundle": bundle}, family="vae", failed="it diverged"))
    assert (found["artifacts"], found["failed"]) == ([], "it diverged")


def test_a_record_says_where_the_showers_came_from() -> None:
    data = {"address": "s3://data/a.hdf5", "size": 3, "sha256": "", "fetched": "2026-01-01", "seconds": 1.5}
    found = json.loads(record("preprocess", {}, data=Source.of(data)))
    assert found["data"] == data
