import json
from pathlib import Path

import pytest

from caloforge.pipelines.local.timings import covered, timings
from caloforge.steps import boot


def test_overlapping_work_counts_once() -> None:
    assert covered([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]) == 4
    assert covered([]) == 0


def test_work_and_overhead_apart(tmp_path: Path) -> None:
    log = tmp_path / "times.jsonl"
    records = [
        {"boot": boot(), "step": "preprocess", "process": 1.0, "start": 2.0, "end": 4.0},  # an earlier run
        {"boot": "an earlier one", "step": "tune", "process": 11.0, "start": 13.0, "end": 15.0},
        {"boot": boot(), "step": "train vae", "process": 10.0, "start": 12.0, "end": 20.0},
        {"boot": boot(), "step": "train wgan", "process": 10.0, "start": 13.0, "end": 18.0},
    ]
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    result = timings(log, start=10.0, end=20.0)
    assert result["steps"]["preprocess"]["kept_from_earlier_run"]
    assert result["steps"]["tune"] == {"work_seconds": 2.0, "overhead_seconds": 2.0, "kept_from_earlier_run": True}
    assert result["steps"]["train vae"] == {
        "work_seconds": 8.0, "overhead_seconds": 2.0, "kept_from_earlier_run": False,
    }  # fmt: skip
    assert result["working_seconds"] == 8.0
    assert result["overhead_fraction"] == pytest.approx(0.2)
