"""The command that trains, for processes and pods that are started with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from caloforge.files import atomic_file

RESTARTS = 3
"""So often torchrun starts all processes anew after one was lost; they go on from the last checkpoint."""


def train_arguments(options: Mapping[str, Any], scratch: Path, **paths: Path) -> list[str]:
    """Return the arguments of ``caloforge train``, its overrides in a file of the scratch folder."""
    arguments = [f"--{name}={path}" for name, path in paths.items()]
    arguments += [f"--{name}={options[name]}" for name in ("family", "preset", "seed")]
    if options["max_minutes"]:
        arguments.append(f"--max-minutes={options['max_minutes']:g}")
    if options["overrides"]:
        file = scratch / "overrides.yaml"
        with atomic_file(file) as temporary:
            temporary.write_text(yaml.safe_dump(json.loads(json.dumps(options["overrides"]))))
        arguments.append(f"--overrides={file}")
    return arguments


def launch_command(launcher: str, *options: str) -> list[str]:
    """Return the command that starts several processes; the arguments of ``caloforge train`` follow.

    -P: a folder called caloforge in the current directory is not the package.
    """
    return ["python", "-P", "-m", launcher, *options, f"--max-restarts={RESTARTS}", "--module", "caloforge", "train"]
