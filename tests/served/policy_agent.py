"""An HTTP server that answers as Open Policy Agent does, from the Rego policy that the project ships."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from regopy import Interpreter

OPA = Path(__file__).parent.parent.parent / "deploy" / "opa"


class Agent(ThreadingHTTPServer):
    """Evaluates the policy on its data, and keeps what it was asked; `answer` and `pause` are what a sick one does instead."""

    daemon_threads = True

    def __init__(self, data: dict[str, Any], policy: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._rego = Interpreter()
        self._rego.add_module("f7t.rego", policy or (OPA / "f7t.rego").read_text(encoding="utf-8"))
        self._rego.add_data(data)
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[dict[str, Any]] = []
        self.clients: set[tuple[str, int]] = set()
        self.answer: tuple[int, bytes] | None = None
        self.pause = 0.0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def decide(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What `/v1/data/…` says; nothing of what is not defined."""
        with self._lock:
            self.asked.append(body["input"])
            self._rego.set_input(body["input"])
            found = self._rego.query("data." + path.removeprefix("/v1/data/").replace("/", "."))
            return {"result": found.results[0].expressions[0]} if str(found) != "undefined" else {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Agent

    def do_POST(self) -> None:
        self.server.clients.add(self.client_address)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        decided = json.dumps(self.server.decide(self.path, body)).encode()
        time.sleep(self.server.pause)
        status, content = self.server.answer or (200, decided)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
