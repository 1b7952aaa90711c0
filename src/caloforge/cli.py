"""The command line: parse, call one function of the package, report.

Heavy libraries (torch, kfp, kserve, matplotlib) are imported by the commands that need them, so
that ``caloforge --help`` answers at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caloforge import __version__
from caloforge.errors import InputError, unknown_name
from caloforge.logs import configure_logging, first_process

if TYPE_CHECKING:
    from caloforge.pipelines.local import LocalRun

_PATH = click.Path(path_type=Path)


class _Command(click.Command):
    """A command whose help ends with an example."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")


class _Commands(click.Group):
    """A group whose errors are one line on standard error: 2 for wrong input, 1 for a failed step."""

    command_class = _Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **kwargs) or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            _fail(error.format_message(), code=error.exit_code)
        except InputError as error:
            _fail(str(error), code=2)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            _fail(f"{error.filename}: {error.strerror}", code=2)
        except click.Abort:
            _fail("interrupted", code=130)
        except RuntimeError as error:
            if not type(error).__module__.startswith("caloforge."):
                raise
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


def _fail(message: str, *, code: int) -> None:
    click.echo("Error: " + " ".join(line.strip() for line in message.splitlines()), err=True)
    sys.exit(code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """From full-simulation calorimeter showers to a fast, validated, served generator."""
    configure_logging()


def _output(kind: str) -> Callable[[Any], Any]:
    return click.option("-o", "--output", type=_PATH, required=True, help=f"{kind} to write.")


_data = click.option("--data", type=_PATH, required=True, help="CaloChallenge HDF5 file of showers.")
_data_anywhere = click.option(
    "--data", metavar="FILE|URI", required=True, help="CaloChallenge HDF5 file: a path, s3://, minio://, https://, ..."
)
_geometry = click.option(
    "--geometry", metavar="NAME|XML", help="Mesh, by name or as a binning XML; without it the file's own."
)
_seed = click.option(
    "--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True, help="Same seed, same result."
)
_bundle = click.option("--bundle", type=_PATH, required=True, help="Folder of a generator.")
_steps = click.option("--steps", type=click.IntRange(min=1), help="Sampling steps; without it the generator's own.")
_minutes = click.option("--max-minutes", type=click.FloatRange(min=0), help="Bound of each training.")


@main.command(example="caloforge demo -o my-demo")
@click.option("-o", "--output", type=_PATH, default=Path("caloforge-demo"), show_default=True, help="Folder to write.")
@_seed
def demo(output: Path, seed: int) -> None:
    """Run the whole pipeline on the bundled showers. After a stop, run it again to go on."""
    from caloforge.pipelines.local import run_local
    from caloforge.pipelines.settings import PipelineSettings

    _stop_on_sigterm()
    with as_file(files("caloforge") / "data" / "demo_showers.hdf5") as data:
        # The preset's steps take less than this on two slow cores; a slower machine stops at the limit.
        _summarise(run_local(data, output, settings=PipelineSettings(seed=seed, max_minutes=5)))


@main.command(
    example="caloforge run --data dataset_2_1.hdf5 -o runs/first --families vae,coupling_flow --max-minutes 20"
)
@_data_anywhere
@_geometry
@_output("Folder")
@click.option("--families", metavar="A,B,...", help="Generator families to train; without it all.")
@click.option("--preset", metavar="demo|full", help="Size of the generators and of their training.")
@_minutes
@click.option("--tune-trials", type=click.IntRange(min=0), help="Trials of a search before each family's training.")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Same seed, same result.")
@click.option("--settings", "settings_file", type=_PATH, help="YAML of pipeline settings; options go before it.")
def run(
    data: str,
    geometry: str | None,
    output: Path,
    families: str | None,
    preset: str | None,
    max_minutes: float | None,
    tune_trials: int | None,
    seed: int | None,
    settings_file: Path | None,
) -> None:
    """Run the whole pipeline on a shower file. After a stop, run it again to go on."""
    from caloforge.fetch import local_copy
    from caloforge.pipelines.local import run_local
    from caloforge.pipelines.settings import PipelineSettings

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else PipelineSettings()
    options = {
        "families": [name.strip() for name in families.split(",")] if families is not None else None,
        "preset": preset,
        "max_minutes": max_minutes,
        "tuning": {**settings.tuning.model_dump(), "trials": tune_trials} if tune_trials is not None else None,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    settings = PipelineSettings.parse({**settings.model_dump(), **given}, where="options")
    _stop_on_sigterm()
    _summarise(run_local(local_copy(data, output / "data"), output, geometry=geometry, settings=settings))


def _stop_on_sigterm() -> None:
    """Let SIGTERM end a run as Ctrl-C does: the steps are told and may save themselves."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _summarise(result: LocalRun) -> None:
    from caloforge.validation.leaderboard import leaderboard_markdown

    click.echo(leaderboard_markdown(result.leaderboard))
    click.echo(f"report:    {result.output / 'report.html'}")
    click.echo(f"generator: {result.output / 'bundle'}")


@main.command("compile", example="caloforge compile -o pipeline.yaml --settings my-cluster.yaml")
@_output("YAML file")
@click.option("--settings", "settings_file", type=_PATH, help="YAML of pipeline settings.")
@click.option("--kubernetes-manifest", is_flag=True, help="As Pipeline and PipelineVersion, for kubectl and GitOps.")
def compile_(output: Path, settings_file: Path | None, kubernetes_manifest: bool) -> None:
    """Write the pipeline as YAML for Kubeflow Pipelines."""
    from caloforge.pipelines.settings import PipelineSettings

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else PipelineSettings()
    from caloforge.pipelines.compile import compile_pipeline

    compile_pipeline(settings, output, manifests=kubernetes_manifest)
    click.echo(f"wrote {output}")


def _kubeflow_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says where Kubeflow Pipelines is and who asks; tokens are never words of a command."""
    for option in (
        click.option("--cookies-file", type=_PATH, help="File with a browser's cookies; or CALOFORGE_KFP_COOKIES."),
        click.option("--token-file", type=_PATH, help="File with a bearer token; or set CALOFORGE_KFP_TOKEN."),
        click.option("--namespace", help="Your profile, where users have namespaces of their own."),
        click.option("--host", help="Address of Kubeflow Pipelines, or set KF_PIPELINES_ENDPOINT."),
    ):
        command = option(command)
    return command


@main.command(
    example="caloforge submit --host https://kubeflow.example.org/pipeline --settings cluster.yaml"
    " --set data=s3://bucket/showers.hdf5 --wait"
)
@_kubeflow_options
@click.option("--settings", "settings_file", type=_PATH, help="YAML of pipeline settings.")
@click.option("--pipeline", "pipeline_file", type=_PATH, help="Compiled pipeline, in place of compiling one.")
@click.option("--parameters", "parameters_file", type=_PATH, help="YAML of the pipeline's parameters.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--experiment", default="caloforge", show_default=True, help="Group of runs that it belongs to.")
@click.option("--run-name", help="Name of the run; without it the pipeline's name and the time.")
@click.option("--cron", metavar="FIELDS", help="Run on a schedule: six fields, seconds first.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end; fails as the run does.")
def submit(
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    cookies_file: Path | None,
    settings_file: Path | None,
    pipeline_file: Path | None,
    parameters_file: Path | None,
    assignments: tuple[str, ...],
    experiment: str,
    run_name: str | None,
    cron: str | None,
    waits: bool,
) -> None:
    """Run the pipeline on Kubeflow: upload it as a version, start it, print the links."""
    if waits and cron:
        raise click.UsageError("--wait: a schedule has no end")
    from caloforge.pipelines.parameters import split_settings
    from caloforge.pipelines.settings import PipelineSettings

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else PipelineSettings()
    parameters = {**(_read_yaml(parameters_file) if parameters_file else {}), **split_settings(assignments)}
    from contextlib import nullcontext

    from caloforge.pipelines.kubeflow import connect
    from caloforge.pipelines.status import wait
    from caloforge.pipelines.submit import compiled
    from caloforge.pipelines.submit import submit as submit_pipeline

    with nullcontext(pipeline_file) if pipeline_file else compiled(settings) as path:
        kubeflow = connect(
            host, namespace=namespace or settings.namespace or None, token_file=token_file, cookies_file=cookies_file
        )
        made = submit_pipeline(
            kubeflow, path, parameters, experiment=experiment, run_name=run_name,
            service_account=settings.service_account or None, cron=cron,
        )  # fmt: skip
    click.echo(f"pipeline: {made.version.link}")
    click.echo(f"{'schedule' if cron else 'run'}: {made.link}")
    click.echo(f"identifier: {made.identifier}")
    if waits:
        done = wait(kubeflow, made.identifier)
        click.echo(f"{done.name}: {done.state.lower()}")


@main.command(example="caloforge status 3f2b0c1e --host https://kubeflow.example.org/pipeline")
@click.argument("run_id")
@_kubeflow_options
def status(
    run_id: str, host: str | None, namespace: str | None, token_file: Path | None, cookies_file: Path | None
) -> None:
    """Show how a run on Kubeflow and its tasks are doing."""
    from caloforge.pipelines.kubeflow import connect
    from caloforge.pipelines.status import status as read_status
    from caloforge.pipelines.status import status_lines

    kubeflow = connect(host, namespace=namespace, token_file=token_file, cookies_file=cookies_file)
    click.echo("\n".join(status_lines(read_status(kubeflow, run_id))))


@main.command(
    "fetch-artifacts", example="caloforge fetch-artifacts 3f2b0c1e --root s3://mlpipeline/v2/artifacts -o run"
)
@click.argument("run_id")
@_kubeflow_options
@click.option("--root", help="Pipeline root; without it the run's own, or Kubeflow's default.")
@_output("Folder")
def fetch_artifacts_(
    run_id: str,
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    cookies_file: Path | None,
    root: str | None,
    output: Path,
) -> None:
    """Copy report, leaderboard and generators of a run on Kubeflow; the store's keys come from AWS_... ."""
    from caloforge.pipelines.artifacts import fetch_artifacts
    from caloforge.pipelines.kubeflow import connect

    kubeflow = connect(host, namespace=namespace, token_file=token_file, cookies_file=cookies_file)
    for name in fetch_artifacts(kubeflow, run_id, output, root=root):
        click.echo(output / name)


@main.command(example="caloforge preprocess --data showers.hdf5 --seed 1 -o prepared")
@_data
@_geometry
@click.option("--settings", "settings_file", type=_PATH, help="YAML of preprocessing settings.")
@_seed
@_output("Folder")
def preprocess(data: Path, geometry: str | None, settings_file: Path | None, seed: int, output: Path) -> None:
    """Clean and split a shower file and fit the scaling."""
    from caloforge.preprocessing.prepare import PrepareSettings, prepare
    from caloforge.showers import open_showers

    settings = PrepareSettings.from_yaml(settings_file) if settings_file else PrepareSettings()
    prepare(open_showers(data, geometry), output, settings=settings, seed=seed)
    click.echo(f"wrote {output}")


@main.command(example="caloforge train --data showers.hdf5 --prepared prepared --family vae --max-minutes 5 -o vae")
@_data
@click.option("--prepared", type=_PATH, required=True, help="Folder that `caloforge preprocess` wrote.")
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="Size of the training.")
@click.option("--overrides", type=_PATH, help="YAML of settings on top of the preset.")
@_minutes
@click.option("--checkpoints", type=_PATH, help="Folder from which a stopped training goes on.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Processes for each node.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Pods of a cluster.")
@click.option(
    "--backend",
    type=click.Choice(["local", "cluster", "auto"]),
    default="auto",
    show_default=True,
    help="torchrun, a TrainJob, or what fits the place.",
)
@click.option("--pod", "pod_file", type=_PATH, help="YAML of what each node gets on a cluster: image, claims, ...")
@_seed
@_output("Bundle")
def train(
    data: Path,
    prepared: Path,
    family: str,
    preset: str,
    overrides: Path | None,
    max_minutes: float | None,
    checkpoints: Path | None,
    processes: int,
    nodes: int,
    backend: str,
    pod_file: Path | None,
    seed: int,
    output: Path,
) -> None:
    """Train one generator; prints its figures as name=value."""
    _check_family_and_preset(family, preset)
    from caloforge.models.training.distributed import train_distributed
    from caloforge.models.training.pod import TrainingPod

    _stop_on_sigterm()
    figures = train_distributed(
        data, prepared, output, family=family, preset=preset,
        overrides=_read_yaml(overrides) if overrides else None,
        seed=seed, max_minutes=max_minutes or None, checkpoints=checkpoints,
        processes=processes, nodes=nodes, backend=backend,
        pod=TrainingPod.from_yaml(pod_file) if pod_file else None,
    )  # fmt: skip
    if first_process():
        _print_figures(figures)


@main.command(
    example="caloforge tune --data showers.hdf5 --family vae --trials 20 --parallel 2 --max-minutes 3 --seed 1 -o tuned"
)
@_data_anywhere
@_geometry
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="What trials start from.")
@click.option("--trials", type=click.IntRange(min=1), required=True, help="Number of trials.")
@click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at a time.")
@click.option("--algorithm", default="tpe", show_default=True, help="Search algorithm: random, tpe, grid, cmaes, ...")
@click.option("--objective", metavar="fpd|auc|kpd", default="fpd", show_default=True, help="What to minimise.")
@click.option("--space", type=_PATH, help="YAML of parameters and their ranges; without it the family's own.")
@click.option("--overrides", type=_PATH, help="YAML of settings that all trials have and that are not searched.")
@click.option("--max-minutes", type=click.FloatRange(min=0), help="Bound of each trial's training.")
@click.option("--timeout-minutes", type=click.FloatRange(min=0), help="Bound of the search; the best until then wins.")
@click.option("--early-stopping", is_flag=True, help="End trials that are worse than the median at the same point.")
@_seed
@click.option(
    "--backend",
    type=click.Choice(["local", "katib", "optimizationjob", "auto"]),
    default="local",
    show_default=True,
    help="Subprocesses, a cluster, or what fits the place.",
)
@click.option(
    "--pod", "pod_file", type=_PATH, help="YAML of what trials get on a cluster: image, namespace, claims, ..."
)
@_output("Folder")
def tune(
    data: str,
    geometry: str | None,
    family: str,
    preset: str,
    trials: int,
    parallel: int,
    algorithm: str,
    objective: str,
    space: Path | None,
    overrides: Path | None,
    max_minutes: float | None,
    timeout_minutes: float | None,
    early_stopping: bool,
    seed: int,
    backend: Any,
    pod_file: Path | None,
    output: Path,
) -> None:
    """Search for the best parameters of a family. After a stop, run it again to go on."""
    _check_family_and_preset(family, preset)
    from caloforge.tuning.experiment import TrialPod
    from caloforge.tuning.result import tuning_markdown
    from caloforge.tuning.tune import tune as tune_family

    _stop_on_sigterm()
    result = tune_family(
        data, output, geometry=geometry, family=family, preset=preset, trials=trials, parallel=parallel,
        algorithm=algorithm, objective=objective, space=space, overrides=_read_yaml(overrides) if overrides else None,
        max_minutes=max_minutes or None, timeout_minutes=timeout_minutes or None, early_stopping=early_stopping,
        seed=seed, backend=backend, pod=TrialPod.from_yaml(pod_file) if pod_file else None,
    )  # fmt: skip
    click.echo(tuning_markdown(result))
    click.echo(f"best parameters: {output / 'overrides.json'}")


@main.command(
    example="caloforge trial --data showers.hdf5 --prepared prepared --family vae --set training.learning_rate=1e-3 -o trial"
)
@_data_anywhere
@_geometry
@click.option(
    "--prepared",
    metavar="FOLDER|URI",
    help="Folder that `caloforge preprocess` wrote; without it that is done first.",
)
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="What the trial starts from.")
@click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUE", help="Parameter of the family; may be repeated."
)
@_minutes
@click.option("--objective", metavar="fpd|auc|kpd", default="fpd", show_default=True, help="What --looks are for.")
@click.option("--looks", type=click.IntRange(min=0), default=0, help="How often it is judged while it trains.")
@_seed
@_output("Folder")
def trial(
    data: str,
    geometry: str | None,
    prepared: str | None,
    family: str,
    preset: str,
    settings: tuple[str, ...],
    max_minutes: float | None,
    objective: str,
    looks: int,
    seed: int,
    output: Path,
) -> None:
    """Train once with some parameters and judge on the validation split, as a tuning does."""
    _check_family_and_preset(family, preset)
    from caloforge.fetch import local_copy
    from caloforge.models.presets import resolve
    from caloforge.runner import end_with_runner
    from caloforge.tuning.optimization_job import assigned
    from caloforge.tuning.space import nest, parse_value
    from caloforge.tuning.trial import run_trial
    from caloforge.tuning.tune import prepare_once

    end_with_runner()
    pairs = [setting.partition("=") for setting in settings]
    if wrong := [path for path, sign, _ in pairs if not sign]:
        raise click.UsageError(f"--set {wrong[0]!r}: expected PATH=VALUE")
    values = {path: parse_value(value) for path, _, value in pairs}
    if len(values) < len(pairs):
        raise click.UsageError("--set: a parameter is given twice")
    values |= assigned(os.environ)
    overrides = nest(values)
    resolve(family, preset, overrides)  # before the showers are read
    showers = local_copy(data, output / "data")
    folder = (
        local_copy(prepared, output / "data")
        if prepared is not None
        else prepare_once(showers, output / "prepared", geometry=geometry, seed=seed)
    )
    run_trial(
        showers, folder, output, family=family, preset=preset, overrides=overrides, max_minutes=max_minutes or None,
        objective=objective, looks=looks, seed=seed, report=_print_figures_with_time,
    )  # fmt: skip


@main.command(
    example="caloforge generate --bundle bundle --energy 50000 --n 1000 --seed 1 -o showers.hdf5\ncaloforge generate --bundle bundle --like geant4.hdf5 --seed 1 -o showers.hdf5"
)
@_bundle
@click.option("--like", type=_PATH, help="Shower file whose conditions to take, one shower each.")
@click.option("--energy", type=float, metavar="MEV", help="Incident energy of all showers.")
@click.option("--n", "count", type=click.IntRange(min=1), help="Number of showers.")
@_steps
@_seed
@_output("HDF5 file")
def generate(
    bundle: Path, like: Path | None, energy: float | None, count: int | None, steps: int | None, seed: int, output: Path
) -> None:
    """Draw showers from a generator into a CaloChallenge HDF5 file."""
    if (like is None) == (energy is None) or (energy is None) != (count is None):
        raise click.UsageError("give either --like FILE or both --energy MEV and --n N")
    from caloforge.models.generate import generate as generate_showers
    from caloforge.showers import open_showers

    conditions = open_showers(like).conditions if like is not None else _at_energy(energy, count)
    _print_figures(generate_showers(bundle, conditions, output, seed=seed, steps=steps))


@main.command(example="caloforge validate --reference geant4.hdf5 --generated vae.hdf5 --generated flow.hdf5 -o report")
@click.option("--reference", type=_PATH, required=True, help="Shower file to judge by.")
@click.option("--generated", type=_PATH, required=True, multiple=True, help="Shower file to judge; may be repeated.")
@click.option("--floor", type=_PATH, help="Second sample like the reference: what a perfect generator would reach.")
@click.option("--training", type=_PATH, help="What the generators were trained on: finds showers that repeat it.")
@click.option(
    "--protocol", default="quick", show_default=True,
    type=click.Choice(("quick", "challenge", "challenge-ten-trainings", "challenge-no-networks")),
    help="challenge: thresholds, binnings, samplings and classifiers of CaloChallenge, for its four datasets.",
)  # fmt: skip
@_geometry
@_seed
@_output("Folder")
def validate(
    reference: Path,
    generated: tuple[Path, ...],
    floor: Path | None,
    training: Path | None,
    protocol: str,
    geometry: str | None,
    seed: int,
    output: Path,
) -> None:
    """Compare shower files with a reference: metrics.json, report.html and plots."""
    from caloforge.showers import open_showers

    names = [path.stem for path in generated]
    if len(set(names)) < len(names):
        names = [str(path.with_suffix("")) for path in generated]
    target = open_showers(reference, geometry)
    judged = {name: open_showers(path, geometry) for name, path in zip(names, generated, strict=True)}
    second, trained = (open_showers(path, geometry) if path else None for path in (floor, training))
    from caloforge.validation.validate import validate as validate_showers

    validate_showers(target, judged, output, floor=second, training=trained, protocol=protocol, seed=seed)
    click.echo(f"wrote {output / 'metrics.json'} and {output / 'report.html'}")


@main.command(example="caloforge export --bundle bundle -o exported")
@_bundle
@_steps
@_output("Bundle")
def export(bundle: Path, steps: int | None, output: Path) -> None:
    """Copy a generator and add generator.onnx: conditions and noise in, MeV out."""
    from caloforge.models.export import export as export_bundle

    _print_figures(export_bundle(bundle, output, steps=steps))


@main.command(example="caloforge serve --bundle bundle --http-port 8080 --grpc-port 8081")
@_bundle
@click.option("--http-port", type=int, default=8080, show_default=True, help="Port of REST.")
@click.option("--grpc-port", type=int, default=8081, show_default=True, help="Port of gRPC.")
@click.option("--name", default="caloforge", show_default=True, help="Name of the model in the URLs.")
def serve(bundle: Path, http_port: int, grpc_port: int, name: str) -> None:
    """Serve a generator with KServe's model server until it is stopped."""
    from caloforge.serving.server import serve as serve_bundle

    serve_bundle(bundle, http_port=http_port, grpc_port=grpc_port, name=name)


@main.command(
    example="caloforge deploy --bundle exported\n"
    "caloforge deploy --bundle exported --name calo --uri s3://bucket/exported --backend kserve --namespace team"
)
@_bundle
@click.option("--name", default="", help="Name of the InferenceService; without it the server is stopped again.")
@click.option("--uri", default="", help="Address of the bundle for the cluster; without it its path, on a claim.")
@click.option(
    "--backend",
    type=click.Choice(["local", "kserve", "auto"]),
    default="auto",
    show_default=True,
    help="A subprocess, a cluster, or what fits the place.",
)
@click.option("--settings", "settings_file", type=_PATH, help="YAML of how it is served: image, resources, ...")
@click.option("--context", help="Context of the kubeconfig; without it the current one.")
@click.option("--namespace", help="Goes before that of the settings and of the context.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with the query, e.g. a token.")
@click.option("--keep", is_flag=True, help="Leave a service that failed as it is, to look into it.")
@_seed
def deploy(
    bundle: Path,
    name: str,
    uri: str,
    backend: str,
    settings_file: Path | None,
    context: str | None,
    namespace: str | None,
    headers: tuple[str, ...],
    keep: bool,
    seed: int,
) -> None:
    """Serve a generator, compare its answers with its own sampling; a cluster keeps it if they agree."""
    from caloforge.serving.deploy import deploy as deploy_bundle
    from caloforge.serving.inference_service import ServiceSettings

    _stop_on_sigterm()
    if backend == "kserve" and not name:
        raise click.UsageError("--backend kserve needs --name")
    settings = ServiceSettings.from_yaml(settings_file) if settings_file else ServiceSettings()
    if namespace:
        settings = settings.model_copy(update={"namespace": namespace})
    result = deploy_bundle(
        bundle, name=name, uri=uri, backend=backend, settings=settings, context=context, seed=seed,
        headers=_parse_headers(headers), keep=keep,
    )  # fmt: skip
    _print_figures({"url": result.url, **result.figures} if result.url else result.figures)


@main.command(example="caloforge manifests -o manifests --settings cluster.yaml")
@_output("Folder")
@click.option("--overlay", metavar="standalone|profile|cern", help="Write only this one, with what it needs.")
@click.option("--settings", "settings_file", type=_PATH, help="YAML of pipeline settings.")
def manifests(output: Path, overlay: str | None, settings_file: Path | None) -> None:
    """Write what kubectl applies to a cluster before the first run, and examples."""
    from caloforge.pipelines.manifests import write_manifests
    from caloforge.pipelines.settings import PipelineSettings

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else PipelineSettings()
    write_manifests(output, settings=settings, overlay=overlay)
    click.echo(f"wrote {output}")


@main.command(example="caloforge doctor --settings cluster.yaml --host https://kubeflow.example.org/pipeline")
@click.option("--settings", "settings_file", type=_PATH, help="YAML of pipeline settings; without it all must work.")
@click.option("--context", help="Context of the kubeconfig; without it the current one.")
@click.option("--namespace", help="Namespace of the runs; without it that of the settings or the context.")
@click.option("--host", help="Address of Kubeflow Pipelines.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def doctor(
    settings_file: Path | None, context: str | None, namespace: str | None, host: str | None, as_json: bool
) -> int:
    """Say what a cluster lacks for the pipeline, each with the command that mends it; 1 if a run would fail."""
    from caloforge.pipelines.doctor import examine, failed, findings_table
    from caloforge.pipelines.settings import PipelineSettings

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else None
    found = examine(settings=settings, context=context, namespace=namespace, host=host)
    if as_json:
        plain = {name: [finding.as_dict() for finding in findings] for name, findings in found.items()}
        click.echo(json.dumps(plain, indent=2))
    else:
        click.echo(findings_table(found))
    return int(failed(found))


@main.command(example="caloforge query --url http://localhost:8080 --energy 50000 --n 100 --seed 1 -o showers.hdf5")
@click.option("--url", required=True, help="Address of the server, e.g. http://localhost:8080.")
@click.option("--energy", type=float, metavar="MEV", required=True, help="Incident energy of all showers.")
@click.option("--n", "count", type=int, required=True, help="Number of showers.")
@click.option("--name", default="caloforge", show_default=True, help="Name of the model on the server.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent along, e.g. a token.")
@_steps
@_seed
@_output("HDF5 file")
def query(
    url: str,
    energy: float,
    count: int,
    name: str,
    headers: tuple[str, ...],
    steps: int | None,
    seed: int,
    output: Path,
) -> None:
    """Ask a server for showers and write them into a CaloChallenge HDF5 file."""
    from caloforge.provenance import provenance
    from caloforge.serving.client import ask
    from caloforge.showers import write_showers

    conditions = _at_energy(energy, count)
    try:
        answer = ask(url, conditions, seed=seed, steps=steps, name=name, headers=_parse_headers(headers))
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    with write_showers(output, answer.geometry, attributes={"source": url}, provenance=provenance(seed=seed)) as writer:
        writer.append(conditions, answer.showers)
    click.echo(f"wrote {count} showers to {output}")


def _at_energy(energy: float | None, count: int | None) -> Any:
    import numpy as np

    from caloforge.showers import Conditions

    return Conditions(np.full(count or 0, energy, dtype=np.float64))


def _parse_headers(headers: tuple[str, ...]) -> dict[str, str]:
    pairs = [header.partition(":") for header in headers]
    if wrong := [name for name, colon, _ in pairs if not colon]:
        raise click.UsageError(f"--header {wrong[0]!r}: expected 'NAME: VALUE'")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _check_family_and_preset(family: str, preset: str) -> None:
    """Refuse unknown names before the seconds that importing torch takes."""
    from caloforge.pipelines.settings import FAMILIES, PRESETS

    for kind, name, valid in (("family", family, FAMILIES), ("preset", preset, PRESETS)):
        if name not in valid:
            raise unknown_name(kind, name, valid)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a YAML file ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, got {type(values).__name__}")
    return values


def _print_figures(figures: dict[str, Any]) -> None:
    """Print ``name=value`` lines, which Katib's metrics collector reads too."""
    for name, value in figures.items():
        click.echo(f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}")


def _print_figures_with_time(figures: Mapping[str, Any]) -> None:
    """Print ``TIME name=value`` lines at once; by the time Katib knows the order of values. Tell Trainer too."""
    from caloforge.tuning.trainer import tell_trainer

    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    for name, value in figures.items():
        click.echo(f"{now} {name}={value:.6g}")
    sys.stdout.flush()
    tell_trainer(figures)
