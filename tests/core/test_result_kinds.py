"""The table of the kinds of results says what is really written."""

from __future__ import annotations

from pathlib import Path

from caloforge.geometry import GEOMETRY_FILES
from caloforge.outputs import Written
from caloforge.pipelines.layout import PLACES
from caloforge.result_kinds import BUNDLE, PREPARED, RUN, ResultKind


def _unknown(folder: Path, kind: ResultKind) -> list[str]:
    written = Written(folder)
    assert written.kind == kind.name
    assert written.laid
    return [name for name in written.laid if not kind.has(name)]


def test_prepared_data(small_prepared: Path) -> None:
    assert _unknown(small_prepared, PREPARED) == []


def test_a_bundle(tiny_bundle: Path) -> None:
    assert _unknown(tiny_bundle, BUNDLE) == []


def test_a_run() -> None:
    assert [place.name for place in PLACES if place.name.partition("/")[0] not in RUN.uppermost] == []


def test_geometries_of_all_forms() -> None:
    assert [name for kind in (BUNDLE, PREPARED) for name in GEOMETRY_FILES if not kind.has(name)] == []
