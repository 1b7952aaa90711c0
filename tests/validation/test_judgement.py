"""metrics.json: its schema, and what is no such file."""

import json

import pytest
from rows import headline, judgement

from caloforge.errors import InputError
from caloforge.validation.judgement import SCHEMA_FILE, Judgement, json_schema


def test_the_shipped_schema_is_that_of_the_types():
    text = "from caloforge.validation.judgement import SCHEMA_FILE, json_schema; SCHEMA_FILE.write_text(json_schema())"
    assert SCHEMA_FILE.read_text() == json_schema(), f"write it anew: {text}"


def test_what_is_written_is_read_again_and_nothing_that_says_nothing(judged, tmp_path):
    metrics, folder = judged
    text = (folder / "metrics.json").read_text()
    assert Judgement.read(folder / "metrics.json") == metrics
    content = json.loads(text)
    assert content["schema"] == 2
    [row] = [row for row in content["rows"] if (row["generator"], row["name"]) == ("good", "auc")]
    assert set(row) == {
        "generator", "kind", "name", "title", "group", "value", "error", "floor", "floor_error", "sigma", "n", "tested",
        "phrase", "explains", "detectable",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, r"metrics.json: has the schema 1, but this version reads 2; judge the showers again with calo"),
        ({"schema": None}, r"metrics.json: is no metrics.json; judge the showers again"),
        ({"threshold": 1}, r"metrics.json: unknown key 'threshold'; did you mean 'threshold_mev'"),
        ({"n": "many"}, r"metrics.json: n: Input should be a valid integer"),
    ],
)
def test_another_file_is_refused_in_one_line(change, message, tmp_path):
    content = judgement(headline("g", 0.6, 1, 1)).as_dict()
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert Judgement.read(tmp_path / "metrics.json").row("g", "headline", "fpd").value == 1
    (tmp_path / "metrics.json").write_text(json.dumps(content | change))
    with pytest.raises(InputError, match=message) as error:
        Judgement.read(tmp_path / "metrics.json")
    assert "\n" not in str(error.value)


def test_a_figure_that_is_no_number_is_not_written():
    with pytest.raises(ValueError, match="finite"):
        headline("g", float("nan"), 1, 1)
    with pytest.raises(InputError, match="no physics figure 'r90' of g"):
        judgement(headline("g", 0.6, 1, 1)).row("g", "physics", "r90")
