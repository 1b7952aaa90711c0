import hashlib
import html.parser
import json
import os
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


class _Elements(html.parser.HTMLParser):
    """Collect the start tags; HTML without closing tags fails."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(judged):
    return (judged[1] / "report.html").read_text()


def test_nothing_outside_the_file_is_referred_to(text):
    elements = _Elements()
    elements.feed(text)
    assert not elements.open
    for _, attributes in elements.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.findall(r"url\(|@import|https?://|fetch\(|XMLHttpRequest|<iframe", text)
    policy = next(a["content"] for tag, a in elements.tags if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert len(text) < 5_000_000


def test_every_picture_is_described_and_every_link_has_its_target(text):
    elements = _Elements()
    elements.feed(text)
    pictures = [a["alt"] for tag, a in elements.tags if tag == "img"]
    assert len(pictures) == len(set(pictures)) > 10
    assert all("Geant4" in alt and "good" in alt for alt in pictures)
    ids = {a["id"] for _, a in elements.tags if "id" in a}
    assert {a["href"][1:] for tag, a in elements.tags if tag == "a"} <= ids


def test_a_name_cannot_become_code(text):
    assert "</script><b>" not in text
    assert "&lt;/script&gt;&lt;b&gt;$bad" in text
    assert "Best of 2 generators, good," in text
    data = re.search(r'<script type="application/json" id="showers">(.*?)</script>', text, re.DOTALL).group(1)
    assert list(json.loads(data)["samples"]) == ["Geant4", "good", "</script><b>$bad"]


def test_it_says_where_the_data_came_from(text, judged):
    metrics, folder = judged
    digest = hashlib.sha256((folder.parent / "reference.hdf5").read_bytes()).hexdigest()
    assert metrics["source"]["sha256"] == digest
    line = f"Data: s3://bucket/&lt;geant4&gt;.hdf5 (12.3 MB, SHA-256 {digest[:12]}, 2026-11-26 03:40:00 UTC)"
    assert f'<p class="quiet">{line}</p>' in text


def test_the_showers_in_space_hold_their_voxels(text, judged, mesh):
    shown = json.loads(re.search(r'id="showers">(.*?)</script>', text, re.DOTALL).group(1))
    assert shown["layers"] == mesh.n_layers
    assert shown["radius"] == 20
    for row in zip(*shown["samples"].values(), strict=True):
        heights = [point[3] for shower in row for point in shower["points"]]
        assert max(heights) == 1
        assert min(heights) >= 0
        assert all(30 < len(shower["points"]) <= mesh.n_voxels for shower in row)


def test_each_plot_is_there_for_papers_too(judged):
    names = {kind: {path.stem for path in (judged[1] / "plots").glob(f"*.{kind}")} for kind in ("png", "pdf")}
    assert names["png"] == names["pdf"]
    assert {"correlations", "roc", "showers", "response_energy", "voxel_spectrum_groups"} <= names["png"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium binary")
def test_a_browser_opens_it_without_error_or_request(judged, tmp_path):
    log = tmp_path / "net.json"
    address = (judged[1] / "report.html").as_uri()
    result = subprocess.run(
        [
            CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}",
            "--enable-logging=stderr", "--v=0", "--window-size=500,900", "--virtual-time-budget=500",
            "--dump-dom", address,
        ],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr, result.stderr
    assert 'aria-pressed="true"' in result.stdout, "the script ran"
    assert '<div id="space">' in result.stdout
    # The browser's own requests come from no origin, the page's from "null".
    requests = re.findall(r'"initiator":"([^"]*)"[^}]*?"url":"([^"]*)"', log.read_text())
    asked = [url for initiator, url in requests if initiator != "not an origin"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
