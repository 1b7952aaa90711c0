"""The server's gRPC side: kserve's service, with bounds, and with requests read strictly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from kserve.errors import ModelNotReady
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from caloforge.errors import InputError
from caloforge.serving.answers import grpc_body
from caloforge.serving.errors import NotHereError, RefusedError
from caloforge.serving.limits import MAX_BODY_BYTES, MAX_GRPC_CONNECTIONS, MAX_GRPC_STREAMS, MAX_WAITING
from caloforge.serving.model import GeneratorModel, OneModel
from caloforge.serving.requests import read_grpc

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_BODY_BYTES),
    ("grpc.max_send_message_length", -1),  # the number of showers is bounded
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.max_allowed_incoming_connections", MAX_GRPC_CONNECTIONS),
    ("grpc.max_concurrent_streams", MAX_GRPC_STREAMS),
    ("grpc.max_connection_idle_ms", 300_000),
    # Nobody holds a connection for ever: a client that does not read keeps its answer in our memory.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 120_000),
)


class Service(InferenceServicer):
    """kserve's service for one model."""

    def __init__(self, plane: OneModel, repository: Any, worker: ThreadPoolExecutor) -> None:
        """Take what answers, and the thread in which messages are read and written."""
        super().__init__(plane, repository)
        self._plane, self._worker = plane, worker

    async def ModelInfer(self, request: Any, context: Any) -> bytes:
        """Answer a request for showers."""
        model = await self._model(request.model_name, request.model_version)
        names, limits = model.generator.condition_names, model.limits
        query = await self._apart(model.metrics.timed("decode")(lambda: read_grpc(request, names, limits)))
        order = (await self._plane.infer(model.name, query))[0]
        context.add_done_callback(lambda _: order.release())

        @model.metrics.timed("encode")
        def encode() -> bytes:
            return grpc_body(query, order.take(), model=model.name, geometry=model.generator.geometry)

        return await self._apart(encode)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Say whether a model answers."""
        await self._model(request.name, request.version)
        return await super().ModelReady(request, context)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Say what a model takes and gives."""
        await self._model(request.name, request.version)
        return await super().ModelMetadata(request, context)

    async def _model(self, name: str, version: str) -> GeneratorModel:
        if version:
            raise NotHereError("this server has one version of one model; leave the version out")
        return await self._plane.model(name)

    async def _apart(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


class GrpcServer(GRPCServer):
    """kserve's gRPC server with bounds."""

    def __init__(self, port: int, plane: OneModel, repository: Any, *, worker: ThreadPoolExecutor, grace: int) -> None:
        """See kserve.

        Args:
            port: where it listens.
            plane: what answers.
            repository: of the models.
            worker: thread in which messages are read and written.
            grace: seconds that requests have when the server stops.
        """
        super().__init__(port, plane, repository, kwargs={}, grace_period=grace)
        self._service = Service(plane, repository, worker)

    async def start(self, max_workers: int = 0) -> None:
        """Serve until :meth:`stop`."""
        self._server = grpc.aio.server(interceptors=(_Strict(),), options=_OPTIONS, maximum_concurrent_rpcs=MAX_WAITING)
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._service, self._server)
        self._server.add_insecure_port(f"[::]:{self._port}")
        await self._server.start()
        await self._server.wait_for_termination()


class _Strict(grpc.aio.ServerInterceptor):
    """Answers each error with its status; what a client did wrong is not the log's business."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]], details: Any
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None:
            return handler

        async def answer(message: bytes, context: Any) -> bytes:
            try:
                request = handler.request_deserializer(message)
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is not of this method's type")
            try:
                result = await handler.unary_unary(request, context)
            except InputError as error:
                code, text, after = grpc.StatusCode.INVALID_ARGUMENT, str(error), 0
            except RefusedError as error:
                code, text, after = grpc.StatusCode[error.code], str(error), error.retry_after
            except ModelNotReady as error:
                code, text, after = grpc.StatusCode.UNAVAILABLE, str(error), 1
            except Exception:
                logger.exception("a request failed")
                code, text, after = grpc.StatusCode.INTERNAL, "the server failed; see its log", 0
            else:
                encoded: bytes = result if isinstance(result, bytes) else result.SerializeToString()
                return encoded
            metadata = (("retry-after", str(after)),) if after else ()
            await context.abort(code, text, metadata)
            raise AssertionError  # abort raises

        return grpc.unary_unary_rpc_method_handler(answer)
