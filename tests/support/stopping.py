"""A process that waits for something on a cluster, and is told to stop, as Kubernetes stops a step's pod."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kubernetes_api import KubernetesApi

BEGIN = """
import json, signal, sys
from caloforge.cluster import connect
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as every component does
cluster = connect()
cluster.poll_seconds = 0.05
body = json.load(open(sys.argv[1]))
"""


def stop_while_waiting(
    code: str, body: dict[str, Any], api: KubernetesApi, waiting: Callable[[], bool], folder: Path
) -> tuple[int, str]:
    """Run ``code`` in a process of its own, send it SIGTERM when it waits, and return its exit code and output.

    Args:
        code: what waits; ``cluster`` and ``body`` are there.
        body: an object.
        api: the cluster that its kubeconfig names.
        waiting: whether it waits by now.
        folder: for its files.
    """
    kubeconfig, given = folder / "kubeconfig", folder / "body.json"
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {"token": "abc"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "default"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(config))
    given.write_text(json.dumps(body))
    environment = {
        **{key: value for key, value in os.environ.items() if key != "KUBERNETES_SERVICE_HOST"},
        "KUBECONFIG": str(kubeconfig),
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", BEGIN + code, str(given)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not waiting():
            assert process.poll() is None, f"it ended by itself: {process.communicate()[0]}"
            assert time.monotonic() < deadline, "it never waited"
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)  # the grace that a pod has
    finally:
        process.kill()
        process.wait()
    return process.returncode, output
