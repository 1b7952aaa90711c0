"""The generator families by name: a new one is one file and one line here."""

from __future__ import annotations

from caloforge.errors import unknown_name
from caloforge.models.coupling_flow import CouplingFlow
from caloforge.models.diffusion import Diffusion
from caloforge.models.family import VoxelModel
from caloforge.models.flow_matching import FlowMatching
from caloforge.models.vae import VAE
from caloforge.models.wgan import WGAN

FAMILIES: dict[str, type[VoxelModel]] = {
    "coupling_flow": CouplingFlow,
    "flow_matching": FlowMatching,
    "diffusion": Diffusion,
    "wgan": WGAN,
    "vae": VAE,
}


def family_class(name: str) -> type[VoxelModel]:
    """Return the class of a family.

    Raises:
        InputError: no family has this name.
    """
    if name not in FAMILIES:
        raise unknown_name("family", name, FAMILIES)
    return FAMILIES[name]
