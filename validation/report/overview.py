"""The overview of a run: one page that answers how good its generators are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from caloforge.fetch import is_remote
from caloforge.files import atomic_file
from caloforge.index import Index
from caloforge.validation.judgement import Judgement
from caloforge.validation.plots.style import colours
from caloforge.validation.report.leaderboard import Leaderboard
from caloforge.validation.report.page import distance, picture, render
from caloforge.validation.report.verdict import NOTABLE
from caloforge.validation.row import HEADLINE

PLOTS = (
    {"longitudinal_profile": "Longitudinal profile", "lateral_profile": "Lateral profile"},
    {"response": "Total response"},
    {"roc": "ROC of the classifier"},
)
"""What a physicist looks at first, names to titles; of each the first that is there (one layer has no profile)."""

_ARTIFACTS = (
    ("Report", "validate", "report"),
    ("Best bundle", "export", "exported"),
)
"""What the page gives the address of: in words, step and name."""


def write_overview(metrics: Judgement, board: Leaderboard, plots: Path, index: Index, path: Path) -> None:
    """Write the overview as one HTML file of one screen that needs nothing but itself, and no scripts.

    Args:
        metrics: the judgement.
        board: the ranked generators.
        plots: folder of the judgement's plots.
        index: the run's results, without this page.
        path: where it goes.
    """
    verdicts = {name: generator.verdict for name, generator in metrics.generators.items()}
    html = render(
        "overview.html.j2",
        index=index,
        metrics=metrics,
        winner=board.winner,
        headline=sentence(metrics, board.winner),
        rows=[
            {
                **row.model_dump(),
                "sentence": sentence(metrics, row.generator).replace(" from Geant4", ""),
                "near": verdicts[row.generator].indistinguishable,
                "sigma": verdicts[row.generator].sigma,
                "figures": {key: metrics.row(row.generator, HEADLINE, key) for key in ("auc", "fpd")},
            }
            for row in board.rows
            if row.generator in verdicts
        ],
        colours=dict(zip(verdicts, colours(len(verdicts)), strict=True)),
        notable=NOTABLE,
        plots=list(_chosen(plots)),
        links=list(_links(index)),
        url_is_link=urlsplit(index.url).scheme in ("http", "https"),
        fetched=any(is_remote(artifact.address) for artifact in index.artifacts),
    )
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def sentence(metrics: Judgement, generator: str) -> str:
    """Return the verdict about a generator in one short sentence."""
    found = metrics.generators[generator].verdict
    if found.indistinguishable:
        return (
            f"Indistinguishable from Geant4 with {metrics.n} showers of each; the largest difference, "
            f"in {found.worst}, is {distance(found.sigma)}."
        )
    by = found.distinguishable_by
    more = f" and {len(by) - 2} more" if len(by) > 2 else ""
    return f"Distinguishable from Geant4 by {', '.join(by[:2])}{more}."


def _chosen(folder: Path) -> Iterator[dict[str, str]]:
    for choice in PLOTS:
        for name, title in choice.items():
            if (folder / f"{name}.png").is_file():
                yield {"title": title, "uri": picture(folder / f"{name}.png")}
                break


def _links(index: Index) -> Iterator[tuple[str, str]]:
    addresses = {(one.step, one.name): one.address for one in index.artifacts}
    for title, *key in _ARTIFACTS:
        if tuple(key) in addresses:
            yield title, addresses[key[0], key[1]]
