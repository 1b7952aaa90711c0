import base64
import hashlib
import json
import re

import pytest
from pages import CHROMIUM, Elements, open_in_browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text(judged):
    return (judged[1] / "report.html").read_text()


def test_nothing_outside_the_file_is_referred_to(text):
    elements = Elements()
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
    elements = Elements()
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


def test_only_its_own_scripts_and_styles_are_allowed(text):
    """The policy holds the digest of each element that a browser would obey, and nothing is written into attributes."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "unsafe" not in policy
    assert not re.search(r"<[^>]*\s(style|on\w+)=", re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL))
    for element in ("style", "script"):
        [content] = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy


def test_it_says_where_the_data_came_from(text, judged):
    metrics, folder = judged
    digest = hashlib.sha256((folder.parent / "reference.hdf5").read_bytes()).hexdigest()
    assert metrics.source.sha256 == digest
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
    opened = open_in_browser(judged[1] / "report.html", tmp_path)
    assert opened.complaints == []
    assert 'aria-pressed="true"' in opened.document, "the script ran"
    assert '<div id="space">' in opened.document
    assert opened.asked == []
