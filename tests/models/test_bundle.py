from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from caloforge.cli import main
from caloforge.domain import Domain
from caloforge.errors import InputError
from caloforge.files import read_json, sha256, write_json
from caloforge.models.bundle import GeneratorFailed, load_bundle, read_bundle_config
from caloforge.models.engines.variant import Variant
from caloforge.models.export import export
from caloforge.models.generate import generate
from caloforge.showers import Conditions


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_bundle_stands_on_its_own(bundle: Path) -> None:
    generator = load_bundle(bundle)
    assert generator.family == "vae"
    assert generator.geometry.n_voxels == 480
    assert not [path for path in bundle.iterdir() if path.suffix in (".pt", ".pkl", ".ckpt")]
    record = json.loads((bundle / "training.json").read_text())
    assert record["provenance"]["seed"] == 1
    assert record["stages"]["voxels"]["steps"] == 8
    assert "vae" in (bundle / "README.md").read_text()


@pytest.mark.parametrize("name", ["weights.safetensors", "transform.safetensors", "geometry.xml", "training.json"])
def test_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(InputError, match=f"file {name} is missing"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "geometry.xml"])
def test_altered_file_is_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: differs from what the bundle was saved with"):
        load_bundle(bundle)


def test_other_folders_and_formats(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a generator bundle"):
        load_bundle(tmp_path)
    config = json.loads((bundle / "config.json").read_text())
    limits = config["conditions"]["incident_energy"]
    older = {"conditions": ["incident_energy"], "energy_range": [limits["low"], limits["high"]]}
    angles = {"conditions": ["incident_energy", "theta"], "format": 3}
    for changed in ({"format": 2}, {"format": 99}, {**older, "format": 2}, {**older, **angles}):
        (bundle / "config.json").write_text(json.dumps(config | changed))
        with pytest.raises(InputError, match="not a bundle of format 4; make it again"):
            load_bundle(bundle)
    (bundle / "config.json").write_text(json.dumps(config | older | {"format": 3}))
    assert load_bundle(bundle).domains == {"incident_energy": Domain(**limits)}
    (bundle / "config.json").write_text(json.dumps(config | older | {"format": 3, "energy_range": [3, "x"]}))
    with pytest.raises(InputError, match=r"conditions\.incident_energy\.high"):
        load_bundle(bundle)


def _rewrite(bundle: Path, **changes: object) -> None:
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    (bundle / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


@pytest.mark.parametrize("name", ["../victim", "/etc/hostname", "notes.txt", "plots/a.png", "", "config.json", "..\\a"])
def test_names_of_files_are_those_of_a_bundle(bundle: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine", encoding="utf-8")
    files = json.loads((bundle / "config.json").read_text(encoding="utf-8"))["files"]
    _rewrite(bundle, files={**files, name: sha256(tmp_path / "victim")})
    with pytest.raises(InputError, match=r"config\.json: files: .* is no file of a bundle"):
        load_bundle(bundle)
    with pytest.raises(InputError, match=r"is no file of a bundle"):
        export(bundle, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("files", [None, [], "weights"])
def test_a_bundle_names_its_files(bundle: Path, files: object) -> None:
    _rewrite(bundle, files=files)
    with pytest.raises(InputError, match=r"config\.json: files: "):
        load_bundle(bundle)


def test_links_are_no_files_of_a_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "README.md").rename(tmp_path / "elsewhere")
    (bundle / "README.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"README\.md.*(leads out of the folder|is a link)"):
        load_bundle(bundle)
    (bundle / "README.md").unlink()
    (tmp_path / "elsewhere").rename(bundle / "card")
    (bundle / "README.md").symlink_to("card")
    with pytest.raises(InputError, match=r"README\.md: is a link or no file"):
        load_bundle(bundle)


def test_a_bundle_whose_files_are_linked_one_by_one(bundle: Path, tmp_path: Path) -> None:
    """As KServe's storage initializer does with a bundle on a claim."""
    (tmp_path / "models").mkdir()
    for file in bundle.iterdir():
        (tmp_path / "models" / file.name).symlink_to(file)
    assert load_bundle(tmp_path / "models").family == "vae"


@pytest.mark.parametrize("name", ["weights.safetensors", "transform.safetensors"])
def test_numbers_that_are_not_finite_are_refused(bundle: Path, name: str) -> None:
    state = load_file(bundle / name)
    first = next(key for key, value in state.items() if value.is_floating_point())
    state[first].view(-1)[0] = float("nan")
    save_file(state, bundle / name)
    files = json.loads((bundle / "config.json").read_text(encoding="utf-8"))["files"]
    _rewrite(bundle, files={**files, name: sha256(bundle / name)})
    with pytest.raises((InputError, GeneratorFailed), match=r"not finite"):
        load_bundle(bundle)


def test_a_bundle_goes_into_no_folder_of_others(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "chapter.tex").touch()
    with pytest.raises(InputError, match=r"work: holds chapter\.tex, which caloforge did not write"):
        export(bundle, tmp_path / "work")
    with pytest.raises(InputError, match=r"is the input .*bundle; give another output"):
        export(bundle, bundle)
    with pytest.raises(InputError, match=r"weights\.safetensors: is a file of the input"):
        generate(bundle, Conditions(np.array([1e4])), bundle / "weights.safetensors")
    assert load_bundle(bundle).family == "vae"


def test_a_family_without_codings_is_read_from_the_format_before(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text()) | {"format": 2}
    del config["voxel_scaling"]
    limits = config["conditions"]["incident_energy"]
    older = {"conditions": ["incident_energy"], "energy_range": [limits["low"], limits["high"]]}
    (bundle / "config.json").write_text(json.dumps(config | older))
    assert read_bundle_config(bundle)["conditions"] == config["conditions"]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32])
def test_weights_of_another_kind_of_numbers_are_refused(dtype: torch.dtype, bundle: Path) -> None:
    weights = load_file(bundle / "weights.safetensors")
    name = next(name for name, value in weights.items() if value.is_floating_point())
    save_file({**weights, name: weights[name].to(dtype)}, bundle / "weights.safetensors")
    files = read_json(bundle / "config.json")["files"]
    _rewrite(bundle, files={**files, "weights.safetensors": sha256(bundle / "weights.safetensors")})
    with pytest.raises(InputError, match=rf"weights\.safetensors: {name} holds {str(dtype)[6:]}, expected float32"):
        load_bundle(bundle)


@pytest.mark.parametrize("key", ["latent", "network"])
def test_networks_of_absurd_sizes_are_refused(key: str, bundle: Path) -> None:
    config = read_json(bundle / "config.json")
    config["settings"]["model"][key] = 10**9 if key == "latent" else {"backbone": "mlp", "blocks": 10**7}
    write_json(bundle / "config.json", config)
    with pytest.raises(InputError, match=r"config\.json: model\..*less than or equal to"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"geometry": "a\n\x1b[31mERROR"},
            r"config\.json: geometry: expected a name of at most 200 characters on one line",
        ),
        ({"preset": "x" * 201}, r"config\.json: preset: expected a name"),
        ({"threshold": "0.01"}, r"config\.json: threshold: Input should be a valid number"),
    ],
)
def test_what_config_says_is_of_its_kind(bundle: Path, changes: dict[str, object], message: str) -> None:
    _rewrite(bundle, **changes)
    with pytest.raises(InputError, match=message):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_bundle_that_is_changed_while_it_is_read_is_refused(
    bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = bundle.parent / "other"
    shutil.copy(bundle / name, other)

    def read_and_replace(path: Path) -> dict[str, torch.Tensor]:
        state = load_file(path)
        other.replace(bundle / name)
        return state

    monkeypatch.setattr("caloforge.models.bundle.read_weights", read_and_replace)
    with pytest.raises(InputError, match="was changed while it was read"):
        load_bundle(bundle)


def test_a_good_generator_is_tried_out(bundle: Path) -> None:
    load_bundle(bundle).try_out()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda showers: showers * 0, "the energies are 0 to 0 times the incident energies"),
        (lambda showers: showers * 1e6, r"the energies are .* times the incident energies; its weights and settings"),
        (lambda showers: showers[:, :0].argmax(1), r"cannot draw showers \(ValueError: attempt to get argmax"),
        (lambda showers: showers * 1.01, "'fast': 8 of 8 showers differ from PyTorch's"),
    ],
)
def test_a_generator_of_parts_that_do_not_fit_is_refused(
    bundle: Path, made: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    generator = load_bundle(bundle)
    plain = generator._draw
    generator._draw = lambda columns, noise: made(plain(columns, noise))
    generator.variant = Variant(name="'fast'", engine="onnx")
    with pytest.raises(GeneratorFailed, match=message) as caught:
        generator.try_out()
    assert "\n" not in str(caught.value)


def test_such_a_generator_is_not_served(bundle: Path) -> None:
    _rewrite(bundle, threshold=1e14)
    result = CliRunner().invoke(main, ["serve", "--bundle", str(bundle), "--http-port", "0", "--grpc-port", "0"])
    assert result.exit_code == 1
    assert "times the incident energies" in result.output
    assert result.output.count("\n") == 1


def test_a_variant_has_a_name_on_one_line() -> None:
    with pytest.raises(InputError, match="variant: name: expected a name of at most 200 characters on one line"):
        Variant.parse({"name": "a\n\x1b[31mERROR"}, where="variant")


def test_a_variant_takes_no_steps_where_there_are_none(bundle: Path) -> None:
    with pytest.raises(InputError, match="'few': takes 4 steps, but vae takes none"):
        load_bundle(bundle).run_as(Variant(name="'few'", steps=4), bundle)
