"""What goes wrong with a server and is not the user's fault."""

from __future__ import annotations


class ServingError(RuntimeError):
    """A server does not start, fails, or answers with the wrong showers."""
