"""The step that cleans, splits and scales the showers, and trains what all families share."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    prepared: Output[Dataset],
    quality: Output[Markdown],
    energies: Output[Model],
    metrics: Output[Metrics],
    data: str,
    settings: str = "{}",
    geometry: str = "",
    preset: str = "demo",
    max_minutes: float = 0.0,
    with_energies: bool = True,
    seed: int = 0,
    data_sha256: str = "",
    showers: Input[Dataset] = None,
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Clean and split the showers, fit the scaling, and train the layer energies once for all families.

    Args:
        prepared: folder with splits, conditions, transform, geometry and where the showers came from.
        quality: data-quality report.
        energies: trained layer energies, the first stage of the families that draw them.
        metrics: losses and costs of their training.
        data: address of the CaloChallenge HDF5 file.
        settings: JSON of PrepareSettings.
        geometry: name of the mesh, or JSON of {"geometry_name", "geometry_xml" or "geometry_csv"}; empty: the file's own.
        preset: demo or full, how long the layer energies are trained.
        max_minutes: bound of a family's training; the layer energies get their share of it. 0 is no bound.
        with_energies: whether any family needs the layer energies.
        seed: seed of the splits and of the training.
        data_sha256: checksum of the file; another checksum makes another cache entry.
        showers: the file that the step convert wrote, in place of data; none without that step.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import json
    import shutil
    from pathlib import Path

    from caloforge.components.artifacts import NO_ENERGIES, describe, log_scalars, record, showers_here
    from caloforge.components.task import task
    from caloforge.files import write_json
    from caloforge.geometry import geometry_of
    from caloforge.preprocessing.prepare import PrepareSettings, prepare
    from caloforge.showers import open_showers
    from caloforge.temporary import scratch_folder

    with task("preprocess"), scratch_folder() as scratch:
        fetched = showers_here(data, showers, scratch, checksum=data_sha256)
        mesh = geometry_of(json.loads(geometry), name="") if geometry.startswith("{") else geometry or None
        parsed = PrepareSettings.parse(json.loads(settings), where="prepare")
        folder = Path(prepared.path)
        done = prepare(open_showers(fetched.path, mesh), folder, settings=parsed, seed=seed, source=fetched.source)
        shutil.copyfile(folder / "quality.md", quality.path)
        source = done.source or fetched.source
        origin = {f"data_{key}": value for key, value in source.as_dict().items()}
        describe(prepared, seed=seed, code_version=code_version, **origin)
        describe(quality)
        written = {"quality": quality}
        if with_energies:
            from caloforge.models.training.energies import train_energies
            from caloforge.models.voxel_family import ENERGY_SHARE

            minutes = ENERGY_SHARE * max_minutes or None
            figures = train_energies(
                fetched.path, folder, Path(energies.path), preset=preset, seed=seed, max_minutes=minutes
            )
            describe(energies, display_name="layer energies", preset=preset, seed=seed)
            written["energies"] = energies
        else:
            figures = {}
            write_json(Path(energies.path) / NO_ENERGIES, {})  # kfp takes an artifact without a file for lost
        log_scalars(metrics, figures)
        return (record("preprocess", written, data=source),)
