import csv
import io
import math
import re

from rows import headline, judgement, row

from caloforge.validation.report.tables import summary_markdown, tables_csv


def test_the_physics_of_many_generators_is_shown_of_the_best():
    names = ["fourth", "third", "second", "good"]
    rows = [one for i, name in enumerate(names) for one in headline(name, 0.6, 4 - i, 0.1)]
    rows += [row(name, "r90", 9.5, kind="physics", title="Radius", unit="mm", reference=9.0) for name in names]
    text = summary_markdown(judgement(rows))
    assert "| figure | Geant4 | good | second | third |" in text.splitlines()
    assert "| Radius [mm] | 9 ± 0 | 9.5 ± 0.1 | 9.5 ± 0.1 | 9.5 ± 0.1 |" in text.splitlines()
    assert "- fourth is indistinguishable" in text, "the verdict about each"
    assert "Of the best 3 generators" in text
    few = [one for one in rows if one.generator in ("good", "second")]
    assert "Of the best" not in summary_markdown(judgement(few))


EVIL = (
    "=HYPERLINK(1)", "+1", "-x", "@SUM(A1)", "\tx", "a|b", "a\nb", "<img src=x onerror=alert(1)>", "![x](http://x/y)",
    "[x](http://x/y)", "`x`", "*x*", "_x_", "# x", "a&b;",
)  # fmt: skip


def test_a_name_stays_a_name():
    rows = [one for i, name in enumerate(EVIL) for one in headline(name, 0.6, 1 + i, 0.1)]
    metrics = judgement(rows)
    text = summary_markdown(metrics)
    for mark in ("<img", "![x]", " [x](", "| `x`", "| *x*", "| _x_", "a|b"):
        assert mark not in text
    table = text[text.index("| generator") :].split("\n\n")[0].splitlines()
    assert len(table) == 2 + len(EVIL) + 1, "a line for each generator, and the floors"
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {6}
    cells = [row[0] for row in csv.reader(io.StringIO(tables_csv(metrics)))][1:]
    assert {cell for cell in cells if cell[0] in "=+-@\t\r"} == set()
    assert {"'=HYPERLINK(1)", "'-x", "a|b"} <= set(cells)
    numbers = [row[4] for row in csv.reader(io.StringIO(tables_csv(metrics)))][1:]
    assert all(math.isfinite(float(number)) for number in numbers)
