"""Trainings on several processes, started by torchrun as on a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from object_store import ObjectStore, serving
from safetensors.torch import load_file

from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.configuration import TrainingRequest
from caloforge.models.training.distributed import TrainingFailed, train_distributed
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.train import train

pytestmark = pytest.mark.slow

OVERRIDES: dict[str, Any] = {
    # 21 rows: two processes do not get the same number.
    "training": {"steps": 12, "batch_size": 21, "ema": 0.5},
    "energies": {"steps": 4, "batch_size": 21},
    "model": {"network": {"width": 16, "blocks": 1}},
}

TREE: dict[str, Any] = {
    "model": {"layer_width": 16, "ring_width": 16, "cell_width": 16},
    **{stage: {"steps": 6, "batch_size": 21, "ema": 0.5} for stage in ("totals", "layers", "rings", "cells", "early")},
}
FEW = {"steps": 4, "batch_size": 21, "ema": 0.5}
OVERRIDES_OF = {
    "wgan": OVERRIDES,
    "vae": OVERRIDES,
    "tree": TREE,
    # Stages that learn from a network that was trained before.
    "autoregressive_flow": OVERRIDES | {"training": FEW, "distillation": FEW},
    "bib_ae": OVERRIDES | {"training": FEW, "post_processing": FEW},
}

SCRIPT = """
    import json, sys
    from pathlib import Path
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.training.train import train
    showers, prepared, output, overrides = sys.argv[1:]
    for family, overrides in json.loads(overrides).items():
        train(TrainingRequest(showers=showers, prepared=prepared, output=Path(output) / family, family=family,
                              overrides=overrides, seed=4))
"""


def difference(one: Path, other: Path) -> float:
    """Return the norm of the difference of all weights relative to their own."""
    a, b = (load_file(folder / "weights.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    x, y = (torch.cat([state[name].flatten() for name in a if a[name].is_floating_point()]) for state in (a, b))
    return float((x - y).norm() / x.norm())


@pytest.fixture
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_train_what_one_does(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    arguments = [small_showers, small_prepared, tmp_path / "two", json.dumps(OVERRIDES_OF)]
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    subprocess.run([*command, *map(str, arguments)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for family, overrides in OVERRIDES_OF.items():
        options: dict[str, Any] = {"family": family, "overrides": overrides}
        train(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=tmp_path / "one" / family, seed=4, **options
            )
        )
        train(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=tmp_path / "other" / family, seed=5, **options
            )
        )
        one, two, other = (tmp_path / name / family for name in ("one", "two", "other"))
        # Sums of float32 in another order; Adam makes much of gradients that are 0 but for rounding.
        # The BIB-AE's discrepancies compare the rows that a process has with each other.
        assert difference(one, two) < (5e-3 if family == "bib_ae" else 1e-4)
        assert difference(one, other) > 0.1
        records = [read_json(folder / "training.json") for folder in (one, two)]
        assert [record["processes"] for record in records] == [1, 2]
        assert not list((tmp_path / "two").glob(".*")), "no checkpoints stay"
        for stage in records[0]["stages"]:
            a, b = (record["stages"][stage]["losses"] for record in records)
            assert a.keys() == b.keys()
            if family == "bib_ae" and stage != "layer energies":
                continue
            for part in a:
                assert b[part] == [[step, pytest.approx(loss, rel=1e-3, abs=1e-4)] for step, loss in a[part]]


def kill_a_worker(checkpoints: Path) -> None:
    """Kill the last process that torchrun started, once there is a checkpoint to go on from."""
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*/voxels.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (torchrun,) = (
        child for child in psutil.Process().children() if "caloforge.models.training.agent" in child.cmdline()
    )
    torchrun.children()[-1].kill()


@pytest.mark.usefixtures("one_thread")
def test_a_lost_worker_changes_nothing(
    small_showers: Path, small_prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = OVERRIDES | {"training": {"steps": 30, "batch_size": 21, "checkpoint_seconds": 0}}
    options: dict[str, Any] = {"family": "vae", "overrides": overrides, "seed": 4}
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "checkpoints",))
    killer.start()
    with caplog.at_level("INFO", logger="caloforge"):
        request = TrainingRequest(showers=small_showers, prepared=small_prepared, output=tmp_path / "two", **options)
        request = request.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
        figures = train_distributed(request, processes=2, backend="local")
    killer.join()
    (resumed,) = (message for message in caplog.messages if message.startswith("resuming voxels at step"))
    assert 0 < int(resumed.split()[-1]) < 30
    assert "vae: 180 showers of 480 voxels on 2 cpu processes" in caplog.text
    expected = train(
        TrainingRequest(showers=small_showers, prepared=small_prepared, output=tmp_path / "one", **options)
    )
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-3
    assert figures["steps"] == expected["steps"] == 30
    assert figures["model_loss"] == pytest.approx(expected["model_loss"], rel=1e-3)


@pytest.mark.parametrize("place", ["address", "on a claim", "cached on a claim", "here"])
def test_pods_find_the_showers(
    place: str, small_showers: Path, small_prepared: Path, tiny_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What lies on a claim is not copied, anything else lies once in the shared folder."""
    claim = tmp_path / "claim"
    pod = TrainingPod(claims={"work": str(claim)}, shared=str(claim / "work"))
    seen: list[Path] = []

    def run(job: dict[str, Any], *_: Any, **__: Any) -> None:
        options = dict(word[2:].split("=", 1) for word in job["spec"]["trainer"]["command"] if "=" in word)
        seen.append(Path(options["data"]))
        assert seen[-1].read_bytes() == small_showers.read_bytes()
        shutil.copytree(tiny_bundle, options["output"])

    monkeypatch.setattr("caloforge.models.training.trainjob.run_train_job", run)
    monkeypatch.setattr("caloforge.cluster.connect", lambda _: None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    data: str | Path = "s3://physics/small.hdf5" if place in ("address", "cached on a claim") else small_showers
    if place == "on a claim":
        claim.mkdir()
        data = claim / "small.hdf5"
        data.write_bytes(small_showers.read_bytes())
    if place == "cached on a claim":
        monkeypatch.setenv("CALOFORGE_FETCH_CACHE", str(claim / "cache"))
    with serving(ObjectStore()) as store:
        store.objects["physics/small.hdf5"] = small_showers.read_bytes()
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        request = TrainingRequest(
            showers=data, prepared=small_prepared, output=tmp_path / "out", family="vae", overrides=OVERRIDES
        )
        train_distributed(request, nodes=2, backend="cluster", pod=pod)
        assert len(store.gets()) == (place in ("address", "cached on a claim"))
    assert (tmp_path / "out" / "weights.safetensors").is_file()
    (path,) = seen
    expected = {"on a claim": data, "cached on a claim": claim / "cache" / "files"}.get(place, claim / "work")
    assert path.is_relative_to(expected)
    assert not list((claim / "work").iterdir())


def test_what_fails_for_good_is_not_tried_again(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(TrainingFailed, match="blocked"):
        train_distributed(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=tmp_path / "out", family="vae",
                overrides=OVERRIDES, checkpoints=tmp_path / "blocked",
            ),
            processes=2, backend="local",
        )  # fmt: skip
    assert not [child for child in psutil.Process().children() if "caloforge.models.training.agent" in child.cmdline()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 2}, "2 nodes need a cluster"),
        ({"processes": 22}, "22 processes cannot share a batch of 21 showers"),
        ({"nodes": 2, "backend": "cluster"}, "ReadWriteMany"),
        ({"backend": "cluster", "pod": TrainingPod(shared="/x", claims={"a": "/y"})}, "on none of the claims"),
        ({"backend": "cluster", "pod": TrainingPod(shared="/proc/x", claims={"a": "/proc"})}, "cannot write here"),
        ({"backend": "clustr"}, "did you mean"),
        ({"processes": 2, "overrides": {"trainin": {}}}, "did you mean"),
    ],
)
def test_refused_before_anything_starts(
    options: dict[str, Any], message: str, small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    given = {"backend": "local", **options}
    request = TrainingRequest(
        showers=small_showers, prepared=small_prepared, output=tmp_path / "out", family="vae",
        overrides=given.pop("overrides", OVERRIDES),
    )  # fmt: skip
    with pytest.raises(InputError, match=message):
        train_distributed(request, **given)
