import pytest

from caloforge.errors import InputError
from caloforge.place import DEPLOY_BACKENDS, TRAIN_BACKENDS, TUNE_BACKENDS, place


@pytest.mark.parametrize("inside", [True, False])
def test_a_backend_that_is_named_is_taken(inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.place.in_pod", lambda: inside)
    for known in (TRAIN_BACKENDS, TUNE_BACKENDS, DEPLOY_BACKENDS):
        assert place("local", known) == "local"
        for name in set(known) - {"local", "auto"}:
            assert place(name, known, wanted=False) == "cluster"


def test_auto_is_the_cluster_within_a_pod_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.place.in_pod", lambda: False)
    assert place("auto", TUNE_BACKENDS) == "local"
    assert place("auto", TUNE_BACKENDS, inside=True) == "cluster", "what a pipeline will do is known before it is there"
    monkeypatch.setattr("caloforge.place.in_pod", lambda: True)
    assert place("auto", TUNE_BACKENDS) == "cluster"
    assert place("auto", TRAIN_BACKENDS, wanted=False) == "local"


def test_a_backend_of_another_operation_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown backend 'kserve'"):
        place("kserve", TUNE_BACKENDS)
