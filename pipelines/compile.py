"""Write the pipeline as the YAML that Kubeflow Pipelines and the local run execute."""

import shutil
from pathlib import Path

from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from caloforge.files import sha256
from caloforge.outputs import result_file
from caloforge.pipelines.build import build_pipeline
from caloforge.pipelines.check import check
from caloforge.pipelines.settings import PipelineSettings
from caloforge.temporary import scratch_folder


def compile_pipeline(settings: PipelineSettings, output: Path, *, manifests: bool = False) -> None:
    """Write the intermediate representation (IR YAML) of the pipeline, checked and atomically.

    Args:
        settings: settings of the pipeline.
        output: file to write.
        manifests: write the objects ``Pipeline`` and ``PipelineVersion`` instead, which hold the same and
            which ``kubectl apply`` takes where Kubeflow Pipelines keeps its pipelines in Kubernetes. The
            version's name ends with a digest of its content: versions do not change.

    Raises:
        InputError: the settings hold what Kubeflow Pipelines does not know.
        PipelineError: what was compiled could not be run.
    """
    with result_file(output) as temporary, scratch_folder() as scratch:
        written = scratch / "pipeline.yaml"  # the compiler insists on the suffix
        pipeline = build_pipeline(settings)
        compiler.Compiler().compile(pipeline, str(written))
        check(written.read_text(encoding="utf-8"))
        if manifests:
            options = KubernetesManifestOptions(
                pipeline_name=settings.name,
                pipeline_version_name=version_name(settings.name, written),
                namespace=settings.namespace or None,
                include_pipeline_manifest=True,
            )
            compiler.Compiler().compile(
                pipeline, str(written), kubernetes_manifest_options=options, kubernetes_manifest_format=True
            )
        shutil.copyfile(written, temporary)


def version_name(pipeline: str, path: Path) -> str:
    """Return the name of the version that a compiled pipeline is: equal content, equal name."""
    return f"{pipeline}-{sha256(path)[:12]}"
