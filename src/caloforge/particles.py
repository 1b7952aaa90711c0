"""Names of the particles that showers are simulated for, and their codes of the Particle Data Group."""

from __future__ import annotations

from caloforge.errors import InputError, unknown_name

NAMES = {
    "gamma": 22,
    "e-": 11,
    "e+": -11,
    "mu-": 13,
    "mu+": -13,
    "pi+": 211,
    "pi-": -211,
    "pi0": 111,
    "kaon+": 321,
    "kaon-": -321,
    "kaon0L": 130,
    "kaon0S": 310,
    "proton": 2212,
    "anti_proton": -2212,
    "neutron": 2112,
    "anti_neutron": -2112,
    "deuteron": 1000010020,
    "alpha": 1000020040,
}
"""As Geant4 calls them; the codes are those of the Review of Particle Physics, section 45."""

_ALSO = {
    "photon": "gamma",
    "electron": "e-",
    "positron": "e+",
    "k+": "kaon+",
    "k-": "kaon-",
    "k0l": "kaon0L",
    "k0s": "kaon0S",
    "p": "proton",
    "n": "neutron",
}


def pdg_code(particle: str) -> int:
    """Return the PDG code of a particle, given as its name or as the code itself.

    Raises:
        InputError: the name is not known, or the code is 0.
    """
    word = particle.strip()
    if word.lstrip("+-").isdecimal():
        if int(word) == 0:
            raise InputError("particle: 0 is no PDG code")
        return int(word)
    by_name = {name.lower(): code for name, code in NAMES.items()}
    known = _ALSO.get(word.lower(), word).lower()
    if known not in by_name:
        raise unknown_name("particle", particle, tuple(NAMES))
    return by_name[known]


def particle_name(code: int) -> str:
    """Return the name of a particle, or its PDG code as text where it has no name here."""
    return next((name for name, known in NAMES.items() if known == code), str(code))
