"""What killed and idle starts of a run leave goes; what a later start takes from the cache stays."""

import json
from pathlib import Path

from caloforge.pipelines.local.leftovers import remove_leftovers

FIRST, SECOND, THIRD = (f"caloforge-2026-11-26-10-{minute}-46-784105" for minute in (13, 14, 15))


def _step(folder: Path, *artifacts: str) -> dict[str, object]:
    """Make the folder of a step, and return the entry of the cache."""
    folder.mkdir(parents=True)
    (folder / "executor_output.json").write_text("{}", encoding="utf-8")
    for name in artifacts:
        (folder / name).mkdir()
        (folder / name / "file").write_text(name, encoding="utf-8")
    found = {name: {"__kfp_artifact__": True, "uri": str(folder / name)} for name in artifacts}
    return {"record": "text", "several": {"__kfp_artifact_list__": list(found.values())}}


def test_leftovers_of_earlier_starts_go(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    kept = {
        "a": _step(tmp_path / FIRST / "preprocess", "prepared", "quality"),
        "b": _step(tmp_path / SECOND / "families-iteration-0" / "train", "bundle"),
    }
    for name, entry in kept.items():
        (cache / f"{name}.json").write_text(json.dumps(entry), encoding="utf-8")
    (cache / "c.json").write_text("{", encoding="utf-8")
    (cache / ".kfp_cache_x.tmp").touch()
    _step(tmp_path / FIRST / "families-iteration-0" / "train", "bundle")
    _step(tmp_path / SECOND / "validate", ".judgement.12345678.part")
    (tmp_path / THIRD / "families-iteration-0").mkdir(parents=True)
    (tmp_path / "mine-2026").mkdir()
    (tmp_path / "times.jsonl").touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    train = f"{SECOND}/families-iteration-0/train"
    assert left == {
        "times.jsonl", "cache/a.json", "cache/b.json", "cache/c.json",
        f"{FIRST}/preprocess/executor_output.json", f"{FIRST}/preprocess/prepared/file",
        f"{FIRST}/preprocess/quality/file", f"{train}/executor_output.json", f"{train}/bundle/file",
    }  # fmt: skip
    assert (tmp_path / "mine-2026").is_dir()
    assert not (tmp_path / THIRD).exists()
    assert not (tmp_path / FIRST / "families-iteration-0").exists()
