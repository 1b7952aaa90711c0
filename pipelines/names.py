"""Give the loop over the families, and what goes into it and comes out of it, names that people understand.

kfp calls a loop ``for-loop-1`` and what passes its border ``pipelinechannel--preprocess-prepared`` or
``pipelinechannel--train-bundle``, and Kubeflow's page shows these names: the iterations are
``for-loop-1.0`` and ``for-loop-1.1`` there, the artifacts look like something internal.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

LOOP = "families"
"""Name of the loop; its iterations are ``families.0``, ``families.1``, ... on Kubeflow's page."""

_NAMES: Mapping[str, str] = {
    "for-loop-1": LOOP,
    "comp-for-loop-1": f"comp-{LOOP}",
    "pipelinechannel--preprocess-prepared": "prepared",
    "pipelinechannel--preprocess-energies": "energies",
    "pipelinechannel--train-bundle": "bundles",
    "pipelinechannel--distill-student": "students",
    "pipelinechannel--generate-generated": "generated",
}


def name_loop(pipeline: Any) -> Any:
    """Return a compiled pipeline, or pipeline within a pipeline, with our names in place of kfp's.

    Names are replaced where they stand alone, as key or value; texts that contain them (placeholders
    of parameters) and everything else stay as they are.

    Args:
        pipeline: kfp's graph component; its specification is changed in place.
    """
    specification = pipeline.pipeline_spec
    content = _renamed(json_format.MessageToDict(specification))
    specification.Clear()
    json_format.ParseDict(content, specification)
    return pipeline


def _renamed(node: Any) -> Any:
    if isinstance(node, dict):
        return {_NAMES.get(key, key): _renamed(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value) for value in node]
    return _NAMES.get(node, node) if isinstance(node, str) else node
