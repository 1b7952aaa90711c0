"""Observables that are moments of the energy along and across the shower."""

from __future__ import annotations

from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.per_shower import (
    lateral_first_moment,
    lateral_second_moment,
    longitudinal_first_moment,
    longitudinal_second_moment,
)

LONGITUDINAL_FIRST_MOMENT = Observable("Longitudinal first moment", "layers", "Moments", longitudinal_first_moment)
LONGITUDINAL_SECOND_MOMENT = Observable("Longitudinal second moment", "layers²", "Moments", longitudinal_second_moment)
LATERAL_FIRST_MOMENT = Observable("Lateral first moment", "mm", "Moments", lateral_first_moment)
LATERAL_SECOND_MOMENT = Observable("Lateral second moment", "mm²", "Moments", lateral_second_moment)
