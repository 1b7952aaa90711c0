"""What a server tells Prometheus at ``/metrics``: the time of each stage, the sizes of batches, and what it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal

from prometheus_client import CollectorRegistry, Histogram, Info

from caloforge.models.bundle import Generator

Stage = Literal["decode", "wait", "sampling", "encode"]
"""Of a request: its body is read, it waits for its turn, its showers are drawn, they are made an answer."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0)
"""Upper edges of the histogram of times: from a small answer to the usual bound of a request."""

SHOWERS = tuple(2.0**i for i in range(11))
"""Upper edges of the histogram of showers in a batch, which are 1,000 at most."""

REQUESTS = tuple(2.0**i for i in range(7))
"""Upper edges of the histogram of requests in a batch."""


class ServingMetrics:
    """Histograms of one server."""

    def __init__(self, generator: Generator, registry: CollectorRegistry) -> None:
        """Register them, and what the generator is and how it is run.

        Args:
            generator: what is served.
            registry: where; each name goes into a registry once.
        """
        self._stages = Histogram(
            "caloforge_stage_seconds", "Seconds of a request in each stage: decode, wait, sampling, encode.",
            ["stage"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._showers = Histogram("caloforge_batch_showers", "Showers of a batch.", buckets=SHOWERS, registry=registry)
        self._requests = Histogram(
            "caloforge_batch_requests", "Requests whose showers are in a batch.", buckets=REQUESTS, registry=registry
        )
        variant = generator.variant
        Info("caloforge_generator", "What is served, and the variant that draws its showers.", registry=registry).info(
            {
                "family": generator.family,
                "geometry": generator.geometry.name,
                "voxels": str(generator.geometry.n_voxels),
                "variant": variant.name,
                "engine": variant.engine,
                "precision": variant.precision,
                "device": generator.device.type,
            }
        )

    def spent(self, stage: Stage, seconds: float) -> None:
        """Count the time of a stage of one request."""
        self._stages.labels(stage).observe(seconds)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count the time that the block takes as a stage of one request."""
        began = perf_counter()
        try:
            yield
        finally:
            self.spent(stage, perf_counter() - began)

    def drew(self, *, showers: int, requests: int) -> None:
        """Count a batch."""
        self._showers.observe(showers)
        self._requests.observe(requests)
