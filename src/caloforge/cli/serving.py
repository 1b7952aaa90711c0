"""Generators in use: export, serve, deploy and query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caloforge.cli.figures import print_figures, say
from caloforge.cli.group import main
from caloforge.cli.inputs import at_energy, read_headers
from caloforge.cli.options import (
    MEV,
    PATH,
    SECONDS,
    backend_option,
    bundle_option,
    condition_option,
    header_options,
    output_option,
    overwrite_option,
    sampler_option,
    seed_option,
    steps_option,
)
from caloforge.outputs import check_file, check_folder
from caloforge.place import DEPLOY_BACKENDS
from caloforge.result_kinds import BUNDLE


@main.command(example="caloforge export --bundle bundle -o exported")
@bundle_option
@sampler_option
@steps_option
@click.option(
    "--opset", type=click.IntRange(17, 20), help="Operator set of ONNX; without it the oldest that holds the graph."
)
@click.option(
    "--seeded", is_flag=True, help="Also seeded.onnx, with the random numbers inside: a seed in place of the noise."
)
@output_option("Bundle")
@overwrite_option
def export(
    bundle: Path,
    sampler: dict[str, Any] | None,
    steps: int | None,
    opset: int | None,
    seeded: bool,
    output: Path,
    overwrite: bool,
) -> None:
    """Copy a generator and add generator.onnx: conditions and noise in, MeV out."""
    check_folder(output, BUNDLE, overwrite=overwrite)
    from caloforge.models.export import export as export_bundle

    print_figures(
        export_bundle(bundle, output, steps=steps, sampler=sampler, opset=opset, seeded=seeded, overwrite=overwrite)
    )


@main.command(example="caloforge serve --bundle bundle --http-port 8080 --grpc-port 8081")
@bundle_option
@click.option("--http-port", type=int, default=8080, show_default=True, help="Port of REST.")
@click.option("--grpc-port", type=int, default=8081, show_default=True, help="Port of gRPC.")
@click.option("--name", default="caloforge", show_default=True, help="Name of the model in the URLs.")
@click.option(
    "--max-steps",
    type=click.IntRange(min=1),
    help="Most sampling steps that a request may ask for; without it four times the generator's own.",
)
@click.option(
    "--request-seconds",
    type=SECONDS,
    default=120,
    show_default=True,
    help="A request whose showers are not there by then is given up.",
)
def serve(
    bundle: Path, http_port: int, grpc_port: int, name: str, max_steps: int | None, request_seconds: float
) -> None:
    """Serve a generator with KServe's model server until it is stopped."""
    from caloforge.runner import end_with_runner
    from caloforge.serving.server import serve as serve_bundle

    end_with_runner()
    serve_bundle(
        bundle, http_port=http_port, grpc_port=grpc_port, name=name, max_steps=max_steps,
        request_seconds=request_seconds,
    )  # fmt: skip


@main.command(
    example="caloforge deploy --bundle exported\n"
    "caloforge deploy --bundle exported --name calo --uri s3://bucket/exported --backend kserve --namespace team"
)
@bundle_option
@click.option("--name", default="", help="Name of the InferenceService; without it the server is stopped again.")
@click.option("--uri", default="", help="Address of the bundle for the cluster; without it its path, on a claim.")
@backend_option(DEPLOY_BACKENDS, "A subprocess, a cluster")
@click.option("--settings", "settings_file", type=PATH, help="YAML of how it is served: image, resources, ...")
@click.option("--context", help="Context of the kubeconfig; without it the current one.")
@click.option("--namespace", help="Goes before that of the settings and of the context.")
@header_options
@click.option("--keep", is_flag=True, help="Leave a service that failed as it is, to look into it.")
@seed_option
def deploy(
    bundle: Path,
    name: str,
    uri: str,
    backend: str,
    settings_file: Path | None,
    context: str | None,
    namespace: str | None,
    headers: tuple[str, ...],
    header_file: Path | None,
    keep: bool,
    seed: int,
) -> None:
    """Serve a generator, compare its answers with its own sampling; a cluster keeps it if they agree."""
    from caloforge.serving.deploy import deploy as deploy_bundle
    from caloforge.serving.inference_service import ServiceSettings

    if backend == "kserve" and not name:
        raise click.UsageError("--backend kserve needs --name")
    settings = ServiceSettings.from_yaml(settings_file) if settings_file else ServiceSettings()
    if namespace:
        settings = settings.model_copy(update={"namespace": namespace})
    result = deploy_bundle(
        bundle, name=name, uri=uri, backend=backend, settings=settings, context=context, seed=seed,
        headers=read_headers(headers, header_file), keep=keep,
    )  # fmt: skip
    print_figures({"url": result.url, **result.figures} if result.url else result.figures)


@main.command(example="caloforge query --url http://localhost:8080 --energy 50000 --n 100 --seed 1 -o showers.hdf5")
@click.option("--url", required=True, help="Address of the server, e.g. http://localhost:8080.")
@click.option("--energy", type=MEV, metavar="MEV", required=True, help="Incident energy of all showers.")
@click.option("--n", "count", type=int, required=True, help="Number of showers.")
@condition_option
@click.option("--name", default="caloforge", show_default=True, help="Name of the model on the server.")
@click.option("--score", is_flag=True, help="Also how likely each shower is, as the dataset log_prob (tree).")
@header_options
@steps_option
@seed_option
@output_option("HDF5 file")
def query(
    url: str,
    energy: float,
    count: int,
    words: tuple[str, ...],
    name: str,
    score: bool,
    headers: tuple[str, ...],
    header_file: Path | None,
    steps: int | None,
    seed: int,
    output: Path,
) -> None:
    """Ask a server for showers and write them into a CaloChallenge HDF5 file."""
    from caloforge.provenance import provenance
    from caloforge.secrets import without_secrets
    from caloforge.serving.client import ask
    from caloforge.showers import write_showers

    check_file(output)
    conditions = at_energy(energy, count, words)
    try:
        answer = ask(
            url, conditions, seed=seed, steps=steps, score=score, name=name, headers=read_headers(headers, header_file)
        )
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    with write_showers(
        output, answer.geometry, attributes={"source": without_secrets(url)}, provenance=provenance(seed=seed)
    ) as writer:
        beside = {} if answer.log_likelihood is None else {"log_prob": answer.log_likelihood}
        writer.append(conditions, answer.showers, beside=beside)
    say(f"wrote {count} showers to {output}", beside=output)
