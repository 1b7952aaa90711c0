"""kserve's model server, as this package uses it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kserve import ModelServer
from kserve.model_server import FASTAPI_APP_IMPORT_STRING

from caloforge.serving.model import FixedRepository, GeneratorModel, OneModel
from caloforge.serving.rest import RestServer
from caloforge.serving.rpc import GrpcServer

logger = logging.getLogger(__name__)

GRACE_SECONDS = 20
"""So long are requests under way finished after SIGTERM; Kubernetes kills after 30 s."""

_LAST_SECONDS = 5


class GeneratorServer(ModelServer):
    """Serve one generator over REST and gRPC until SIGTERM or SIGINT."""

    def __init__(self, model: GeneratorModel, *, http_port: int, grpc_port: int) -> None:
        """Take the model and the ports."""
        super().__init__(http_port=http_port, grpc_port=grpc_port, workers=1, enable_latency_logging=False)
        self._model = model
        self.dataplane = OneModel(self.registered_models)
        self.model_repository_extension = FixedRepository(self.registered_models)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bodies")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.TimerHandle | None = None

    def start(self, models: Any = None) -> None:
        """Serve."""
        self._register_and_check_atleast_one_model_is_ready([self._model])
        grace = GRACE_SECONDS + _LAST_SECONDS
        plane, repository = self.dataplane, self.model_repository_extension
        self._rest_server = RestServer(
            FASTAPI_APP_IMPORT_STRING, plane, repository, self.http_port,
            worker=self._worker, stopping=self._stopping, grace=grace,
        )  # fmt: skip
        self._grpc_server = GrpcServer(self.grpc_port, plane, repository, worker=self._worker, grace=grace)
        self.register_signal_handler()
        asyncio.run(self._serve())
        self._model.queue.end()
        if not self._model.queue.join(_LAST_SECONDS):
            logger.warning("a batch that was under way is given up")
            os._exit(0)  # Python would wait for the thread, or fall over it

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(self._rest_server.start(), self._grpc_server.start())

    def stop(self, sig: int) -> None:
        """Begin to stop; kserve calls this, and uvicorn once more at its end."""
        self._stopping()

    def register_signal_handler(self) -> None:
        """Have what comes before and after uvicorn's own handlers stop the server too."""
        for sig in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sig, lambda number, _: self.stop(number))

    def _stopping(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        if self._end is not None:
            return
        logger.info("stopping; requests under way have %d s", GRACE_SECONDS)
        queue, loop = self._model.queue, asyncio.get_running_loop()
        queue.close()
        self._end = loop.call_later(GRACE_SECONDS, queue.end)
        self._task = loop.create_task(self._grpc_server.stop())
