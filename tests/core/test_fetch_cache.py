from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from object_store import ObjectStore, serving

from caloforge import fetch_cache
from caloforge.errors import InputError
from caloforge.fetch import fetch

pytestmark = pytest.mark.slow

SHOWERS = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4000
DIGEST = hashlib.sha256(SHOWERS).hexdigest()
ADDRESS = "s3://physics/a/showers.hdf5"
CODE = """
import sys
from pathlib import Path
from caloforge.logs import configure_logging
from caloforge.fetch import fetch
configure_logging()
print(fetch(sys.argv[1], Path(sys.argv[2])).path, flush=True)
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with serving(ObjectStore()) as store:
        store.objects = {"physics/a/showers.hdf5": SHOWERS, "physics/b/same.hdf5": SHOWERS}
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("caloforge.patience.FIRST_PAUSE_SECONDS", 0.02)
        monkeypatch.setattr(fetch_cache, "LOOK_SECONDS", 0.02)
        yield store


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALOFORGE_FETCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def content_of(cache: Path) -> Path:
    return cache / "files" / DIGEST / ".content"


def test_one_download_for_all(store: ObjectStore, cache: Path, tmp_path: Path) -> None:
    first = fetch(ADDRESS, tmp_path / "1")
    second = fetch(ADDRESS, tmp_path / "2")
    assert first == second, "where it came from and when is that of the one download"
    assert first.path.name == "showers.hdf5"
    assert first.path.read_bytes() == SHOWERS
    assert len(store.gets()) == 1
    assert not (tmp_path / "1").exists()
    assert not list((cache / "partial").iterdir())
    assert not first.path.stat().st_mode & 0o222, "nobody writes to it"
    same = fetch("s3://physics/b/same.hdf5", tmp_path / "3")
    assert same.path.name == "same.hdf5"
    assert same.path.samefile(first.path)


def test_by_the_checksum_alone(store: ObjectStore, cache: Path, tmp_path: Path) -> None:
    fetch(ADDRESS, tmp_path)
    store.requests.clear()
    assert fetch("s3://physics/elsewhere.hdf5", tmp_path, checksum=DIGEST).path.read_bytes() == SHOWERS
    assert not store.requests, "the store is not asked"
    with pytest.raises(InputError, match="its SHA-256 is"):
        fetch(ADDRESS, tmp_path, checksum="0" * 64)
    assert not store.gets()


def test_another_version_is_another_entry(store: ObjectStore, cache: Path, tmp_path: Path) -> None:
    old = fetch(ADDRESS, tmp_path).path
    store.objects["physics/a/showers.hdf5"] = SHOWERS + b"more"
    assert fetch(ADDRESS, tmp_path).path.read_bytes() == SHOWERS + b"more"
    assert old.read_bytes() == SHOWERS, "a run that began with it goes on with it"


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_what_is_damaged_is_replaced(
    damage: str, store: ObjectStore, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fetch(ADDRESS, tmp_path).path
    content = content_of(cache)
    content.chmod(0o644)
    if damage == "gone":
        content.unlink()
    else:
        content.write_bytes(SHOWERS[:-1] + (b"" if damage == "cut" else b"?"))
    for checksum in ("", DIGEST):
        assert fetch(ADDRESS, tmp_path, checksum=checksum).path == path
        assert path.read_bytes() == SHOWERS
    assert ("is damaged; fetching it again" in caplog.text) == (damage != "gone")
    assert len(store.gets()) == 2


def test_a_touched_file_is_summed_and_kept(store: ObjectStore, cache: Path, tmp_path: Path) -> None:
    fetch(ADDRESS, tmp_path)
    os.utime(content_of(cache), (1, 1))
    (cache / "files" / DIGEST / ".record.json").write_text("{half")
    fetch(ADDRESS, tmp_path)
    assert len(store.gets()) == 1


def processes(n: int, folder: Path) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-P", "-c", CODE, ADDRESS, str(folder / str(i))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) for i in range(n)
    ]  # fmt: skip


def test_processes_at_once_download_once(store: ObjectStore, cache: Path, tmp_path: Path) -> None:
    store.seconds_per_block = 1.0
    running = processes(3, tmp_path)
    wait_until(lambda: heads(store) == 3)
    time.sleep(1)
    store.seconds_per_block = 0
    outputs = [process.communicate(timeout=60) for process in running]
    assert {out for out, _ in outputs} == {f"{cache / 'files' / DIGEST / 'showers.hdf5'}\n"}
    assert len(store.gets()) == 1
    assert sum("another process is fetching it; waiting" in error for _, error in outputs) == 2


def test_who_waits_takes_over_from_who_was_killed(store: ObjectStore, cache: Path, tmp_path: Path) -> None:
    store.seconds_per_block = 1.0
    (first,) = processes(1, tmp_path)
    wait_until(lambda: store.sent > 100_000)
    (second,) = processes(1, tmp_path / "second")
    wait_until(lambda: heads(store) == 2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    store.seconds_per_block = 0
    out, error = second.communicate(timeout=60)
    assert second.returncode == 0, error
    assert Path(out.strip()).read_bytes() == SHOWERS
    (left,) = (cache / "partial").iterdir()
    assert left.stat().st_size < len(SHOWERS), "of the killed process"
    # Later it is removed, and nothing that is not ours.
    os.utime(left, (1, 1))
    (cache / "partial" / "notes.txt").write_text("somebody's")
    os.utime(cache / "partial" / "notes.txt", (1, 1))
    store.objects["physics/a/showers.hdf5"] = SHOWERS + b"more"
    fetch(ADDRESS, tmp_path)
    assert [path.name for path in (cache / "partial").iterdir()] == ["notes.txt"]


def heads(store: ObjectStore) -> int:
    return sum(method == "HEAD" for method, _, _ in store.requests)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_locks_it_is_still_right(
    store: ObjectStore, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS without its lock service: both download, the file of the first one stays, and who reads it keeps it."""

    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    inner = fetch_cache.download
    seen: list[int] = []

    def overtaken(*arguments: Any, **options: Any) -> Any:
        got = inner(*arguments, **options)
        if not seen:
            seen.append(0)
            seen[0] = fetch(ADDRESS, tmp_path).path.stat().st_ino  # another one is done first
        return got

    monkeypatch.setattr(fetch_cache, "download", overtaken)
    path = fetch(ADDRESS, tmp_path).path
    assert len(store.gets()) == 2
    assert path.stat().st_ino == seen[0]
    assert path.read_bytes() == SHOWERS
    assert not list((cache / "partial").iterdir())


def test_a_lock_that_nobody_lets_go(
    store: ObjectStore, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The node of who held it is gone."""
    path = fetch(ADDRESS, tmp_path).path
    (lock,) = (cache / "locks").iterdir()
    content_of(cache).unlink()
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert fetch(ADDRESS, tmp_path, patience=0.2).path == path
    assert "does not go on; fetching it here too" in caplog.text


@pytest.mark.parametrize("fault", ["a file in the way", "full", "full in the middle", "read-only"])
def test_a_cache_that_cannot_be_used_is_a_warning(
    fault: str, store: ObjectStore, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if fault == "a file in the way":
        cache.write_text("", encoding="utf-8")
    elif fault == "full":
        usage = type("Usage", (), {"free": 1000})
        real = fetch_cache.shutil.disk_usage
        monkeypatch.setattr(fetch_cache.shutil, "disk_usage", lambda at: usage if cache in at.parents else real(at))
    elif fault == "full in the middle":
        real_download = fetch_cache.download

        def full(*arguments: Any, **options: Any) -> Any:
            real_download(*arguments, **options)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(fetch_cache, "download", full)
    else:
        real_mkdir = Path.mkdir

        def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
            if path.is_relative_to(cache):
                raise OSError(errno.EROFS, "Read-only file system")
            real_mkdir(path, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", mkdir)
    path = fetch(ADDRESS, tmp_path / "out").path
    assert path == tmp_path / "out" / "showers.hdf5"
    assert path.read_bytes() == SHOWERS
    assert "CALOFORGE_FETCH_CACHE cannot be used (" in caplog.text
    assert not [one for one in cache.rglob("*") if one.is_file() and one.parent.name == "partial"]


def test_read_from_a_cache_that_may_not_be_written(
    store: ObjectStore, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(ADDRESS, tmp_path)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = fetch("s3://physics/b/same.hdf5", tmp_path, checksum=DIGEST).path
    assert path.read_bytes() == SHOWERS
    assert len(store.gets()) == 1


def test_a_web_server_without_marks(store: ObjectStore, cache: Path, tmp_path: Path) -> None:
    """Nothing tells whether it has changed: it is fetched each time, and kept once."""
    store.marks = False
    for _ in range(2):
        fetch(f"{store.url}/physics/a/showers.hdf5", tmp_path)
    assert len(store.gets()) == 2
    assert [path.name for path in (cache / "files").iterdir()] == [DIGEST]
