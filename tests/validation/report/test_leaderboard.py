import pytest
from rows import headline, judgement

from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.source import Source
from caloforge.validation.judgement import Reference
from caloforge.validation.report.leaderboard import FIGURES, Leaderboard, leaderboard, leaderboard_markdown, ranked


def board(figures, speeds=None, **fields):
    rows = [row for name, values in figures.items() for row in headline(name, *values)]
    return leaderboard(judgement(rows, speeds, **fields))


def test_the_best_mean_rank_wins():
    found = board({"a": (0.9, 1, 0.3), "b": (0.6, 2, 0.1), "c": (1, 3, 0.4)})
    assert [row.generator for row in found.rows] == ["b", "a", "c"]
    assert found.winner == "b"
    assert found.rows[0].mean_rank == pytest.approx(4 / 3)


def test_the_distance_from_one_half_counts():
    assert board({"low": (0.3, 1, 1), "high": (0.6, 1, 1)}).winner == "high"


def test_ties_go_to_the_lower_fpd_then_to_the_faster():
    assert board({"a": (0.6, 2, 0.1), "b": (0.7, 1, 0.1)}).winner == "b"
    equal = dict.fromkeys(("none", "slow", "fast"), (0.6, 1, 1))
    rows = board(equal, {"slow": 9.0, "fast": 1.0}).rows
    assert [row.generator for row in rows] == ["fast", "slow", "none"]


def test_markdown_has_a_row_for_each_and_fits_a_side_panel():
    found = board({"a": (0.6, 1, 1), "b": (0.7, 1, 1)}, {"a": 2.5})
    text = leaderboard_markdown(found)
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == ["a", "b", "*Geant4 itself*"]
    assert {line.count("|") for line in (header, *rows)} == {6}
    assert "| 0.6 ± 0.1 | 1 ± 0.1 | 1 ± 0.1 | 2.5 |" in text
    assert "| 0.01 | 0.01 | 0.01 | - |" in text
    assert found.rule in text


def test_speeds_stand_beside_the_full_simulation_that_made_the_showers():
    reference = Reference(file="a.hdf5", showers=100, milliseconds_per_shower=5000.0)
    found = board({"a": (0.6, 1, 1), "b": (0.7, 1, 1), "c": (0.8, 1, 1)}, {"a": 2.5, "b": 4000}, reference=reference)
    text = leaderboard_markdown(found)
    assert "| 2.5 (2,000 x faster) |" in text
    assert "| 4e+03 |" in text, "hardly faster"
    assert "| 0.01 | 0.01 | 0.01 | 5e+03 |" in text
    assert found.geant4_milliseconds_per_shower == 5000


def test_the_time_says_what_was_timed():
    rows = {"a": (0.6, 1, 1), "b": (0.7, 1, 1)}
    metrics = judgement([row for name, values in rows.items() for row in headline(name, *values)], {"a": 2.5})
    run_as = {name: one.model_copy(update={"variant": "ONNX | 1 thread"}) for name, one in metrics.generators.items()}
    found = leaderboard(metrics.model_copy(update={"generators": run_as}))
    text = leaderboard_markdown(found)
    assert r"| 2.5, ONNX \| 1 thread |" in text
    assert next(line for line in text.splitlines() if line.startswith("| b")).endswith("| - |"), "nothing was timed"
    assert found.rows[0].variant == "ONNX | 1 thread"


def test_it_says_where_the_data_came_from():
    source = Source("s3://bucket/a.hdf5", 12_300_000, "0123456789abcdef", "2026-11-26T03:40:00+00:00", 1.0)
    found = board({"a": (0.6, 1, 1)}, source=source)
    assert found.source == source
    line = "Data: s3://bucket/a.hdf5 (12.3 MB, SHA-256 0123456789ab, 2026-11-26 03:40:00 UTC)"
    assert line in leaderboard_markdown(found).splitlines()
    assert "Data" not in leaderboard_markdown(board({"a": (0.6, 1, 1)}))


def test_no_generator_and_no_figure_that_decides():
    with pytest.raises(InputError, match="no generator"):
        ranked([], {})
    with pytest.raises(InputError, match="the metrics hold no fpd of a"):
        ranked(headline("a", 0.6, 1, 1)[:1], {"a": None})


def test_what_generators_share_is_said():
    note = "a and b stand on the same trained layer energies"
    assert note in leaderboard_markdown(board({"a": (0.6, 1, 1), "b": (0.7, 1, 1)}, notes=(note,))).splitlines()


def test_the_file_is_what_readers_know_and_is_read_again(tmp_path):
    source = Source("s3://bucket/a.hdf5", 12_300_000, "0123456789abcdef", "2026-11-26T03:40:00+00:00", 1.0)
    written = board({"a": (0.6, 1, 1)}, {"a": 2.5}, source=source, failed={"b": "it diverged"})
    written.write(tmp_path / "leaderboard.json")
    content = read_json(tmp_path / "leaderboard.json")
    assert list(content) == ["rule", "winner", "source", "geant4_milliseconds_per_shower", "rows", "failed", "notes"]
    figures = [f"{key}{part}" for key in FIGURES for part in ("", "_error", "_floor")]
    assert list(content["rows"][0]) == ["generator", "mean_rank", *figures, "milliseconds_per_shower", "variant"]
    assert content["source"] == source.as_dict()
    assert Leaderboard.read(tmp_path / "leaderboard.json") == written
    write_json(tmp_path / "other.json", {"winner": "a"})
    with pytest.raises(InputError, match=r"other.json: rule: Field required"):
        Leaderboard.read(tmp_path / "other.json")
