"""Start the pipeline on Kubeflow: upload it as a version, then run it once or on a schedule."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api

from caloforge.errors import InputError
from caloforge.patience import Patience
from caloforge.pipelines.check import check
from caloforge.pipelines.compile import compile_pipeline, version_name
from caloforge.pipelines.kubeflow.client import Kubeflow, KubeflowError, Passing, Refused
from caloforge.pipelines.parameters import check_parameters
from caloforge.pipelines.settings import PipelineSettings
from caloforge.temporary import scratch_folder

logger = logging.getLogger(__name__)

_CRON_FIELDS = 6


@dataclass(frozen=True)
class Version:
    """A version of a pipeline on a server.

    Attributes:
        pipeline_id: of the pipeline.
        version_id: of the version.
        name: of the version.
        link: page of the user interface.
    """

    pipeline_id: str
    version_id: str
    name: str
    link: str


@dataclass(frozen=True)
class Submitted:
    """A run, or a schedule of runs, that was made.

    Attributes:
        identifier: of the run or the schedule.
        name: of it.
        link: page of the user interface.
        version: what is run.
    """

    identifier: str
    name: str
    link: str
    version: Version


@contextlib.contextmanager
def compiled(settings: PipelineSettings) -> Iterator[Path]:
    """Compile the pipeline into a file that is there within the block."""
    with scratch_folder() as folder:
        path = folder / "pipeline.yaml"
        compile_pipeline(settings, path)
        yield path


def read_pipeline(path: Path) -> dict[str, Any]:
    """Return the specification in a compiled pipeline, checked.

    Raises:
        InputError: the file cannot be read or holds no pipeline that could be run.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return check(text)


def upload(kubeflow: Kubeflow, path: Path, name: str) -> Version:
    """Upload a compiled pipeline as a version of the pipeline of a name.

    The name of the version ends with a digest of the file: equal content is uploaded once.
    """
    pipeline, called = _pipeline(kubeflow, name), version_name(name, path)
    version = _find_version(kubeflow, pipeline, called)
    if version is None:
        upload_version = kubeflow.client.upload_pipeline_version
        try:
            version = kubeflow.ask(
                "upload the pipeline",
                upload_version,
                str(path),
                pipeline_version_name=called,
                pipeline_id=pipeline,
            )
        except Refused as error:
            version = _find_version(kubeflow, pipeline, called) if error.status in (400, 409) else None
            if version is None:  # else an upload whose answer was lost
                raise
        logger.info("uploaded %s, version %s", name, called)
    else:
        logger.info("%s, version %s, is there from an earlier upload", name, called)
    identifier: str = version.pipeline_version_id
    link = kubeflow.link(f"pipelines/details/{pipeline}/version/{identifier}")
    return Version(pipeline, identifier, called, link)


def submit(
    kubeflow: Kubeflow,
    path: Path,
    parameters: Mapping[str, Any],
    *,
    experiment: str = "caloforge",
    run_name: str | None = None,
    service_account: str | None = None,
    cron: str | None = None,
) -> Submitted:
    """Run a compiled pipeline.

    Args:
        kubeflow: where.
        path: compiled pipeline.
        parameters: name to value; see :func:`caloforge.pipelines.parameters.check_parameters`.
        experiment: group of runs that it belongs to; made if it is not there.
        run_name: shown in the user interface; without it the pipeline's name and the time.
        service_account: account that the steps run as; the server's default without it.
        cron: schedule in six fields, seconds first; without it the pipeline is run once, now.

    Raises:
        InputError: a parameter or the schedule is wrong, or Kubeflow refuses.
        KubeflowError: Kubeflow does not answer.
    """
    specification = read_pipeline(path)
    values = check_parameters(specification, parameters)
    if cron is not None and len(cron.split()) != _CRON_FIELDS:
        raise InputError(f"--cron {cron!r}: expected six fields, seconds first, e.g. '0 0 3 * * *' for 3:00 each day")
    pipeline = specification["pipelineInfo"]["name"]
    version = upload(kubeflow, path, pipeline)
    group = kubeflow.ask(
        "make the experiment", kubeflow.client.create_experiment, experiment, namespace=kubeflow.namespace
    )
    name = run_name or (f"{pipeline} {datetime.now(UTC):%Y-%m-%d %H-%M-%S}" if cron is None else pipeline)
    common = {
        "experiment_id": group.experiment_id,
        "job_name": name,
        "params": values,
        "pipeline_id": version.pipeline_id,
        "version_id": version.version_id,
        "service_account": service_account or None,
    }
    if cron is not None:
        return _schedule(kubeflow, common, cron, version)
    run = _start(kubeflow, common)
    return Submitted(run.run_id, name, kubeflow.link(f"runs/details/{run.run_id}"), version)


def _pipeline(kubeflow: Kubeflow, name: str) -> str:
    """Return the identifier of the pipeline of a name; make it if there is none."""
    identifier = _find_pipeline(kubeflow, name)
    if identifier is None:
        api = kubeflow.client._pipelines_api
        body = kfp_server_api.V2beta1Pipeline(display_name=name, namespace=kubeflow.namespace)
        try:
            identifier = kubeflow.ask("make the pipeline", api.pipeline_service_create_pipeline, body).pipeline_id
        except Refused as error:
            identifier = _find_pipeline(kubeflow, name) if error.status in (400, 409) else None
            if identifier is None:  # else somebody was faster, or our answer was lost
                raise
    return identifier


def _find_pipeline(kubeflow: Kubeflow, name: str) -> str | None:
    answer = kubeflow.ask(
        "look for the pipeline",
        kubeflow.client.list_pipelines,
        filter=_named(name),
        namespace=kubeflow.namespace,
    )
    found = answer.pipelines or []
    return found[0].pipeline_id if found else None


def _find_version(kubeflow: Kubeflow, pipeline: str, name: str) -> Any:
    answer = kubeflow.ask("look for the version", kubeflow.client.list_pipeline_versions, pipeline, filter=_named(name))
    found = answer.pipeline_versions or []
    return found[0] if found else None


def _start(kubeflow: Kubeflow, arguments: Mapping[str, Any]) -> Any:
    """Make one run, and not a second one where only the answer to the first was lost."""

    def runs() -> dict[str, Any]:
        answer = kubeflow.ask(
            "look for the run",
            kubeflow.client.list_runs,
            experiment_id=arguments["experiment_id"],
            filter=_named(arguments["job_name"]),
            page_size=100,
        )
        return {run.run_id: run for run in answer.runs or []}

    before, patience = runs(), Patience(kubeflow.patience, first=kubeflow.poll_seconds)
    while True:
        try:
            return kubeflow.once("start the run", kubeflow.client.run_pipeline, **arguments)
        except Passing as error:
            if not patience.wait(str(error)):
                raise KubeflowError(f"{kubeflow.host}: cannot start the run: {error}") from None
        if new := [run for identifier, run in runs().items() if identifier not in before]:
            return new[0]


def _schedule(kubeflow: Kubeflow, arguments: Mapping[str, Any], cron: str, version: Version) -> Submitted:
    name, experiment = arguments["job_name"], arguments["experiment_id"]
    answer = kubeflow.ask(
        "look for the schedule", kubeflow.client.list_recurring_runs, experiment_id=experiment, filter=_named(name)
    )
    if answer.recurring_runs:
        link = kubeflow.link(f"recurringrun/details/{answer.recurring_runs[0].recurring_run_id}")
        raise InputError(f"a schedule {name!r} is there; delete it ({link}) or give another --run-name")
    made = kubeflow.ask(
        "make the schedule",
        kubeflow.client.create_recurring_run,
        **arguments,
        cron_expression=cron,
        no_catchup=True,
    )
    return Submitted(
        made.recurring_run_id, name, kubeflow.link(f"recurringrun/details/{made.recurring_run_id}"), version
    )


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
