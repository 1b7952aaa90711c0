"""How much one request may ask for, and how much all of them together may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, get_args

from caloforge.errors import InputError
from caloforge.seeds import check_seed

MAX_SHOWERS_PER_REQUEST = 10_000
"""Whatever the mesh: others wait while a request is sampled."""

MAX_BODY_BYTES = 2 * 2**20
"""Of a request, over REST and gRPC; 10,000 showers with three conditions as JSON are 1 MB."""

MAX_WAITING = 256
"""Requests that are sampled or wait for it; more are told to come back."""

MOST_TOGETHER = 64
"""Showers of requests that wait at the same time and are drawn in one batch; a larger request is drawn by itself."""

VOXELS_TOGETHER = 500_000
"""Voxels of such a batch: it must not take much longer than others wait for."""

MAX_CONNECTIONS = 512
"""Over REST; a container may have no more than 1024 open files."""

BACKLOG = 128
"""So many connections asyncio takes at once over REST, before one of them can be closed to make room."""

MAX_GRPC_CONNECTIONS = 256
"""Without a bound they would take the open files of REST, and with them the cluster's probes."""

MAX_GRPC_STREAMS = 64
"""Requests under way on one connection of gRPC; further ones wait in the client, which fills the queue for nobody else."""

STEPS_FACTOR = 4
"""So many times the generator's own number of steps a request may ask for, where nothing else is said."""

REQUEST_SECONDS = 120.0

Form = Literal["binary", "json", "grpc"]
"""How showers are sent: bytes after a JSON header over REST, JSON, or a message of gRPC."""

FORMS: tuple[Form, ...] = get_args(Form)

BYTES_PER_VOXEL: Mapping[Form, int] = {"binary": 4, "json": 20, "grpc": 16}
"""What an answer takes at its greatest: the array is sent as it lies; text is up to 13 characters beside it;
gRPC has it as an array, in a message, as that message's bytes and in its own buffer."""

_ANSWER_SHARE = 1 / 8
_ROOM_SHARE = 1 / 4


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    Attributes:
        n_voxels: of a shower.
        answer_bytes: most memory of one answer.
        room_bytes: most memory of all answers that are made or sent.
        default_steps: of the generator; None for a family that takes none.
        max_steps: most steps that a request may ask for.
        seconds: from a request to its showers.
        has_likelihood: whether the generator can say how likely its showers are.
    """

    n_voxels: int
    answer_bytes: int
    room_bytes: int
    default_steps: int | None
    max_steps: int
    seconds: float = REQUEST_SECONDS
    has_likelihood: bool = False

    @classmethod
    def within(
        cls,
        memory: int,
        *,
        n_voxels: int,
        default_steps: int | None,
        max_steps: int | None = None,
        seconds: float = REQUEST_SECONDS,
        has_likelihood: bool = False,
    ) -> Self:
        """Return the limits for a server that may use so much memory, in bytes.

        An answer takes an eighth of it at most, all together a quarter: the program itself and what a network
        needs for a batch are left another quarter, and half of the memory is never used.
        """
        return cls(
            n_voxels=n_voxels,
            answer_bytes=int(memory * _ANSWER_SHARE),
            room_bytes=int(memory * _ROOM_SHARE),
            default_steps=default_steps,
            max_steps=max_steps or STEPS_FACTOR * (default_steps or 0),
            seconds=seconds,
            has_likelihood=has_likelihood,
        )

    def most_showers(self, form: Form) -> int:
        """Return how many showers one request may ask for."""
        return max(1, min(MAX_SHOWERS_PER_REQUEST, self.answer_bytes // (BYTES_PER_VOXEL[form] * self.n_voxels)))

    def cost(self, form: Form, n: int) -> int:
        """Return the memory, in bytes, that an answer of ``n`` showers takes."""
        return n * self.n_voxels * BYTES_PER_VOXEL[form]

    def check(self, form: Form, *, n: int, seed: int, steps: int | None, score: bool = False) -> None:
        """Refuse a request that asks for too much, or for what the generator cannot say.

        Raises:
            InputError: with the limit.
        """
        check_count(n)
        if n > (most := self.most_showers(form)):
            binary = self.most_showers("binary")
            hint = (
                f", or take binary answers over REST (at most {binary})" if form != "binary" and binary > most else ""
            )
            text = f"a request for showers of {self.n_voxels} voxels asks for at most {most} of them {_TOLD[form]}, got {n}"
            raise InputError(f"{text}; split it into several{hint}")
        check_seed(seed)
        check_steps(steps)
        if score and not self.has_likelihood:
            raise InputError("score: this generator has no likelihood of showers; leave the parameter out")
        if steps is not None and self.default_steps is None:
            raise InputError("steps: this generator takes one pass and no steps; leave the parameter out")
        if steps is not None and steps > self.max_steps:
            raise InputError(
                f"steps: at most {self.max_steps} (the generator's own number is {self.default_steps}), got {steps}"
            )


_TOLD: Mapping[Form, str] = {"binary": "in binary", "json": "as JSON", "grpc": "over gRPC"}


def check_count(n: int) -> None:
    """Refuse a request for no showers or for too many.

    Raises:
        InputError: with the limit.
    """
    if n < 1:
        raise InputError(f"a request asks for at least one shower, got {n}")
    if n > MAX_SHOWERS_PER_REQUEST:
        msg = f"a request asks for at most {MAX_SHOWERS_PER_REQUEST} showers, got {n}; split it into several"
        raise InputError(msg)


def check_steps(steps: int | None) -> None:
    """Refuse a number of sampling steps that is not positive.

    Raises:
        InputError: with the number.
    """
    if steps is not None and steps < 1:
        raise InputError(f"steps: expected a positive integer, got {steps}")
