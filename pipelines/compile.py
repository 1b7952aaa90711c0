"""Write the pipeline as the YAML that Kubeflow Pipelines and the local run execute."""

from pathlib import Path

from kfp import compiler

from caloforge.files import atomic_file
from caloforge.pipelines.build import build_pipeline
from caloforge.pipelines.check import check
from caloforge.pipelines.settings import PipelineSettings


def compile_pipeline(settings: PipelineSettings, output: Path) -> None:
    """Write the intermediate representation (IR YAML) of the pipeline, checked and atomically.

    Raises:
        InputError: the settings hold what Kubeflow Pipelines does not know.
        PipelineError: what was compiled could not be run.
    """
    with atomic_file(output) as temporary:
        written = temporary.with_suffix(".yaml")  # the compiler insists on the suffix
        try:
            compiler.Compiler().compile(build_pipeline(settings), str(written))
            check(written.read_text())
            written.replace(temporary)
        finally:
            written.unlink(missing_ok=True)
