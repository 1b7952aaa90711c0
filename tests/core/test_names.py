from pathlib import Path

import pytest

from caloforge.errors import InputError
from caloforge.names import inside, plain_name, relative_name

LEADING_OUT = ["..", "../a", "a/../b", "/etc/passwd", "a//b", "./a", "a/", "", "a\\b", "a\nb", "a\0b", None, 3]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_that_lead_out_are_refused(name: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not the name of a file below a folder"):
        relative_name(name)
    with pytest.raises(InputError, match=r"index: .* is not the name"):
        inside(tmp_path, name, where="index")
    with pytest.raises(ValueError, match="is not a plain name"):
        plain_name(name)


def test_names_below_a_folder(tmp_path: Path) -> None:
    assert inside(tmp_path, "plots/a b.png", where="index") == tmp_path / "plots" / "a b.png"
    assert plain_name("coupling_flow-2") == "coupling_flow-2"
    (tmp_path / "out").symlink_to("/etc")
    with pytest.raises(InputError, match="index: out/passwd leads out of the folder"):
        inside(tmp_path, "out/passwd", where="index")
