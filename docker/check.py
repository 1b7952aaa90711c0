"""Run what a cluster runs in the image, or in an environment that was installed as it is: check.py PIPELINE BINARIES.

Two steps of the compiled pipeline through kfp's executor, with the very command of the compiled YAML,
then a trial, and the server with a query. `make image-check` does so without docker, `make image-test` in the image.
"""

# ruff: noqa: T201
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

OVERRIDES = {
    "training": {"steps": 10},
    "energies": {"steps": 10},
    "model": {"network": {"width": 48, "blocks": 1}},
}


def _artifact(name: str, kind: str, path: Path) -> dict[str, Any]:
    schema = {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "uri": str(path), "type": schema, "metadata": {}}]}


def _step(
    pipeline: dict[str, Any], name: str, folder: Path, *, inputs: dict[str, Path], environment: dict[str, str],
    **parameters: Any,
) -> None:  # fmt: skip
    """Run one step of the pipeline in a folder of its own."""
    component = pipeline["components"][f"comp-{name}"]
    container = pipeline["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    outputs = component["outputDefinitions"]
    for key, definition in component["inputDefinitions"]["parameters"].items():
        if key not in parameters:
            value = definition["defaultValue"]  # YAML has no whole numbers; the driver makes them
            parameters[key] = int(value) if definition["parameterType"] == "NUMBER_INTEGER" else value
    executor_input = {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {key: _artifact(key, "Dataset", path) for key, path in inputs.items()},
        },
        "outputs": {
            "artifacts": {
                key: _artifact(key, kind["artifactType"]["schemaTitle"].removeprefix("system."), folder / name / key)
                for key, kind in outputs["artifacts"].items()
            },
            "outputFile": str(folder / name / "executor_output.json"),
        },
    }
    (folder / name).mkdir()
    words = [*container["command"], *container["args"]]
    words = [word.replace("{{$}}", json.dumps(executor_input)) for word in words]
    subprocess.run(words, env=environment, cwd=folder, check=True)
    print(f"step {name}: done")


def main(compiled: Path, binaries: Path) -> None:
    """Check the environment whose commands lie in a folder with a pipeline that was compiled elsewhere."""
    binaries = binaries.resolve()
    showers = Path(str(files("caloforge") / "data" / "demo_showers.hdf5"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # Nothing of this process' own environment: an image has none of it.
        environment = {
            "PATH": f"{binaries}:{os.defpath}", "HOME": scratch, "TMPDIR": scratch, "MPLCONFIGDIR": scratch,
            "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        pipeline = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
        _step(
            pipeline, "preprocess", folder, inputs={}, environment=environment, data=str(showers), with_energies=False
        )
        made = {name: folder / "preprocess" / name for name in ("prepared", "energies")}
        _step(
            pipeline, "train", folder, inputs=made, environment=environment, data=str(showers), family="vae",
            overrides=json.dumps({"vae": OVERRIDES}),
        )  # fmt: skip
        settings = [
            f"--set={group}.{key}={value}"
            for group, values in (("training", {"steps": 10}), ("energies", {"steps": 10}))
            for key, value in values.items()
        ]
        trial = ["caloforge", "trial", "--family=vae", f"--data={showers}", f"--prepared={made['prepared']}", *settings]
        subprocess.run([*trial, f"--output={folder / 'trial'}"], env=environment, cwd=folder, check=True)
        _serve(folder / "train" / "bundle", folder, environment)


def _serve(bundle: Path, folder: Path, environment: dict[str, str]) -> None:
    """Start the server on some port and ask it for showers, as it may take some seconds to answer."""
    command = ["caloforge", "serve", f"--bundle={bundle}", "--http-port=18080", "--grpc-port=18081"]
    query = ["caloforge", "query", "--url=http://127.0.0.1:18080", "--energy=20000", "--n=3", "--seed=1"]
    with subprocess.Popen(command, env=environment, cwd=folder) as server:
        try:
            for _ in range(60):
                time.sleep(2)
                output = folder / "showers.hdf5"
                done = subprocess.run([*query, f"--output={output}"], env=environment, cwd=folder, check=False)
                if done.returncode == 0 or server.poll() is not None:
                    break
            assert done.returncode == 0, "the server does not answer"
            assert output.is_file()
            print("server: done")
        finally:
            server.terminate()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
