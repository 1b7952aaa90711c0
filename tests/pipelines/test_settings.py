from pathlib import Path
from typing import Any

import pytest

from caloforge.errors import InputError
from caloforge.pipelines.settings import PipelineSettings
from caloforge.serving.inference_service import ServiceSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"familys": ["vae"]}, r"here: unknown key 'familys'; did you mean 'families'"),
        ({"families": ["vea"]}, r"here: families: unknown family 'vea'; did you mean 'vae'"),
        ({"families": ["vae", "vae"]}, "named twice"),
        ({"families": []}, "families"),
        ({"overrides": {"difusion": {}}}, "did you mean 'diffusion'"),
        ({"overrides": {"vae": {"learning_rate": 1e-3}}}, r"here: .*'learning_rate'.*training\.learning_rate"),
        (
            {"overrides": {"vae": {"training": {"stepz": 1}}}},
            r"here: .*'training\.stepz'; did you mean 'training\.steps'",
        ),
        ({"overrides": {"vae": {"training": {"steps": 0}}}}, r"here: .*training\.steps: .*greater than 0"),
        (
            {"distill": {}, "families": ["vae"]},
            r"here: distill: none of the families takes steps \(vae\); leave it out",
        ),
        ({"distill": {"steps": 40}, "families": ["diffusion"]}, "distill: diffusion: .*the teacher takes 10 passes"),
        (
            {"distill": {"method": "reflow"}, "families": ["diffusion"]},
            "distill: diffusion: 'reflow' distils a velocity",
        ),
        ({"tuning": {"trials": 3, "algorithm": "nonsense"}}, r"here: unknown algorithm 'nonsense'"),
        ({"tuning": {"trials": 3, "objective": "fdp"}}, r"here: unknown objective 'fdp'; did you mean 'fpd'"),
        (
            {"tuning": {"trials": 3, "spaces": {"vae": {"training.rate": {"type": "double", "min": 1, "max": 2}}}}},
            "rate",
        ),
        ({"preset": "ful"}, r"preset: unknown preset 'ful'; did you mean 'full'"),
        ({"protocol": "chalenge"}, r"protocol: unknown protocol 'chalenge'; did you mean 'challenge'"),
        ({"prepare": {"treshold": 1}}, "did you mean 'prepare.threshold'"),
        ({"seed": 2**53}, "seed"),
        ({"resources": {"trian": {}}}, r"here: resources: unknown step 'trian'; did you mean 'train'"),
        ({"resources": {"train": {"gpuss": 1}}}, r"train: unknown key 'gpuss'; did you mean 'gpus'"),
        ({"resources": {"train": {"cpu": "many"}}}, r"train: cpu: .many. is no amount"),
        ({"pod": {"memry": "8G"}}, r"did you mean 'pod.memory'"),
        ({"pod": {"secret_env": {"KEY": "value"}}}, r"pod.secret_env.KEY"),
        ({"pod": {"env": {"AWS_SECRET_ACCESS_KEY": "x"}}}, r"'AWS_SECRET_ACCESS_KEY' looks like a secret.*secret_env"),
        ({"resources": {"train": {"env": {"wandb_api_key": "x"}}}}, r"train: env: 'wandb_api_key' looks like a secret"),
        ({"service": {"env": {"HF_TOKEN": "x"}}}, r"service: env: 'HF_TOKEN' looks like a secret"),
        ({"service": {"replicas": 2}}, r"unknown key 'service.replicas'; did you mean 'service.m"),
        ({"deploy": "My_Service"}, r"deploy: InferenceService 'My_Service': expected at most 40 lower-case"),
        ({"timeouts": {"validat": 60}}, r"timeouts: unknown step 'validat'; did you mean 'validate'"),
        ({"timeouts": {"train": 0}}, r"timeouts.train"),
        ({"backoff": {"second": 5}}, r"did you mean 'backoff.seconds'"),
        ({"image": "registry.org/python-caloforge"}, "no tag of its own"),
        ({"image": "registry.org:5000/python-caloforge:latest"}, "no tag of its own"),
        ({"namespace": "My_Profile"}, "namespace"),
        ({"name": "Not_A_Name"}, "name"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        PipelineSettings.parse(values, where="here")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pod": {"claims": {"data": "data"}}}, "pod.claims.data: 'data': a mount path is absolute"),
        ({"pod": {"claims": {"data": "/data:ro"}}}, "no ':'"),
        ({"pod": {"claims": {"data": "/a/../b"}}}, r"no '\.\.'"),
        ({"pod": {"claims": {"data": "/"}}}, "a folder below /"),
        ({"pod": {"claims": {"Data": "/data"}}}, "pod.claims.Data.*lower-case"),
        ({"pod": {"secret_volumes": {"a": "/x"}, "claims": {"b": "/x/"}}}, "claim 'b' and secret 'a' are both"),
        ({"pod": {"claims": {"b": "/dev/shm"}, "shm": "1G"}}, "shm and claim 'b' are both mounted at /dev/shm"),
        ({"pod": {"claims": {"b": "/x"}}, "resources": {"train": {"claims": {"c": "/x"}}}}, "'train': claim 'c' and"),
        ({"pod": {"claims": {"b": "/fetched"}}, "fetch_cache": {"claim": "c"}}, "both mounted at /fetched"),
        ({"pod": {"env": {"1A": "x"}}}, "pod.env.1A.*no digit first"),
        ({"pod": {"env": {"A-B": "x"}}}, "pod.env.A-B"),
        ({"pod": {"env": {"A.B": "x"}}}, "pod.env.A.B"),
        ({"pod": {"env": {"A": 1}}}, "pod.env.A: .*string"),
        ({"pod": {"env": {"A": "1"}, "secret_env": {"A": {"secret": "s", "key": "k"}}}}, "'A' is in both env and"),
        ({"pod": {"secret_env": {"A": {"secret": "My_Secret", "key": "k"}}}}, "pod.secret_env.A.secret"),
        ({"pod": {"secret_env": {"A": {"secret": "s", "key": "a b"}}}}, "pod.secret_env.A.key"),
        ({"pod": {"secret_env": {"A": {"secret": "s", "key": "..a"}}}}, "pod.secret_env.A.key"),
        ({"pod": {"labels": {"a b": "c"}}}, "pod.labels.a b"),
        ({"pod": {"labels": {"a": "c" * 64}}}, "pod.labels.a: .*at most 63"),
        ({"pod": {"labels": {"a": "c d"}}}, "pod.labels.a"),
        ({"pod": {"labels": {"/a": "c"}}}, "pod.labels./a"),
        ({"pod": {"labels": {"a": True}}}, "pod.labels.a: .*string"),
        ({"pod": {"annotations": {"a/b/c": "d"}}}, "pod.annotations.a/b/c"),
        ({"pod": {"annotations": {"a": "d" * 300_000}}}, "300001 bytes"),
        ({"pod": {"node_selector": {"a": "-"}}}, "pod.node_selector.a"),
        ({"pod": {"tolerations": [{"key": "a", "value": "b"}]}}, "operator Equal only"),
        ({"pod": {"tolerations": [{"operator": "Equal"}]}}, "needs a key"),
        ({"pod": {"tolerations": [{"key": "a", "seconds": 5}]}}, "NoExecute only"),
        ({"pod": {"gpu_type": "gpu"}}, "pod.gpu_type: 'gpu' is not what"),
        ({"pod": {"image_pull_secrets": ["a/b"]}}, "pod.image_pull_secrets.0"),
        ({"pod": {"memory": "8"}}, "8 bytes, in which nothing starts; say e.g. 8G"),
        ({"pod": {"memory": "8ki"}}, "no amount"),
        ({"pod": {"memory": "8000m"}}, "in which nothing starts"),
        ({"pod": {"memory": "1e400"}}, "no amount"),
        ({"pod": {"cpu": "0"}}, "is positive"),
        ({"pod": {"cpu": "٣"}}, "no amount"),
        ({"pod": {"memory": "999999999999999999E"}}, r"less than 2\^63"),
        ({"pod": {"cpu": "4"}, "resources": {"train": {"cpu_limit": "2"}}}, r"cpu_limit \(2\) is less than cpu \(4\)"),
        ({"pod": {"gpus": True}}, "pod.gpus: expected a number"),
        ({"image": "a/python:1\n"}, "no container image"),
        ({"image": "a/python:1 --privileged"}, "no container image"),
        ({"image": "A/Python:1"}, "no container image"),
        ({"image": "a/python@sha256:0"}, "no container image"),
        ({"image": "a/python:<TAG>"}, "no container image"),
        ({"service": {"image": "a python:1"}}, "service.image"),
        ({"service": {"runtime": "A b"}}, "service.runtime"),
        ({"service": {"ready_minutes": float("inf")}}, "service.ready_minutes"),
        ({"retries": 10**9}, "retries: .*100"),
        ({"retries": True}, "retries: expected a number"),
        ({"backoff": {"seconds": 10**9}}, "backoff.seconds"),
        ({"backoff": {"factor": float("nan")}}, "backoff.factor"),
        ({"distributed": {"nodes": 10**9}}, "distributed.nodes"),
        ({"distributed": {"runtime": "torch distributed"}}, "distributed.runtime"),
        ({"fetch_cache": {"claim": "c", "path": "fetched"}}, "fetch_cache.path"),
        ({"seed": True}, "seed: expected a number"),
        ({"timeouts": {"train": True}}, "timeouts: expected a number"),
        ({"max_minutes": float("inf")}, "max_minutes: .*finite"),
        ({"max_minutes": float("nan")}, "max_minutes: .*finite"),
        ({"tuning": {"trials": 10**9}}, "tuning.trials"),
        ({"tuning": {"max_minutes": float("inf")}}, "tuning.max_minutes"),
        ({"prepare": {"threshold": float("inf")}}, "prepare.threshold"),
        ({"prepare": {"threshold": True}}, "prepare.threshold: expected a number"),
        ({"namespace": "a.b"}, "namespace"),
        ({"service_account": "a_b"}, "service_account"),
        ({"webhook": {"secret": "a", "key": ""}}, "webhook.key"),
        ({"pod": {"env": {"A": "{{workflow.name}}"}}}, r"pod.env.A: .* holds '{{'"),
        ({"data": "s3://<bucket>/showers.hdf5"}, "data: .*filled in"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_at_once(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        PipelineSettings.parse(values, where="here")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_what_kubernetes_takes_is_taken() -> None:
    pod = {
        "cpu": "0.5", "memory": "1500Mi", "gpu_type": "amd.com/gpu", "shm": "64M",
        "node_selector": {"topology.kubernetes.io/zone": "", "Pool_1": "A.b-c_d"},
        "tolerations": [{}, {"key": "example.org/a", "operator": "Equal", "value": "b"}, {"effect": "NoExecute", "seconds": 0}],
        "env": {"_A1": "", "a": "two\nlines"}, "secret_env": {"K": {"secret": "a.b-c", "key": "tls.crt"}},
        "secret_volumes": {"krb5": "/etc/krb5/krb5.conf.d"}, "claims": {"data.v2": "/tmp/"},
        "annotations": {"Example.ORG/x": "{}"}, "labels": {"sidecar.istio.io/inject": "false"},
    }  # fmt: skip
    settings = PipelineSettings.parse(
        {"pod": pod, "namespace": "0-team", "service_account": "a.b", "retries": 0, "max_minutes": 1}, where="here"
    )
    assert settings.pod_of("validate").memory == "1500Mi"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nfamilies: [vae]\nseed: 2\n", "line 3.*the key 'seed' is there twice"),
        ("pod:\n  env: {A: x, A: y}\n", "the key 'A' is there twice"),
        ("seed: true\n", "seed: expected a number"),
        ("families: [vae]\nmax_minutes: .inf\n", "max_minutes: .*finite"),
        ("a: &a [*a]\n", "an alias holds itself"),
        ("[" * 5000, "nested too deeply"),
        ("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)), "more than 100000"),
        ("- a\n", "expected keys and values"),
        ("seed: 1\n---\nseed: 2\n", "not a YAML file"),
        ("seed: !!python/object/apply:os.getcwd []\n", "not a YAML file"),
        ("when: 2020-99-99\n", "not a YAML file"),
        ("\x00", "not a YAML file"),
    ],
)  # fmt: skip
def test_a_settings_file_that_is_none_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"(?s)settings.yaml: .*{message}"):
        PipelineSettings.from_yaml(path)


def test_anchors_and_merges_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "resources:\n  train: &large {memory: 64G, cpu: '8'}\n  validate: {<<: *large, cpu: '2'}\n"
        "  export: {<<: *large, memory: 8G}\n"
    )
    settings = PipelineSettings.from_yaml(path)
    assert (settings.pod_of("validate").cpu, settings.pod_of("validate").memory) == ("2", "64G")
    assert settings.pod_of("export").memory == "8G"


def test_the_server_takes_from_the_steps_what_is_not_said() -> None:
    settings = PipelineSettings(image="registry.org/ours:7", namespace="calo", pod={"image_pull_secrets": ["registry"]})
    served = settings.served()
    assert (served.image, served.namespace, served.image_pull_secrets) == ("registry.org/ours:7", "calo", ("registry",))
    other = settings.model_copy(update={"service": ServiceSettings(image="registry.org/server:1")})
    assert other.served().image == "registry.org/server:1"


def test_settings_come_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("families: [vae]\nresources: {train: {gpus: 1, memory: 32G}}\n")
    settings = PipelineSettings.from_yaml(path)
    assert settings.families == ("vae",)
    assert settings.pod_of("train").gpus == 1


def test_a_steps_part_lies_on_top_of_what_all_steps_get() -> None:
    values = {
        "pod": {"memory": "16G", "env": {"A": "1", "B": "1"}, "claims": {"data": "/data"}},
        "resources": {"train": {"gpus": 2, "env": {"B": "2"}, "claims": {"scratch": "/scratch"}}},
    }
    settings = PipelineSettings.parse(values, where="here")
    training = settings.pod_of("train")
    assert (training.cpu, training.memory, training.gpus) == ("2", "16G", 2)
    assert training.env == {"A": "1", "B": "2"}
    assert training.claims == {"data": "/data", "scratch": "/scratch"}
    assert settings.pod_of("validate") == settings.pod
    assert settings.pod_of("notify").memory == "512M"
    assert PipelineSettings.parse(settings.model_dump(mode="json"), where="again") == settings


@pytest.mark.parametrize(
    "image",
    ["a/python:1", "host:5000/a/python:1", f"a/python@sha256:{'0' * 64}", f"a/python:latest@sha256:{'0' * 64}"],
)
def test_pinned_images_are_taken(image: str) -> None:
    assert PipelineSettings(image=image).image == image
