import re
from pathlib import Path

import pytest
from pages import CHROMIUM, Elements, open_in_browser
from rows import judgement, row

from caloforge.index import Artifact, Failure, Index, Source
from caloforge.validation.report.leaderboard import leaderboard
from caloforge.validation.report.overview import sentence, write_overview

pytestmark = pytest.mark.slow

PLACE = "minio://mlpipeline/v2/artifacts/caloforge/1"
BAD = "</script><b>$bad"


def _artifact(step: str, name: str) -> Artifact:
    return Artifact(
        step=step, family=None, name=name, address=f"{PLACE}/{step}/{name}", kind="file", sha256="0" * 64, bytes=1
    )


INDEX = Index(
    pipeline="caloforge", run="run-1", caloforge="0.1.0", families=("vae", "wgan", "diffusion"),
    failed=(Failure(family="wgan", step="train", reason="it diverged <b>at step 9</b>"),),
    data=Source(address="s3://data/showers.hdf5", size=2_500_000, sha256="ab" * 32),
    url="http://calo.example.org", artifacts=(_artifact("validate", "report"), _artifact("export", "exported")),
)  # fmt: skip


def _page(judged, folder, index=INDEX, plots=None):
    metrics, output = judged
    write_overview(metrics, leaderboard(metrics), output / "plots" if plots is None else plots, index, folder / "page")
    return (folder / "page").read_text()


@pytest.fixture(scope="module")
def text(judged, tmp_path_factory):
    return _page(judged, tmp_path_factory.mktemp("overview"))


def _seen(text: str) -> str:
    """Return the words of the page."""
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)).split())


def test_it_answers_how_good_they_are(text, judged):
    seen = _seen(text)
    assert "good leads 2 generators " + sentence(judged[0], "good") in seen
    assert "Distinguishable by" in seen
    assert "failed in train: it diverged &lt;b&gt;at step 9&lt;/b&gt;" in seen
    assert "Iterations 0: vae, 1: wgan, 2: diffusion" in seen


def test_it_says_where_everything_is(text):
    seen = _seen(text)
    assert "Data s3://data/showers.hdf5 , 2.5 MB, SHA-256 abababab" in seen
    assert f"Report {PLACE}/validate/report" in seen
    assert f"Best bundle {PLACE}/export/exported" in seen
    assert "Served at http://calo.example.org" in seen
    assert "caloforge fetch-artifacts run-1 -o run" in seen


def test_nothing_outside_the_file_is_loaded(text):
    elements = Elements()
    elements.feed(text)
    assert not elements.open
    sources = [attributes["src"] for tag, attributes in elements.tags if "src" in attributes]
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert [a["href"] for tag, a in elements.tags if tag == "a"] == ["http://calo.example.org"]
    assert not re.findall(r"url\(|@import|<script|<iframe|<object", text)
    policy = next(a["content"] for tag, a in elements.tags if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert len(text) < 1_000_000


def test_a_name_cannot_become_code(text):
    assert BAD not in text
    assert "&lt;/script&gt;&lt;b&gt;$bad" in text


def test_an_address_that_is_no_link_stays_text(judged, tmp_path):
    text = _page(judged, tmp_path, INDEX.model_copy(update={"url": "javascript:alert(1)"}))
    assert "javascript:alert(1)" in text
    assert "<a " not in text


def test_a_run_on_this_machine_needs_no_fetching(judged, tmp_path):
    index = Index(pipeline="caloforge", run="run-1", caloforge="0.1.0", families=("good",), artifacts=())
    text = _page(judged, tmp_path, index, plots=tmp_path)
    assert "fetch-artifacts" not in text
    assert "Served at" not in text
    assert "<img" not in text, "there are no plots"


def test_the_first_look_is_at_the_profile_the_response_and_the_classifier(text, judged, tmp_path):
    titles = re.findall(r"<span>([^<]*)</span></label>", text)
    assert titles == ["Longitudinal profile", "Total response", "ROC of the classifier"]
    for name in ("lateral_profile", "response", "roc"):
        (tmp_path / f"{name}.png").write_bytes(b"png")
    titles = re.findall(r"<span>([^<]*)</span></label>", _page(judged, tmp_path, plots=tmp_path))
    assert titles[0] == "Lateral profile", "one layer has no longitudinal one"


def test_what_cannot_be_told_apart_is_called_so():
    metrics = judgement([row("good", "response", sigma=1.25)])
    assert sentence(metrics, "good").startswith(
        f"Indistinguishable from Geant4 with {metrics.n} showers of each; the largest difference, in response, is 1.2 "
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium binary")
def test_a_browser_opens_it_without_error_or_request(text, tmp_path: Path):
    (tmp_path / "page.html").write_text(text)
    opened = open_in_browser(tmp_path / "page.html", tmp_path, width=560)
    assert opened.complaints == []
    assert opened.asked == []
