from pathlib import Path

from caloforge.pipelines.collect import collect


def test_results_are_laid_out_as_links(tmp_path: Path) -> None:
    steps, output = tmp_path / "steps", tmp_path / "output"
    for name in ("judgement/metrics.json", "judgement/summary.md", "judgement/tables.csv", "judgement/plots/a.png",
                 "leaderboard", "report", "winner/config.json", "vae/config.json", "vae_showers",
                 "tuning/overrides.json"):  # fmt: skip
        (steps / name).parent.mkdir(parents=True, exist_ok=True)
        (steps / name).write_text(name)
    outputs = {name: {"path": str(steps / name)} for name in ("judgement", "leaderboard", "report", "winner")}
    outputs |= {"bundles": [{"path": str(steps / "vae")}], "generated": [{"path": str(steps / "vae_showers")}]}  # type: ignore[dict-item]
    outputs["tunings"] = [{"path": str(steps / "tuning")}]  # type: ignore[assignment]
    (output / "bundles" / "vae").mkdir(parents=True)
    (output / "bundles" / "vae" / "left_from_before").touch()
    collect(outputs, output, ["vae"])
    found = {str(path.relative_to(output)): path.read_text() for path in output.rglob("*") if path.is_file()}
    assert found == {
        "leaderboard.json": "leaderboard", "report.html": "report", "metrics.json": "judgement/metrics.json",
        "summary.md": "judgement/summary.md", "tables.csv": "judgement/tables.csv",
        "plots/a.png": "judgement/plots/a.png", "bundle/config.json": "winner/config.json",
        "bundles/vae/config.json": "vae/config.json", "generated/vae.hdf5": "vae_showers",
        "tuning/vae/overrides.json": "tuning/overrides.json",
    }  # fmt: skip
    assert (output / "report.html").samefile(steps / "report")
    (steps / "tuning" / "overrides.json").unlink()
    (output / "tuning" / "vae" / "overrides.json").unlink()
    collect(outputs, output, ["vae"])
    assert not list((output / "tuning").glob("*/*")), "nothing was searched"
