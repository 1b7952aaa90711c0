"""The errors a user can mend, and the nearest valid names that their messages offer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: a file, a setting, a query.

    The message says what was wrong, where, and what to do; the command line prints it as one
    line and exits with 2.
    """


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Return the error for a name that is not in ``valid``, with the nearest ones."""
    names = sorted(valid)
    close = difflib.get_close_matches(str(name), names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return InputError(f"unknown {kind} {name!r}{hint} (choose one of {', '.join(names)})")
