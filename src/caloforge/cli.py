"""The command line: parse, call one function of the package, report.

Heavy libraries (torch, kfp, kserve, matplotlib) are imported by the commands that need them, so
that ``caloforge --help`` answers at once.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caloforge import __version__
from caloforge.errors import InputError
from caloforge.logs import configure_logging, first_process
from caloforge.validation.registries import PROTOCOLS

if TYPE_CHECKING:
    from caloforge.fetch import Fetched
    from caloforge.pipelines.kubeflow.client import Kubeflow
    from caloforge.pipelines.local.run import LocalRun

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


def _showers(name: str, kind: str, *, required: bool = False, multiple: bool = False) -> Callable[[Any], Any]:
    """Add an option that takes a shower file, here or elsewhere."""
    return click.option(name, metavar="FILE|URI", required=required, multiple=multiple, help=kind)


_data = _showers(
    "--data",
    "CaloChallenge HDF5 file: a path, s3://, minio://, https://, gs://. What is fetched is kept for this command, "
    "or in the folder CALOFORGE_FETCH_CACHE.",
    required=True,
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
    from caloforge.pipelines.local.run import run_local
    from caloforge.pipelines.settings import PipelineSettings

    _stop_on_sigterm()
    with as_file(files("caloforge") / "data" / "demo_showers.hdf5") as data:
        # The preset's steps take less than this on two slow cores; a slower machine stops at the limit.
        _summarise(run_local(data, output, settings=PipelineSettings(seed=seed, max_minutes=5)))


@main.command(
    example="caloforge run --data dataset_2_1.hdf5 -o runs/first --families vae,coupling_flow --max-minutes 20"
)
@_data
@_geometry
@_output("Folder")
@click.option(
    "--families", metavar="A,B,...", help="Generator families to train; without it tree, coupling_flow and vae."
)
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
    from caloforge.pipelines.local.run import run_local
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
    from caloforge.validation.report.leaderboard import leaderboard_markdown

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
    from caloforge.pipelines.form import with_steps_for
    from caloforge.pipelines.kubeflow.client import connect
    from caloforge.pipelines.kubeflow.submit import compiled
    from caloforge.pipelines.kubeflow.submit import submit as submit_pipeline

    with nullcontext(pipeline_file) if pipeline_file else compiled(with_steps_for(settings, parameters)) as path:
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
        _wait(kubeflow, made.identifier, token_file=token_file, cookies_file=cookies_file)


def _wait(kubeflow: Kubeflow, run_id: str, *, token_file: Path | None, cookies_file: Path | None) -> None:
    """Wait for the end of a run; who stops that is told how to go on."""
    from rich.console import Console

    from caloforge.pipelines.kubeflow.show import live_table
    from caloforge.pipelines.kubeflow.status import RunError
    from caloforge.pipelines.kubeflow.watch import wait

    console = Console()
    _stop_on_sigterm()
    try:
        with live_table(console) if console.is_terminal else nullcontext() as show:
            done = wait(kubeflow, run_id, show=show)
    except RunError:
        raise
    except BaseException:
        options = {
            "--host": kubeflow.host, "--namespace": kubeflow.namespace,
            "--token-file": token_file, "--cookies-file": cookies_file,
        }  # fmt: skip
        given = [part for name, value in options.items() if value for part in (name, str(value))]
        command = shlex.join(["caloforge", "status", run_id, "--watch", *given])
        click.echo(f"the run goes on; so does waiting with: {command}", err=True)
        raise
    click.echo(f"{done.name}: {done.state}")


@main.command(
    example="caloforge status 3f2b0c1e --host https://kubeflow.example.org/pipeline\ncaloforge status 3f2b0c1e --watch"
)
@click.argument("run_id")
@_kubeflow_options
@click.option("--watch", is_flag=True, help="Wait for the end; fails as the run does.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(
    run_id: str,
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    cookies_file: Path | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Show how the steps of a run on Kubeflow are doing, and why one failed or waits."""
    if watch and as_json:
        raise click.UsageError("give either --watch or --json")
    from rich.console import Console

    from caloforge.pipelines.kubeflow.client import connect
    from caloforge.pipelines.kubeflow.show import print_status, status_record
    from caloforge.pipelines.kubeflow.status import status as read_status

    kubeflow = connect(host, namespace=namespace, token_file=token_file, cookies_file=cookies_file)
    if watch:
        _wait(kubeflow, run_id, token_file=token_file, cookies_file=cookies_file)
        return
    now = read_status(kubeflow, run_id)
    if as_json:
        click.echo(json.dumps(status_record(now), indent=2))
    else:
        print_status(now, Console())


@main.command(example="caloforge logs 3f2b0c1e train --family vae --host https://kubeflow.example.org/pipeline")
@click.argument("run_id")
@click.argument("step")
@click.option("--family", help="Which, where the step runs for each family.")
@_kubeflow_options
def logs(
    run_id: str,
    step: str,
    family: str | None,
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    cookies_file: Path | None,
) -> None:
    """Show the log of a step of a run on Kubeflow, without Kubeflow's own lines."""
    from caloforge.pipelines.kubeflow.client import connect
    from caloforge.pipelines.kubeflow.status import Watcher

    kubeflow = connect(host, namespace=namespace, token_file=token_file, cookies_file=cookies_file)
    for line in Watcher(kubeflow, run_id).log(step, family):
        click.echo(line)


@main.command(
    "fetch-artifacts", example="caloforge fetch-artifacts 3f2b0c1e --root s3://mlpipeline/v2/artifacts -o run"
)
@click.argument("run_id")
@_kubeflow_options
@click.option("--root", help="Pipeline root; without it the run's own, the namespace's, or Kubeflow's default.")
@click.option("--all", "everything", is_flag=True, help="Generated showers too, however large.")
@_output("Folder")
@click.pass_context
def fetch_artifacts_(
    context: click.Context,
    run_id: str,
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    cookies_file: Path | None,
    root: str | None,
    everything: bool,
    output: Path,
) -> None:
    """Copy report, leaderboard and generators of a run on Kubeflow; the store's keys come from AWS_... .

    Ends with 1 if something could not be brought; what could is there.
    """
    from caloforge.pipelines.kubeflow.artifacts import fetch_artifacts
    from caloforge.pipelines.kubeflow.client import connect

    kubeflow = connect(host, namespace=namespace, token_file=token_file, cookies_file=cookies_file)
    fetched = fetch_artifacts(kubeflow, run_id, output, root=root, everything=everything)
    for name in fetched.written:
        click.echo(output / name)
    for name in fetched.skipped:
        click.echo(f"not fetched: {name}; --all brings it")
    for line in fetched.lost:
        click.echo(f"Error: {line}", err=True)
    if fetched.lost:
        context.exit(1)


@main.command(example="caloforge preprocess --data showers.hdf5 --seed 1 -o prepared")
@_data
@_geometry
@click.option("--settings", "settings_file", type=_PATH, help="YAML of preprocessing settings.")
@_seed
@_output("Folder")
def preprocess(data: str, geometry: str | None, settings_file: Path | None, seed: int, output: Path) -> None:
    """Clean and split a shower file and fit the scaling."""
    from caloforge.preprocessing.prepare import PrepareSettings, prepare
    from caloforge.showers import open_showers

    settings = PrepareSettings.from_yaml(settings_file) if settings_file else PrepareSettings()
    fetched = _fetch(data)
    prepare(open_showers(fetched.path, geometry), output, settings=settings, seed=seed, source=fetched.source)
    click.echo(f"wrote {output}")


@main.command(example="caloforge train --data showers.hdf5 --prepared prepared --family vae --max-minutes 5 -o vae")
@_data
@click.option("--prepared", type=_PATH, required=True, help="Folder that `caloforge preprocess` wrote.")
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="Size of the training.")
@click.option("--overrides", type=_PATH, help="YAML of settings on top of the preset.")
@_minutes
@click.option("--energies", type=_PATH, help="Folder that `caloforge train-energies` wrote; without it trained within.")
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
    data: str,
    prepared: Path,
    family: str,
    preset: str,
    overrides: Path | None,
    max_minutes: float | None,
    energies: Path | None,
    checkpoints: Path | None,
    processes: int,
    nodes: int,
    backend: str,
    pod_file: Path | None,
    seed: int,
    output: Path,
) -> None:
    """Train one generator; prints its figures as name=value."""
    from caloforge.models.presets import check_names

    check_names(family, preset)  # before the seconds that importing torch takes
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.training.distributed import train_distributed
    from caloforge.models.training.pod import TrainingPod

    _stop_on_sigterm()
    request = TrainingRequest(
        showers=data, prepared=prepared, output=output, family=family, preset=preset,
        overrides=_read_yaml(overrides) if overrides else {}, seed=seed, max_minutes=max_minutes or None,
        energies=energies, checkpoints=checkpoints,
    )  # fmt: skip
    pod = TrainingPod.from_yaml(pod_file) if pod_file else None
    figures = train_distributed(request, processes=processes, nodes=nodes, backend=backend, pod=pod)
    if first_process():
        _print_figures(figures)


@main.command(
    "train-energies", example="caloforge train-energies --data showers.hdf5 --prepared prepared --seed 1 -o energies"
)
@_data
@click.option("--prepared", type=_PATH, required=True, help="Folder that `caloforge preprocess` wrote.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="Size of the training.")
@click.option("--overrides", type=_PATH, help="YAML of settings on top of the preset's `energies`.")
@_minutes
@_seed
@_output("Folder")
def train_energies_(
    data: str, prepared: Path, preset: str, overrides: Path | None, max_minutes: float | None, seed: int, output: Path
) -> None:
    """Train the layer energies once, for all families that draw them first."""
    from caloforge.models.training.energies import train_energies

    _stop_on_sigterm()
    figures = train_energies(
        _fetch(data).path, prepared, output, preset=preset, overrides=_read_yaml(overrides) if overrides else None,
        seed=seed, max_minutes=max_minutes or None,
    )  # fmt: skip
    if first_process():
        _print_figures(figures)


@main.command(
    example="caloforge tune --data showers.hdf5 --family vae --trials 20 --parallel 2 --max-minutes 3 --seed 1 -o tuned"
)
@_data
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
    from caloforge.models.presets import check_names

    check_names(family, preset)  # before the seconds that importing torch takes
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
@_data
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
    from caloforge.models.presets import check_names

    check_names(family, preset)  # before the seconds that importing torch takes
    from caloforge.fetch import local_copy
    from caloforge.models.configuration import TrainingRequest
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
    request = TrainingRequest(
        showers=showers, prepared=folder, output=output, family=family, preset=preset, overrides=overrides,
        seed=seed, max_minutes=max_minutes or None,
    )  # fmt: skip
    run_trial(request, objective=objective, looks=looks, report=_print_figures_with_time)


@main.command(
    example="caloforge generate --bundle bundle --energy 50000 --n 1000 --seed 1 -o showers.hdf5\ncaloforge generate --bundle bundle --like geant4.hdf5 --seed 1 -o showers.hdf5"
)
@_bundle
@_showers("--like", "Shower file, here or elsewhere, whose conditions to take, one shower each.")
@click.option("--energy", type=float, metavar="MEV", help="Incident energy of all showers.")
@click.option("--n", "count", type=click.IntRange(min=1), help="Number of showers.")
@_steps
@_seed
@_output("HDF5 file")
def generate(
    bundle: Path, like: str | None, energy: float | None, count: int | None, steps: int | None, seed: int, output: Path
) -> None:
    """Draw showers from a generator into a CaloChallenge HDF5 file."""
    if (like is None) == (energy is None) or (energy is None) != (count is None):
        raise click.UsageError("give either --like FILE or both --energy MEV and --n N")
    from caloforge.models.generate import generate as generate_showers
    from caloforge.showers import open_showers

    conditions = open_showers(_fetch(like).path).conditions if like is not None else _at_energy(energy, count)
    _print_figures(generate_showers(bundle, conditions, output, seed=seed, steps=steps))


@main.command(example="caloforge validate --reference geant4.hdf5 --generated vae.hdf5 --generated flow.hdf5 -o report")
@_showers(
    "--reference", "Shower file to judge by; like the others a path, s3://, minio://, https://, gs://.", required=True
)
@_showers("--generated", "Shower file to judge; may be repeated.", required=True, multiple=True)
@_showers("--floor", "Second sample like the reference: what a perfect generator would reach.")
@_showers("--training", "What the generators were trained on: finds showers that repeat it.")
@click.option(
    "--protocol", default="quick", show_default=True,
    type=click.Choice(PROTOCOLS.names),
    help="challenge: thresholds, binnings, samplings and classifiers of CaloChallenge, for its four datasets.",
)  # fmt: skip
@_geometry
@_seed
@_output("Folder")
def validate(
    reference: str,
    generated: tuple[str, ...],
    floor: str | None,
    training: str | None,
    protocol: str,
    geometry: str | None,
    seed: int,
    output: Path,
) -> None:
    """Compare shower files with a reference: metrics.json, report.html and plots."""
    from caloforge.fetch import is_remote, without_secrets
    from caloforge.showers import open_showers

    truth = _fetch(reference)
    paths = [_fetch(address).path for address in generated]
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [without_secrets(address) if is_remote(address) else address for address in generated]
        names = [name.removesuffix(Path(name).suffix) for name in names]
    target = open_showers(truth.path, geometry)
    judged = {name: open_showers(path, geometry) for name, path in zip(names, paths, strict=True)}
    second, trained = (
        open_showers(_fetch(address).path, geometry) if address else None for address in (floor, training)
    )
    from caloforge.validation.validate import validate as validate_showers

    validate_showers(
        target, judged, output, floor=second, training=trained, protocol=protocol, seed=seed, source=truth.source
    )
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


@main.command(example="caloforge manifests -o manifests --settings cluster.yaml --without kserve,istio")
@_output("Folder")
@click.option("--overlay", metavar="standalone|profile|cern", help="Write only this one, with what it needs.")
@click.option("--settings", "settings_file", type=_PATH, help="YAML of pipeline settings.")
@click.option(
    "--without", "without_parts", metavar="NAMES", help="Products that are not there: kserve,katib,trainer,istio."
)
@click.option("--for-cluster", is_flag=True, help="Ask the cluster which products are not there.")
@click.option("--context", help="Context of the kubeconfig for --for-cluster; without it the current one.")
def manifests(
    output: Path,
    overlay: str | None,
    settings_file: Path | None,
    without_parts: str | None,
    for_cluster: bool,
    context: str | None,
) -> None:
    """Write what kubectl applies to a cluster before the first run, and examples."""
    from caloforge.cluster import connect
    from caloforge.pipelines.manifests.manifests import parts, write_manifests
    from caloforge.pipelines.manifests.products import missing_parts
    from caloforge.pipelines.settings import PipelineSettings

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else PipelineSettings()
    without = parts(name.strip() for name in (without_parts or "").split(",") if name.strip())
    if for_cluster:
        cluster = connect(context=context)
        cluster.patience, cluster.poll_seconds = 5.0, 1.0
        without |= missing_parts(cluster)
    write_manifests(output, settings=settings, overlay=overlay, without=without)
    click.echo(f"wrote {output}" + (f", without {', '.join(sorted(without))}" if without else ""))


@main.command(example="caloforge doctor --settings cluster.yaml --host https://kubeflow.example.org/pipeline")
@_kubeflow_options
@click.option("--settings", "settings_file", type=_PATH, help="YAML of pipeline settings; without it all must work.")
@click.option("--context", help="Context of the kubeconfig; without it the current one.")
@click.option("--strict", is_flag=True, help="End with 4 where there are warnings.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def doctor(
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    cookies_file: Path | None,
    settings_file: Path | None,
    context: str | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Say what a cluster lacks for the pipeline, each with the command that mends it.

    Ends with 0 if nothing hinders a run, 1 if one would fail, 3 if neither the cluster nor Kubeflow Pipelines could be
    asked, and with --strict 4 if there are warnings.
    """
    from caloforge.pipelines.doctor.doctor import examine, exit_code, findings_table
    from caloforge.pipelines.settings import PipelineSettings

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else None
    found = examine(
        settings=settings, context=context, namespace=namespace, host=host,
        token_file=token_file, cookies_file=cookies_file,
    )  # fmt: skip
    if as_json:
        plain = {name: [finding.as_dict() for finding in findings] for name, findings in found.items()}
        click.echo(json.dumps(plain, indent=2))
    else:
        click.echo(findings_table(found))
    return exit_code(found, strict=strict)


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


def _fetch(address: str) -> Fetched:
    """Return a shower file; what has to be fetched goes to a folder that lives as long as the command."""
    from caloforge.fetch import fetch, is_remote

    if not is_remote(address):
        return fetch(address, Path())
    _stop_on_sigterm()  # leaves the folder's with-block
    folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="caloforge-"))
    return fetch(address, Path(folder))


def _at_energy(energy: float | None, count: int | None) -> Any:
    import numpy as np

    from caloforge.showers import Conditions

    return Conditions(np.full(count or 0, energy, dtype=np.float64))


def _parse_headers(headers: tuple[str, ...]) -> dict[str, str]:
    pairs = [header.partition(":") for header in headers]
    if wrong := [name for name, colon, _ in pairs if not colon]:
        raise click.UsageError(f"--header {wrong[0]!r}: expected 'NAME: VALUE'")
    return {name.strip(): value.strip() for name, _, value in pairs}


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
