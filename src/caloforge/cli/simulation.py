"""Showers from Geant4 itself: simulate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from caloforge.cli.figures import print_figures
from caloforge.cli.group import main
from caloforge.cli.options import ADDRESS, output_option, seed_option


class Limits(click.ParamType[tuple[float, float]]):
    """A number, or two with a colon between them."""

    name = "limits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Return least and greatest value; twice the same for one number."""
        if isinstance(value, tuple):
            return value
        try:
            low, high = (float(part) for part in (value.split(":") if ":" in value else (value, value)))
        except ValueError:
            self.fail(f"{value!r} is neither a number nor LEAST:GREATEST", param, ctx)
        if not (math.isfinite(low) and math.isfinite(high)) or high < low:
            self.fail(f"{value!r}: expected LEAST:GREATEST, two finite numbers that rise", param, ctx)
        return low, high


@main.command(
    example=(
        "caloforge simulate --detector siw --energy 1000:100000 --n 5000 --seed 1 --processes 2 -o showers.hdf5\n"
        "caloforge simulate --detector siw --particle e- --particle gamma --energy 50000 --theta 0.87:1.57 --n 1000 -o some.hdf5"
    )
)
@click.option(
    "--detector", type=ADDRESS, required=True, metavar="NAME|YAML", help="By name, or a file that describes it."
)
@click.option(
    "--particle", "particles", multiple=True, default=("e-",), show_default=True, metavar="NAME|PDG",
    help="As Geant4 calls it; may be repeated.",
)  # fmt: skip
@click.option("--energy", type=Limits(), required=True, metavar="MEV[:MEV]", help="Kinetic; a range is log-uniform.")
@click.option(
    "--theta",
    type=Limits(),
    metavar="RAD[:RAD]",
    help="Polar angle, uniform in its cosine; without it at right angles.",
)
@click.option("--phi", type=Limits(), metavar="RAD[:RAD]", help="Azimuth; with --theta and without it all around.")
@click.option(
    "--physics", default="", metavar="LIST",
    help="em (electromagnetic only) or a list of Geant4; without it em, or FTFP_BERT for hadrons and muons.",
)  # fmt: skip
@click.option("--n", "count", type=click.IntRange(1, 10**9), required=True, help="Number of showers.")
@click.option("--processes", type=click.IntRange(1, 4096), default=1, show_default=True, help="One for each core.")
@seed_option
@output_option("HDF5 file")
def simulate(
    detector: str,
    particles: tuple[str, ...],
    energy: tuple[float, float],
    theta: tuple[float, float] | None,
    phi: tuple[float, float] | None,
    physics: str,
    count: int,
    processes: int,
    seed: int,
    output: Path,
) -> None:
    """Simulate showers with Geant4 (pip install 'caloforge[geant4]'); goes on where it was stopped."""
    from caloforge.preprocessing.simulation.beam import Beam
    from caloforge.preprocessing.simulation.detector import load_detector
    from caloforge.preprocessing.simulation.simulate import Simulation
    from caloforge.preprocessing.simulation.simulate import simulate as simulate_showers

    beam = Beam.parse({"particles": particles, "energy": energy, "theta": theta, "phi": phi}, where="simulate")
    values = {"detector": load_detector(detector), "beam": beam, "physics": physics, "seed": seed, "n": count}
    simulation = Simulation.parse(values, where="simulate")
    name = Path(detector).stem
    print_figures(simulate_showers(simulation, output, processes=processes, name=name), beside=output)
