"""The step that writes showers of any format, or of several files, as the one file that the others read."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def convert(
    showers: Output[Dataset],
    data: str,
    test: str = "[]",
    geometry: str = "",
    data_sha256: str = "",
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Write showers of any format as one CaloChallenge HDF5 file.

    Args:
        showers: the file.
        data: address, or JSON of a list of them.
        test: JSON of the addresses of showers that generators are to be judged on.
        geometry: name of the mesh, or path of its file; empty: the files' own.
        data_sha256: checksum of the file, if it is one; another checksum makes another cache entry.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import json
    import shutil

    from caloforge.components.artifacts import describe, record
    from caloforge.components.task import task
    from caloforge.preprocessing.sample import one_file
    from caloforge.temporary import scratch_folder

    with task("convert"), scratch_folder() as scratch:
        sources = json.loads(data) if data.startswith("[") else [data]
        found = one_file(sources, scratch, test=json.loads(test), geometry=geometry or None, checksum=data_sha256)
        shutil.copyfile(found.path, showers.path)
        source = found.source
        describe(showers, **{f"data_{key}": value for key, value in source.as_dict().items()})
        return (record("convert", {}, data=source),)
