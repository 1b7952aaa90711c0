from pathlib import Path
from types import SimpleNamespace

from caloforge.components.artifacts import record
from caloforge.files import write_json
from caloforge.index import Index
from caloforge.pipelines.collect import collect
from caloforge.pipelines.layout import RECORD


def test_results_are_laid_out_as_links(tmp_path: Path) -> None:
    steps, output = tmp_path / "steps", tmp_path / "output"
    for name in ("page", "judgement/metrics.json", "judgement/summary.md", "judgement/tables.csv",
                 "judgement/plots/a.png", "leaderboard", "ranking", "report", "quality", "winner/config.json",
                 "vae/config.json", "vae_showers", "tuning/overrides.json"):  # fmt: skip
        (steps / name).parent.mkdir(parents=True, exist_ok=True)
        (steps / name).write_text(name)

    def made(name: str) -> SimpleNamespace:
        return SimpleNamespace(path=str(steps / name), uri=str(steps / name), metadata={})

    records = [
        record("preprocess", {"quality": made("quality")}),
        record("tune", {"tuning": made("tuning")}, family="vae"),
        record("train", {"bundle": made("vae")}, family="vae"),
        record("train", {}, family="wgan", failed="it diverged"),
        record("generate", {"generated": made("vae_showers")}, family="vae"),
        record("validate", {name: made(name) for name in ("judgement", "report", "leaderboard", "ranking")}),
        record("export", {"exported": made("winner")}, family="vae"),
        record("overview", {"page": made("page")}),
    ]
    index = Index.gather(records, families=["vae", "wgan"], pipeline="caloforge", run="1", caloforge="0")
    write_json(steps / "index", index.model_dump(mode="json"))
    for _ in range(2):  # a run that goes on lays everything again
        collect(steps / "index", output)
    found = {str(path.relative_to(output)): path.read_text() for path in output.rglob("*") if path.is_file()}
    found.pop(RECORD)
    assert found == {
        "overview.html": "page", "leaderboard.json": "leaderboard", "leaderboard.md": "ranking",
        "report.html": "report", "quality.md": "quality", "metrics.json": "judgement/metrics.json",
        "summary.md": "judgement/summary.md", "tables.csv": "judgement/tables.csv",
        "plots/a.png": "judgement/plots/a.png", "bundle/config.json": "winner/config.json",
        "bundles/vae/config.json": "vae/config.json", "generated/vae.hdf5": "vae_showers",
        "tuning/vae/overrides.json": "tuning/overrides.json",
    }  # fmt: skip
    assert (output / "report.html").samefile(steps / "report")
