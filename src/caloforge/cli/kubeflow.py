"""Runs on Kubeflow: compile, submit, status, logs and fetch-artifacts."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caloforge.cli.figures import say
from caloforge.cli.group import main
from caloforge.cli.inputs import read_settings
from caloforge.cli.options import PATH, kubeflow_options, output_option
from caloforge.outputs import check_file
from caloforge.secrets import masked

if TYPE_CHECKING:
    from caloforge.pipelines.kubeflow.client import Kubeflow


@main.command("compile", example="caloforge compile -o pipeline.yaml --settings my-cluster.yaml")
@output_option("YAML file")
@click.option("--settings", "settings_file", type=PATH, help="YAML of pipeline settings.")
@click.option("--kubernetes-manifest", is_flag=True, help="As Pipeline and PipelineVersion, for kubectl and GitOps.")
def compile_(output: Path, settings_file: Path | None, kubernetes_manifest: bool) -> None:
    """Write the pipeline as YAML for Kubeflow Pipelines."""
    from caloforge.pipelines.settings import PipelineSettings

    check_file(output)
    settings = PipelineSettings.from_yaml(settings_file) if settings_file else PipelineSettings()
    from caloforge.pipelines.compile import compile_pipeline

    compile_pipeline(settings, output, manifests=kubernetes_manifest)
    say(f"wrote {output}", beside=output)


@main.command(
    example="caloforge submit --host https://kubeflow.example.org/pipeline --settings cluster.yaml"
    " --set data=s3://bucket/showers.hdf5 --wait"
)
@kubeflow_options
@click.option("--settings", "settings_file", type=PATH, help="YAML of pipeline settings.")
@click.option("--pipeline", "pipeline_file", type=PATH, help="Compiled pipeline, in place of compiling one.")
@click.option("--parameters", "parameters_file", type=PATH, help="YAML of the pipeline's parameters.")
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
    parameters = {**(read_settings(parameters_file) if parameters_file else {}), **split_settings(assignments)}
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
@kubeflow_options
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
@kubeflow_options
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
        click.echo(masked(line))


@main.command(
    "fetch-artifacts", example="caloforge fetch-artifacts 3f2b0c1e --root s3://mlpipeline/v2/artifacts -o run"
)
@click.argument("run_id")
@kubeflow_options
@click.option("--root", help="Pipeline root; without it the run's own, the namespace's, or Kubeflow's default.")
@click.option("--all", "everything", is_flag=True, help="Generated showers too, however large.")
@output_option("Folder")
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
        click.echo(masked(f"Error: {line}"), err=True)
    if fetched.lost:
        context.exit(1)
