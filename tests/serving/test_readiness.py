from typing import Any

import pytest

from caloforge.serving.readiness import NotServed, address

INNER, OUTER = "http://calo.team.svc.cluster.local", "http://calo.team.example.org"


def service(**status: Any) -> dict[str, Any]:
    predictor = {
        "url": "http://calo-predictor.team.example.org",
        "address": {"url": "http://calo-predictor.team.svc.cluster.local"},
        "traffic": [
            {"tag": "prev", "url": "http://prev.invalid"},
            {"tag": "latest", "url": "http://tagged.example.org/"},
        ],
    }
    known = {"url": OUTER + "/", "address": {"url": INNER}, "components": {"predictor": predictor}}
    return {"metadata": {"name": "calo"}, "status": {**known, **status}}


def test_inside_and_outside() -> None:
    assert address(service(), inside=True) == INNER
    assert address(service(), inside=False) == OUTER
    assert address(service(address={}), inside=True) == OUTER
    assert address(service(url=None), inside=False) == INNER


def test_the_newest_revision_has_an_address_of_its_own() -> None:
    assert address(service(), inside=False, newest=True) == "http://tagged.example.org"
    expected = "http://latest-calo-predictor.team.svc.cluster.local"
    assert address(service(), inside=True, newest=True) == expected


def test_no_address() -> None:
    with pytest.raises(NotServed, match="is ready, but has no address"):
        address(service(url=None, address={}), inside=True)
