"""Layers of r and alpha bins, as CaloChallenge describes them."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry.base import MOST_MM, MOST_VOXELS, FloatArray, Geometry, IntArray, difference_of_sizes


@dataclass(frozen=True)
class Layer:
    """One longitudinal layer: rings in r, each cut into equal bins of alpha over [-pi, pi).

    Attributes:
        id: number of the layer in the detector.
        r_edges: bin edges in mm, rising; a single number means that the layer is absent.
        n_alpha: number of alpha bins.
    """

    id: int
    r_edges: tuple[float, ...]
    n_alpha: int

    def __post_init__(self) -> None:
        """Check the edges and the number of bins."""
        if not self.r_edges:
            raise InputError(f"layer {self.id}: r_edges is empty; an absent layer has r_edges='0'")
        if not all(math.isfinite(edge) and abs(edge) < MOST_MM for edge in self.r_edges):
            raise InputError(f"layer {self.id}: r_edges must be finite numbers in mm, got {_few(self.r_edges)}")
        if any(b <= a for a, b in zip(self.r_edges, self.r_edges[1:], strict=False)):
            raise InputError(f"layer {self.id}: r_edges must rise, got {_few(self.r_edges)}")
        if self.r_edges[0] < 0:
            raise InputError(f"layer {self.id}: r_edges must not be negative, got {self.r_edges[0]}")
        if self.n_alpha < 1:
            raise InputError(f"layer {self.id}: n_bin_alpha must be positive, got {self.n_alpha}")
        if self.n_voxels > MOST_VOXELS:
            raise InputError(f"layer {self.id}: {self.n_voxels} voxels; a shower has {MOST_VOXELS} at most")

    @property
    def n_r(self) -> int:
        """Number of r bins, 0 if the layer is absent."""
        return len(self.r_edges) - 1

    @property
    def n_voxels(self) -> int:
        """Number of voxels, 0 if the layer is absent."""
        return self.n_r * self.n_alpha


@dataclass(frozen=True)
class CylindricalGeometry(Geometry):
    """Rings around the shower axis, each cut into bins of alpha: order layer, then alpha, then r (r fastest).

    Attributes:
        name: what the geometry is called, e.g. ``dataset_2``.
        layers: all layers of the binning file, absent ones included.
        particle: name of the particle in the binning file.
        pid: PDG code of the particle in the binning file.
        extra: further attributes of the binning file's ``Bin``, kept so that a file that is
            read and written again is the same.
    """

    form: ClassVar[str] = "xml"
    voxel_order: ClassVar[str] = "layer, then alpha, then r (r fastest)"

    layers: tuple[Layer, ...]
    particle: str = ""
    pid: int = 0
    extra: tuple[tuple[str, str], ...] = field(default=())

    def __post_init__(self) -> None:
        """Refuse a mesh without voxels."""
        if self.n_voxels == 0:
            raise InputError(f"geometry {self.name!r} has no voxels: all of its layers are absent")
        if self.n_voxels > MOST_VOXELS:
            raise InputError(f"geometry {self.name!r} has {self.n_voxels} voxels; a shower has {MOST_VOXELS} at most")

    @cached_property
    def active_layers(self) -> tuple[Layer, ...]:
        """The layers that have voxels; "layer" without more means an index into these."""
        return tuple(layer for layer in self.layers if layer.n_voxels)

    @cached_property
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of voxels of each active layer, (L,)."""
        return tuple(layer.n_voxels for layer in self.active_layers)

    @cached_property
    def r_of_voxel(self) -> FloatArray:
        """Middle of the r bin of each voxel in mm, (V,)."""
        rings = []
        for layer in self.active_layers:
            edges = np.asarray(layer.r_edges)
            rings.append(np.tile((edges[1:] + edges[:-1]) / 2, layer.n_alpha))
        return np.concatenate(rings)

    @cached_property
    def alpha_of_voxel(self) -> FloatArray:
        """Middle of the alpha bin of each voxel in rad, in [-pi, pi), (V,)."""
        sectors = []
        for layer in self.active_layers:
            edges = np.linspace(-np.pi, np.pi, layer.n_alpha + 1)
            sectors.append(np.repeat((edges[1:] + edges[:-1]) / 2, layer.n_r))
        return np.concatenate(sectors)

    @cached_property
    def eta_of_voxel(self) -> FloatArray:
        """Transverse coordinate r cos(alpha) in mm, (V,); 0 where a layer has one alpha bin."""
        return np.where(self._has_alpha, self.r_of_voxel * np.cos(self.alpha_of_voxel), 0.0)

    @cached_property
    def phi_of_voxel(self) -> FloatArray:
        """Transverse coordinate r sin(alpha) in mm, (V,); 0 where a layer has one alpha bin."""
        return np.where(self._has_alpha, self.r_of_voxel * np.sin(self.alpha_of_voxel), 0.0)

    @cached_property
    def _has_alpha(self) -> NDArray[np.bool_]:
        return np.asarray([layer.n_alpha > 1 for layer in self.active_layers])[self.layer_of_voxel]

    @cached_property
    def transverse_layers(self) -> tuple[int, ...]:
        """The active layers with more than one alpha bin: only they have eta and phi."""
        return tuple(i for i, layer in enumerate(self.active_layers) if layer.n_alpha > 1)

    @cached_property
    def phi_neighbours(self) -> IntArray:
        """Voxels beside each voxel in alpha, (V, 2): the one below, the one above; periodic.

        A voxel of a layer with one alpha bin is its own neighbour.
        """
        return np.stack([self.rotation(1), self.rotation(-1)], axis=1)

    @property
    def radius(self) -> float:
        """Outermost edge of all rings, mm."""
        return max(layer.r_edges[-1] for layer in self.active_layers)

    @cached_property
    def area_of_voxel(self) -> FloatArray:
        """Area of each piece of a ring in mm^2, (V,)."""
        areas = [np.pi * np.diff(np.square(layer.r_edges)) / layer.n_alpha for layer in self.active_layers]
        return np.concatenate(
            [np.tile(area, layer.n_alpha) for area, layer in zip(areas, self.active_layers, strict=True)]
        )

    @cached_property
    def neighbours(self) -> IntArray:
        """Pairs of voxels of the same layer beside each other in r or in alpha, which is periodic, (P, 2)."""
        pairs = []
        for layer, place in zip(self.active_layers, self.layer_slices, strict=True):
            voxels = np.arange(place.start, place.stop).reshape(layer.n_alpha, layer.n_r)
            beside = np.roll(voxels, -1, axis=0) if layer.n_alpha > 1 else voxels[:0]
            pairs += [
                np.stack([voxels[:, :-1].ravel(), voxels[:, 1:].ravel()], axis=1),
                np.stack([voxels[: len(beside)].ravel(), beside.ravel()], axis=1),
            ]
        return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)

    @cached_property
    def symmetries(self) -> IntArray:
        """Rotations and reflections in alpha as voxel orders, (2 * rotations, V).

        The same angle is a different number of bins in layers that are cut differently; such geometries would need
        one count per layer, and have the identity only.
        """
        if len({self.active_layers[i].n_alpha for i in self.transverse_layers}) != 1:
            return np.arange(self.n_voxels)[None]
        return np.stack(
            [self.rotation(turns, mirror=mirror) for mirror in (False, True) for turns in range(self.n_rotations)]
        )

    @property
    def is_symmetric(self) -> bool:
        """Whether a rotation in alpha maps voxels onto voxels."""
        return self.n_rotations > 1

    @cached_property
    def asymmetries(self) -> FloatArray:
        """Cosine and sine of alpha, (V, 2)."""
        return np.stack([np.cos(self.alpha_of_voxel), np.sin(self.alpha_of_voxel)], axis=1)

    @property
    def layer_depths(self) -> tuple[float, ...] | None:
        """None: a binning file does not say how deep the layers lie."""
        return None

    @property
    def size_in_words(self) -> str:
        """Numbers of layers, of their bins if they are alike, and of voxels."""
        if not self.is_regular:
            return super().size_in_words
        first = self.active_layers[0]
        return f"{self.n_layers} layers of {first.n_alpha} x {first.n_r} (alpha x r), {self.n_voxels} voxels"

    def difference(self, other: Geometry) -> str | None:
        """Say where the rings of another geometry differ from these ones; None if they do not."""
        if not isinstance(other, CylindricalGeometry):
            return f"it is {other} of cells, not {self} of rings"
        if self.n_voxels != other.n_voxels or self.n_layers != other.n_layers:
            return difference_of_sizes(self, other)
        for i, (ours, theirs) in enumerate(zip(self.active_layers, other.active_layers, strict=True)):
            if (ours.r_edges, ours.n_alpha) != (theirs.r_edges, theirs.n_alpha):
                return (
                    f"layer {i} has {theirs.n_alpha} alpha bins and r edges {_few(theirs.r_edges)} mm, "
                    f"not {ours.n_alpha} and {_few(ours.r_edges)}"
                )
        return None

    @cached_property
    def is_regular(self) -> bool:
        """Whether all active layers have the same r edges and number of alpha bins."""
        first = self.active_layers[0]
        return all((x.r_edges, x.n_alpha) == (first.r_edges, first.n_alpha) for x in self.active_layers)

    @cached_property
    def n_rotations(self) -> int:
        """Number of rotations in alpha that map voxels onto voxels."""
        return int(np.gcd.reduce([self.active_layers[i].n_alpha for i in self.transverse_layers] or [1]))

    def rotation(self, turns: int, *, mirror: bool = False) -> IntArray:
        """Return the voxel order that turns a shower by ``turns`` alpha bins.

        Args:
            turns: number of alpha bins of each layer, of either sign; a rotation of the whole
                detector needs layers of equal ``n_alpha`` (see :attr:`n_rotations`).
            mirror: reverse alpha first.

        Returns:
            (V,) indices ``p`` such that ``shower[:, p]`` is the turned shower.
        """
        order = []
        for layer, place in zip(self.active_layers, self.layer_slices, strict=True):
            voxels = np.arange(place.start, place.stop).reshape(layer.n_alpha, layer.n_r)
            order.append(np.roll(voxels[::-1] if mirror else voxels, turns, axis=0).ravel())
        return np.concatenate(order)

    @classmethod
    def from_text(
        cls, text: str | bytes, *, name: str, particle: str | None = None, n_voxels: int | None = None
    ) -> Self:
        """Read a CaloChallenge binning file's text.

        Args:
            text: ``<Bins><Bin pid= name=><Layer id= r_edges= n_bin_alpha=/>...``, mm; in any namespace, as bytes in
                any encoding that XML declares.
            name: what to call the geometry, and what messages call the text.
            particle: name or PDG code of the particle, where the text has several.
            n_voxels: number of voxels of the showers, which decides where it fits one particle only.

        Raises:
            InputError: the text is not such a file, or does not say which of its particles is meant.
        """
        try:
            root = ET.fromstring(text)
            element = _chosen(
                [one for one in root if _local(one.tag) == "Bin" or any(map(_is_layer, one))], particle, n_voxels
            )
            attributes = dict(element.attrib)
            return cls(
                name=name,
                layers=_layers(element),
                pid=int(attributes.pop("pid", 0)),
                particle=attributes.pop("name", ""),
                extra=tuple((key, value) for key, value in attributes.items() if not key.startswith("{")),
            )
        except ET.ParseError as error:
            raise InputError(f"{name}: not an XML file ({error})") from None
        except KeyError as error:
            raise InputError(f"{name}: a <Layer> has no attribute {error}") from None
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        except (ValueError, LookupError) as error:  # LookupError: of an encoding that Python does not know
            raise InputError(f"{name}: a number cannot be read ({error})") from None
        except TypeError:
            raise InputError(f"{name}: expected the text of a binning file, got {type(text).__name__}") from None

    def to_text(self) -> str:
        """Return the CaloChallenge binning text of this geometry."""
        root = ET.Element("Bins")
        attributes = {"pid": str(self.pid), **dict(self.extra), "name": self.particle}
        parent = ET.SubElement(root, "Bin", attributes)
        for layer in self.layers:
            edges = ",".join(f"{edge:g}" if float(f"{edge:g}") == edge else repr(edge) for edge in layer.r_edges)
            ET.SubElement(parent, "Layer", {"id": str(layer.id), "r_edges": edges, "n_bin_alpha": str(layer.n_alpha)})
        ET.indent(root)
        return ET.tostring(root, encoding="unicode") + "\n"


def _few(edges: tuple[float, ...]) -> str:
    shown = ", ".join(f"{edge:g}" for edge in edges[:12])
    return f"({shown}, ... {len(edges)} edges)" if len(edges) > 12 else f"({shown})"


def _local(tag: object) -> str:
    """Return the name of an XML element without its namespace; comments and instructions have none."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _is_layer(element: ET.Element) -> bool:
    """Return whether an element is a layer: by its edges where others call it otherwise."""
    return _local(element.tag) == "Layer" or "r_edges" in element.attrib


def _layers(element: ET.Element) -> tuple[Layer, ...]:
    return tuple(
        Layer(
            id=int(layer.attrib["id"]),
            r_edges=tuple(float(edge) for edge in layer.attrib["r_edges"].split(",")),
            n_alpha=int(layer.attrib["n_bin_alpha"]),
        )
        for layer in element
        if _is_layer(layer)
    )


def _chosen(bins: list[ET.Element], particle: str | None, n_voxels: int | None) -> ET.Element:
    """Return the ``<Bin>`` of the particle that is meant.

    Raises:
        InputError: none or several fit.
    """
    if not bins:
        raise InputError("expected one <Bin>, found none")
    found = bins
    if particle is not None:
        found = [one for one in bins if particle.lower() in (one.get("name", "").lower(), one.get("pid", ""))]
    elif len(bins) > 1 and n_voxels is not None:
        found = [one for one in bins if sum(layer.n_voxels for layer in _layers(one)) == n_voxels] or bins
    if len(found) == 1:
        return found[0]
    here = ", ".join(f"{one.get('name', 'nameless')} (pid {one.get('pid', '?')})" for one in bins)
    if particle is not None:
        raise InputError(f"{len(found)} of its particles are {particle!r}; there are {here}")
    raise InputError(f"it describes {here}; say which with --particle")
