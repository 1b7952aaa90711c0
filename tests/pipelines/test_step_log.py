import pytest

from caloforge.ending import Ending
from caloforge.pipelines.step_log import cause, own_lines

LOG = """\
time="2026-11-26T01:41:39.000Z" level=info msg="capturing logs" argo=true
I1126 01:41:39.314159      13 launcher_v2.go:184] input ComponentSpec:{
  "inputDefinitions": {
    "parameters": {
      "settings": {
        "defaultValue": "{ (",
        "parameterType": "STRING"
      }
    }
  }
}
I1126 01:41:39.314160      13 cache.go:139] Connecting to cache endpoint ml-pipeline.kubeflow:8887
[KFP Executor 2026-11-26 01:41:40,123 INFO]: Looking for component `train` in --component_module_path
08:00:02  train vae: started
/usr/lib/python3/x.py:7: UserWarning: slow
08:00:03  WARNING: vae: slow
{mark}
I1126 01:41:41.000000      13 object_store.go:100] uploading
time="2026-11-26T01:41:42.000Z" level=info msg="sub-process exited" argo=true error="<nil>"
"""
TRACEBACK = """\
Traceback (most recent call last):
  File "x.py", line 1, in train
caloforge.errors.InputError: s3://data/nothing.hdf5: nothing is there
F1126 01:41:41.000000      13 main.go:58] failed to execute component: exit status 1
"""


def test_only_what_is_not_the_launchers_is_shown() -> None:
    log = LOG.replace("{mark}", Ending("train", "vae", "succeeded").line)
    assert list(own_lines(log)) == [
        "08:00:02  train vae: started",
        "/usr/lib/python3/x.py:7: UserWarning: slow",
        "08:00:03  WARNING: vae: slow",
    ]


def test_a_message_of_the_launcher_that_was_cut_hides_nothing_of_ours() -> None:
    log = 'I1126 01:41:39.314159      13 launcher_v2.go:184] input ExecutorInput:{\n  "inputs": {\n' + TRACEBACK
    assert next(iter(own_lines(log))) == "Traceback (most recent call last):"
    assert len(list(own_lines(log))) == 3


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (LOG.replace("{mark}", Ending("train", "vae", "failed", "diverged").line) + TRACEBACK, "diverged"),
        (TRACEBACK, "s3://data/nothing.hdf5: nothing is there"),
        (TRACEBACK.replace("caloforge.errors.InputError", "RuntimeError"), "RuntimeError: s3://data/nothing.hdf5: nothing is there"),
        (
            Ending("train", "vae", "succeeded").line + "\nF1126 01:41:41.0      13 main.go:58] failed to upload: no keys\n",
            "failed to upload: no keys",
        ),
        (LOG, ""),
        ("", ""),
    ],
)  # fmt: skip
def test_why(log: str, expected: str) -> None:
    assert cause(log) == expected
