"""The fastest way to run a generator: optimise, steps and distill; and all ways beside each other: benchmark."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from caloforge.cli.group import main
from caloforge.cli.inputs import shower_input
from caloforge.cli.options import (
    PATH,
    PLACE,
    Finite,
    bundle_option,
    data_option,
    geometry_option,
    minutes_option,
    output_option,
    overwrite_option,
    read_sampler,
    seed_option,
)
from caloforge.errors import InputError
from caloforge.outputs import check_folder


def _numbers(what: str, *, most: int, example: str) -> Callable[[click.Context, click.Parameter, str], tuple[int, ...]]:
    """Return what reads a list of whole numbers from 1 on, each once and in order."""

    def read(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isascii() and part.isdigit() and 0 < int(part) <= most for part in parts):
            raise InputError(
                f"{option.opts[0]} {text!r}: expected numbers of {what} from 1 to {most}, such as {example}"
            )
        return tuple(sorted({int(part) for part in parts}))

    return read


sizes_option = click.option(
    "--sizes", default="1,10,100,1000", show_default=True, help="Showers asked for at once.",
    callback=_numbers("showers", most=100_000, example="1,10,100"),
)  # fmt: skip

judges_option = click.option(
    "--prepared", type=PATH, help="Folder that `caloforge preprocess` wrote: its validation split judges; without it "
    "half of the file does, which the generator must not have been trained on.",
)  # fmt: skip


@main.command(example="caloforge optimise --bundle bundle --data showers.hdf5 --prepared prepared -o optimised")
@bundle_option
@data_option
@geometry_option
@judges_option
@sizes_option
@click.option(
    "--tolerance", type=Finite(min=0), default=2, show_default=True,
    help="How much worse than in float32 a figure may be, in its statistical errors.",
)  # fmt: skip
@click.option("--compiled", is_flag=True, help="Try PyTorch's compiler too, which takes a minute or more.")
@seed_option
@output_option("Bundle")
@overwrite_option
def optimise(
    bundle: Path,
    data: tuple[str, ...],
    geometry: str | None,
    prepared: Path | None,
    sizes: tuple[int, ...],
    tolerance: float,
    compiled: bool,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Measure what this machine can run a generator as, and keep the fastest that is not worse."""
    from caloforge.result_kinds import BUNDLE

    check_folder(output, BUNDLE, overwrite=overwrite)
    from caloforge.tuning.inference.optimise import optimise as optimise_bundle
    from caloforge.tuning.inference.optimise import two_samples
    from caloforge.tuning.inference.record import OptimiseSettings
    from caloforge.tuning.inference.report import table

    settings = OptimiseSettings(sizes=sizes, tolerance=tolerance, compiled=compiled)
    reference, other = two_samples(shower_input(*data).path, prepared, geometry=geometry, seed=seed)
    found = optimise_bundle(bundle, reference, other, output, settings=settings, seed=seed, overwrite=overwrite)
    click.echo(table(found))


@main.command(example="caloforge benchmark --bundle bundle --data showers.hdf5 -o benchmark")
@bundle_option
@partial(data_option, required=False)
@geometry_option
@sizes_option
@seed_option
@output_option("Folder")
@overwrite_option
def benchmark(
    bundle: Path,
    data: tuple[str, ...],
    geometry: str | None,
    sizes: tuple[int, ...],
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Compare all ways to get showers on this machine: Python, ONNX Runtime, C++ and the server."""
    from caloforge.result_kinds import BENCHMARK

    check_folder(output, BENCHMARK, overwrite=overwrite)
    from caloforge.showers import open_showers
    from caloforge.tuning.inference.benchmark import benchmark as benchmark_bundle
    from caloforge.tuning.inference.benchmark_report import table

    showers = open_showers(shower_input(*data).path, geometry) if data else None
    found = benchmark_bundle(bundle, output, showers=showers, sizes=sizes, seed=seed, overwrite=overwrite)
    click.echo(table(found))


@main.command(
    example="caloforge steps --bundle diffusion --data showers.hdf5 --prepared prepared --sampler ddim --sampler dpm_solver "
    "--steps 5,10,25,100 -o steps"
)
@bundle_option
@data_option
@geometry_option
@judges_option
@click.option(
    "--sampler", "samplers", multiple=True, required=True, metavar="NAME|{name: NAME, ...}",
    help="A sampler to compare, maybe with settings; may be repeated.",
)  # fmt: skip
@click.option(
    "--steps", default="5,10,25,100", show_default=True, help="Numbers of steps.",
    callback=_numbers("steps", most=10_000, example="5,10,25,100"),
)  # fmt: skip
@seed_option
@output_option("Folder")
@overwrite_option
def steps(
    bundle: Path,
    data: tuple[str, ...],
    geometry: str | None,
    prepared: Path | None,
    samplers: tuple[str, ...],
    steps: tuple[int, ...],
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Judge a generator with fewer and more sampling steps: FPD and AUC beside their floors, and the time."""
    from caloforge.result_kinds import FEW_STEPS

    check_folder(output, FEW_STEPS, overwrite=overwrite)
    chosen: list[dict[str, Any]] = [read_sampler(text) for text in samplers]
    from caloforge.tuning.inference.few_steps import compare_steps, table
    from caloforge.tuning.inference.optimise import two_samples

    reference, other = two_samples(shower_input(*data).path, prepared, geometry=geometry, seed=seed)
    found = compare_steps(bundle, chosen, steps, reference, other, output, seed=seed, overwrite=overwrite)
    click.echo(table(found))


@main.command(
    example="caloforge distill --bundle diffusion --data showers.hdf5 --prepared prepared --steps 1 -o student"
)
@bundle_option
@data_option
@click.option(
    "--prepared", type=PATH, required=True, help="Folder of the data that the generator was trained on; its validation split "
    "judges the student.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(min=1), default=1, show_default=True, help="Sampling steps of the student."
)
@click.option(
    "--method", default="", help="How it learns: progressive or progressive_flow, which is found by itself, or reflow, for "
    "velocity fields.",
)  # fmt: skip
@click.option("--training", type=PATH, help="YAML of how each round is trained: steps, batch_size, learning_rate, ...")
@minutes_option
@click.option("--checkpoints", type=PLACE, help="Folder from which a stopped distillation goes on.")
@seed_option
@output_option("Bundle")
@overwrite_option
def distill(
    bundle: Path,
    data: tuple[str, ...],
    prepared: Path,
    steps: int,
    method: str,
    training: Path | None,
    max_minutes: float | None,
    checkpoints: Path | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Train a student that needs few sampling steps from a generator that needs many, and judge both."""
    from caloforge.result_kinds import BUNDLE

    check_folder(output, BUNDLE, overwrite=overwrite)
    from caloforge.models.configuration import DistillSettings
    from caloforge.tuning.inference.distill import distill as distill_bundle
    from caloforge.tuning.inference.few_steps import table
    from caloforge.yaml_file import read_yaml

    values: dict[str, Any] = {"steps": steps, "method": method}
    if training is not None:
        values["training"] = {**DistillSettings().training.model_dump(), **(read_yaml(training) or {})}
    found = distill_bundle(
        bundle, shower_input(*data).path, prepared, output,
        settings=DistillSettings.parse(values, where=str(training)), seed=seed, max_minutes=max_minutes,
        checkpoints=checkpoints, overwrite=overwrite,
    )  # fmt: skip
    click.echo(table(found))
