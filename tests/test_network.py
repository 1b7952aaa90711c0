"""Certificates of a private authority, and proxies, for everything that asks something over a network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from authority import Authority, Proxy, proxying, speaking_tls
from click.testing import CliRunner
from kfp_api import KfpApi
from kfp_api import running as running_kfp
from kubernetes_api import KubernetesApi
from kubernetes_api import running as running_kubernetes
from object_store import ObjectStore, serving

from caloforge import cli
from caloforge.cluster import connect as connect_cluster
from caloforge.errors import InputError
from caloforge.fetch import fetch, look
from caloforge.network import proxy_of
from caloforge.pipelines.kubeflow.client import connect as connect_kubeflow
from caloforge.serving.client import is_ready


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "aws_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with serving(ObjectStore(**{"bucket/file.txt": b"content", "v2/models/caloforge/ready": b""})) as store:
        yield store


@contextlib.contextmanager
def asking(
    name: str, authority: Authority, store: ObjectStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the address of a server that speaks TLS, and what asks it something."""
    with contextlib.ExitStack() as stack:
        plain = store.url
        if name == "kubeflow":
            plain = stack.enter_context(running_kfp(KfpApi())).url
        if name == "kubernetes":
            plain = stack.enter_context(running_kubernetes(KubernetesApi())).url
        url = stack.enter_context(speaking_tls(plain, authority.context()))

        def web() -> object:
            return fetch(f"{url}/bucket/file.txt", folder, patience=0).path.read_text()

        def s3() -> object:
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            return fetch("s3://bucket/file.txt", folder, patience=0).path.read_text()

        def kubernetes() -> object:
            named = {"name": "c", "cluster": {"server": url}}, {"name": "c", "context": {"cluster": "c", "user": "u"}}
            config = {"clusters": [named[0]], "contexts": [named[1]], "users": [{"name": "u", "user": {}}]}
            (folder / "kubeconfig").write_text(yaml.safe_dump({**config, "current-context": "c"}))
            monkeypatch.setattr(
                "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "kubeconfig")
            )
            cluster = connect_cluster()
            cluster.patience = cluster.poll_seconds = 0.0
            return cluster.request("GET", "/api/v1/namespaces/default/pods")["items"] == []

        yield (
            url,
            {
                "web": web,
                "s3": s3,
                "kubeflow": lambda: connect_kubeflow(url, patience=0.0).host,
                "kubernetes": kubernetes,
                "server": lambda: is_ready(url),
            }[name],
        )


NAMES = ("web", "s3", "kubeflow", "kubernetes", "server")


@pytest.mark.parametrize("name", NAMES)
def test_a_private_authority(
    name: str, authority: Authority, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asking(name, authority, store, tmp_path, monkeypatch) as (url, ask):
        with pytest.raises(InputError, match=r"certificate is not trusted .*--ca-cert or SSL_CERT_FILE") as raised:
            ask()
        assert "nothing is there" not in str(raised.value)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        assert ask() in ("content", url, True)


@pytest.mark.parametrize("name", NAMES[:-1])  # a server of this machine is asked without a proxy
def test_a_proxy(
    name: str, authority: Authority, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with (
        proxying(Proxy(password="Pl/4nted")) as proxy,
        asking(name, authority, store, tmp_path, monkeypatch) as (url, ask),
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:Pl%2F4nted@"))
        assert ask()
        came = ("CONNECT", urlsplit(url).netloc, "me:Pl/4nted")
        assert set(proxy.asked) == {came}
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:wr0ng-word@"))
        with pytest.raises(InputError, match=r"proxy refuses \(407\)") as raised:
            ask()
        assert "wr0ng-word" not in str(raised.value)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:Pl%2F4nted@"))
        for direct in ("127.0.0.1", urlsplit(url).netloc, "127.0.0.0/8", "127.0.0.1/31", "*"):
            proxy.asked.clear()
            monkeypatch.setenv("NO_PROXY", f"example.org, {direct}" if direct != "*" else "*")
            assert ask()
            assert proxy.asked == [], direct
        for other in ("10.0.0.0/8", "27.0.0.1", "127.0.0.1:1", "127.0.0.0/99", "/8", "::/0", "fd00::/8"):
            proxy.asked.clear()
            monkeypatch.setenv("NO_PROXY", other)
            assert ask()
            assert set(proxy.asked) == {came}, other


def test_networks_of_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,fd00::/8")
    assert proxy_of("https://10.96.0.1:443/api") is None
    assert proxy_of("https://[fd00::1]:443/api") is None
    for other in ("11.0.0.1", "[fe80::1]", "ten.example.org"):
        assert proxy_of(f"https://{other}:443") == ("http://proxy.example.org:3128", {})
    assert os.environ["NO_PROXY"] == "10.0.0.0/8,fd00::/8,10.96.0.1,fd00::1,[fd00::1]"


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5://me:Pl4nted@127.0.0.1:1080", "SOCKS proxies are not supported; give one of HTTP"),
        ("ftp://me:Pl4nted@127.0.0.1:1", "is not the address of a proxy; expected http://"),
        ("http://me:Pl4nted@", "is not the address of a proxy"),
        ("http://me:Pl4nted@127.0.0.1:99999", "is not the address of a proxy"),
        ("http://[::1", "is not the address of a proxy"),
        ("not a proxy", "is not the address of a proxy"),
    ],
)
@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_proxy_that_is_none_is_one_line_everywhere(
    name: str,
    proxy: str,
    message: str,
    authority: Authority,
    store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with asking(name, authority, store, tmp_path, monkeypatch) as (_, ask):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with pytest.raises(InputError, match=f"HTTPS_PROXY: {message}") as raised:
            ask()
        assert "Pl4nted" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "127.0.0.2"}, "the server's certificate is for another name"),
        ({"ended": True}, "the server's certificate is not valid today"),
    ],
)
def test_other_faults_of_certificates(
    options: dict[str, object], message: str, authority: Authority, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    context = authority.context(**options)  # type: ignore[arg-type]
    with speaking_tls(store.url, context) as url, pytest.raises(InputError, match=message):
        look(f"{url}/bucket/file.txt")


def test_a_server_without_tls_is_said_at_once(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not speak TLS; does its address begin with http://"):
        fetch(store.url.replace("http://", "https://") + "/bucket/file.txt", tmp_path)


def test_the_option(authority: Authority, store: ObjectStore, small_showers: Path, tmp_path: Path) -> None:
    store.objects["bucket/a.hdf5"] = small_showers.read_bytes()
    (tmp_path / "empty").write_text("")

    def preprocess(url: str, *options: object) -> str:
        words = ("preprocess", "--data", f"{url}/bucket/a.hdf5", "-o", tmp_path / "prepared", *options)
        result = CliRunner().invoke(cli.main, [str(word) for word in words])
        return f"{result.exit_code} {result.output}"

    with speaking_tls(store.url, authority.context()) as url:
        assert preprocess(url, "--ca-cert", authority.certificate).startswith("0 ")
        assert "certificate is not trusted" in preprocess(url), "the option holds for its command only"
        assert "empty: holds no certificates" in preprocess(url, "--ca-cert", tmp_path / "empty")
        assert "none: cannot be read" in preprocess(url, "--ca-cert", tmp_path / "none")
