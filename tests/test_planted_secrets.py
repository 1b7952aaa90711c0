"""Secrets given to commands in every way that they take, looked for in all that they show and write."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import h5py
import pytest
from click.testing import CliRunner
from kfp_api import KfpApi, running
from object_store import ObjectStore, serving

from caloforge import cli
from caloforge.cli.options import PATH, PLACE
from caloforge.secrets import masked

PLANT = "Pl4nted"
"""Part of every secret."""

_numbers = itertools.count()


class _Plant:
    """Another secret whenever it is written into a text: one that is known must not hide another one."""

    def __format__(self, _: str) -> str:
        return f"{PLANT}{next(_numbers):04d}"


NEW = _Plant()


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.secrets._known", set())


@pytest.fixture
def store(small_showers: Path) -> Iterator[ObjectStore]:
    with serving(ObjectStore(**{"bucket/a.hdf5": small_showers.read_bytes()})) as store:
        yield store


class Said:
    """What commands show, by standard output, standard error and the log."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self._caplog, self.text = folder, caplog, ""

    def run(self, *words: object) -> str:
        result = CliRunner().invoke(cli.main, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        self.text += result.output
        return f"{result.exit_code} {result.output}"

    def check(self, *but: Path) -> None:
        """Look for secrets in what was shown, and in all files but those that the test wrote itself."""
        assert PLANT not in self.text
        assert PLANT not in self._caplog.text
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in but:
                assert PLANT.encode() not in path.read_bytes(), path


@pytest.fixture
def said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    with caplog.at_level(logging.INFO):
        yield Said(tmp_path, caplog)


def test_query(said: Said, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = ("--energy", 1000, "--n", 1, "-o", tmp_path / "q.hdf5")
    for url in (
        f"http://me:{NEW}@127.0.0.1:9",
        f"http://me:{NEW}/+x@127.0.0.1:9",
        f"me:{NEW}@host",
        f"ftp://me:{NEW}@host",
    ):
        assert said.run("query", "--url", url, *output).startswith("2 ")
    with_password = store.url.replace("://", f"://me:{NEW}@")
    assert said.run("query", "--url", with_password, *output).startswith(("1 ", "2 "))
    for header in ("Authorization: Bearer", "Cookie: session=", "X-Api-Key:", "x-auth-token:", "Plain: Bearer x-"):
        assert "among the words of a command; use --header-file" in said.run(
            "query", "--url", store.url, *output, "--header", f"{header}{' ' * (header[-1] == ':')}{NEW}.9"
        )
    headers = tmp_path / "headers"
    headers.write_text(f"# ours\nAuthorization: Bearer {NEW}.9\n\nHost: a\n")
    said.run("query", "--url", store.url, *output, "--header-file", headers)
    assert "file of headers: line 1: expected" in said.run(
        "query", "--url", store.url, *output, "--header-file", _file(tmp_path / "file of headers", PLANT)
    )
    for broken in (f"Bearer {NEW}\nx", f"Bearer {NEW}\u00e9"):
        monkeypatch.setenv("CALOFORGE_AUTHORIZATION", broken)
        assert "CALOFORGE_AUTHORIZATION: not a header" in said.run("query", "--url", store.url, *output)
    said.check(headers, tmp_path / "file of headers")


def _file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_header_of_the_environment_is_sent(
    said: Said, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.serving.client._answer", lambda *_: pytest.fail("nobody answers"))
    token, other = f"Bearer {NEW}.9", f"other-{NEW}"
    monkeypatch.setenv("CALOFORGE_AUTHORIZATION", token)
    from caloforge.cli.inputs import read_headers

    assert read_headers(("Host: a",), None) == {"Host": "a", "Authorization": token}
    headers = _file(tmp_path / "headers", f"authorization: Bearer {other}\n")
    assert read_headers((), headers) == {"authorization": f"Bearer {other}"}


def test_data(said: Said, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"{NEW}KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{NEW}/WORD")
    host = store.url.removeprefix("http://")
    good = f"http://me:{NEW}@{host}/bucket/a.hdf5?X-Amz-Signature={NEW}&token={NEW}"
    assert said.run("preprocess", "--data", good, "-o", tmp_path / "prepared").startswith("0 ")
    addresses = (
        f"http://me:{NEW}@{host}/bucket/none.hdf5", f"s3://KEY:{NEW}/+x@bucket/a.hdf5",
        f"s3://KEY:{NEW}@bucket/a.hdf5", f"minio://KEY:{NEW}@bucket/a.hdf5", f"gs://me:{NEW}@bucket/a.hdf5",
        f"gopher://me:{NEW}@host/a.hdf5", f"http://me:{NEW}@[::1/a.hdf5", "s3://bucket/none.hdf5",
        f"https://me:{NEW}@{host}/bucket/a.hdf5", f"/nowhere/token={NEW}",
    )  # fmt: skip
    for address in addresses:
        for verb in ("preprocess", "run"):
            assert said.run(verb, "--data", address, "-o", tmp_path / "out").startswith("2 "), address
        validate = ("validate", "--reference", address, "--generated", address, "-o", tmp_path / "judged")
        assert said.run(*validate).startswith("2 ")
    said.check()


def test_an_address_is_no_path(said: Said) -> None:
    """As a path it has one slash, and looks like no address."""
    context = click.Context(cli.main)
    tried = 0
    for verb in cli.main.list_commands(context):
        command = cli.main.get_command(context, verb)
        assert command is not None
        for option in command.params:
            if option.type in (PATH, PLACE):
                for address in (f"http://me:{NEW}@host/x?sig={NEW}", f"s3:/KEY:{NEW}/+x@bucket/a"):
                    word = [option.opts[-1]] if isinstance(option, click.Option) else []
                    assert " is an address; expected a path of this machine" in said.run(verb, *word, address)
                    tried += 1
    assert tried > 100
    assert masked(f"{Path('http://me:word@host/x')}: no such file") == "http:/***@host/x: no such file"
    said.check()


def test_settings(said: Said, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    texts = (
        f"pod: {{env: {{DB_PASS: {NEW}}}}}", f"data: https://me:{NEW}@host/x", f"webhook: https://chat/{NEW}",
        f"pod: {{annotations: {{note: 'Bearer {NEW}-0'}}}}", f"pod: {{labels: {{api-token: {NEW}}}}}",
        f"pod: {{env: {{PGPASS: *{NEW}}}}}", f"pod:\n  env:\n    HF_KEY: {NEW}: x\n", f"image: me:{NEW}@registry/x:1",
        f"pod: {{secret_env: {{HF_KEY: {NEW}}}}}", f"service: {{env: {{A: 'sig={NEW}'}}}}",
        f"resources: {{train: {{env: {{A_SECRET: {NEW}}}}}}}", f"checkpoints: s3://a:{NEW}@b/c",
    )  # fmt: skip
    for text in texts:
        settings.write_text(text)
        for verb in ("compile", "manifests", "submit", "run"):
            data = ("--data", "nowhere.hdf5") if verb == "run" else ()
            output = () if verb == "submit" else ("-o", tmp_path / "out")
            assert said.run(verb, "--settings", settings, *data, *output).startswith("2 "), text
    deploy = ("deploy", "--bundle", tmp_path, "--name", "calo", "--backend", "kserve")
    for uri in (f"s3://K:{NEW}@bucket/x", f"https://me:{NEW}@host/x", f"https://host/x?sig={NEW}"):
        assert "which the service would show" in said.run(*deploy, "--uri", uri)
    said.check(settings)


def test_kubeflow(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALOFORGE_KFP_TOKEN", "CALOFORGE_KFP_COOKIES", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    files = []
    with running(KfpApi()) as api:
        for number, content in enumerate((f"{NEW}\nx", f"{NEW} x", f"{NEW}\u00e9", f"{NEW}\x1b[0m")):
            files.append(_file(tmp_path / f"token{number}", content))
            assert "not a token" in said.run("status", "runs-1", "--host", api.url, "--token-file", files[-1])
        for content in (f"{NEW}=1\nx", f"a={NEW}\u00e9"):
            files.append(_file(tmp_path / f"cookies{len(files)}", content))
            assert "not a list of cookies" in said.run("status", "r", "--host", api.url, "--cookies-file", files[-1])
        for host in (api.url.replace("://", f"://me:{NEW}@"), f"http://me:{NEW}@127.0.0.1:9", f"me:{NEW}@host"):
            assert said.run("status", "runs-1", "--host", host).startswith("2 ")
        for name in ("CALOFORGE_KFP_TOKEN", "CALOFORGE_KFP_COOKIES"):
            monkeypatch.setenv(name, f"{NEW}\nx")
            assert f"{name}: not a" in said.run("status", "runs-1", "--host", api.url)
            monkeypatch.delenv(name)
    said.check(*files)


def test_a_traceback_is_masked(tmp_path: Path) -> None:
    code = f"""
import sys, click
from caloforge.cli import main

@main.command(example="")
def broken():
    raise KeyError("https://me:{NEW}@host" + "/x")

sys.argv = ["caloforge", "broken"]
main()
"""
    script = _file(tmp_path / "script.py", code)
    done = subprocess.run([sys.executable, script], env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "KeyError: 'https://***@host/x'" in done.stderr
    assert PLANT not in done.stderr


def test_showers_of_a_server(said: Said, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address with its password is not where the showers say that they come from."""
    from caloforge.models.bundle import load_bundle
    from caloforge.serving.client import Answer

    bundle = load_bundle(tiny_bundle)
    monkeypatch.setattr(
        "caloforge.serving.client.ask",
        lambda url, conditions, **_: Answer(bundle.sample(conditions, seed=1), bundle.geometry),
    )
    url = f"http://me:{NEW}@host:8080/calo?token={NEW}"
    assert said.run("query", "--url", url, "--energy", 20000, "--n", 2, "-o", tmp_path / "q.hdf5").startswith("0 ")
    with h5py.File(tmp_path / "q.hdf5") as file:
        assert file.attrs["source"] == "http://host:8080/calo"
    said.check()
