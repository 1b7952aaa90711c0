"""Results of a run come here from the store, by the run's index where it has one."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_api
import pytest
import yaml
from kfp_api import KfpApi
from kubernetes_api import KubernetesApi
from kubernetes_api import running as running_cluster
from object_store import ObjectStore, serving

from caloforge.errors import InputError
from caloforge.pipelines.kubeflow import artifacts
from caloforge.pipelines.kubeflow.artifacts import Fetched, fetch_artifacts
from caloforge.pipelines.kubeflow.client import Kubeflow, connect
from caloforge.pipelines.layout import RECORD

pytestmark = pytest.mark.slow

RECORDED = Path(__file__).parents[2] / "data" / "kubeflow"
RUN_ID = "7e2cc56d-6ed7-4762-951c-4471b507d278"
ROOT = "mlpipeline/v2/artifacts"
PRIVATE = "mlpipeline/private-artifacts/team/v2/artifacts"
PLACE = f"{ROOT}/caloforge/{RUN_ID}"
EARLIER = f"{ROOT}/caloforge/0b0e0d9c-earlier"
CONTENT = {
    "compare/4f/leaderboard": b'{"winner": "vae"}',
    "compare/4f/summary": b"| vae |",
    "compare/4f/winner/config.json": b'{"family": "vae"}',
    "preprocess/0a/quality": b"# quality",
    "validate/77/report": b"<!doctype html>",
    "validate/77/judgement/metrics.json": b"{}",
    "validate/77/judgement/plots/a.png": b"png",
    "validate/77/executor-logs": b"log",
    "export/12/exported/config.json": b'{"family": "vae"}',
    "export/12/exported/generator.onnx": b"onnx",
    "train/01/bundle/config.json": b'{"family": "vae"}',
    "train/02/bundle/config.json": b'{"family": "wgan"}',
}
FETCHED = {
    "leaderboard.json": b'{"winner": "vae"}', "leaderboard.md": b"| vae |", "quality.md": b"# quality",
    "report.html": b"<!doctype html>", "metrics.json": b"{}", "plots/a.png": b"png",
    "bundle/config.json": b'{"family": "vae"}', "bundle/generator.onnx": b"onnx",
    "bundles/vae/config.json": b'{"family": "vae"}', "bundles/wgan/config.json": b'{"family": "wgan"}',
}  # fmt: skip

Written = dict[tuple[str, str | None, str], tuple[str, dict[str, bytes]]]

WRITTEN: Written = {
    ("preprocess", None, "quality"): (f"{EARLIER}/preprocess/0a/quality", {"": b"# quality"}),
    ("train", "vae", "bundle"): (f"{EARLIER}/train/01/bundle", {"config.json": b"{}", "weights": b"vae"}),
    ("generate", "vae", "generated"): (f"{EARLIER}/generate/03/generated", {"": b"showers"}),
    ("tune", "vae", "tuning"): (f"{EARLIER}/tune/05/tuning", {"overrides.json": b"{}"}),
    ("validate", None, "judgement"): (
        f"{EARLIER}/validate/77/judgement",
        {"metrics.json": b"{}", "plots/a.png": b"png", "other": b"-"},
    ),
    ("validate", None, "report"): (f"{EARLIER}/validate/77/report", {"": b"<!doctype html>"}),
    ("export", "vae", "exported"): (f"{EARLIER}/export/12/exported", {"generator.onnx": b"onnx"}),
    ("overview", None, "page"): (f"{PLACE}/overview/88/page", {"": b"<!doctype html>overview"}),
}
"""What a run wrote whose steps came from the cache, but for the last: place in the store, and files."""

LAID = {
    "quality.md": b"# quality", "bundles/vae/config.json": b"{}", "bundles/vae/weights": b"vae",
    "generated/vae.hdf5": b"showers", "tuning/vae/overrides.json": b"{}", "metrics.json": b"{}",
    "plots/a.png": b"png", "report.html": b"<!doctype html>", "bundle/generator.onnx": b"onnx",
    "overview.html": b"<!doctype html>overview",
}  # fmt: skip


@pytest.fixture
def api() -> Iterator[KfpApi]:
    """Kubeflow Pipelines that answers as the real one did about a run of a pipeline's version."""
    run = json.loads((RECORDED / "run_of_a_version.json").read_text())
    version = json.loads((RECORDED / "version_of_a_run.json").read_text())
    version["pipeline_version_id"] = run["pipeline_version_reference"]["pipeline_version_id"]
    with kfp_api.running(KfpApi()) as api:
        api.objects["runs"].append(run)
        api.objects["versions"].append(version)
        yield api


@pytest.fixture
def kubeflow(api: KfpApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kubeflow:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    return connect(api.url, poll_seconds=0.01, patience=1.0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with serving(ObjectStore()) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield store


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _index(written: Written, scheme: str = "minio://", **changes: Any) -> bytes:
    """Return an index of what was written, digests worked out as the documentation says."""
    listed = []
    for (step, family, name), (place, files) in written.items():
        lines = "".join(f"{_sum(content)}  {path}\n" for path, content in sorted(files.items()))
        listed.append({
            "step": step, "family": family, "name": name, "address": scheme + place,
            "kind": "file" if "" in files else "folder",
            "sha256": _sum(files[""]) if "" in files else _sum(lines.encode()),
            "bytes": sum(map(len, files.values())), **changes,
        })  # fmt: skip
    facts = {"index": 1, "pipeline": "caloforge", "run": RUN_ID, "caloforge": "0.1.0", "families": ["vae"]}
    return json.dumps({**facts, "artifacts": listed}).encode()


def _objects(written: Written = WRITTEN, *, place: str = PLACE, **changes: Any) -> dict[str, bytes]:
    objects = {
        f"{where}/{path}".rstrip("/"): content for where, files in written.values() for path, content in files.items()
    }
    return {**objects, f"{place}/overview/88/index": _index(written, **changes)}


def _files(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != RECORD}


def _fetch(kubeflow: Kubeflow, output: Path, **options: Any) -> Fetched:
    return fetch_artifacts(kubeflow, RUN_ID, output, **options)


def test_a_run_whose_steps_came_from_the_cache(
    kubeflow: Kubeflow, api: KfpApi, store: ObjectStore, tmp_path: Path
) -> None:
    store.objects = _objects()
    fetched = _fetch(kubeflow, tmp_path / "run")
    assert _files(tmp_path / "run") == LAID
    assert (fetched.lost, fetched.skipped) == ([], [])
    assert sorted(fetched.written) == ["bundle", "bundles/vae", "generated/vae.hdf5", "metrics.json", "overview.html",
                                       "plots", "quality.md", "report.html", "tuning/vae"]  # fmt: skip
    asked = [path.rpartition("/pipelines/")[2] for _, path, *_ in api.requests if "versions" in path]
    run = api.objects["runs"][0]["pipeline_version_reference"]
    assert asked == [f"{run['pipeline_id']}/versions/{run['pipeline_version_id']}"]


def test_a_second_time_fetches_no_more_than_it_must(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.objects = _objects()
    first = _fetch(kubeflow, tmp_path / "run")
    store.requests.clear()
    assert sorted(_fetch(kubeflow, tmp_path / "run").written) == sorted(first.written)
    assert not [path for _, path, _ in store.requests if "bundle" in path or "showers" in path]
    assert _files(tmp_path / "run") == LAID


def test_the_index_of_the_last_attempt_counts(kubeflow: Kubeflow, tmp_path: Path) -> None:
    root = tmp_path / "store"
    for age, (attempt, content) in enumerate([("b", b"first"), ("a", b"last")]):
        place = root / "caloforge" / RUN_ID / "overview" / attempt
        place.mkdir(parents=True)
        (place / "page").write_bytes(content)
        written: Written = {("overview", None, "page"): (str(place / "page"), {"": content})}
        (place / "index").write_bytes(_index(written, scheme=""))
        os.utime(place / "index", (age + 1e9, age + 1e9))
    _fetch(kubeflow, tmp_path / "run", root=str(root))
    assert _files(tmp_path / "run") == {"overview.html": b"last"}


def test_an_artifact_that_was_deleted_from_the_store(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.objects = _objects()
    del store.objects[f"{EARLIER}/validate/77/report"]
    del store.objects[f"{EARLIER}/train/01/bundle/weights"]
    del store.objects[f"{EARLIER}/export/12/exported/generator.onnx"]
    fetched = _fetch(kubeflow, tmp_path / "run")
    assert [line.partition(": ")[0] for line in fetched.lost] == ["bundles/vae", "report.html", "bundle"]
    assert f"minio://{EARLIER}/validate/77/report: nothing is there" in fetched.lost[1]
    assert "2 bytes of SHA-256" in fetched.lost[0], "what is left of it is not taken for it"
    gone = ("report.html", "bundles/vae/config.json", "bundles/vae/weights", "bundle/generator.onnx")
    assert _files(tmp_path / "run") == {name: content for name, content in LAID.items() if name not in gone}


def test_an_artifact_that_was_changed(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.objects = _objects()
    store.objects[f"{EARLIER}/validate/77/report"] = b"<!doctype html"
    [line] = _fetch(kubeflow, tmp_path / "run").lost
    assert line.startswith(f"report.html: minio://{EARLIER}/validate/77/report: 14 bytes of SHA-256")
    assert not (tmp_path / "run" / "report.html").exists()


def test_large_showers_come_only_when_asked_for(
    kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "LARGE_BYTES", 6)
    store.objects = _objects()
    fetched = _fetch(kubeflow, tmp_path / "run")
    assert fetched.skipped == ["generated/vae.hdf5 (0 MB)"]
    assert "generated/vae.hdf5" not in _files(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file(), "what is large, but no showers, comes"
    assert _fetch(kubeflow, tmp_path / "run", everything=True).skipped == []
    assert _files(tmp_path / "run") == LAID


def test_what_is_in_the_way_is_kept(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.objects = _objects()
    (tmp_path / "run" / "plots").mkdir(parents=True)
    (tmp_path / "run" / "plots" / "mine.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="run: plots: there already"):
        _fetch(kubeflow, tmp_path / "run")
    assert _files(tmp_path / "run") == {"plots/mine.png": b"mine"}, "and nothing was fetched"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "../../outside"}, "artifacts.0.family: .*not a plain name"),
        ({"family": "/outside"}, "artifacts.0.family: .*not a plain name"),
        ({"address": "minio://mlpipeline/../outside"}, "artifacts.0.address: .*not an address"),
    ],
)
def test_an_index_that_would_write_elsewhere(
    changes: dict[str, str], message: str, kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path
) -> None:
    written = {key: value for key, value in WRITTEN.items() if key[0] == "train"}
    store.objects = _objects(written, **changes)
    with pytest.raises(InputError, match=f"^minio://{PLACE}/overview/88/index: {message}"):
        _fetch(kubeflow, tmp_path / "deep" / "run")
    assert _files(tmp_path) == {}


def test_a_folder_with_a_name_that_leads_out_of_it(
    kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ("train", "vae", "bundle")
    place = WRITTEN[key][0]
    store.objects = _objects({key: (place, {"config.json": b"{}", "../../../outside": b"evil"})})
    [line] = _fetch(kubeflow, tmp_path / "deep" / "run").lost
    assert "not the 6 bytes" in line, "our reader of S3 does not list such a file"
    # Other stores' libraries may.
    listed = artifacts.files_under
    monkeypatch.setattr(artifacts, "files_under", lambda address: {**listed(address), "../../../outside": "gs://b/c"})
    store.objects = {path: content for path, content in _objects().items() if "/validate/" not in path}
    lost = _fetch(kubeflow, tmp_path / "another").lost
    assert f"bundles/vae: minio://{place}: holds a file of the name '../../../outside'" in lost
    assert not (tmp_path / "outside").exists()
    assert "bundles/vae/config.json" not in _files(tmp_path / "another")


@pytest.mark.parametrize("scheme", ["", "file://", "https://"])
def test_an_index_names_what_is_in_a_store_and_nothing_else(
    scheme: str, kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.write_bytes(b"<!doctype html>")
    key = ("validate", None, "report")
    objects = _objects({key: (str(private), {"": b"<!doctype html>"})}, scheme=scheme)
    store.objects = {path: content for path, content in objects.items() if path.endswith("index")}
    [line] = _fetch(kubeflow, tmp_path / "run").lost
    assert "names what is in no store of artifacts" in line
    assert _files(tmp_path / "run") == {}


def test_the_namespace_has_a_root_of_its_own(api: KfpApi, store: ObjectStore, tmp_path: Path) -> None:
    api.multi_user = True
    kubeflow = connect(api.url, namespace="team", poll_seconds=0.01, patience=1.0)
    store.objects = _objects(place=f"{PRIVATE}/caloforge/{RUN_ID}")
    _fetch(kubeflow, tmp_path / "run")
    assert _files(tmp_path / "run") == LAID


def test_the_cluster_tells_the_root(
    api: KfpApi, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    with running_cluster(KubernetesApi("configmaps")) as cluster:
        cluster.add(
            "configmaps", {"metadata": {"name": "kfp-launcher"}, "data": {"defaultPipelineRoot": "s3://own/place?x=1"}},
            namespace="team",
        )  # fmt: skip
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": cluster.url}}],
            "users": [{"name": "me", "user": {"token": "planted-secret"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }  # fmt: skip
        kubeconfig.write_text(yaml.safe_dump(content))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
        kubeflow = connect(api.url, namespace="team", poll_seconds=0.01, patience=1.0)
        store.objects = _objects(place=f"own/place/caloforge/{RUN_ID}")
        _fetch(kubeflow, tmp_path / "run")
        assert _files(tmp_path / "run") == LAID
        store.objects = _objects(place=f"{PRIVATE}/caloforge/{RUN_ID}")
        _fetch(kubeflow, tmp_path / "run")
        cluster.script = [503] * 9
        _fetch(kubeflow, tmp_path / "run")
        assert len(cluster.requests) == 3, "a cluster that is away is asked once"


def test_who_may_look_at_the_own_root_only(
    kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "roots", lambda *_: ["minio://shared/artifacts", f"minio://{ROOT}"])
    store.objects = _objects()
    store.script = [403]
    _fetch(kubeflow, tmp_path / "run")
    assert _files(tmp_path / "run") == LAID


def test_a_version_that_was_deleted(kubeflow: Kubeflow, api: KfpApi, store: ObjectStore, tmp_path: Path) -> None:
    api.objects["versions"].clear()
    with pytest.raises(InputError, match=r"cannot read version '[^']+' of pipeline '[^']+': not there"):
        _fetch(kubeflow, tmp_path / "run")


def test_a_run_without_an_index(
    kubeflow: Kubeflow, api: KfpApi, store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.objects = {f"{PLACE}/{path}": content for path, content in CONTENT.items()}
    api.objects["runs"][0]["state"] = "FAILED"
    with caplog.at_level("WARNING", logger="caloforge"):
        written = _fetch(kubeflow, tmp_path / "run").written
    assert _files(tmp_path / "run") == FETCHED
    assert sorted(written) == ["bundle", "bundles/vae", "bundles/wgan", "leaderboard.json", "leaderboard.md",
                               "metrics.json", "plots", "quality.md", "report.html"]  # fmt: skip
    assert "no index (it ended as FAILED)" in caplog.text


def test_a_bundle_that_names_a_place_elsewhere(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.objects = {f"{PLACE}/train/01/bundle/config.json": b'{"family": "../outside"}'}
    [line] = _fetch(kubeflow, tmp_path / "deep" / "run").lost
    assert line == "bundle: config.json does not say of which family it is"
    assert _files(tmp_path) == {}


def test_older_servers_use_no_folder_of_random_name(kubeflow: Kubeflow, tmp_path: Path) -> None:
    for path, content in CONTENT.items():
        task, _, rest = path.split("/", 2)
        if task != "train":
            target = tmp_path / "store" / "caloforge" / RUN_ID / task / rest
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    _fetch(kubeflow, tmp_path / "run", root=str(tmp_path / "store"))
    assert _files(tmp_path / "run") == {
        name: value for name, value in FETCHED.items() if not name.startswith("bundles")
    }


def test_the_last_attempt_of_a_step_counts(kubeflow: Kubeflow, tmp_path: Path) -> None:
    for age, (attempt, content) in enumerate([("b", "failed"), ("a", "good")]):
        report = tmp_path / "store" / "caloforge" / RUN_ID / "validate" / attempt / "report"
        report.parent.mkdir(parents=True)
        report.write_text(content)
        os.utime(report, (age + 1e9, age + 1e9))
    _fetch(kubeflow, tmp_path / "run", root=str(tmp_path / "store"))
    assert (tmp_path / "run" / "report.html").read_text() == "good"


def test_what_a_cached_step_left_elsewhere_is_named(
    kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.objects = {f"{PLACE}/validate/77/report": b"<!doctype html>"}
    with caplog.at_level("WARNING", logger="caloforge"):
        assert _fetch(kubeflow, tmp_path / "run").written == ["report.html"]
    assert "not with this run: bundle, leaderboard.json, leaderboard.md, metrics.json, quality.md" in caplog.text


def test_nothing_there_says_where_to_look(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.objects = {"mlpipeline/another/run": b""}
    with pytest.raises(InputError, match=rf"{PLACE}: no artifacts .* give --root"):
        _fetch(kubeflow, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_store_that_refuses(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.script = [403] * 20
    with pytest.raises(InputError, match="access is denied") as error:
        _fetch(kubeflow, tmp_path / "run")
    assert "planted-secret" not in str(error.value)


def test_no_address_of_the_store(kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="where is the store"):
        _fetch(kubeflow, tmp_path / "run")
