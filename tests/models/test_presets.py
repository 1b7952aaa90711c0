"""What a configuration is made of, and mistakes that are found without training."""

from __future__ import annotations

from typing import Any

import pytest
from small_families import VOXEL_FAMILIES

from caloforge.errors import InputError
from caloforge.models.presets import energies_training, resolve
from caloforge.models.registries import FAMILIES


@pytest.mark.parametrize(
    ("family", "overrides", "message"),
    [
        ("vae", {"learning_rate": 1e-3}, r"belongs in training.learning_rate or energies.learning_rate: {training: {l"),
        ("vae", {"lerning_rate": 1e-3}, r"belongs in training.learning_rate"),
        ("vae", {"latent": 3}, r"belongs in model.latent: {model: {latent: ...}}"),
        ("vae", {"model": {"beta": 3}}, "unknown key 'model.beta'"),
        ("vae", {"training": 3}, "override 'training': expected keys and values, got 3"),
        ("vae", {"training": {"steps": 0}}, r"vae \(demo\): training.steps: Input should be greater than 0"),
        ("vae", {"model": {"network": {"backbone": "layer"}}}, "unknown backbone 'layer'; did you mean 'layers'"),
        ("vae", {"model": {"network": {"backbone": "mlp", "heads": 3}}}, "unknown key 'model.network.heads'"),
        ("vae", {"objective": {"name": "elbow"}}, "unknown objective 'elbow'; did you mean 'elbo'"),
        ("vae", {"objective": {"betta": 1}}, "unknown key 'objective.betta'; did you mean 'objective.beta'"),
        ("vae", {"losses": [{"name": "shower_center", "weight": 1}]}, "did you mean 'shower_centre'"),
        ("vae", {"losses": [{"name": "shower_centre", "weight": 0}]}, "losses.0.weight"),
        ("vae", {"losses": {"name": "shower_centre"}}, "losses"),
        ("vae", {"objective": {"name": "flow_matching"}}, "trains a field over .* choose elbo"),
        ("flow_matching", {"objective": {"name": "elbo"}}, "choose flow_matching or denoising or edm"),
        ("flow_matching", {"sampler": {"name": "ddim"}}, "sampler 'ddim' takes a denoiser.*choose euler or midpoint"),
        ("flow_matching", {"objective": {"name": "denoising"}}, "choose ddim or ddpm or dpm_solver"),
        ("diffusion", {"objective": {"target": "w"}}, "objective.target"),
        (
            "gan",
            {"objective": {"name": "vae_gan"}},
            "trains an encoder, a decoder and a critic, but .* choose non_satur",
        ),
        ("coupling_flow", {"model": {"network": {"backbone": "unet"}}}, "'unet' maps V -> V; choose mlp or layers"),
        (
            "bib_ae",
            {"post_network": {"backbone": "masked_mlp"}},
            r"bib_ae: post_network: needs a backbone 'V -> V', but",
        ),
        ("autoregressive_flow", {"drawn_by": "pupil"}, "drawn_by: Input should be 'student' or 'teacher'"),
    ],
)
def test_mistakes_are_found_without_training(family: str, overrides: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(family, "demo", overrides)


def test_a_new_choice_starts_from_its_own_settings() -> None:
    config = resolve("flow_matching", "demo", {"model": {"network": {"backbone": "mlp", "blocks": 2}}})
    assert config.model_dump()["model"]["network"] == {"backbone": "mlp", "width": 256, "blocks": 2}
    config = resolve("flow_matching", "demo", {"sampler": {"steps": 3}, "model": {"network": {"heads": 2}}})
    assert config.model_dump()["sampler"] == {"name": "heun", "steps": 3}
    assert config.model_dump()["model"]["network"]["width"] == 96


@pytest.mark.parametrize("family", VOXEL_FAMILIES)
def test_defaults_serve_where_a_preset_says_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.models.presets._read_preset", lambda name: {"energies": {"steps": 7}})
    config = resolve(family, "demo")
    assert config.model_dump()["energies"]["steps"] == 7
    assert config.model_dump()["training"]["steps"] == 1000


def test_a_resolved_configuration_is_read_back() -> None:
    config = resolve("vae", "full", {"losses": [{"name": "shower_centre", "weight": 0.1}]})
    again = FAMILIES.get("vae").Config.parse(config.model_dump(mode="json"), where="config.json")
    assert again == config


def test_layer_energies_are_configured_alone() -> None:
    assert energies_training("demo", {"steps": 3}).steps == 3
    with pytest.raises(InputError, match="did you mean 'steps'"):
        energies_training("demo", {"step": 3})
    with pytest.raises(InputError, match="did you mean 'full'"):
        energies_training("ful")
