"""The API server's side of ``pods/portforward``: the websocket protocol v4.channel.k8s.io.

For each port there are two channels, data and errors. The first message on each is the port (two bytes, the lower
one first); each message begins with the number of its channel.
"""

from __future__ import annotations

import select
import socket
from http.server import BaseHTTPRequestHandler

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol


def serve(handler: BaseHTTPRequestHandler, port: int, target: tuple[str, int]) -> None:
    """Answer a request for the tunnel to a port of a pod, which is played by ``target``, until one side hangs up."""
    protocol = ServerProtocol(subprotocols=["v4.channel.k8s.io"], max_size=None)  # type: ignore[list-item]
    lines = [handler.requestline, *(f"{key}: {value}" for key, value in handler.headers.items()), "", ""]
    protocol.receive_data("\r\n".join(lines).encode())
    (request,) = protocol.events_received()
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
    for channel in (0, 1):
        protocol.send_binary(bytes([channel]) + port.to_bytes(2, "little"))
    try:
        pod = socket.create_connection(target)
    except OSError as error:
        protocol.send_binary(b"\x01" + f"error forwarding port {port} to pod: {error}".encode())
        _flush(handler, protocol)
        return
    handler.close_connection = True
    with pod:
        while _flush(handler, protocol):
            ready, _, _ = select.select([handler.connection, pod], [], [], 10)
            if handler.connection in ready:
                data = handler.connection.recv(1 << 16)
                protocol.receive_data(data) if data else protocol.receive_eof()
                for event in protocol.events_received():
                    if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                        assert event.data[0] == 0
                        pod.sendall(event.data[1:])
                if not data:
                    return
            if pod in ready:
                answer = pod.recv(1 << 16)
                if answer:
                    protocol.send_binary(b"\x00" + answer)
                else:
                    protocol.send_close(1000)
            if not ready:
                return


def _flush(handler: BaseHTTPRequestHandler, protocol: ServerProtocol) -> bool:
    """Send what is to be sent, and return whether the connection stays open."""
    for data in protocol.data_to_send():
        if not data:
            return False
        handler.wfile.write(data)
    handler.wfile.flush()
    return True
