"""Conditions as networks see them: numbers of order one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from caloforge.domain import Domain, Domains

LEAST_HALF_WIDTH = 0.1
"""Of the log of the energy; a sample of one energy has no width."""
LEAST_ANGLE_HALF_WIDTH = 0.02
"""Rad."""


class ConditionEncoder(nn.Module):
    """Bring conditions to numbers of order one.

    The log of the energy and the polar angle go from -1 to 1 over the trained range, the azimuth is a point on a
    circle, of which there is one more with the polar angle as its radius: where a particle enters a plane is linear in both.
    Each particle has a column of its own, 1 for it and 0 for the others, where there are several.

    Attributes:
        names: of the conditions, in the order of the columns that are encoded.
        n_features: what comes out.
        n_kinds: particles that have a column each, the last ones; 0 where there is one.
        energy_powers: powers of the energy that are given; 1.
    """

    codes: Tensor
    energy_powers = 1

    def __init__(self, domains: Domains) -> None:
        """Take what the conditions of the training were."""
        super().__init__()
        self.names = tuple(domains)
        low, high = (math.log(e) for e in domains["incident_energy"].limits)
        self.middle, self.half_width = (low + high) / 2, max((high - low) / 2, LEAST_HALF_WIDTH)
        low, high = domains.get("theta", Domain(low=0, high=math.pi)).limits
        self.theta_middle, self.theta_half_width = (low + high) / 2, max((high - low) / 2, LEAST_ANGLE_HALF_WIDTH)
        codes = domains["particle"].values if "particle" in domains else ()
        self.n_kinds = len(codes) if len(codes) > 1 else 0
        self.register_buffer("codes", torch.tensor(codes[: self.n_kinds], dtype=torch.float32), persistent=False)
        angles = {(): 0, ("theta",): 1, ("phi",): 2, ("theta", "phi"): 5}
        self.n_features = self.energy_powers + angles[tuple(x for x in ("theta", "phi") if x in domains)] + self.n_kinds

    def energy_columns(self, x: Tensor) -> list[Tensor]:
        """Return the columns (B, 1) of the log of the energy, -1 to 1, (B, 1)."""
        return [x]

    def forward(self, conditions: Tensor) -> Tensor:
        """Map (B, K) raw conditions in the order of ``names`` to (B, n_features)."""
        given = dict(zip(self.names, torch.split(conditions, 1, 1), strict=True))
        columns = self.energy_columns((torch.log(given["incident_energy"]) - self.middle) / self.half_width)
        if "theta" in given:
            theta = (given["theta"] - self.theta_middle) / self.theta_half_width
            columns.append(theta)
        if "phi" in given:
            circle = [torch.sin(given["phi"]), torch.cos(given["phi"])]
            columns += circle + ([theta * x for x in circle] if "theta" in given else [])
        if self.n_kinds:
            columns.append((given["particle"] == self.codes).to(conditions.dtype))
        return torch.cat(columns, 1)

    def kinds(self, encoded: Tensor) -> Tensor | None:
        """Return which particle each shower is, (B, n_kinds) of 0 and 1, of what :meth:`forward` returned; None with one."""
        return encoded[:, -self.n_kinds :] if self.n_kinds else None
