"""The step that cleans, splits and scales the showers."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    showers: Input[Dataset],
    prepared: Output[Dataset],
    quality: Output[Markdown],
    settings: str = "{}",
    geometry: str = "",
    seed: int = 0,
    data_sha256: str = "",
    code_version: str = "",
) -> None:
    """Clean and split the showers and fit the scaling.

    Args:
        showers: CaloChallenge HDF5 file.
        prepared: folder with splits, transform and geometry.
        quality: data-quality report.
        settings: JSON of PrepareSettings.
        geometry: JSON of {"name", "text" of the binning XML}; empty: the file's own.
        seed: seed of the splits.
        data_sha256: checksum of the file; another checksum makes another cache entry.
        code_version: another version makes another cache entry.
    """
    import json
    import shutil
    from pathlib import Path

    from caloforge.components.artifacts import describe
    from caloforge.components.task import task
    from caloforge.geometry import Geometry
    from caloforge.preprocessing.prepare import PrepareSettings, prepare
    from caloforge.showers import open_showers

    with task("preprocess"):
        data = open_showers(Path(showers.path), Geometry.from_xml(**json.loads(geometry)) if geometry else None)
        parsed = PrepareSettings.parse(json.loads(settings), where="prepare")
        prepare(data, Path(prepared.path), settings=parsed, seed=seed)
        shutil.copyfile(Path(prepared.path) / "quality.md", quality.path)
        describe(prepared, data_sha256=data_sha256, code_version=code_version, seed=seed)
