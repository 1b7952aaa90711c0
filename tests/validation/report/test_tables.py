from rows import headline, judgement, row

from caloforge.validation.report.tables import summary_markdown


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
