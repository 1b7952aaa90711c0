from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.preprocessing.picture import write_picture


@pytest.mark.parametrize(
    ("name", "cells", "said"),
    [
        ("siw_demo", 32, "all layers"),
        ("dataset_1_photons", 160, "layer 1, the one with the most energy"),
        ("calogan", 144, "layer 1, the one with the most energy"),
        ("focal_h_prototype_2", 249, ""),
    ],
)
def test_cells_are_drawn_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cells: int, said: str
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), Path(path).touch()))
    geometry = load_geometry(name)
    mean = np.where(geometry.layer_of_voxel == min(1, geometry.n_layers - 1), 7.0, 0.0)
    write_picture(mean, geometry, tmp_path / "mean.png", title="of a$b_{$c.hdf5")
    right = drawn[0].axes[1 if geometry.n_layers > 1 else 0]
    (polygons,) = (one for one in right.collections if isinstance(one, PolyCollection))
    paths = polygons.get_paths()
    assert len(paths) == cells
    assert right.get_title() == said
    # Each polygon has the area of its voxel, and the energy per area that it has.
    layer = int(np.argmax(np.bincount(geometry.layer_of_voxel, weights=mean)))
    area = geometry.area_of_voxel[geometry.layer_slices[layer]]
    corners = [path.vertices[:-1] for path in paths]
    shoelace = [0.5 * abs(np.sum(c[:, 0] * np.roll(c[:, 1], -1) - c[:, 1] * np.roll(c[:, 0], -1))) for c in corners]
    assert np.allclose(shoelace, area, rtol=0.01)  # arcs are drawn as chords
    assert np.allclose(polygons.get_array(), 7.0 / area)


def test_a_picture_is_a_png(tmp_path: Path) -> None:
    geometry = load_geometry("siw_demo")
    with pytest.raises(InputError, match=r"a picture is written as PNG; call it mean\.png"):
        write_picture(np.ones(geometry.n_voxels), geometry, tmp_path / "mean.pdf", title="")
