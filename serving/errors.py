"""What goes wrong with a server, and what it says to its clients."""

from __future__ import annotations

from typing import ClassVar


class ServingError(RuntimeError):
    """A server does not start, fails, or answers with the wrong showers."""


class RefusedError(Exception):
    """A server does not do what a client asks; the message is for the client.

    Attributes:
        status: of HTTP.
        code: name of the status of gRPC.
        retry_after: seconds after which it may be tried again; 0 where that would not help.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, retry_after: int = 0) -> None:
        """Take the message."""
        super().__init__(message)
        self.retry_after = retry_after


class ForbiddenError(RefusedError):
    """Nobody may ask for this."""

    status = 403
    code = "PERMISSION_DENIED"


class NotHereError(RefusedError):
    """There is no such thing."""

    status = 404
    code = "NOT_FOUND"


class TooLargeError(RefusedError):
    """The request has more bytes than the server takes."""

    status = 413
    code = "RESOURCE_EXHAUSTED"


class BusyError(RefusedError):
    """The server has too much to do, or is about to end."""

    status = 503
    code = "UNAVAILABLE"


class LateError(RefusedError):
    """The showers were not there in time."""

    status = 504
    code = "DEADLINE_EXCEEDED"


class FailedError(RefusedError):
    """The generator failed; the server's log says how."""

    status = 500
    code = "INTERNAL"
