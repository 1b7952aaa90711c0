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
        ({"preset": "ful"}, r"preset: unknown preset 'ful'; did you mean 'full'"),
        ({"protocol": "chalenge"}, r"protocol: unknown protocol 'chalenge'; did you mean 'challenge'"),
        ({"prepare": {"treshold": 1}}, "did you mean 'prepare.threshold'"),
        ({"seed": 2**53}, "seed"),
        ({"resources": {"trian": {}}}, r"here: resources: unknown step 'trian'; did you mean 'train'"),
        ({"resources": {"train": {"gpuss": 1}}}, r"train: unknown key 'gpuss'; did you mean 'gpus'"),
        ({"resources": {"train": {"cpu": "many"}}}, r"train: cpu: String should match"),
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
    "image", ["a/python:1", "host:5000/a/python:1", "a/python@sha256:0", "a/python:latest@sha256:0"]
)
def test_pinned_images_are_taken(image: str) -> None:
    assert PipelineSettings(image=image).image == image
