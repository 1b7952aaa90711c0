"""What is no kubeconfig, no address and no number is one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from kubernetes.config import kube_config

from caloforge.cli import main
from caloforge.cluster import connect
from caloforge.errors import InputError
from caloforge.fetch import fetch
from caloforge.pipelines.kubeflow.client import connect as connect_kubeflow

BROKEN = (
    b"<html>", b'{"a": ', b"- a", b"\xff\xfe\x00", b"apiVersion: v1\nkind: Config\nclusters: 5\ncontexts: x\n",
    (b'{apiVersion: v1, kind: Config, clusters: [{name: a, cluster: {server: "https://[::"}}], users: [{name: a, user: {}}],'
    b" contexts: [{name: a, context: {cluster: a, user: a}}], current-context: a}"),
)  # fmt: skip


@pytest.mark.parametrize("content", BROKEN)
def test_a_kubeconfig_that_is_none(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match=r"kubeconfig|not an address") as error:
        connect()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://[::1/x.hdf5", "http://127.0.0.1:99999/x.hdf5", "https://exa mple/x", "http:///x"]
)
def test_an_address_that_is_none_is_not_waited_for(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an address"):
        fetch(url, tmp_path)
    with pytest.raises(InputError, match="not an address"):
        connect_kubeflow(url, patience=0.0)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e300"])
def test_a_number_that_is_none(value: str) -> None:
    for words in (
        ["train", "--data", "x", "--prepared", "p", "--family", "vae", "-o", "o", "--max-minutes", value],
        ["query", "--url", "http://x", "--n", "1", "-o", "o", "--energy", value],
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert f"Invalid value for '{words[-2]}'" in result.output
