import pytest

from caloforge.errors import InputError
from caloforge.validation.leaderboard import leaderboard, leaderboard_markdown


def generator(auc, fpd, separation, speed=None):
    def entry(value):
        return {"value": value, "error": 0.1, "floor": 0.01}

    return {
        "auc": entry(auc),
        "fpd": entry(fpd),
        "mean_separation": entry(separation),
        "mean_wasserstein": entry(separation),
        "milliseconds_per_shower": speed,
    }


def test_the_best_mean_rank_wins():
    board = leaderboard(
        {"generators": {"a": generator(0.9, 1, 0.3), "b": generator(0.6, 2, 0.1), "c": generator(1, 3, 0.4)}}
    )
    assert [row["generator"] for row in board["rows"]] == ["b", "a", "c"]
    assert board["winner"] == "b"
    assert board["rows"][0]["mean_rank"] == pytest.approx(4 / 3)


def test_the_distance_from_one_half_counts():
    board = leaderboard({"generators": {"low": generator(0.3, 1, 1), "high": generator(0.6, 1, 1)}})
    assert board["winner"] == "high"


def test_ties_go_to_the_lower_fpd_then_to_the_faster():
    crossed = {"a": generator(0.6, 2, 0.1), "b": generator(0.7, 1, 0.1)}
    assert leaderboard({"generators": crossed})["winner"] == "b"
    equal = {"none": generator(0.6, 1, 1), "slow": generator(0.6, 1, 1, 9.0), "fast": generator(0.6, 1, 1, 1.0)}
    assert [row["generator"] for row in leaderboard({"generators": equal})["rows"]] == ["fast", "slow", "none"]


def test_markdown_has_a_row_for_each_and_fits_a_side_panel():
    board = leaderboard({"generators": {"a": generator(0.6, 1, 1, 2.5), "b": generator(0.7, 1, 1)}})
    text = leaderboard_markdown(board)
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == ["a", "b", "*Geant4 itself*"]
    assert {line.count("|") for line in (header, *rows)} == {6}
    assert "| 0.6 ± 0.1 | 1 ± 0.1 | 1 ± 0.1 | 2.5 |" in text
    assert "| 0.01 | 0.01 | 0.01 | - |" in text
    assert board["rule"] in text


def test_it_says_where_the_data_came_from():
    source = {"address": "s3://bucket/a.hdf5", "size": 12_300_000, "sha256": "0123456789abcdef", "seconds": 1.0,
              "fetched": "2026-11-26T03:40:00+00:00"}  # fmt: skip
    board = leaderboard({"generators": {"a": generator(0.6, 1, 1)}, "source": source})
    assert board["source"] == source
    line = "Data: s3://bucket/a.hdf5 (12.3 MB, SHA-256 0123456789ab, 2026-11-26 03:40:00 UTC)"
    assert line in leaderboard_markdown(board).splitlines()
    assert "Data" not in leaderboard_markdown(leaderboard({"generators": {"a": generator(0.6, 1, 1)}}))


def test_no_generator():
    with pytest.raises(InputError, match="no generator"):
        leaderboard({"generators": {}})
