"""Print what the image needs of pyproject.toml: what steps, trials and the server import when they run.

kfp itself is installed without its requirements, see the Dockerfile: it is written so that its
runtime imports the standard library only.
"""

# ruff: noqa: T201
import re
import tomllib
from pathlib import Path

NOT_AT_RUN_TIME = {"kfp", "kfp-kubernetes"}
"""They make and submit pipelines, on the machine of whoever does that."""

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
wanted = [
    *project["dependencies"],
    *project["optional-dependencies"]["s3"],
    *project["optional-dependencies"]["gs"],
    *project["optional-dependencies"]["root"],
]
print(*(line for line in wanted if re.split(r"[^\w-]", line)[0] not in NOT_AT_RUN_TIME), sep="\n")
