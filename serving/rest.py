"""The server's REST side: kserve's application, with the routes that read bodies, the errors and the bounds ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotLive, ServerNotReady
from kserve.protocol.rest.server import RESTServer
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from caloforge.errors import InputError
from caloforge.serving.answers import v1_body, v2_body
from caloforge.serving.connection import BoundedConnection
from caloforge.serving.errors import BusyError, ForbiddenError, NotHereError, RefusedError, TooLargeError
from caloforge.serving.limits import BACKLOG, MAX_BODY_BYTES
from caloforge.serving.model import OneModel
from caloforge.serving.queue import Order
from caloforge.serving.requests import read_v1, read_v2, shown

logger = logging.getLogger(__name__)

MAX_BODIES_BYTES = 64 * 2**20
"""Of all bodies that are read and not yet understood."""

T = TypeVar("T")


class _Gone(Exception):
    """The client has hung up."""


class Routes:
    """What clients ask for showers."""

    def __init__(self, plane: OneModel, worker: ThreadPoolExecutor) -> None:
        """Take what answers, and the thread in which bodies are read and written."""
        self._plane, self._worker = plane, worker
        self._held = 0

    def router(self) -> APIRouter:
        """Return the routes, which go before kserve's own."""
        router = APIRouter()
        every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        for path, answer, methods in (
            ("/v1/models/{model_name}:predict", self.predict, ["POST"]),
            ("/v2/models/{model_name}/infer", self.infer, ["POST"]),
            ("/v2/models/{model_name}", self.metadata, ["GET"]),
            ("/v1/models/{model_name}:explain", _not_here, every),
            ("/v2/models/{model_name}/versions/{rest:path}", _not_here, every),
            ("/v2/repository/{rest:path}", _forbidden, every),
        ):
            router.add_api_route(path, answer, methods=methods, response_model=None, include_in_schema=False)
        return router

    async def predict(self, model_name: str, request: Request) -> Response:
        """Answer a v1 request."""
        model = await self._plane.model(model_name)
        names, limits = model.generator.condition_names, model.limits
        async with self._body(request) as body:
            query = await self._apart(model.metrics.timed("decode")(lambda: read_v1(body, names, limits)))
        order = await self._order(request, model_name, query)
        encode = model.metrics.timed("encode")(lambda: _Showers(v1_body(order.take()), order=order))
        return await self._response(order, encode)

    async def infer(self, model_name: str, request: Request) -> Response:
        """Answer a v2 request."""
        model = await self._plane.model(model_name)
        names, limits = model.generator.condition_names, model.limits
        length = request.headers.get(_JSON_LENGTH)
        async with self._body(request) as body:
            query = await self._apart(model.metrics.timed("decode")(lambda: read_v2(body, length, names, limits)))
        order = await self._order(request, model_name, query)

        @model.metrics.timed("encode")
        def encode() -> _Showers:
            parts, header = v2_body(query, order.take(), model=model.name, geometry=model.generator.geometry)
            return _Showers(parts, order=order, json_length=header)

        return await self._response(order, encode)

    async def metadata(self, model_name: str) -> Response:
        """Say what a model takes and gives; unlike kserve's, with the ranges of the conditions."""
        return JSONResponse((await self._plane.model(model_name)).described())

    async def _order(self, request: Request, model_name: str, query: Any) -> Order:
        """Have the showers made, as long as the client is there."""
        work = asyncio.ensure_future(self._plane.infer(model_name, query))
        gone = asyncio.ensure_future(_hung_up(request.receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _Gone
            order: Order = work.result()[0]
            return order
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    (await work)[0].release()

    async def _response(self, order: Order, encode: Callable[[], _Showers]) -> Response:
        try:
            return await self._apart(encode)
        except BaseException:
            order.release()
            raise

    async def _apart(self, work: Callable[[], T]) -> T:
        """Do in another thread what may take a while: the event loop has probes to answer."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body that is not too large."""
        if (coding := request.headers.get("content-encoding", "identity")).lower() != "identity":
            raise InputError(f"Content-Encoding: {shown(coding)} is not taken; send the body as it is")
        if (
            "upgrade" in request.headers and "upgrade" in request.headers.get("connection", "").lower()
        ):  # its body is lost: httptools stops reading behind the headers
            raise InputError("this server speaks HTTP/1.1; send no Upgrade header (curl: --http1.1)")
        with suppress(ValueError):
            if int(request.headers.get("content-length", "0")) > MAX_BODY_BYTES:
                raise _too_large()
        parts, size = [], 0
        try:
            async for part in request.stream():
                size, self._held = size + len(part), self._held + len(part)
                if size > MAX_BODY_BYTES:
                    raise _too_large()
                if self._held > MAX_BODIES_BYTES:
                    raise BusyError("the server reads too many large requests; ask again in 1 s", retry_after=1)
                parts.append(part)
            yield b"".join(parts)
        except ClientDisconnect:
            raise _Gone from None
        finally:
            self._held -= size


_JSON_LENGTH = "Inference-Header-Content-Length"


class _Showers(Response):
    """An answer of which nothing is copied, and whose memory others may have when it is sent."""

    def __init__(self, parts: list[bytes | memoryview], *, order: Order, json_length: int | None = None) -> None:
        """Take the parts of the body."""
        self.status_code, self.background = 200, None
        self._parts, self._order = parts, order
        headers = {"Content-Length": str(sum(len(part) for part in parts))}
        if json_length is not None:
            headers[_JSON_LENGTH] = str(json_length)
        self.media_type = "application/json" if json_length is None else "application/octet-stream"
        self.body = b""
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            self._parts.reverse()
            while self._parts:
                part = self._parts.pop()
                await send({"type": "http.response.body", "body": part, "more_body": bool(self._parts)})
        finally:
            self._parts.clear()
            self._order.release()


class RestServer(RESTServer):
    """kserve's REST server with bounds."""

    def __init__(
        self, *args: Any, worker: ThreadPoolExecutor, stopping: Callable[[], None], grace: int, **kwargs: Any
    ) -> None:
        """See kserve.

        Args:
            args: for kserve.
            worker: thread in which bodies are read and written.
            stopping: called when the server is told to stop.
            grace: seconds that requests have then.
            kwargs: for kserve.
        """
        super().__init__(*args, grace_period=grace, **kwargs)
        self._worker = worker
        self.config.http = BoundedConnection
        self.config.ws = "none"
        self.config.backlog = BACKLOG
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings are of what clients do wrong
        logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
        logging.getLogger("uvicorn.access").propagate = False  # uvicorn writes a line for each request otherwise
        self._server = _Server(self.config, stopping)

    def _register_endpoints(self, app: FastAPI) -> None:
        app.include_router(Routes(self.dataplane, self._worker).router())
        super()._register_endpoints(app)

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        handlers: dict[type[Exception], Callable[[Any], Response]] = {
            InputError: lambda error: _error(400, str(error)),
            RefusedError: lambda error: _error(error.status, str(error), retry_after=error.retry_after),
            RequestValidationError: lambda error: _error(400, "malformed request"),
            InvalidInput: lambda error: _error(400, "malformed request"),
            ModelNotFound: lambda error: _error(404, "not served here"),
            NotImplementedError: lambda error: _error(404, "not served here"),
            ModelNotReady: lambda error: _error(503, str(error), retry_after=1),
            ServerNotLive: lambda error: _error(503, str(error)),
            ServerNotReady: lambda error: _error(503, str(error), retry_after=1),
            _Gone: lambda error: Response(status_code=499),
            Exception: lambda error: _error(500, "the server failed; see its log"),  # which uvicorn writes
        }
        for kind, respond in handlers.items():
            app.add_exception_handler(kind, _handler(respond))


class _Server(uvicorn.Server):
    """Tells that it is about to stop."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._stopping()


def _handler(respond: Callable[[Any], Response]) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        return respond(error)

    return handle


def _error(status: int, text: str, *, retry_after: int = 0) -> Response:
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return JSONResponse({"error": text}, status, headers=headers)


def _too_large() -> TooLargeError:
    return TooLargeError(
        f"a request has at most {MAX_BODY_BYTES} bytes; split it into several, or send inputs in binary"
    )


async def _hung_up(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _not_here() -> Response:
    raise NotHereError("not served here: this server has one version of one model, and explains nothing")


async def _forbidden() -> Response:
    raise ForbiddenError("this server serves one model, which is neither loaded nor unloaded")
