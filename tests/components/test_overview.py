"""The last step with the real kfp: how the records of a loop and of single steps reach it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rows import headline, judgement

from caloforge.errors import InputError
from caloforge.files import digest, read_json
from caloforge.index import Index
from caloforge.validation.report.leaderboard import leaderboard

PIPELINE = Path(__file__).parents[1] / "support" / "overview_pipeline.py"


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """As much of a judgement as the page needs."""
    folder = tmp_path / "judgement"
    metrics = judgement(headline("vae", 0.6, 1.0, 0.1, sigma=5.0), {"vae": 1.5})
    metrics.write(folder / "metrics.json")
    leaderboard(metrics).write(folder / "leaderboard")
    return folder


def _run(given: dict[str, Any], folder: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-P", PIPELINE], input=json.dumps(given), capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return Path(line.removeprefix("RESULT").strip())


@pytest.mark.slow
def test_records_of_a_loop_and_of_single_steps_become_one_index(judged: Path, tmp_path: Path) -> None:
    data = {"address": "s3://data/showers.hdf5", "size": 5, "sha256": "a" * 64}
    given = {
        "root": str(tmp_path / "root"), "judgement": str(judged), "families": ["wgan", "vae"],
        "preprocessed": json.dumps({"step": "preprocess", "data": data}), "exported": json.dumps({"step": "export"}),
    }  # fmt: skip
    first = Index.read(_run(given, tmp_path))
    assert first.families == ("wgan", "vae")
    assert [(one.family, one.step, one.reason) for one in first.failed] == [("wgan", "train", "it diverged")]
    assert first.data is not None
    assert first.data.address == "s3://data/showers.hdf5"
    assert first.url == "http://calo.example.org"
    assert first.run
    assert first.run != "{{$.pipeline_job_uuid}}"
    found = {(one.step, one.family, one.name): one for one in first.artifacts}
    assert {("train", "vae", "bundle"), ("validate", None, "leaderboard"), ("overview", None, "page")} == set(found)
    for one in found.values():
        assert digest(Path(one.address)) == (one.sha256, one.bytes)
    page = Path(found["overview", None, "page"].address).read_text(encoding="utf-8")
    assert "it diverged" in page
    assert "s3://data/showers.hdf5" in page

    # Again: all but the last step comes from the cache, and lies where the first run left it.
    path = _run(given, tmp_path)
    again = Index.read(path)
    assert again.run != first.run
    assert again.artifacts[:-1] == first.artifacts[:-1]
    assert again.artifacts[-1].address != first.artifacts[-1].address
    assert read_json(path)["index"] == 1


def test_a_record_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="record of a step: not JSON: 'vae'"):
        Index.gather(["vae"], families=[], pipeline="caloforge", run="1", caloforge="0")
