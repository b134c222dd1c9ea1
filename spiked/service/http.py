"""HTTP for those who watch: ``/metrics``, ``/healthz`` (alive and progressing), ``/readyz`` (it serves)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from spiked.io.endpoint import EndpointError

Probe = Callable[[], tuple[bool, str]]


class HttpServer:
    """Serves metrics and health from threads of its own; it only ever reads.

    Parameters
    ----------
    host, port : where; port 0 takes a free one (see `port`).
    registry : what ``/metrics`` shows.
    healthy, ready : probes; each says yes or no, and why.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, healthy: Probe, ready: Probe) -> None:
        probes = {"/healthz": healthy, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # a half-open connection frees its thread

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
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise EndpointError(f"http://{host}:{port}: cannot listen there: {error.strerror or error}") from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)
