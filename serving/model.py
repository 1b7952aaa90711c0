"""A generator as a KServe model.

Importing this module imports kserve, which parses ``sys.argv``: :func:`caloforge.serving.server.serve`
does so with an empty one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from kserve import Model
from kserve.errors import ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from prometheus_client import CollectorRegistry

from caloforge.conditions import COLUMNS
from caloforge.domain import as_dict
from caloforge.errors import InputError
from caloforge.models.bundle import Generator
from caloforge.serving.errors import FailedError, ForbiddenError, LateError, NotHereError, RefusedError
from caloforge.serving.limits import Limits
from caloforge.serving.metrics import ServingMetrics
from caloforge.serving.queue import Order, SamplingQueue
from caloforge.serving.requests import LOG_LIKELIHOOD, OUTPUT, Query, shown

logger = logging.getLogger(__name__)


class GeneratorModel(Model):
    """Answer requests with showers.

    Inputs are the generator's conditions, ``incident_energy`` (MeV) and, if it was trained with
    them, ``theta`` and ``phi`` (rad) and ``particle`` (PDG code): FP32 or FP64, codes also INT32 or INT64,
    of shape [n] or [n, 1]. Request parameters are
    ``seed`` (0 if absent), ``steps``, and ``geometry``: true for the parameters ``geometry_name`` and
    ``geometry_xml`` (rings) or ``geometry_csv`` (cells) in the answer. The output ``showers`` is FP32 of shape [n, V], MeV. Of a family with a likelihood,
    ``score``: true adds the output ``log_likelihood``, FP64 of shape [n], nats.

    Attributes:
        generator: what it draws from.
        limits: what a request may ask for.
        metrics: of its requests.
        queue: requests under way.
    """

    def __init__(
        self, name: str, generator: Generator, limits: Limits, *, registry: CollectorRegistry | None = None
    ) -> None:
        """Take a loaded generator.

        Args:
            name: the model's name in URLs.
            generator: what it draws from.
            limits: what a request may ask for.
            registry: where its metrics are told; None for nowhere.
        """
        super().__init__(name)
        self.generator, self.limits = generator, limits
        self.metrics = ServingMetrics(generator, registry or CollectorRegistry())
        self.queue = SamplingQueue(generator, limits, self.metrics)
        self.ready = True

    def load(self) -> bool:
        """Tell whether it is loaded; kserve would set it ready."""
        return bool(self.ready)

    async def healthy(self) -> bool:
        """Tell whether requests are answered."""
        return bool(self.ready) and self.queue.alive

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the inputs for the model's metadata."""
        types = {name: "INT64" if COLUMNS[name].whole else "FP64" for name in self.generator.condition_names}
        return [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in types.items()]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the outputs for the model's metadata; the second one only who asks for the score gets."""
        outputs = [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, self.generator.geometry.n_voxels]}]
        if self.limits.has_likelihood:
            outputs.append({"name": LOG_LIKELIHOOD, "datatype": "FP64", "shape": [-1]})
        return outputs

    def validate(self, payload: Query) -> Query:
        """Return the payload, which was checked when it was read."""
        return payload

    def described(self) -> dict[str, Any]:
        """Return the metadata for REST: beside names, types and shapes what each condition was in the training."""
        told = as_dict(self.generator.domains)
        inputs = [
            {**one, "parameters": {"unit": COLUMNS[one["name"]].unit or "PDG code", **told[one["name"]]}}
            for one in self.get_input_types()
        ]
        return {"name": self.name, "platform": "", "inputs": inputs, "outputs": self.get_output_types()}

    async def predict(self, payload: Query, headers: dict[str, str] | None = None) -> Order:
        """Sample the showers that a request asks for; cancelled, it stops after the step or batch under way.

        Returns:
            the order, which holds the showers; the caller releases it when they are sent.

        Raises:
            InputError: the generator does not serve these conditions.
            BusyError: too many requests wait, or the server stops.
            LateError: the showers were not there in time.
            FailedError: the generator failed.
        """
        order = self.queue.put(payload)
        try:
            async with asyncio.timeout(self.limits.seconds):
                await asyncio.wrap_future(order.future)
        except BaseException as error:
            order.release()
            if isinstance(error, TimeoutError):
                text = f"{len(payload.conditions)} showers were not there within {self.limits.seconds:g} s"
                raise LateError(f"{text}; ask for fewer, or later") from None
            if isinstance(error, InputError | RefusedError) or not isinstance(error, Exception):
                raise
            logger.exception("sampling failed")
            raise FailedError("sampling failed; see the server's log") from None
        return order


class OneModel(DataPlane):
    """kserve's data plane for one model that must be there."""

    async def live(self) -> dict[str, str]:
        """Say whether the server can ever answer again; a cluster starts one anew that cannot."""
        models = self.model_registry.get_models().values()
        return {"status": "alive" if models and all([await model.healthy() for model in models]) else "dead"}

    async def ready(self) -> bool:
        """Say whether requests are answered; as :meth:`live`."""
        return (await self.live())["status"] == "alive"

    def metadata(self) -> dict[str, Any]:
        """Return what the server says of itself."""
        return {**super().metadata(), "extensions": ["binary_tensor_data"]}

    def get_model_from_registry(self, name: str) -> GeneratorModel:
        """Return the model of a name.

        Raises:
            NotHereError: there is none.
        """
        model = self.model_registry.get_model(name)
        if not isinstance(model, GeneratorModel):
            raise NotHereError(f"Model with name {shown(name)} does not exist.")
        return model

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """Tell whether a model answers."""
        return await self.get_model_from_registry(model_name).healthy()

    async def model(self, name: str) -> GeneratorModel:
        """Return the model of a name, which answers.

        Raises:
            NotHereError: there is none.
            ModelNotReady: it does not answer.
        """
        model = self.get_model_from_registry(name)
        if not await model.healthy():
            raise ModelNotReady(model.name)
        return model


class FixedRepository(ModelRepositoryExtension):
    """A repository that nobody changes while the server runs."""

    async def load(self, model_name: str) -> None:
        """Refuse."""
        raise ForbiddenError("this server serves one model, which is neither loaded nor unloaded")

    async def unload(self, model_name: str) -> None:
        """Refuse."""
        raise ForbiddenError("this server serves one model, which is neither loaded nor unloaded")
