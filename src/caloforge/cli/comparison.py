"""Families compared: compare-families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caloforge.cli.group import main
from caloforge.cli.inputs import read_settings, trials_address
from caloforge.cli.options import (
    PATH,
    backend_option,
    budget_minutes,
    output_option,
    overwrite_option,
    prepared_option,
    sample_options,
    seed_option,
    trial_pod_option,
)
from caloforge.place import place
from caloforge.result_kinds import COMPARISON


@main.command(
    "compare-families",
    example="caloforge compare-families --data showers.hdf5 --budget 20m --seeds 3 -o comparison\n"
    "caloforge compare-families --data showers.hdf5 --budget 2m,20m --families tree,vae --parallel 2 -o comparison",
    goes_on=True,
)
@sample_options
@prepared_option
@click.option("--families", metavar="A,B,...", help="Families to compare; without it all that there are.")
@click.option(
    "--budget", metavar="TIME,...", required=True,
    help="CPU time of each training in one thread (on a GPU: time), e.g. 20m; several are compared with each other.",
)  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of each family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="Size of the generators.")
@click.option("--overrides", type=PATH, help="YAML of {FAMILY: {SETTING: VALUE}} on top of the preset.")
@click.option(
    "--vary", multiple=True, metavar="PATH=VALUE,...",
    help="Setting of families, or preprocessing.NAME, and what to try in an ablation of each family that has it, in as "
    "much wall-clock time as the smallest budget; may be repeated.",
)  # fmt: skip
@click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at a time.")
@seed_option
@backend_option(("local", "katib", "auto"), "Subprocesses, Katib", default="local")
@trial_pod_option
@output_option("Folder")
@overwrite_option
def compare_families(
    data: tuple[str, ...],
    test: tuple[str, ...],
    geometry: str | None,
    particle: str | None,
    prepared: str | None,
    families: str | None,
    budget: str,
    seeds: int,
    preset: str,
    overrides: Path | None,
    vary: tuple[str, ...],
    parallel: int,
    seed: int,
    backend: Any,
    pod_file: Path | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Compare families at equal budget over several seeds. After a stop, run it again to go on."""
    from caloforge.models.presets import check_names

    names = [name.strip() for name in families.split(",")] if families is not None else []
    for name in names:
        check_names(name, preset)  # before the seconds that importing torch takes
    budgets = [budget_minutes(text) for text in budget.split(",")]
    from caloforge.tuning.compare import COMPARE_BACKENDS
    from caloforge.tuning.compare import compare_families as compare
    from caloforge.tuning.comparison import comparison_markdown
    from caloforge.tuning.experiment import TrialPod

    address = trials_address(
        data,
        test,
        cluster=place(backend, COMPARE_BACKENDS) == "cluster",
        output=output,
        kind=COMPARISON,
        overwrite=overwrite,
    )
    result = compare(
        address, output, budgets=budgets, families=names, seeds=seeds, preset=preset,
        overrides=read_settings(overrides) if overrides else None, vary=vary, geometry=geometry, particle=particle,
        prepared=prepared, parallel=parallel, seed=seed, backend=backend,
        pod=TrialPod.from_yaml(pod_file) if pod_file else None, overwrite=overwrite,
    )  # fmt: skip
    click.echo(comparison_markdown(result))
    click.echo(f"wrote {output / 'comparison.md'}, {output / 'comparison.html'} and {output / 'comparison.png'}")
