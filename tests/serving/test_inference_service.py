import pytest

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.pods import SecretKey, Toleration
from caloforge.serving.inference_service import (
    SPECIFICATION,
    ServiceSettings,
    inference_service,
    server_container,
    serving_runtime,
)
from caloforge.serving.storage_uri import storage_uri


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("minio://mlpipeline/v2/artifacts/caloforge/run/export/exported", "s3://mlpipeline/v2/artifacts/caloforge/run/export/exported"),
        ("s3://bucket/a/b/?region=eu&endpoint=minio:9000", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("pvc://claim/a/b", "pvc://claim/a/b"),
        ("hf://user/model:main", "hf://user/model:main"),
        ("oci://registry.org/model:1", "oci://registry.org/model:1"),
        ("https://example.org/bundle.tar.gz?token=1", "https://example.org/bundle.tar.gz?token=1"),
        ("/data/runs/bundle", "pvc://showers/runs/bundle"),
        ("/data/inner/bundle/", "pvc://other/bundle"),
        ("/data/inner", "pvc://other"),
    ],
)  # fmt: skip
def test_addresses_that_kserve_can_read(address: str, uri: str) -> None:
    assert storage_uri(address, {"showers": "/data", "other": "/data/inner"}) == uri


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/home/me/bundle", r"a path of this machine.*claims \(showers at /data\)"),
        ("/database/bundle", "a path of this machine"),
        ("file:///data/bundle", "KServe cannot read there; give an address that begins with minio://, s3://"),
        ("eos://server/bundle", "eos://server/bundle: KServe cannot read there"),
        ("bundle", "cannot read there"),
        ("", "no address: KServe cannot"),
        ("s3:///bundle", "has no bucket"),
    ],
)
def test_addresses_that_it_cannot(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        storage_uri(address, {"showers": "/data"})


@pytest.mark.parametrize("name", ["", "Calo", "1calo", "calo-", "calo.forge", "a" * 41])
def test_names_that_kserve_would_refuse(name: str) -> None:
    with pytest.raises(InputError, match="at most 40 lower-case"):
        inference_service(name, "s3://bucket/bundle", ServiceSettings())


def test_the_service_has_what_was_asked_for() -> None:
    settings = ServiceSettings(
        namespace="team", service_account="reader", mode="Standard", min_replicas=2, gpus=1, cpu="1500m", memory="6Gi",
        node_selector={"gpu": "a100"}, tolerations=(Toleration(key="nvidia.com/gpu"),), env={"A": "b"},
        secret_env={"KEY": SecretKey(secret="s3", key="key")}, secret_volumes={"krb": "/krb"}, claims={"data": "/data"},
        labels={"mount-eos": "true"}, annotations={"note": "x"}, image_pull_secrets=("registry",),
    )  # fmt: skip
    service = inference_service("calo", "pvc://data/bundle", settings)
    assert service["metadata"]["namespace"] == "team"
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 3)
    assert predictor["serviceAccountName"] == "reader"
    assert predictor["nodeSelector"] == {"gpu": "a100"}
    assert predictor["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert predictor["imagePullSecrets"] == [{"name": "registry"}]
    assert predictor["labels"]["mount-eos"] == "true"
    assert predictor["annotations"] == {"note": "x"}
    (container,) = predictor["containers"]
    variables = {entry["name"]: entry for entry in container["env"]}
    assert variables["STORAGE_URI"]["value"] == "pvc://data/bundle"
    assert variables["OMP_NUM_THREADS"]["value"] == "2"
    assert variables["KEY"]["valueFrom"]["secretKeyRef"] == {"name": "s3", "key": "key"}
    assert container["resources"]["limits"] == {"memory": "6Gi", "nvidia.com/gpu": "1"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/krb", "/tmp"}
    assert {volume["name"] for volume in predictor["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


def test_with_a_runtime_the_service_holds_no_image() -> None:
    settings = ServiceSettings(runtime="ours", env={"A": "b"})
    predictor = inference_service("calo", "s3://bucket/bundle", settings)["spec"]["predictor"]
    assert "containers" not in predictor
    assert predictor["model"]["runtime"] == "ours"
    assert predictor["model"]["storageUri"] == "s3://bucket/bundle"
    runtime = serving_runtime("ours", settings)
    assert runtime["spec"]["supportedModelFormats"][0]["name"] == predictor["model"]["modelFormat"]["name"]
    assert runtime["spec"]["containers"] == [server_container(settings)]


def test_the_server_is_told_its_bounds() -> None:
    for settings, expected in (
        (ServiceSettings(), ["--request-seconds", "120"]),
        (ServiceSettings(request_seconds=30, max_steps=50), ["--request-seconds", "30", "--max-steps", "50"]),
    ):
        container = server_container(settings)
        assert container["args"][6:] == expected
        command = main.get_command(None, "serve")  # type: ignore[arg-type]
        assert command is not None
        command.make_context("serve", [*container["args"]])


def test_another_bundle_or_image_is_another_specification() -> None:
    services = [
        inference_service("calo", "s3://bucket/a", ServiceSettings()),
        inference_service("calo", "s3://bucket/b", ServiceSettings()),
        inference_service("calo", "s3://bucket/a", ServiceSettings(image="registry.org/other:1")),
    ]
    digests = [service["spec"]["predictor"]["labels"][SPECIFICATION] for service in services]
    assert len(set(digests)) == 3
    again = inference_service("calo", "s3://bucket/a", ServiceSettings())
    assert again == services[0]


def test_replicas_must_fit_together() -> None:
    with pytest.raises(InputError, match=r"here: .*min_replicas \(4\) is more than max_replicas \(3\)"):
        ServiceSettings.parse({"min_replicas": 4}, where="here")
