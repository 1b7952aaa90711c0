"""The step that cleans, splits and scales the showers."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Markdown, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    prepared: Output[Dataset],
    quality: Output[Markdown],
    data: str,
    settings: str = "{}",
    geometry: str = "",
    seed: int = 0,
    data_sha256: str = "",
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Clean and split the showers and fit the scaling.

    Args:
        prepared: folder with splits, conditions, transform, geometry and where the showers came from.
        quality: data-quality report.
        data: address of the CaloChallenge HDF5 file.
        settings: JSON of PrepareSettings.
        geometry: name of the mesh, or JSON of {"name", "text" of the binning XML}; empty: the file's own.
        seed: seed of the splits.
        data_sha256: checksum of the file; another checksum makes another cache entry.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import json
    import shutil
    import tempfile
    from pathlib import Path

    from caloforge.components.artifacts import describe, record
    from caloforge.components.task import task
    from caloforge.fetch import fetch
    from caloforge.geometry import Geometry
    from caloforge.preprocessing.prepare import PrepareSettings, prepare
    from caloforge.showers import open_showers

    with task("preprocess"), tempfile.TemporaryDirectory() as scratch:
        fetched = fetch(data, Path(scratch), checksum=data_sha256)
        mesh = Geometry.from_xml(**json.loads(geometry)) if geometry.startswith("{") else geometry or None
        parsed = PrepareSettings.parse(json.loads(settings), where="prepare")
        folder = Path(prepared.path)
        done = prepare(open_showers(fetched.path, mesh), folder, settings=parsed, seed=seed, source=fetched.source)
        shutil.copyfile(folder / "quality.md", quality.path)
        source = done.source or fetched.source
        origin = {f"data_{key}": value for key, value in source.as_dict().items()}
        describe(prepared, seed=seed, code_version=code_version, **origin)
        describe(quality)
        return (record("preprocess", {"quality": quality}, data=source),)
