"""A cluster made ready: manifests and doctor."""

from __future__ import annotations

import json
from pathlib import Path

import click

from caloforge.cli.group import main
from caloforge.cli.options import PATH, kubeflow_options, output_option


@main.command(example="caloforge manifests -o manifests --settings cluster.yaml --without kserve,istio", goes_on=True)
@output_option("Folder")
@click.option("--overlay", metavar="standalone|profile|cern", help="Write only this one, with what it needs.")
@click.option("--settings", "settings_file", type=PATH, help="YAML of pipeline settings.")
@click.option(
    "--without", "without_parts", metavar="NAMES", help="Products that are not there: kserve,katib,trainer,istio."
)
@click.option("--for-cluster", is_flag=True, help="Ask the cluster which products are not there.")
@click.option("--context", help="Context of the kubeconfig for --for-cluster; without it the current one.")
@click.option("--overwrite", is_flag=True, help="Replace manifests that were changed since they were written, too.")
def manifests(
    output: Path,
    overlay: str | None,
    settings_file: Path | None,
    without_parts: str | None,
    for_cluster: bool,
    context: str | None,
    overwrite: bool,
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
    write_manifests(output, settings=settings, overlay=overlay, without=without, overwrite=overwrite)
    click.echo(f"wrote {output}" + (f", without {', '.join(sorted(without))}" if without else ""))


@main.command(example="caloforge doctor --settings cluster.yaml --host https://kubeflow.example.org/pipeline")
@kubeflow_options
@click.option("--settings", "settings_file", type=PATH, help="YAML of pipeline settings; without it all must work.")
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
