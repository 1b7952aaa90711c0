from copy import deepcopy

from caloforge.validation.tables import summary_markdown


def test_the_physics_of_many_generators_is_shown_of_the_best(judged):
    metrics = deepcopy(judged[0])
    good = metrics["generators"]["good"]
    names = ["good", "second", "third", "fourth"]
    metrics["generators"] = {
        name: {**good, "fpd": {**good["fpd"], "value": float(place)}, "verdict": {**good["verdict"], "sentence": name}}
        for place, name in enumerate(names)
    }
    for figure in metrics["physics"].values():
        figure["generators"] = dict.fromkeys(names, figure["generators"]["good"])
    text = summary_markdown(metrics)
    header = next(line for line in text.splitlines() if line.startswith("| figure |"))
    assert header == "| figure | Geant4 | good | second | third |"
    assert "- fourth" in text, "the verdict about each"
    assert "Of the best 3 generators" in text
    assert "Of the best" not in summary_markdown(judged[0])
