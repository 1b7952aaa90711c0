"""Run the compiled pipeline with kfp.local, in a process of its own.

kfp.local replaces ``builtins.print`` and the root logger's handlers from several threads at once,
deletes its workspace folder and writes everything to standard output. Here that harms nobody;
:mod:`caloforge.pipelines.local.run` starts this module and reads what it writes.
"""

import json
import logging
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, TextIO

from kfp import components, dsl, local

from caloforge.memory import collect_garbage_seldom
from caloforge.outputs import put_files
from caloforge.pipelines.compile import compile_pipeline
from caloforge.pipelines.layout import PIPELINE
from caloforge.pipelines.settings import PipelineSettings
from caloforge.result_kinds import RUN

logger = logging.getLogger(__name__)


class _ThreadLines:
    """Pass on whole lines, each with the number of its thread in front.

    Two tasks run side by side in two threads; without this their output mixes within lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._parts: dict[int, str] = {}
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        *lines, rest = (self._parts.pop(thread, "") + text).split("\n")
        if rest:
            self._parts[thread] = rest
        with self._lock:
            self._stream.writelines(f"{thread}\t{line}\n" for line in lines)
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def execute(request: dict[str, Any]) -> dict[str, Any]:
    """Compile, run, and return the address of each output.

    Args:
        request: ``settings`` (of PipelineSettings), ``arguments`` of the pipeline, ``output`` (folder that gets
            :data:`PIPELINE`), ``steps`` and ``cache`` (folders).

    Raises:
        InputError: somebody has changed the pipeline that an earlier start left.
    """
    with put_files(Path(request["output"]), RUN) as folder:
        yaml = folder / PIPELINE
        compile_pipeline(PipelineSettings.parse(request["settings"], where="settings"), yaml)
        pipeline = components.load_component_from_file(str(yaml))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=request["steps"],
        workspace_root=tempfile.mkdtemp(prefix="caloforge-workspace-"),  # kfp deletes it after the run
        enable_caching=True,
        cache_root=request["cache"],
    )
    return {name: _address(value) for name, value in pipeline(**request["arguments"]).outputs.items()}


def _address(value: Any) -> Any:
    if isinstance(value, list):
        return [_address(item) for item in value]
    return {"path": value.uri, "metadata": value.metadata} if isinstance(value, dsl.Artifact) else value


def main() -> None:
    """Read the request from standard input and write the outputs to the file that it names."""
    collect_garbage_seldom()
    request = json.load(sys.stdin)
    sys.stdout = _ThreadLines(sys.stdout)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")  # says which steps were cached
    try:
        outputs = execute(request)
    except RuntimeError as error:  # a task failed, and its own output said why
        logger.error("%s", error)
        sys.exit(1)
    Path(request["outputs"]).write_text(json.dumps(outputs), encoding="utf-8")


if __name__ == "__main__":
    main()
