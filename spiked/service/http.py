"""HTTP for those who watch: ``/metrics``, ``/healthz`` (alive and progressing), ``/readyz`` (it serves)."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from spiked.io.endpoint import EndpointError

Probe = Callable[[], tuple[bool, str]]
PATIENCE_S = 10.0
"""What a request may take, from its connection to the last byte of its answer."""


class HttpServer:
    """Serves metrics and health from threads of its own; it only ever reads.

    Parameters
    ----------
    host, port : where; port 0 takes a free one (see `port`).
    registry : what ``/metrics`` shows.
    healthy, ready : probes; each says yes or no, and why.
    most : connections at a time; one more is closed at once.
    count : is told ``"http"`` and why a connection was refused or cut off.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, healthy: Probe, ready: Probe, most: int = 32,
        count: Callable[[str, str], None] = lambda socket, reason: None,
    ) -> None:  # fmt: skip
        probes = {"/healthz": healthy, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE_S

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path == "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept") or "")
                    self._answer(200, encode(registry), content_type)
                elif path in probes:
                    good, why = probes[path]()
                    self._answer(200 if good else 503, (why + "\n").encode(), "text/plain; charset=utf-8")
                else:
                    self._answer(404, b"try /metrics, /healthz or /readyz\n", "text/plain; charset=utf-8")

            def _answer(self, code: int, body: bytes, content_type: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        try:
            self._server = _Bounded(host, port, Handler, most, count)
        except OSError as error:
            raise EndpointError(f"http://{host}:{port}: cannot listen there: {error.strerror or error}") from None
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)


class _Bounded(ThreadingHTTPServer):
    """A thread for each connection, and an end to both: a byte now and then keeps none of them for ever."""

    daemon_threads = True

    def __init__(
        self, host: str, port: int, handler: type[BaseHTTPRequestHandler], most: int, count: Callable[[str, str], None]
    ) -> None:
        self.most, self.count = most, count
        self.since: dict[socket.socket, float] = {}
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self.since) >= self.most:
            self.count("http", "full")
            super().shutdown_request(request)
            return
        self.since[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        late = time.monotonic() - PATIENCE_S
        for request, since in list(self.since.items()):
            if since < late:
                self.since[request] = float("inf")  # its thread ends it now
                self.count("http", "unfinished")
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        self.since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who hangs up in the middle is no fault of ours."""
