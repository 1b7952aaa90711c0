from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import h5py
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from object_store import ObjectStore, serving

from caloforge.errors import InputError
from caloforge.fetch import (
    Unreachable,
    fetch,
    files_under,
    is_remote,
    local_copy,
    look,
)
from caloforge.patience import Patience
from caloforge.secrets import without_secrets
from caloforge.source import Source
from caloforge.space import NoSpace

pytestmark = pytest.mark.slow

SHOWERS = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4000
DIGEST = hashlib.sha256(SHOWERS).hexdigest()
ADDRESS = "s3://physics/a/showers.hdf5"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the machine's own, and no instance of a cloud to ask for keys."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_", "CALOFORGE_FETCH"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("caloforge.patience.FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Return a store to which the environment has the keys; there is no region anywhere."""
    with serving(ObjectStore()) as store:
        store.keys = {"name"}
        store.objects = {
            "physics/a/showers.hdf5": SHOWERS,
            "physics/prepared/prepared.json": b"{}",
            "physics/prepared/deep/splits.npz": b"123",
        }
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        yield store


def refused(address: str, folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        fetch(address, folder, **options)
    assert not folder.exists() or not list(folder.iterdir()), "nothing is left"
    assert "planted-secret" not in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("address", ["", " ", "file://"])
def test_an_empty_address_is_not_the_current_folder(address: str, tmp_path: Path) -> None:
    for ask in (lambda: fetch(address, tmp_path), lambda: look(address)):
        with pytest.raises(InputError, match=r"^the address is empty; give a path, s3://"):
            ask()


def test_paths_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "my showers.hdf5"
    path.write_bytes(SHOWERS)
    for address in (str(path), f"file://{path}", f"file://{path}".replace(" ", "%20"), f"file://localhost{path}"):
        assert local_copy(address, tmp_path / "copies") == path
        assert look(address).size == len(SHOWERS)
    assert not (tmp_path / "copies").exists()
    assert not is_remote(str(path))
    assert fetch(str(path), tmp_path, checksum=DIGEST).source.sha256 == DIGEST
    for call in (local_copy, lambda address, _: look(address)):
        with pytest.raises(InputError, match="no such file"):
            call(str(tmp_path / "absent"), tmp_path)
    with pytest.raises(InputError, match="its SHA-256 is"):
        local_copy(str(path), tmp_path, checksum="0" * 64)


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_from_an_object_store(
    scheme: str, store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="caloforge"):
        got = fetch(f"{scheme}://physics/a/showers.hdf5", tmp_path, checksum=DIGEST)
    assert got.path == tmp_path / "showers.hdf5"
    assert got.path.read_bytes() == SHOWERS
    assert "Credential=name/" in store.requests[-1][2], "the keys of the environment sign the request"
    source = got.source
    assert (source.address, source.size, source.sha256) == (
        f"{scheme}://physics/a/showers.hdf5",
        len(SHOWERS),
        DIGEST,
    )
    assert f"(1.0 MB, SHA-256 {DIGEST[:12]}, 20" in str(source)
    assert Source.of(json.loads(json.dumps(source.as_dict()))) == source
    assert f"fetched {scheme}://physics/a/showers.hdf5: 1.0 MB in " in caplog.text
    assert " MB/s, SHA-256 " in caplog.text


def test_no_region_and_no_bucket_as_host(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on a cluster: `Invalid region`, and `lookup data.minio-service.kubeflow: no such host`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url.replace("127.0.0.1", "localhost"))
    # Somebody's own configuration does not change where a bucket is looked for.
    home = Path(os.environ["HOME"]) / ".aws"
    home.mkdir()
    (home / "config").write_text("[default]\nregion = eu-central-1\ns3 =\n  addressing_style = virtual\n")
    assert local_copy(ADDRESS, tmp_path).read_bytes() == SHOWERS
    assert {headers["Host"].partition(":")[0] for headers in store.headers} == {"localhost"}
    assert {path.split("?")[0] for _, path, _ in store.requests} == {"/physics/a/showers.hdf5"}
    assert "/us-east-1/s3/" in store.requests[-1][2]
    monkeypatch.setenv("AWS_REGION", "cern")
    look(ADDRESS)
    assert "/cern/s3/" in store.requests[-1][2]


def test_amazon_itself_needs_no_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hosts: list[str] = []

    def resolve(host: str, *_: Any, **__: Any) -> Any:
        hosts.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert "there is no host of that name" in refused(ADDRESS, tmp_path)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    refused(ADDRESS, tmp_path)
    assert hosts == ["physics.s3.amazonaws.com", "physics.s3.eu-west-1.amazonaws.com"]
    assert "there is no host of that name" in refused("https://nowhere.example/a.hdf5", tmp_path)


def test_a_public_bucket_needs_no_keys(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keys = None
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert local_copy(ADDRESS, tmp_path).read_bytes() == SHOWERS
    assert {authorization for _, _, authorization in store.requests} == {""}


def test_names_of_keys(store: ObjectStore, tmp_path: Path) -> None:
    store.objects["physics/a b#c+d%20e.bin"] = b"1"
    assert local_copy("s3://physics/a b#c+d%20e.bin", tmp_path).name == "a b#c+d%20e.bin"
    # What Kubeflow Pipelines may put behind an artifact's address.
    address = "minio://physics/a/showers.hdf5?endpoint=minio-service.kubeflow:9000&region=minio"
    assert local_copy(address, tmp_path).read_bytes() == SHOWERS


def test_over_http(store: ObjectStore, tmp_path: Path) -> None:
    store.keys = None
    address = f"{store.url}/physics/a/showers.hdf5?signature=planted"
    assert local_copy(address, tmp_path).read_bytes() == SHOWERS
    assert "planted" not in (tmp_path / ".showers.hdf5.source.json").read_text()
    assert fetch(address, tmp_path).source.address == f"{store.url}/physics/a/showers.hdf5"
    store.objects["physics/my showers.bin"] = b"1"
    assert local_copy(f"{store.url}/physics/my%20showers.bin", tmp_path).name == "my showers.bin"
    assert look(f"{store.url}/physics/my%20showers.bin").size == 1


def test_a_redirect_out_of_the_web_is_refused_at_once(store: ObjectStore, tmp_path: Path) -> None:
    store.redirects["records/a.hdf5"] = "file:///etc/hostname?token=planted-secret"
    with pytest.raises(InputError, match="leads to an address that is neither https:// nor http://") as caught:
        local_copy(f"{store.url}/records/a.hdf5", tmp_path)
    assert "planted-secret" not in str(caught.value)


def test_https_redirects_and_servers_that_want_no_head(store: ObjectStore, tmp_path: Path) -> None:
    """As Zenodo sends on, and as signed addresses of S3 answer."""
    store.keys, store.head = None, False
    store.redirects["records/7/files/showers.hdf5"] = f"{store.url}/physics/a/showers.hdf5?signature=planted-secret"
    address = f"{store.url}/records/7/files/showers.hdf5"
    assert look(address).size == len(SHOWERS)
    assert store.sent <= 2, "nothing is downloaded to look"
    assert local_copy(address, tmp_path, checksum=DIGEST).read_bytes() == SHOWERS


def test_a_folder(store: ObjectStore, tmp_path: Path) -> None:
    store.objects["physics/prepared/../outside"] = b"!"
    for address in ("minio://physics/prepared", "s3://physics/prepared/"):
        folder = local_copy(address, tmp_path)
        assert (folder / "prepared.json").read_bytes() == b"{}"
        assert (folder / "deep" / "splits.npz").read_bytes() == b"123"
        assert look(address).folder
    assert not (tmp_path / "outside").exists()
    assert files_under("s3://physics/prepared") == {
        "deep/splits.npz": "s3://physics/prepared/deep/splits.npz",
        "prepared.json": "s3://physics/prepared/prepared.json",
    }
    assert files_under("s3://physics/nothing") == files_under("s3://nowhere/nothing") == {}


def test_a_look_downloads_nothing(store: ObjectStore) -> None:
    found = look(ADDRESS)
    assert found.size == len(SHOWERS)
    assert hashlib.md5(SHOWERS).hexdigest() in found.marks["ETag"]
    assert [method for method, _, _ in store.requests] == ["HEAD"]
    store.script = [503]
    with pytest.raises(Unreachable, match=r"s3://physics/a/showers.hdf5: does not answer \(the store answers 503"):
        look(ADDRESS)


def test_fetched_again_only_when_it_has_changed(store: ObjectStore, tmp_path: Path) -> None:
    local_copy(ADDRESS, tmp_path)
    first = fetch(ADDRESS, tmp_path)
    assert len(store.gets()) == 1
    assert first.source.sha256 == DIGEST
    store.objects["physics/a/showers.hdf5"] = SHOWERS + b"more"
    assert local_copy(ADDRESS, tmp_path).read_bytes() == SHOWERS + b"more"
    assert len(store.gets()) == 2


def test_another_query_is_another_file(store: ObjectStore, tmp_path: Path) -> None:
    store.keys = None
    for number in (1, 2):
        local_copy(f"{store.url}/physics/a/showers.hdf5?file={number}", tmp_path)
    assert len(store.gets()) == 2


@pytest.mark.parametrize("over", ["s3", "http"])
def test_a_connection_that_breaks_goes_on_where_it_stopped(over: str, store: ObjectStore, tmp_path: Path) -> None:
    store.keys = {"name"} if over == "s3" else None
    address = ADDRESS if over == "s3" else f"{store.url}/physics/a/showers.hdf5"
    # HEAD, half of it, away at the next look, then half of the rest, then the rest.
    store.script = ["none", "short", 503, "none", "short", "hang up"]
    path = local_copy(address, tmp_path, checksum=DIGEST)
    assert path.read_bytes() == SHOWERS
    assert not store.script
    assert store.sent == len(SHOWERS), "no byte came twice"


@pytest.mark.parametrize("what", ["ranges", "marks"])
def test_anew_where_a_server_knows_no_ranges(what: str, store: ObjectStore, tmp_path: Path) -> None:
    """Without a mark of its version nobody knows whether the rest belongs to what came before."""
    store.keys = None
    setattr(store, what, False)
    store.script = ["none", "short"]
    assert local_copy(f"{store.url}/physics/a/showers.hdf5", tmp_path, checksum=DIGEST).read_bytes() == SHOWERS
    assert store.sent == len(SHOWERS) + len(SHOWERS) // 2


def test_a_file_that_is_replaced_meanwhile_is_not_mixed(store: ObjectStore, tmp_path: Path) -> None:
    new = SHOWERS[:8] + SHOWERS[:7:-1]
    store.seconds_per_block = 0.02
    store.script = ["none", "short"]
    timer = threading.Timer(0.05, lambda: store.objects.update({"physics/a/showers.hdf5": new}))
    timer.start()
    got = fetch(ADDRESS, tmp_path)
    timer.join()
    assert got.path.read_bytes() == new
    assert got.source.sha256 == hashlib.sha256(new).hexdigest()


def test_a_store_that_is_away_is_waited_for(
    store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.script = [503, "hang up", "SlowDownRead", "none", 503, 500, "hang up"]
    assert local_copy(ADDRESS, tmp_path).read_bytes() == SHOWERS
    assert f"{ADDRESS}: the store answers 503" in caplog.text
    assert "trying again in" in caplog.text


def test_patience_ends(store: ObjectStore, tmp_path: Path) -> None:
    store.script = [503] * 1000
    start = time.monotonic()
    with pytest.raises(Unreachable, match=rf"^{ADDRESS}: cannot be fetched: the store was away for \d s"):
        fetch(ADDRESS, tmp_path, patience=0.3)
    assert time.monotonic() - start < 60
    store.script = ["none", *["short", "none"] * 1000]
    store.ranges = False  # half of it comes every time, and no more ever
    with pytest.raises(Unreachable):
        fetch(ADDRESS, tmp_path, patience=0.3)
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_started_again_while_a_step_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real outage: the port is closed for a while, in the middle of the file."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setattr("caloforge.patience.FIRST_PAUSE_SECONDS", 0.1)
    objects = {"physics/a/showers.hdf5": SHOWERS}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import http.server, object_store, local_server, functools, time\n"
        "local_server.ThreadingHTTPServer = lambda _, handler: http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), handler)\n"
        "store = object_store.ObjectStore()\n"
        "store.objects['physics/a/showers.hdf5'] = open(sys.argv[3], 'rb').read()\n"
        "store.seconds_per_block = 0.1\n"
        "with object_store.serving(store):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "content").write_bytes(objects["physics/a/showers.hdf5"])
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", code, str(port), str(support), str(tmp_path / "content")]

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    servers = [start()]

    def outage() -> None:
        servers[0].kill()
        time.sleep(1.5)
        servers.append(start())

    timer = threading.Timer(0.6, outage)
    timer.start()
    try:
        assert local_copy(ADDRESS, tmp_path / "out", checksum=DIGEST).read_bytes() == SHOWERS
        timer.join()
        assert len(servers) == 2, "it was still fetching when the store went away"
    finally:
        timer.join()
        for server in servers:
            server.kill()
            server.communicate()


def test_progress_of_long_downloads(
    store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four seconds pass between two blocks of 1 MB, and a line comes every ten.
    clock = iter(range(0, 10**6, 4))
    monkeypatch.setattr("caloforge.progress.time.monotonic", lambda: next(clock))
    store.objects["physics/large.bin"] = b"0" * 9_000_000
    with caplog.at_level("INFO", logger="caloforge"):
        local_copy("s3://physics/large.bin", tmp_path, checksum="")
    lines = [line for line in caplog.messages if line.startswith("fetching large.bin:")]
    assert 1 < len(lines) < 9
    assert all("/9 [" in line and "<" in line for line in lines), "with the time that is left"


def test_a_wrong_checksum_leaves_no_file(store: ObjectStore, tmp_path: Path) -> None:
    text = refused(ADDRESS, tmp_path, checksum="0" * 64)
    assert text == f"{ADDRESS}: its SHA-256 is {DIGEST}, not {'0' * 64}"


def test_what_cannot_be_had(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this is waited for."""

    def no_wait(*_: object) -> None:
        raise AssertionError("waits")

    monkeypatch.setattr(Patience, "wait", no_wait)
    assert refused("s3://physics/nothing.hdf5", tmp_path) == "s3://physics/nothing.hdf5: nothing is there"
    nowhere = "s3://nowhere/showers.hdf5"
    assert refused(nowhere, tmp_path) == f"{nowhere}: nothing is there (no bucket 'nowhere')"
    with pytest.raises(InputError, match="nothing is there"):
        look("s3://physics/nothing.hdf5")
    store.keys = {"other"}
    assert (
        refused(ADDRESS, tmp_path)
        == f"{ADDRESS}: access is denied; the store does not know the key of AWS_ACCESS_KEY_ID"
    )
    store.keys = {"name"}
    for code, why in (
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY is not the secret of AWS_ACCESS_KEY_ID"),
        ("AccessDenied", "the key of AWS_ACCESS_KEY_ID may not read it"),
    ):
        store.script = [code, code]
        assert refused(ADDRESS, tmp_path) == f"{ADDRESS}: access is denied; {why}"
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "Partial credentials found in env" in refused(ADDRESS, tmp_path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert refused(ADDRESS, tmp_path) == f"{ADDRESS}: access is denied; AWS_ACCESS_KEY_ID is not set"
    plain = f"{store.url}/physics/a/showers.hdf5"
    assert refused(plain, tmp_path) == f"{plain}: access is denied (the server answers 403)"
    store.keys = None
    assert refused(f"{store.url}/physics/b.hdf5?signature=planted-secret", tmp_path).endswith(
        "b.hdf5: nothing is there"
    )
    assert "use a path, s3://" in refused("sb://physics/b/showers.hdf5", tmp_path)
    for address in ("https://physics", "s3://physics", "s3://physics/"):
        assert "names no file" in refused(address, tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio-service")
    assert "Invalid endpoint" in refused(ADDRESS, tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert "http://seaweedfs.kubeflow:9000" in refused("minio://mlpipeline/x", tmp_path)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert refused(ADDRESS, tmp_path) == f"{ADDRESS}: needs a library: pip install 'caloforge[s3]'"


def test_secrets_are_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = "http://user:planted-secret@127.0.0.1:1/showers.hdf5?signature=planted-secret"
    text = refused(address, tmp_path, patience=0.1)
    assert text.startswith("http://127.0.0.1:1/showers.hdf5: cannot be fetched")
    assert "planted-secret" not in caplog.text
    assert without_secrets("https://me:word@host:1/a/b.hdf5?sig=x") == "https://host:1/a/b.hdf5"
    assert without_secrets("s3://bucket/a?b#c.hdf5") == "s3://bucket/a?b#c.hdf5"


def test_a_page_is_no_shower_file(store: ObjectStore, tmp_path: Path) -> None:
    """A login page comes with status 200; of a large file only the beginning is fetched to see that."""
    page = b"<!DOCTYPE html><title>Sign in</title>" + b" " * 20_000_000
    store.objects["physics/login.hdf5"] = page
    assert (
        refused("s3://physics/login.hdf5", tmp_path)
        == "s3://physics/login.hdf5: not an HDF5 file (it begins with b'<!DOCTYPE html><')"
    )
    assert store.sent < len(page) / 2
    with h5py.File(tmp_path / "block.hdf5", "w", userblock_size=512) as file:
        file["x"] = [1]
    store.objects["physics/block.hdf5"] = (tmp_path / "block.hdf5").read_bytes()
    assert local_copy("s3://physics/block.hdf5", tmp_path / "out").is_file()
    store.objects["physics/empty.hdf5"] = b""
    assert "not an HDF5 file" in refused("s3://physics/empty.hdf5", tmp_path / "empty")


def test_a_folder_that_cannot_be_written(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        fetch(ADDRESS, tmp_path / "file")
    monkeypatch.setattr("caloforge.fetch_cache.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(NoSpace, match=r"no space left on .*out \(0\.0 GB are needed, 0\.0 GB are free\); make room"):
        fetch(ADDRESS, tmp_path / "out")


class FakeGoogle(MemoryFileSystem):
    """As much of gcsfs as fsspec hands on."""

    protocol = "gs"
    store: dict[str, Any] = {}  # noqa: RUF012 - the base class has it so
    faults: list[Exception] = []  # noqa: RUF012

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if self.faults:
            raise self.faults.pop(0)
        return {**super().info(path, **options), "etag": "abc"}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("gs://").strip("/")


def test_google_needs_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(fsspec.registry.target if hasattr(fsspec.registry, "target") else {}, "gs", raising=False)
    assert refused("gs://bucket/a.hdf5", tmp_path) == "gs://bucket/a.hdf5: needs a library: pip install 'caloforge[gs]'"
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "gs", FakeGoogle)
    with fsspec.filesystem("gs").open("gs://bucket/a.hdf5", "wb") as file:
        file.write(SHOWERS)
    FakeGoogle.faults = [TimeoutError("away")]
    got = fetch("gs://bucket/a.hdf5", tmp_path, checksum=DIGEST)
    assert got.path.read_bytes() == SHOWERS
    assert got.source.address == "gs://bucket/a.hdf5"
    assert "TimeoutError: away; trying again" in caplog.text
    (tmp_path / "2").mkdir()
    assert refused("gs://bucket/b.hdf5", tmp_path / "2") == "gs://bucket/b.hdf5: nothing is there"


def test_sigkill_leaves_no_half_file(store: ObjectStore, tmp_path: Path) -> None:
    store.seconds_per_block = 0.5
    code = (
        "import sys; from pathlib import Path; from caloforge.fetch import fetch; fetch(sys.argv[1], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code, ADDRESS, str(tmp_path)])
    wait_until(lambda: store.sent > 100_000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < store.sent < len(SHOWERS)
    assert not (tmp_path / "showers.hdf5").exists()
    store.seconds_per_block = 0
    assert local_copy(ADDRESS, tmp_path).read_bytes() == SHOWERS


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_what_tells_nothing_of_its_changes_is_fetched_again(
    scheme: str, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    store.marks, store.keys = False, None
    address = "s3://bucket/a.txt" if scheme == "s3" else f"{store.url}/bucket/a.txt"
    for content in (b"old", b"new"):
        store.objects["bucket/a.txt"] = content
        assert fetch(address, tmp_path).path.read_bytes() == content


def test_what_cannot_be_reached_is_not_called_missing(store: ObjectStore, tmp_path: Path) -> None:
    """fsspec says FileNotFoundError, whatever went wrong."""
    with pytest.raises(InputError, match="does not speak TLS"):
        fetch(f"simplecache::{store.url.replace('http://', 'https://')}/bucket/a.txt", tmp_path)


def test_keys_are_no_part_of_an_address(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"s3://bucket/a.txt: keys are no part of an address; set AWS_ACC") as raised:
        fetch("s3://KEY:pl4nted/word@bucket/a.txt", tmp_path)
    assert "pl4nted" not in str(raised.value)
